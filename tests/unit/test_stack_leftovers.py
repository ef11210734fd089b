"""Processes that a crashed stack left behind are found by their mark and killed; others are not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightflow.stack import leftovers

# Starts a child, tells its pid, ignores TERM: as stubborn as a leftover can be.
_STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def _marked(run_dir: Path) -> Iterator[tuple[int, int]]:
    """Run a stubborn process with a child, both marked; give their pids."""
    env = {**os.environ, leftovers.MARK: str(run_dir)}
    with subprocess.Popen([sys.executable, "-c", _STUBBORN], env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def _alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def test_a_process_and_its_child_in_another_session_are_killed(tmp_path: Path) -> None:
    with _marked(tmp_path) as (parent, child):
        assert {process.pid for process in leftovers.processes_of(tmp_path)} == {parent, child}
        assert leftovers.kill_all(tmp_path) == 2
        assert not _alive(parent)
        assert not _alive(child)


def test_another_stacks_processes_stay(tmp_path: Path) -> None:
    with _marked(tmp_path / "other") as (parent, child):
        assert leftovers.kill_all(tmp_path / "mine") == 0
        assert _alive(parent)
        assert leftovers.kill_all(tmp_path / "other") == 2
        assert not _alive(child)


def test_a_caller_that_carries_the_mark_does_not_kill_itself(tmp_path: Path) -> None:
    imports = "from pathlib import Path; from sightflow.stack import leftovers"
    code = f"{imports}; print(leftovers.kill_all(Path({str(tmp_path)!r})))"
    env = {**os.environ, leftovers.MARK: str(tmp_path)}
    # A parent that carries the mark too, as a shell would.
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "{code}"; echo still here'],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["0", "still here"]


def test_nothing_left_is_quick(tmp_path: Path) -> None:
    started_s = time.monotonic()
    assert leftovers.kill_all(tmp_path) == 0
    assert time.monotonic() - started_s < 5
