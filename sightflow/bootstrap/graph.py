"""Runs set-up steps in parallel, each when those it needs are done; remembers what is done by the key of its inputs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from sightflow.errors import StepFailed
from sightflow.places import REPO_ROOT, Local
from sightflow.progress import Progress

_TAIL_LINES = 30
_TERM_WAIT_S = 3.0
_PARALLEL_MAX = 8


@dataclass(frozen=True)
class Step:
    """One step of the set-up.

    Args:
        name: what it makes, in words.
        run: does the work; raises when it fails. It must cope with what an interrupted run left behind.
        inputs: files and texts that decide the result: when one changes, the step runs again.
        outputs: files that it makes: when one is missing, the step runs again.
        needs: names of the steps that must be done before.
        remedy: what a person can do when it fails.
        checks: names of the pre-flight checks that it rests on (see `checks.py`).
        done: asked instead of looking at inputs and outputs.
    """

    name: str
    run: Callable[[Workshop], None]
    inputs: Sequence[Path | str] = ()
    outputs: Sequence[Path] = ()
    needs: Sequence[str] = ()
    remedy: str = ""
    checks: Sequence[str] = ()
    done: Callable[[], bool] | None = None


def key_of(step: Step) -> str:
    """Return the key of a step's inputs: 64 hex digits."""
    digest = hashlib.sha256(step.name.encode())
    for part in step.inputs:
        content = part.encode() if isinstance(part, str) else part.read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _stamp(step: Step, local: Local) -> Path:
    return local.stamps / step.name.replace(" ", "-").replace("'", "")


def is_done(step: Step, local: Local) -> bool:
    """Return whether a step was done with the inputs as they are now, and its outputs are there."""
    if step.done is not None:
        return step.done()
    stamp = _stamp(step, local)
    return stamp.exists() and stamp.read_text() == key_of(step) and all(path.exists() for path in step.outputs)


def pending(steps: Sequence[Step], local: Local) -> list[Step]:
    """Return the steps that must run: those that are not done, and those that need one of them."""
    found: list[Step] = []
    for step in steps:
        if not is_done(step, local) or any(other.name in step.needs for other in found):
            found.append(step)
    return found


class Workshop:
    """What a step works with: it runs commands that end with us, and logs what they print.

    Args:
        step: name of the step.
        local: the folder of everything installed.
        progress: shows the step's details.
        children: the commands that run now, of all steps.
    """

    def __init__(self, step: str, local: Local, progress: Progress, children: Children) -> None:
        self.local = local
        self.log = local.logs / f"setup-{step.replace(' ', '-')}.log"
        self._step, self._progress, self._children = step, progress, children
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    def say(self, detail: str) -> None:
        """Tell what the step is at."""
        self._progress.detail(self._step, detail)

    def command(
        self,
        *words: str | Path,
        cwd: Path = REPO_ROOT,
        env: Mapping[str, str] | None = None,
        stdout: Path | None = None,
    ) -> None:
        """Run a command to its end.

        Args:
            words: program and arguments.
            cwd: working folder.
            env: added to our environment.
            stdout: a file that gets what it prints; None sends it to the log.

        Raises:
            StepFailed: it returned something other than 0.
        """
        arguments = [str(word) for word in words]
        with contextlib.ExitStack() as files:
            log = files.enter_context(self.log.open("ab"))
            log.write(("$ " + " ".join(arguments) + "\n").encode())
            log.flush()
            out = log if stdout is None else files.enter_context(stdout.open("wb"))
            process = self._children.start(
                arguments, cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=log
            )
            status = process.wait()
        self._children.forget(process)
        if status != 0:
            raise StepFailed(f"{arguments[0]} ended with status {status}")

    def start(self, *words: str | Path, cwd: Path = REPO_ROOT, env: Mapping[str, str] | None = None) -> Background:
        """Start a command beside the others; `Background.wait` waits for its end."""
        arguments = [str(word) for word in words]
        with self.log.open("ab") as log:
            process = self._children.start(
                arguments, cwd=cwd, env={**os.environ, **(env or {})}, stdout=log, stderr=log
            )
        return Background(process, self._children, arguments[0])

    def tail(self) -> str:
        """Return the last lines of the step's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])


@dataclass(frozen=True)
class Background:
    """A command that runs beside others."""

    process: subprocess.Popen[bytes]
    children: Children
    program: str

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            StepFailed: it returned something other than 0.
        """
        status = self.process.wait()
        self.children.forget(self.process)
        if status != 0:
            raise StepFailed(f"{self.program} ended with status {status}")


