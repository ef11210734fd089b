"""The armed hours of a schedule, as instants.

A period is one span of real time. It begins with the first instant at which the local clock shows `start` or later, and ends
with the last one at which it still shows a time before `end`. So where clocks are put forward over a beginning or an end, that
falls on the jump; where they are put back over it, the period begins the first time round and ends the second: armed time is
rather too long than too short. Where a whole period falls into the jump there is none that day.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas.settings import Period, Schedule

WEEK_US = 7 * 86_400_000_000
_EPOCH = datetime(1970, 1, 1)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MICROSECOND = timedelta(microseconds=1)


class Hours:
    """When a schedule is armed. Pure functions of the time; each week is worked out once for all cameras of a process.

    Args:
        schedule: what holds in the site's time zone.
        timezone: IANA name.
    """

    def __init__(self, schedule: Schedule, timezone: str) -> None:
        self.schedule, self.timezone = schedule, timezone

    def armed(self, at_us: int) -> bool:
        """Whether the schedule is armed at an event time (µs)."""
        return bisect_right(self._changes(at_us), at_us) % 2 == 1

    def next_change_us(self, at_us: int) -> int:
        """Return the time after `at_us` at which `armed` changes, or the end of its week (UTC) where none comes before."""
        changes = self._changes(at_us)
        after = bisect_right(changes, at_us)
        week_end_us = (at_us // WEEK_US + 1) * WEEK_US
        return min(changes[after], week_end_us) if after < len(changes) else week_end_us

    def ended_us(self, at_us: int) -> int:
        """Return the last time up to `at_us` at which armed hours ended; 0: there is none in the week before."""
        changes = self._changes(at_us)
        before = bisect_right(changes, at_us) // 2 * 2 - 1
        return changes[before] if before > 0 else 0

    def _changes(self, at_us: int) -> tuple[int, ...]:
        return _changes(self.schedule, self.timezone, at_us // WEEK_US)


@lru_cache(maxsize=1024)
def _changes(schedule: Schedule, timezone: str, week: int) -> tuple[int, ...]:
    """Return beginnings and ends, by turns, of the armed spans around a week since the epoch: a week more on both sides."""
    zone = ZoneInfo(timezone)
    first = (_EPOCH + timedelta(weeks=week - 1)).date()
    excepted = set(schedule.except_dates)
    spans = []
    for day in (first + timedelta(days=n) for n in range(22)):
        if day.isoformat() in excepted:
            continue
        for period in schedule.periods:
            if _DAYS[day.weekday()] in period.days:
                spans.append(_span(period, day, zone))
    merged: list[list[int]] = []
    for begin, end in sorted(spans):
        if begin >= end:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return tuple(at_us for span in merged for at_us in span)


def _span(period: Period, day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Return beginning and end (µs) of the period that begins on a day; the end may lie before the beginning: no period."""
    crosses = period.end <= period.start
    return _first_at(_local(period.start, day), zone), _last_before(_local(period.end, day, crosses), zone)


def _local(text: str, day: date, next_day: bool = False) -> datetime:
    hour, minute = int(text[:2]), int(text[3:])
    return datetime.combine(day, time()) + timedelta(days=next_day, hours=hour, minutes=minute)


def _first_at(local: datetime, zone: ZoneInfo) -> int:
    """Return the first instant at which the clock shows `local` or later, µs."""
    first, second = _instant(local, zone, 0), _instant(local, zone, 1)
    return first if first <= second else _jump(local, zone, second, first)


def _last_before(local: datetime, zone: ZoneInfo) -> int:
    """Return the instant after which the clock never again shows a time before `local`, µs."""
    first, second = _instant(local, zone, 0), _instant(local, zone, 1)
    if first > second:
        return _jump(local, zone, second, first)
    return second if _shown(second - 1, zone) < local else first


def _jump(local: datetime, zone: ZoneInfo, low: int, high: int) -> int:
    """Return the instant in low … high (µs) at which a clock that skips `local` is put forward."""
    while low < high:
        middle = (low + high) // 2
        if _shown(middle, zone) >= local:
            high = middle
        else:
            low = middle + 1
    return low


def _instant(local: datetime, zone: ZoneInfo, fold: int) -> int:
    """Return when the clock shows `local` for the first (fold 0) or the second time, PEP 495, µs."""
    offset = local.replace(tzinfo=zone, fold=fold).utcoffset()
    return (local - (offset or timedelta()) - _EPOCH) // _MICROSECOND


def _shown(at_us: int, zone: ZoneInfo) -> datetime:
    """Return what the clock shows at an instant."""
    return (_EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
