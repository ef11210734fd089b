"""Waking the main thread, from any thread and from a signal handler."""

from __future__ import annotations

import queue


class Wake:
    """An event that a signal handler may set.

    `threading.Event.set` takes a lock that is not reentrant: in a handler that interrupts its own thread within `wait` or
    `clear` it waits for ever, and every other thread that sets it after that too. `SimpleQueue.put` is reentrant by contract.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Let the current or the next `wait` return at once."""
        self._queue.put(None)

    def wait(self, timeout_s: float) -> None:
        """Wait until it is set, at most `timeout_s`; what was set until now is then forgotten."""
        try:
            self._queue.get(timeout=max(0.0, timeout_s))
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            return