class Children:
    """The commands that run now, each with a process group of its own, so that all of them can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def start(self, arguments: list[str], **how: object) -> subprocess.Popen[bytes]:
        """Start a command in a group of its own.

        Raises:
            StepFailed: there is no such program, or everything is being ended.
        """
        with self._lock:
            if self._closed:
                raise StepFailed("stopped")
            try:
                process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
                    arguments, stdin=subprocess.DEVNULL, start_new_session=True, **how
                )
            except FileNotFoundError as error:
                raise StepFailed(f"there is no program {arguments[0]}") from error
            self._running.add(process)
        return process

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Note that a command has ended."""
        with self._lock:
            self._running.discard(process)

    def end_all(self) -> None:
        """End every command with its descendants, and let no new one start."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in running:
                _signal_group(process.pid, number)
            _await_groups(running)


def _signal_group(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass


def _await_groups(leaders: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline_s = time.monotonic() + _TERM_WAIT_S
    while any(_group_lives(process) for process in leaders) and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _group_lives(leader: subprocess.Popen[bytes]) -> bool:
    leader.poll()  # collect it: a zombie would keep its group alive
    try:
        os.killpg(leader.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class _Stopped(KeyboardInterrupt):
    """TERM or HUP: handled as Ctrl-C is."""


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise _Stopped

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run_steps(steps: Sequence[Step], local: Local, progress: Progress) -> None:
    """Run steps in parallel, each as soon as those it needs are done.

    A step that fails ends the others; Ctrl-C (or TERM, HUP) ends every command that was started.

    Args:
        steps: in an order in which each stands behind those it needs; a needed step that is not
            listed counts as done.
        local: where stamps and logs go.
        progress: shows the steps.

    Raises:
        StepFailed: the first failure, with the end of its log and the remedy.
        KeyboardInterrupt: after everything was ended.
    """
    local.stamps.mkdir(parents=True, exist_ok=True)
    children = Children()
    with ThreadPoolExecutor(_PARALLEL_MAX) as pool, _signals_as_interrupt():
        try:
            _schedule(list(steps), local, progress, children, pool)
        except BaseException:
            children.end_all()
            raise


def _schedule(
    waiting: list[Step], local: Local, progress: Progress, children: Children, pool: ThreadPoolExecutor
) -> None:
    running: dict[Future[None], Step] = {}
    while waiting or running:
        blocked = {step.name for step in waiting} | {step.name for step in running.values()}
        for step in [step for step in waiting if not blocked.intersection(step.needs)]:
            waiting.remove(step)
            running[pool.submit(_run_one, step, local, progress, children)] = step
        if not running:
            raise StepFailed(f"these steps need each other: {', '.join(step.name for step in waiting)}")
        done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            running.pop(future)
            future.result()


def _run_one(step: Step, local: Local, progress: Progress, children: Children) -> None:
    workshop = Workshop(step.name, local, progress, children)
    stamp = _stamp(step, local)
    stamp.unlink(missing_ok=True)
    key = key_of(step)  # before the work: a file that changes meanwhile makes the step run again
    progress.begin(step.name)
    try:
        step.run(workshop)
        _require_outputs(step)
    except Exception as error:
        progress.end(step.name, "stopped" if str(error) == "stopped" else "FAILED")
        raise StepFailed(_report(step, error, workshop), step.remedy) from error
    stamp.write_text(key)
    progress.end(step.name, "done")


def _require_outputs(step: Step) -> None:
    missing = [str(path) for path in step.outputs if not path.exists()]
    if missing:
        raise StepFailed(f"it ended well but did not make {', '.join(missing)}")


def _report(step: Step, error: Exception, workshop: Workshop) -> str:
    tail = workshop.tail()
    log = f"\n  the end of its log, {workshop.log}:\n{tail}" if tail else ""
    return f"set-up step '{step.name}' failed: {error}{log}"
