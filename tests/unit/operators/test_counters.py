"""Counters against a model that knows every crossing from the start, and resets against a clock that is read each minute."""

from __future__ import annotations

import functools
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.counters import Counters, CounterWindow, Resets
from operators.counters.counters import MAX_PENDING
from schemas.settings import Counter, CounterWire
from schemas.wire import NEVER_US
from tests.unit.operators.scenes import bounded

S = 1_000_000
MINUTE = 60 * S
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(text: str) -> int:
    """Return µs since 1970 of a time in UTC."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


# ---- resets -------------------------------------------------------------------------------------------------------


@functools.cache
def watched(times: tuple[str, ...], zone: str, from_us: int, days: int) -> list[int]:
    """Look at a clock on the wall each minute: a time of a day is due when the clock first shows it, or more."""
    place = ZoneInfo(zone)
    first = (EPOCH + timedelta(microseconds=from_us)).date()
    dues = sorted(
        datetime.combine(first + timedelta(days=d), datetime.strptime(t, "%H:%M").time())
        for d in range(-3, days + 3)
        for t in times
    )
    latest, found = datetime.min, []
    for now_us in range(from_us - 180 * MINUTE, from_us + days * 1440 * MINUTE, MINUTE):
        shown = max(latest, (EPOCH + timedelta(microseconds=now_us)).astimezone(place).replace(tzinfo=None))
        if now_us >= from_us and bisect_right(dues, shown) > bisect_right(dues, latest):
            found.append(now_us)
        latest = shown
    return found


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", "2026-02-28"),
        ("Europe/Vienna", "2026-03-28"),  # 02:00 → 03:00 on the 29th
        ("Europe/Vienna", "2026-10-24"),  # 03:00 → 02:00 on the 25th
        ("America/New_York", "2026-03-07"),
        ("America/New_York", "2026-10-31"),
        ("America/Santiago", "2026-09-04"),  # 24:00 → 01:00: midnight does not exist
        ("Australia/Lord_Howe", "2026-10-03"),  # by half an hour
        ("Australia/Lord_Howe", "2026-04-04"),
        ("Antarctica/Troll", "2026-03-28"),  # by two hours
        ("Pacific/Apia", "2011-12-29"),  # no 30th of December
        ("Asia/Kolkata", "2026-06-01"),
    ],
)
@pytest.mark.parametrize("times", [("00:00",), ("02:30", "02:00", "03:00", "01:45"), ("23:59", "00:30", "12:00")])
def test_resets_are_when_a_clock_on_the_wall_first_shows_their_time_or_a_later_one(
    zone: str, day: str, times: tuple[str, ...]
) -> None:
    from_us, resets = at(day), Resets(times, ZoneInfo(zone))
    expected = watched(times, zone, from_us, 2)
    assert len(expected) >= 2
    got, after = [], from_us
    while (due := resets.next_us(after)) < from_us + 2 * 1440 * MINUTE:
        got.append(due)
        after = due + 1
    assert got == expected
    assert all(resets.next_us(due) == due == resets.next_us(due - 1) for due in got)


def test_a_time_that_does_not_exist_is_due_at_the_jump_and_one_that_exists_twice_the_first_time() -> None:
    vienna = ZoneInfo("Europe/Vienna")
    assert Resets(["02:30"], vienna).next_us(at("2026-03-28T12:00")) == at("2026-03-29T01:00")
    assert Resets(["02:30"], vienna).next_us(at("2026-10-24T12:00")) == at("2026-10-25T00:30")
    assert Resets(["02:30"], vienna).next_us(at("2026-10-25T00:31")) == at("2026-10-26T01:30")


def test_without_times_there_is_no_reset() -> None:
    assert Resets([], ZoneInfo("UTC")).next_us(0) == NEVER_US


# ---- counters -----------------------------------------------------------------------------------------------------


class Passed(NamedTuple):
    """A crossing, and the frame that tells of it."""

    date_us: int
    told_us: int
    wire: int
    right: bool
    label: str


GRACE_US = 5 * S
START = at("2026-03-28T22:59:07")  # of frames: an hour before midnight in Vienna, the night when clocks go forward
WIRES = ("door", "gate", "other")
RESETS = ("00:00", "00:05", "02:30")


def settings(report_s: float, classes: tuple[str, ...] = (), resets: tuple[str, ...] = RESETS) -> Counter:
    """A counter over two of three wires, one of which is walked to the left by who comes in."""
    wires = (CounterWire(tripwire="door"), CounterWire(tripwire="gate", entering="left"))
    return Counter(id="c", wires=wires, classes=classes, report_s=report_s, reset=resets)


def counters_of(*made: Counter) -> Counters:
    return Counters(made, WIRES, GRACE_US, ZoneInfo("Europe/Vienna"))


def model(counter: Counter, crossings: list[Passed], start_us: int, end_us: int) -> list[CounterWindow]:
    """Walk through time microsecond group by group, knowing everything: no grace, no order of telling."""
    length = round(counter.report_s * S)
    wanted = [c for c in crossings if c.wire < 2 and (not counter.classes or c.label in counter.classes)]
    moves: dict[int, list[int]] = {}
    for c in wanted:
        comes_in = c.right if c.wire == 0 else not c.right
        moves.setdefault(c.date_us, []).append(1 if comes_in else -1)
    resets = [
        r for r in watched(counter.reset, "Europe/Vienna", start_us - start_us % MINUTE, 1) if start_us <= r < end_us
    ]
    first = start_us - start_us % length
    inside, totals, windows = 0, [0, 0, 0], []
    by_interval: dict[int, list[int]] = {}
    for t in sorted({*moves, *resets}):
        by_interval.setdefault(t - t % length, []).append(t)
    for begin in range(first, end_us - length + 1, length):
        counts, levels, instants = [0, 0, 0], [], by_interval.get(begin, [])
        if not instants or instants[0] > begin:
            levels.append(inside)
        for t in instants:
            if t in resets:
                inside, totals = 0, [0, 0, 0]
            for move in sorted(moves.get(t, []), reverse=True):
                which = [0] if move > 0 else [1] if inside else [1, 2]
                for k in which:
                    counts[k] += 1
                    totals[k] += 1
                inside = max(inside + move, 0)
            levels.append(inside)
        windows.append(
            CounterWindow("c", begin, begin + length, *counts, *totals, inside, max(levels), revision=0, complete=True)
        )
    return windows


@st.composite
def busy_hours(draw: st.DrawFn) -> tuple[list[Passed], list[int]]:
    """Draw crossings that are told up to the grace later, and the times of frames."""
    steps = draw(st.lists(st.sampled_from([200_000, S, 4 * S, 30 * S, 9 * MINUTE]), min_size=5, max_size=40))
    frames = [START]
    for step in steps:
        frames.append(frames[-1] + step)
    crossings = []
    for told in draw(st.lists(st.sampled_from(frames), max_size=40)):
        date = told - draw(st.integers(0, 20)) * GRACE_US // 20
        date = draw(st.sampled_from([date, date - date % (10 * S)]))  # often exactly at a boundary
        if told - GRACE_US <= date and date >= START:
            wire, label = draw(st.integers(0, 2)), draw(st.sampled_from(["person", "car"]))
            crossings.append(Passed(date, told, wire, draw(st.booleans()), label))
    return crossings, frames


def run(
    counter: Counter, crossings: list[Passed], frames: list[int], restarts: frozenset[int] | set[int] = frozenset()
) -> list[CounterWindow]:
    """Tell the counter of each crossing with its frame; last, of a frame so late that all is settled."""
    counters = counters_of(counter)
    got = counters.resume(frames[0])
    for n, now in enumerate(frames):
        for c in crossings:
            if c.told_us == now:
                counters.cross(c.wire, c.right, c.label, c.date_us, now)
        if now >= counters.due_us():
            got += counters.close(now)
        assert counters.due_us() > now
        if n in restarts:
            state, counters = counters.snapshot(), counters_of(counter)
            counters.restore(state)
            assert counters.snapshot() == state
    return got


@bounded(150)
@given(
    busy_hours(), st.sampled_from([7.5, 10.0, 60.0, 3600.0]), st.sampled_from([(), ("person",)]), st.randoms(),
    st.sets(st.integers(0, 40), max_size=6),
)  # fmt: skip
def test_intervals_equal_a_model_that_knows_every_crossing_however_they_are_told(
    hours: tuple[list[Passed], list[int]], report_s: float, classes: tuple[str, ...], random: object, restarts: set[int]
) -> None:
    crossings, frames = hours
    counter = settings(report_s, classes)
    later = frames[-1] + round(report_s * S) + GRACE_US
    got = run(counter, crossings, [*frames, later], restarts)
    assert got == model(counter, crossings, START, later - GRACE_US)
    shuffled = crossings[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(counter, shuffled, [*frames, later]) == got


def crossing(counters: Counters, at_us: int, comes: bool, now_us: int = 0) -> None:
    counters.cross(0, comes, "person", at_us, now_us or at_us)


T0 = at("2026-06-01T10:00")


def started(*made: Counter) -> Counters:
    counters = counters_of(*made)
    counters.resume(T0)
    return counters


def test_who_crosses_at_the_boundary_counts_in_the_next_interval_and_who_crosses_before_in_this_whenever_it_is_told() -> (
    None
):
    counters = started(settings(60))
    crossing(counters, T0 + MINUTE, True)
    crossing(counters, T0 + MINUTE - 1, True, T0 + MINUTE + 4 * S)
    assert counters.close(T0 + MINUTE + GRACE_US - 1) == []
    (first,) = counters.close(T0 + MINUTE + GRACE_US)
    assert (first.in_count, first.occupancy, first.end_us) == (1, 1, T0 + MINUTE)
    (second,) = counters.close(T0 + 2 * MINUTE + GRACE_US)
    assert (second.in_count, second.occupancy, second.occupancy_max) == (1, 2, 2)


def test_nobody_is_counted_below_zero_and_each_time_it_would_be_is_a_correction() -> None:
    counters = started(settings(60))
    for k, comes in enumerate([False, True, False, False, True]):
        crossing(counters, T0 + k * S, comes)
    (w,) = counters.close(T0 + MINUTE + GRACE_US)
    assert (w.in_count, w.out_count, w.correction_count, w.occupancy, w.occupancy_max) == (2, 3, 2, 1, 1)
    assert w.occupancy == w.in_total - w.out_total + w.correction_total


def test_a_reset_at_the_end_of_an_interval_leaves_that_interval_its_totals() -> None:
    midnight = at("2026-06-01T22:00")  # in Vienna
    counters = counters_of(settings(60))
    counters.resume(midnight - MINUTE)
    crossing(counters, midnight - S, True)
    crossing(counters, midnight, True)
    first, second = counters.close(midnight + MINUTE + GRACE_US)
    assert (first.in_total, first.occupancy) == (1, 1)
    assert (second.in_total, second.occupancy, second.occupancy_max) == (1, 1, 1)


def test_a_crossing_that_is_told_too_late_counts_where_things_stand_and_the_totals_are_right() -> None:
    counters = started(settings(60))
    crossing(counters, T0 + S, True)
    counters.close(T0 + MINUTE + GRACE_US)
    crossing(counters, T0 + 2 * S, True, T0 + 100 * S)  # it stood within the wire's band for long
    (w,) = counters.close(T0 + 2 * MINUTE + GRACE_US)
    assert (w.in_count, w.in_total, w.occupancy) == (1, 2, 2)
    counters.close(T0 + 3 * MINUTE + GRACE_US)
    crossing(counters, T0 + 3 * S, False, T0 + 200 * S)
    crossing(counters, T0 + 4 * S, False, T0 + 200 * S)
    (w,) = counters.close(T0 + 4 * MINUTE + GRACE_US)
    assert (w.out_count, w.occupancy, w.occupancy_max) == (2, 0, 2), "there were two until it was known"


def test_of_those_who_cross_at_one_time_who_comes_is_taken_first_whatever_is_told_first() -> None:
    counters = started(settings(60))
    crossing(counters, T0 + S, False, T0 + S + GRACE_US)
    crossing(counters, T0 + S, True, T0 + S + GRACE_US)
    (w,) = counters.close(T0 + MINUTE + GRACE_US)
    assert (w.in_count, w.out_count, w.correction_count, w.occupancy) == (1, 1, 0, 0)


def test_a_silent_camera_reports_what_stands_as_incomplete_and_again_when_it_is_back() -> None:
    counters = started(settings(10, resets=()))
    crossing(counters, T0 + 11 * S, True)
    counters.close(T0 + 16 * S)
    said = counters.report_open(T0 + 22 * S)
    assert [(w.start_us - T0, w.in_count, w.occupancy, w.revision, w.complete) for w in said] == [
        (10 * S, 1, 1, 0, False), (20 * S, 0, 1, 0, False),
    ]  # fmt: skip
    back = counters.resume(T0 + 3600 * S)
    assert [(w.start_us - T0, w.in_count, w.occupancy, w.revision, w.complete) for w in back] == [
        (10 * S, 1, 1, 1, True), (20 * S, 0, 1, 1, True),
    ]  # fmt: skip
    (after,) = counters.close(T0 + 3610 * S + GRACE_US)
    assert (after.start_us - T0, after.occupancy, after.revision) == (3600 * S, 1, 0), "none for the hour of silence"
    (said,) = counters.report_open(T0 + 3612 * S)
    (back,) = counters.resume(T0 + 7200 * S)
    assert (said.revision, back.revision) == (0, 1), "each interval counts its own reports"


def test_frames_that_go_on_in_the_interval_of_the_silence_are_counted_in_it() -> None:
    counters = started(settings(60, resets=()))
    crossing(counters, T0 + 11 * S, True)
    (said,) = counters.report_open(T0 + 12 * S)
    assert counters.resume(T0 + 30 * S) == []
    crossing(counters, T0 + 31 * S, True)
    (w,) = counters.close(T0 + MINUTE + GRACE_US)
    assert (said.in_count, said.revision, w.in_count, w.revision, w.complete) == (1, 0, 2, 1, True)


def test_a_reset_during_silence_counts() -> None:
    counters = started(settings(60))
    crossing(counters, T0 + S, True)
    counters.report_open(T0 + 2 * S)
    later = at("2027-06-01T10:00")  # a year of silence, in few steps
    (first,) = counters.resume(later)
    (after,) = counters.close(later + MINUTE + GRACE_US)
    assert (first.occupancy, after.occupancy, after.in_total, after.start_us) == (1, 0, 0, later)


def test_new_settings_keep_totals_by_id_and_another_length_begins_another_interval() -> None:
    old = started(settings(60), msgspec.structs.replace(settings(60), id="gone"))
    crossing(old, T0 + S, True)
    old.close(T0 + MINUTE + GRACE_US)
    new = counters_of(msgspec.structs.replace(settings(60), id="new"), settings(10))
    new.restore(old.snapshot())
    crossing(new, T0 + MINUTE + 6 * S, True)
    got = new.close(T0 + MINUTE + 10 * S + GRACE_US)
    assert [(w.counter, w.start_us - T0, w.in_count, w.in_total) for w in got] == [("c", 60 * S, 1, 2)]
    got = new.close(T0 + 2 * MINUTE + GRACE_US)
    assert [(w.start_us - T0, w.in_total) for w in got if w.counter == "new"] == [(60 * S, 1)]


def test_more_crossings_than_fit_lose_their_dates_and_not_their_number() -> None:
    counters = started(settings(60, resets=()))
    for k in range(MAX_PENDING + 1000):
        crossing(counters, T0 + k, True, T0 + 1)
    assert len(counters.snapshot()) < 50_000
    (w,) = counters.close(T0 + MINUTE + GRACE_US)
    assert w.in_count == MAX_PENDING + 1000
