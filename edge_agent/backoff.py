"""Waiting between attempts: exponential with full jitter, so that a site's cameras do not all come back at once."""

from __future__ import annotations

import random


class Backoff:
    """Delays drawn evenly from 0 to `first_s`·2^n, at most `cap_s`.

    Full jitter: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, first_s: float = 1.0, cap_s: float = 60.0, source: random.Random | None = None) -> None:
        self._first_s, self._cap_s = first_s, cap_s
        self._random = source or random.Random()
        self._failure_count = 0

    def next_delay_s(self) -> float:
        """Return how long to wait now, and expect a longer wait next time."""
        bound_s = min(self._cap_s, self._first_s * 2.0 ** min(self._failure_count, 30))
        self._failure_count += 1
        return self._random.uniform(0.0, bound_s)

    def reset(self) -> None:
        """Begin with short delays again: things went well."""
        self._failure_count = 0
