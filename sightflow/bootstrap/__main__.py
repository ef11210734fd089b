"""`python3 -m sightflow.bootstrap`: install everything that sightflow needs into .local; a second run finds it done."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sightflow.bootstrap import checks
from sightflow.bootstrap.graph import Step, pending, run_steps
from sightflow.bootstrap.steps import all_steps
from sightflow.errors import CheckFailed, SightflowError
from sightflow.places import Local
from sightflow.progress import Progress

INTERRUPTED_STATUS = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the set-up; return the exit status."""
    _parser().parse_args(argv)
    try:
        with Progress.to_stdout() as progress:
            set_up(Local.find(), progress)
    except SightflowError as error:
        print(f"\nsightflow: {error.text()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what is finished will be reused", file=sys.stderr)
        return INTERRUPTED_STATUS
    return 0


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="python3 -m sightflow.bootstrap",
        description="Install everything that sightflow needs: system packages with apt, the rest into .local of this "
        "checkout (or $SIGHTFLOW_LOCAL). What is there already is reused.",
    )


def set_up(local: Local, progress: Progress) -> None:
    """Bring everything up to date.

    Raises:
        CheckFailed: the machine lacks something; nothing was started.
        StepFailed: a step failed.
    """
    started_s = time.monotonic()
    local.root.mkdir(parents=True, exist_ok=True)
    with _alone(local, progress):
        steps = pending(all_steps(local), local)
        if not steps:
            progress.say(f"set-up: everything is in place ({time.monotonic() - started_s:.1f} s)")
            return
        require_checks(steps, local)
        progress.say(f"set-up: {len(steps)} steps, into {local.root}")
        run_steps(steps, local, progress)
    progress.say(f"set-up: done ({time.monotonic() - started_s:.0f} s)")


def require_checks(steps: Sequence[Step], local: Local) -> None:
    """Refuse, before anything is started, if the machine lacks what these steps rest on.

    Raises:
        CheckFailed: with everything that is missing and each remedy.
    """
    names = {"disk", "memory", *(name for step in steps for name in step.checks)}
    failures = checks.failures(names, local)
    if failures:
        found = "\n".join(f"  {check.name}: found {what}\n    → {check.remedy}" for check, what in failures)
        raise CheckFailed(f"this machine lacks something; nothing was started:\n{found}")


@contextmanager
def _alone(local: Local, progress: Progress) -> Iterator[None]:
    """Two set-ups at once would build into the same folders: the second waits, and then finds everything done."""
    with (local.root / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("wait for another set-up in this folder"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
