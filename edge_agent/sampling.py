"""Which of a camera's frames are looked at: a target rate, kept without drift."""

from __future__ import annotations

CREDIT_MAX = 1.5
"""Frames that may be owed after a pause: at most one more than usual, never a burst."""


class Sampler:
    """Takes frames at `target_fps` on the time line of the frames themselves.

    Each frame earns its distance from the last one times the rate; a frame is taken when half a frame or more is
    owed, and then costs one. Over any stretch the count taken is right within one frame, whatever the source's rate,
    and jitter below half a period costs no frame where source and target agree.
    """

    def __init__(self, target_fps: float) -> None:
        self._target_fps = target_fps
        self._last_us: int | None = None
        self._credit = 1.0

    def take(self, at_us: int) -> bool:
        """Return whether the frame at `at_us` (µs, any epoch) is taken. A step back in time starts anew."""
        if self._last_us is not None and at_us >= self._last_us:
            earned = (at_us - self._last_us) * 1e-6 * self._target_fps
            self._credit = min(CREDIT_MAX, self._credit + earned)
        else:
            self._credit = 1.0
        self._last_us = at_us
        if self._credit < 0.5:
            return False
        self._credit -= 1.0
        return True
