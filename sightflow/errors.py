"""Errors that a person reads: what went wrong, where, and what to do about it.

SightflowError
├── CheckFailed      something is missing before we start (nothing has been started)
├── StepFailed       a set-up step went wrong
├── PortTaken        a port of the stack belongs to another process
├── ServiceFailed    a server did not start, or ended
├── StackNotRunning  the command needs a running stack
└── JobFailed        Flink refused or lost a job
"""

from __future__ import annotations


class SightflowError(Exception):
    """A problem with its remedy; the command line prints both and exits with 1.

    Args:
        message: what was expected, what was found, and where.
        remedy: one or more lines that tell what to do; empty when there is nothing to do.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def text(self) -> str:
        """Return message and remedy, ready to print."""
        if not self.remedy:
            return str(self)
        return f"{self}\n  What to do: " + self.remedy.replace("\n", "\n  ")


class CheckFailed(SightflowError):
    """A pre-flight check found something missing; nothing has been started."""


class StepFailed(SightflowError):
    """A step of the set-up failed; its log is on disk."""


class PortTaken(SightflowError):
    """A port of the stack is in use by another process; nothing has been started."""


class ServiceFailed(SightflowError):
    """A server of the stack did not get ready in time, or ended."""


class StackNotRunning(SightflowError):
    """There is no running stack where the command expects one."""


class JobFailed(SightflowError):
    """A Flink job was refused, failed, or did not reach the state that was asked for."""
