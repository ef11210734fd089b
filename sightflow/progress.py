"""Progress on a terminal or in a log: a line as each step starts and ends, never silent for two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

SILENCE_MAX_S = 1.5
"""A reader never waits longer than this for a sign of life while a step runs (two seconds, less a delay)."""

_TICK_S = 0.25
_TERMINAL_WIDTH = 110


class Progress:
    """Prints steps as they start and end, and a sign of life in between. Safe to use from several threads.

    On a terminal the sign of life is one status line that is rewritten; elsewhere it is a short line whenever
    nothing has been printed for `SILENCE_MAX_S`. Use it as a context manager: the ticker ends with it.

    Args:
        stream: where to print; None prints nothing.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._tty = stream is not None and stream.isatty()
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}
        self._details: dict[str, str] = {}
        self._printed_s = time.monotonic()
        self._status_shown = False
        self._stopped = threading.Event()
        self._ticker: threading.Thread | None = None

    @staticmethod
    def to_stdout() -> Progress:
        """Return a progress that prints to standard output."""
        return Progress(sys.stdout)

    def __enter__(self) -> Progress:
        if self._stream is not None and self._ticker is None:
            self._ticker = threading.Thread(target=self._tick_until_stopped, name="progress", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._ticker is not None:
            self._ticker.join()
            self._ticker = None
        with self._lock:
            self._clear_status()

    def say(self, text: str) -> None:
        """Print one line now."""
        with self._lock:
            self._print(text)

    def detail(self, step: str, text: str) -> None:
        """Say what a running step is at; shown with the next sign of life."""
        with self._lock:
            if step in self._running:
                self._details[step] = text

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while the block runs: its start, its end with seconds, or that it failed."""
        self.begin(name)
        try:
            yield
        except BaseException as error:
            self.end(name, "stopped" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self.end(name, "done")

    def begin(self, name: str) -> None:
        """Show that a step starts."""
        with self._lock:
            self._running[name] = time.monotonic()
            self._print(f"  …  {name}")

    def end(self, name: str, outcome: str) -> None:
        """Show that a step ended: `outcome` is 'done', 'FAILED' or 'stopped'."""
        with self._lock:
            started_s = self._running.pop(name, None)
            self._details.pop(name, None)
            seconds = 0.0 if started_s is None else time.monotonic() - started_s
            sign = {"done": "ok ", "FAILED": "!! "}.get(outcome, "-- ")
            suffix = "" if outcome == "done" else f" {outcome}"
            self._print(f"  {sign} {name}{suffix} ({seconds:.1f} s)")

    def drop(self, name: str) -> None:
        """Show no more of a step that was given up; nothing happens if it has ended."""
        with self._lock:
            self._running.pop(name, None)
            self._details.pop(name, None)

    def _tick_until_stopped(self) -> None:
        while not self._stopped.wait(_TICK_S):
            with self._lock:
                self._tick()

    def _tick(self) -> None:
        if not self._running:
            return
        if self._tty:
            self._show_status()
        elif time.monotonic() - self._printed_s >= SILENCE_MAX_S:
            self._print("     " + self._status())

    def _status(self) -> str:
        now_s = time.monotonic()
        parts = []
        for name, started_s in self._running.items():
            detail = self._details.get(name)
            parts.append(f"{name} {now_s - started_s:.0f} s" + (f" ({detail})" if detail else ""))
        return " · ".join(parts)

    def _show_status(self) -> None:
        if self._stream is None:
            return
        self._stream.write("\r\033[K     " + self._status()[:_TERMINAL_WIDTH])
        self._stream.flush()
        self._status_shown = True

    def _clear_status(self) -> None:
        if self._status_shown and self._stream is not None:
            self._stream.write("\r\033[K")
            self._stream.flush()
            self._status_shown = False

    def _print(self, text: str) -> None:
        if self._stream is None:
            return
        self._clear_status()
        self._stream.write(text + "\n")
        self._stream.flush()
        self._printed_s = time.monotonic()
