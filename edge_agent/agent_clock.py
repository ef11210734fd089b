"""The agent's own time line: UTC that never runs backwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from schemas.wire import EARLIEST_US, LATEST_US


class AgentClock:
    """Maps the monotonic clock to UTC µs; follows the wall clock forward and never back.

    A wall clock that is set back (a wrong clock put right) would make every later frame older than the last one sent,
    and blind the site for as long as the step. So the line keeps its pace and stays ahead by `ahead_s` until the wall
    catches up or the agent starts anew. `not_before_us` is where the line begins at the earliest.
    """

    def __init__(
        self,
        not_before_us: int = 0,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        mono_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._wall_us, self._mono_us = wall_us, mono_us
        self._lock = threading.Lock()
        self._offset_us = max(wall_us(), not_before_us) - mono_us()

    def now_us(self) -> int:
        """Return UTC µs now."""
        return self.at_us(self._mono_us())

    def at_us(self, mono_us: int) -> int:
        """Return UTC µs of a reading of the monotonic clock (of any process on this machine)."""
        with self._lock:
            self._offset_us = max(self._offset_us, self._wall_us() - self._mono_us())
            return self._offset_us + mono_us

    @property
    def ahead_s(self) -> float:
        """How far the line is ahead of the wall clock, in seconds; 0 unless the wall clock was set back."""
        return max(0.0, (self.now_us() - self._wall_us()) * 1e-6)


def is_plausible(utc_us: int) -> bool:
    """Whether a UTC time can be now, rather than that of a device that has lost its clock."""
    return EARLIEST_US <= utc_us <= LATEST_US
