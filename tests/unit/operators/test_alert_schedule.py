"""Armed hours against a minute-by-minute look at the clock of several zones, around each kind of change."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.alerts.schedule import WEEK_US, Hours
from schemas.settings import Period, Schedule
from tests.unit.operators.scenes import bounded

MINUTE_US = 60_000_000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CHANGES = {
    "Europe/Vienna": (date(2026, 3, 29), date(2026, 10, 25)),
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
    "Australia/Lord_Howe": (date(2026, 4, 5), date(2026, 10, 4)),  # by half an hour
    "America/Sao_Paulo": (date(2018, 11, 4), date(2018, 2, 18)),  # at midnight
    "Antarctica/Troll": (date(2026, 3, 29), date(2026, 10, 25)),  # by two hours
    "Africa/Casablanca": (date(2026, 2, 15), date(2026, 3, 22)),  # winter time is the exception
    "Pacific/Apia": (date(2011, 12, 30), date(2011, 9, 24)),  # a day that there was not
    "Asia/Kolkata": (date(2026, 3, 29),),
}
PLACES = [(zone, day) for zone, days in CHANGES.items() for day in days]
AROUND = 6  # days looked at on each side


@cache
def clock(zone: str, day: date) -> tuple[int, np.ndarray]:
    """Return the first minute (since the epoch) and what the clock shows in each, as minutes since the epoch."""
    first = calendar.timegm((day - timedelta(days=AROUND)).timetuple()) // 60
    shown = []
    for minute in range(first, first + 2 * AROUND * 1440):
        local = datetime.fromtimestamp(minute * 60, UTC).astimezone(ZoneInfo(zone))
        shown.append(calendar.timegm(local.timetuple()) // 60)
    return first, np.array(shown)


def brute_force(schedule: Schedule, zone: str, day: date) -> tuple[int, np.ndarray]:
    """Return the first minute, and whether the schedule is armed in each; days at the margin are missing."""
    first, shown = clock(zone, day)
    armed = np.zeros(len(shown), bool)
    for n in range(-AROUND + 1, AROUND - 2):
        begins = day + timedelta(days=n)
        if begins.isoformat() in schedule.except_dates:
            continue
        midnight = calendar.timegm(begins.timetuple()) // 60
        for p in schedule.periods:
            if DAYS[begins.weekday()] not in p.days:
                continue
            start, end = (midnight + int(text[:2]) * 60 + int(text[3:]) for text in (p.start, p.end))
            end += 1440 if p.end <= p.start else 0
            reached = np.flatnonzero(shown >= start)[0]
            still_before = np.flatnonzero(shown < end)[-1]
            armed[reached : still_before + 1] = True
    return first, armed


@st.composite
def schedules(draw: st.DrawFn, day: date) -> Schedule:
    """Draw periods whose ends are often near the hour at which clocks are changed."""
    minutes = st.one_of(
        st.sampled_from([0, 30, 59, 60, 90, 119, 120, 121, 150, 179, 180, 210, 1380, 1439]), st.integers(0, 1439)
    )
    periods = []
    for _ in range(draw(st.integers(1, 3))):
        start, end = draw(minutes), draw(st.one_of(minutes, st.just(1440)))
        if start == end:
            end = 1440
        days = tuple(sorted(draw(st.sets(st.sampled_from(DAYS), min_size=1)), key=DAYS.index))
        periods.append(
            Period(days=days, start=f"{start // 60:02}:{start % 60:02}", end=f"{end // 60:02}:{end % 60:02}")
        )
    nearby = [(day + timedelta(days=n)).isoformat() for n in range(-3, 4)]
    return Schedule(
        id="s", periods=tuple(periods), except_dates=tuple(draw(st.sets(st.sampled_from(nearby), max_size=2)))
    )


@pytest.mark.parametrize(("zone", "day"), PLACES)
def test_armed_hours_equal_a_look_at_the_clock_in_every_minute(zone: str, day: date) -> None:
    @bounded(40)
    @given(schedules(day))
    def check(schedule: Schedule) -> None:
        hours = Hours(schedule, zone)
        first, armed = brute_force(schedule, zone, day)
        inner = range(3 * 1440, (2 * AROUND - 3) * 1440)
        got = [hours.armed((first + m) * MINUTE_US) for m in inner]
        assert got == armed[inner.start : inner.stop].tolist()
        at = (first + inner.start) * MINUTE_US
        changes = np.flatnonzero(np.diff(armed.astype(int))) + 1
        changes_us = [(first + int(m)) * MINUTE_US for m in changes]
        for _ in range(200):
            expected = min([t for t in changes_us if t > at] + [(at // WEEK_US + 1) * WEEK_US])
            if expected >= (first + inner.stop) * MINUTE_US:
                break
            assert hours.next_change_us(at) == expected
            ends = [t for t in changes_us if t <= expected and not hours.armed(t)]
            if ends and ends[-1] >= (first + inner.start) * MINUTE_US:
                assert hours.ended_us(expected) == ends[-1]
                assert hours.ended_us(ends[-1] - 1) < ends[-1]
            at = expected

    check()


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def hours_of(start: str, end: str, zone: str = "Europe/Vienna", **more: object) -> Hours:
    return Hours(Schedule(id="s", periods=(Period(start=start, end=end),), **more), zone)  # type: ignore[arg-type]


def test_a_period_across_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday = Hours(Schedule(id="s", periods=(Period(days=("fri",), start="22:00", end="06:00"),)), "Europe/Vienna")
    assert not friday.armed(at("2026-05-08T21:59:59+02:00")) and friday.armed(at("2026-05-08T22:00+02:00"))
    assert friday.armed(at("2026-05-09T05:59:59+02:00")) and not friday.armed(at("2026-05-09T06:00+02:00"))
    excepted = hours_of("22:00", "06:00", except_dates=("2026-05-08",))
    assert excepted.armed(at("2026-05-08T05:00+02:00")), "the night before has begun on the 7th"
    assert not excepted.armed(at("2026-05-09T05:00+02:00"))


@pytest.mark.parametrize(
    ("start", "end", "begins", "ends"),
    [
        # clocks go from 02:00 to 03:00
        ("2026-03-29 02:30", "04:00", "2026-03-29T01:00Z", "2026-03-29T02:00Z"),
        ("2026-03-29 01:00", "02:30", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
        ("2026-03-29 01:00", "03:00", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
        # clocks go from 03:00 back to 02:00
        ("2026-10-25 02:30", "04:00", "2026-10-25T00:30Z", "2026-10-25T03:00Z"),
        ("2026-10-25 01:00", "02:30", "2026-10-24T23:00Z", "2026-10-25T01:30Z"),
        ("2026-10-25 01:00", "02:00", "2026-10-24T23:00Z", "2026-10-25T00:00Z"),
        ("2026-10-25 03:00", "04:00", "2026-10-25T02:00Z", "2026-10-25T03:00Z"),
    ],
)
def test_where_clocks_change_armed_time_is_rather_too_long(start: str, end: str, begins: str, ends: str) -> None:
    hours = hours_of(start[11:], end)
    begins_us, ends_us = at(begins), at(ends)
    assert not hours.armed(begins_us - 1) and hours.armed(begins_us)
    assert hours.next_change_us(begins_us) == ends_us == hours.ended_us(ends_us)
    assert hours.armed(ends_us - 1) and not hours.armed(ends_us)


def test_a_period_within_the_jump_is_left_out() -> None:
    hours = hours_of("02:10", "02:50")
    assert not any(hours.armed(at("2026-03-29T00:00Z") + m * MINUTE_US) for m in range(180))
    assert hours.armed(at("2026-03-28T01:30Z")) and hours.armed(at("2026-03-30T00:30Z"))


def test_a_schedule_that_never_changes_is_asked_again_each_week() -> None:
    hours = hours_of("00:00", "24:00")
    now = at("2026-05-06T12:00Z")
    assert hours.armed(now) and hours.next_change_us(now) % WEEK_US == 0 and hours.ended_us(now) == 0
