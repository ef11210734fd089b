"""Processes of a stack, found by the mark that each carries in its environment, whoever started it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

MARK = "SIGHTFLOW_STACK"
"""Environment variable of every process of a stack; its value is the absolute path of the stack's run folder."""


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Return the live processes that carry the mark of this run folder, this process and its ancestors excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _carries_mark(process, run_dir)]


def _carries_mark(process: psutil.Process, run_dir: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(run_dir) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # it has just ended, or belongs to another user
        return False


def kill_all(run_dir: Path, wait_s: float = 10.0) -> int:
    """Kill every process of a stack and wait until they are gone.

    Parents may start new children while we look, so this looks again until nothing is left.

    Args:
        run_dir: absolute path of the run folder.
        wait_s: for how long to wait for each round.

    Returns:
        How many were killed.
    """
    killed = 0
    for _ in range(5):
        found = processes_of(run_dir)
        if not found:
            break
        # The supervisor first: it would start the others again.
        found.sort(key=lambda process: process.pid)
        for process in found:
            _kill(process)
        psutil.wait_procs(found, timeout=wait_s)
        killed += len(found)
    return killed


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass
