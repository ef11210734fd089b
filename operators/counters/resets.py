"""When a counter begins anew: times of day in a time zone, whatever its clocks do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from schemas.wire import NEVER_US

_SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = 4  # from yesterday on: a reset of each of them, so that one lies ahead even where a day is left out


class Resets:
    """A reset of a day is due when the local clock first shows its time, or a later one because it jumped over it.

    So on a day when clocks go forward, a time that does not exist is due at the jump; on one when they go back, a time that
    exists twice is due once, the first time.
    """

    def __init__(self, times: Sequence[str], zone: tzinfo) -> None:
        self._times = [time.fromisoformat(t) for t in sorted(set(times))]
        self._zone = zone

    def next_us(self, from_us: int) -> int:
        """Return the first reset at `from_us` (µs since 1970) or later; NEVER_US where there is none."""
        if not self._times:
            return NEVER_US
        today = self._local(from_us // _SECOND_US).date()
        days = [today + timedelta(days=n) for n in range(-1, _DAYS - 1)]
        dues = (self._due_s(day, at) * _SECOND_US for day in days for at in self._times)
        return min(due for due in dues if due >= from_us)

    def _local(self, at_s: int) -> datetime:
        return (_EPOCH + timedelta(seconds=at_s)).astimezone(self._zone)

    def _due_s(self, day: date, at: time) -> int:
        wanted = datetime.combine(day, at, self._zone)
        due, other = (_seconds(wanted.replace(fold=fold)) for fold in (0, 1))
        if due <= other:
            return due  # exists once, or twice: the first
        before, after = other, due  # does not exist: `before` lies before the jump, `after` at it or behind
        jumped = self._local(after).utcoffset()
        while after - before > 1:
            middle = (before + after) // 2
            if self._local(middle).utcoffset() == jumped:
                after = middle
            else:
                before = middle
        return after


def _seconds(at: datetime) -> int:
    return (at.astimezone(UTC) - _EPOCH) // timedelta(seconds=1)
