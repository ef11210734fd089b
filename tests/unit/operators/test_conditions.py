"""Conditions, measure by measure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from operators.conditions import Conditions, Held, kernel, threshold_name
from operators.conditions.table import MAX_PAIRS, REFUSED_PAIRS
from operators.tracking import TRACK
from operators.zones.kernel import VISIT
from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    DwellLimit,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    Proximity,
    QueueLength,
    QueueWait,
    Removed,
    Speeding,
    Stopped,
    Tailgating,
    WrongWay,
)
from tests.unit.operators.condition_tables import CAPACITY, MOTION, Look, Moment, Pass, labels, tables
from tests.unit.operators.scenes import START_US

S = 1_000_000
KINDS = {Conditions.BEGAN: "began", Conditions.ENDED: "ended", Conditions.PULSE: "pulse"}


def us(at_s: float) -> int:
    return START_US + round(at_s * S)


def make(*rules: AnyRule) -> Conditions:
    conditions = Conditions(rules, ["z"], ["w", "w2"], CAPACITY)
    conditions.set_labels(labels())
    return conditions


def run(conditions: Conditions, moments: Iterable[Moment]) -> list[tuple[float, Held]]:
    """Return what is said, each with the second in which it is said."""
    out = []
    for moment in moments:
        for held in conditions.step(*tables(moment), 1.5, moment.at_us):
            out.append(((moment.at_us - START_US) / S, held))
    return out


def told(said: list[tuple[float, Held]]) -> list[tuple[float, str, float, float]]:
    """Return (said at, kind, since, at) in seconds."""
    return [(t, KINDS[h.kind], (h.since_us - START_US) / S, (h.at_us - START_US) / S) for t, h in said]


SOMEBODY = Look(0, START_US)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("0+ 1+ 2+ 3+", [(2, "began", 0, 2)]),  # held for the hold
        ("0+ 1- 2+ 3+", [(2, "began", 0, 2)]),  # a short absence belongs to the run
        ("0+ 1- 2- 3-", []),  # never long enough
        ("0+ 1- 2- 3- 3.5+ 4+ 5.5+", [(5.5, "began", 3.5, 5.5)]),  # the run began anew
        ("0+ 2+ 3- 4- 4.5-", [(2, "began", 0, 2), (4.5, "ended", 0, 2)]),
        ("0+ 2+ 3- 4+ 5- 6+", [(2, "began", 0, 2)]),  # short absences keep it
        ("0+ 2+ 6+ 7+ 8+", [(2, "began", 0, 2), (6, "ended", 0, 2), (8, "began", 6, 8)]),  # a hole, true on both sides
        ("0- 5+", []),
    ],
)
def test_a_run_begins_after_its_hold_and_ends_after_its_gap(
    steps: str, words: list[tuple[float, str, float, float]]
) -> None:
    rule = Intrusion(id="i", zone="z", hold_s=2.0, gap_s=2.0)
    moments = [
        Moment(us(float(s[:-1])), {0: replace(SOMEBODY, inside=s[-1] == "+", visit=2, enter_us=START_US)})
        for s in steps.split()
    ]
    assert told(run(make(rule), moments)) == words


def frames(until_s: float, look: Callable[[float], Look | None], fps: float = 10.0) -> list[Moment]:
    """Return frames of one object in slot 0; None: it is not there."""
    times = [n / fps for n in range(round(until_s * fps) + 1)]
    return [Moment(us(t), {} if (k := look(t)) is None else {0: k}) for t in times]


def visitor(enter_s: float, leave_s: float, gap_s: float = 2.0) -> Callable[[float], Look]:
    """Return somebody who is in the zone from one time to another."""

    def at(t: float) -> Look:
        if enter_s <= t < leave_s + gap_s:
            return replace(SOMEBODY, enter_us=us(enter_s), visit=2, inside=t < leave_s)
        return SOMEBODY

    return at


# ---- visits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        Loitering(id="r", zone="z", since_s=3.0),
        DwellLimit(id="r", zone="z", limit_s=3.0),
        QueueWait(id="r", zone="z", wait_s=2.5, hold_s=0.5),
    ],
)
def test_a_dwell_begins_with_the_very_frame_and_ends_with_the_visit(rule: AnyRule) -> None:
    said = run(make(rule), frames(12, visitor(1, 8)))
    assert told(said) == [(4.0, "began", 1.0, 4.0), (10.0, "ended", 1.0, 7.9)]
    assert [h.value for _, h in said] == pytest.approx([3.0, 6.9])


def test_a_dwell_whose_threshold_is_raised_ends_and_begins_again_dated_anew() -> None:
    conditions = make(Loitering(id="r", zone="z", since_s=3.0))
    moments = frames(12, visitor(1, 8))
    said = run(conditions, moments[:51])
    conditions.set_threshold(0, 6.0)
    said += run(conditions, moments[51:])
    assert told(said) == [
        (4.0, "began", 1.0, 4.0),
        (5.1, "ended", 1.0, 5.0),
        (7.0, "began", 7.0, 7.0),
        (10.0, "ended", 7.0, 7.9),
    ]
    assert [h.value for _, h in said] == pytest.approx([3.0, 4.0, 6.0, 6.9])


def test_a_threshold_that_is_lowered_holds_from_the_next_frame_on() -> None:
    conditions = make(Loitering(id="r", zone="z", since_s=30.0))
    moments = frames(6, visitor(1, 20))
    assert run(conditions, moments[:50]) == []
    conditions.set_threshold(0, 2.0)
    assert told(run(conditions, moments[50:])) == [(5.0, "began", 1.0, 5.0)]


def test_thresholds_are_in_the_unit_of_their_field() -> None:
    rules = [Loitering(id="a", zone="z", since_s=3.5), Crowding(id="b", zone="z", count=4), Intrusion(id="c", zone="z")]
    assert make(*rules).threshold.tolist() == [3.5, 4.0, 0.0]
    assert [threshold_name(rule) for rule in rules] == ["since_s", "count", ""]


@pytest.mark.parametrize(
    "rule", [Intrusion(id="r", zone="z"), Stopped(id="r", since_s=0.1), Crowding(id="r", zone="z", count=1)]
)
def test_objects_that_are_not_confirmed_do_not_count(rule: AnyRule) -> None:
    def look(t: float) -> Look:
        return replace(SOMEBODY, status="tentative", inside=True, visit=2, enter_us=START_US, still_us=START_US)

    assert run(make(rule), frames(5, look)) == []


def test_a_rule_is_about_its_own_classes_by_the_vote_of_the_frame() -> None:
    def look(t: float) -> Look:
        return replace(visitor(0, 20)(t), label=0 if t < 3 else 2)

    said = run(make(Intrusion(id="r", zone="z", classes=("car",))), frames(5, look))
    assert told(said) == [(3.0, "began", 3.0, 3.0)]
    assert said[0][1].label == 2


def test_a_zone_rule_is_not_about_those_outside_or_not_yet_reported() -> None:
    def look(t: float) -> Look:
        return replace(SOMEBODY, enter_us=START_US, visit=1 if t < 2 else 2, inside=True)

    assert told(run(make(Intrusion(id="r", zone="z")), frames(4, look))) == [(2.0, "began", 2.0, 2.0)]
    assert run(make(Intrusion(id="r", zone="z")), frames(4, lambda t: SOMEBODY)) == []


def test_the_end_of_a_track_ends_its_runs_at_once() -> None:
    def look(t: float) -> Look | None:
        if t > 4.05:
            return None
        return replace(visitor(0, 20)(t), status="ended" if t > 3.95 else "confirmed", seen=t < 3.05)

    assert told(run(make(Intrusion(id="r", zone="z", gap_s=5.0)), frames(6, look)))[1:] == [(4.0, "ended", 0.0, 3.0)]


# ---- places ------------------------------------------------------------------------------------------------------------


def crowd(at_us: int, count: int, inside_s: float = 100.0) -> Moment:
    looks = {
        n: Look(n, START_US, visit=2, inside=True, enter_us=at_us - round(inside_s * S) if inside_s else at_us)
        for n in range(count)
    }
    return Moment(at_us, looks)


def test_a_crowd_is_counted_and_told_by_place() -> None:
    conditions = make(Crowding(id="r", zone="z", count=3, hold_s=1.0, gap_s=0.5))
    counts = [2, 3, 3, 4, 5, 5, 2, 2, 2, 2]
    moments = [crowd(us(n * 0.5), count) for n, count in enumerate(counts)]
    said = run(conditions, moments[:6])
    assert told(said) == [(1.5, "began", 0.5, 1.5)]
    held = said[0][1]
    assert (held.slot, held.label, held.ordinal, held.other_ordinal, held.value) == (-1, -1, -1, -1, 4.0)
    tracks, slots, _, visits, _ = tables(moments[5])
    assert conditions.value(tracks, slots, 0) == 5.0 and conditions.holds(tracks, slots, moments[5].at_us, 0)
    assert conditions.present(tracks, slots, visits, 0, moments[5].at_us) == [(n, START_US) for n in range(5)]
    assert told(run(conditions, moments[6:])) == [(3.5, "ended", 0.5, 2.5)]
    assert math.isnan(conditions.value(tracks, slots, 0)) and not conditions.holds(tracks, slots, us(4.5), 0)


def test_who_only_walks_through_is_not_in_the_queue() -> None:
    rule = QueueLength(id="r", zone="z", count=2, settled_s=3.0, hold_s=0.0)
    moments = [crowd(us(n), 2, inside_s=n) for n in range(5)]
    conditions = make(rule)
    assert told(run(conditions, moments)) == [(3.0, "began", 3.0, 3.0)]
    tracks, slots, _, visits, _ = tables(moments[2])
    assert conditions.present(tracks, slots, visits, 0, moments[2].at_us) == []


def test_an_empty_place_is_told_only_after_it_has_been_seen_empty_for_so_long() -> None:
    conditions = make(Empty(id="r", zone="z", since_s=5.0))
    said = run(conditions, frames(12, visitor(8, 9)))
    assert told(said) == [(5.0, "began", 0.0, 5.0), (10.0, "ended", 0.0, 7.9)]  # somebody for longer than gap_s
    assert [h.value for _, h in said] == pytest.approx([5.0, 7.9])


def test_a_camera_that_was_silent_does_not_know_whether_the_place_was_empty() -> None:
    moments = [Moment(us(t), {}) for t in (0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14)]
    assert told(run(make(Empty(id="r", zone="z", since_s=5.0)), moments)) == [(14.0, "began", 9.0, 14.0)]


def test_somebody_hidden_is_still_there_as_long_as_his_visit() -> None:
    def look(t: float) -> Look:
        return replace(visitor(0, 3, gap_s=4.0)(t), seen=t < 3)

    assert told(run(make(Empty(id="r", zone="z", since_s=2.0)), frames(9.5, look))) == [(9.0, "began", 7.0, 9.0)]


def test_an_empty_place_is_judged_by_the_threshold_of_the_hour() -> None:
    conditions = make(Empty(id="r", zone="z", since_s=2.0))
    moments = frames(9, lambda t: None)
    said = run(conditions, moments[:31])
    conditions.set_threshold(0, 6.0)
    said += run(conditions, moments[31:])
    assert told(said) == [(2.0, "began", 0.0, 2.0), (3.1, "ended", 0.0, 3.0), (6.0, "began", 3.1, 6.0)]
    assert said[-1][1].value == pytest.approx(6.0)


# ---- standing still ----------------------------------------------------------------------------------------------------


def still(since_s: float, **fields: object) -> Look:
    return replace(SOMEBODY, still_us=us(since_s), **fields)  # type: ignore[arg-type]


def test_a_stop_is_dated_by_when_the_object_stopped() -> None:
    said = run(make(Stopped(id="r", since_s=3.0)), frames(9, lambda t: still(1 if 1 <= t < 6 else t)))
    assert told(said) == [(4.0, "began", 1.0, 4.0), (8.0, "ended", 1.0, 5.9)]
    assert [h.value for _, h in said] == pytest.approx([3.0, 4.9])


def test_the_second_run_of_one_stop_is_dated_when_it_begins() -> None:
    def look(t: float) -> Look:
        return still(1, label=0 if t < 4 or t >= 7 else 2) if t >= 1 else still(t)

    said = run(make(Stopped(id="r", since_s=2.0, classes=("person",))), frames(8, look))
    assert told(said) == [(3.0, "began", 1.0, 3.0), (6.0, "ended", 1.0, 3.9), (7.0, "began", 7.0, 7.0)]
    assert [h.value for _, h in said] == pytest.approx([2.0, 2.9, 6.0])


@pytest.mark.parametrize("on_ground", [True, False])
def test_luggage_is_abandoned_when_its_owner_has_been_away_long_enough(on_ground: bool) -> None:
    def moment(t: float) -> Moment:
        away = 4.0 if 3.0 <= t < 12 else 1.0
        bag, owner = still(0, label=1), replace(SOMEBODY, ordinal=1)
        if on_ground:
            return Moment(us(t), {0: replace(bag, at_m=(5.0, 5.0)), 1: replace(owner, at_m=(5.0, 5.0 + away))})
        return Moment(
            us(t), {0: replace(bag, foot=(0.5, 0.5)), 1: replace(owner, foot=(0.5 + away * 0.25, 0.5), height=0.25)}
        )

    rule = Abandoned(id="r", since_s=5.0, owner_m=3.0, owner_ratio=1.5)
    moments = [moment(n / 10) for n in range(160)]
    said = run(make(rule), moments)
    assert told(said) == [(8.0, "began", 3.0, 8.0), (14.0, "ended", 3.0, 11.9)]
    assert {h.ordinal for _, h in said} == {0}


def test_attended_luggage_never_alarms_and_a_passer_by_does_not_end_an_alarm() -> None:
    def moment(t: float, near: bool) -> Moment:
        bag = still(0, label=1, at_m=(5.0, 5.0))
        return Moment(us(t), {0: bag, 1: replace(SOMEBODY, ordinal=1, at_m=(5.0, 6.0 if near else 15.0))})

    rule = Abandoned(id="r", since_s=5.0, gap_s=2.0)
    looks_away = [moment(n / 10, n % 40 < 3) for n in range(600)]  # seen near for a moment every four seconds
    assert run(make(rule), looks_away) == []
    passer_by = [moment(n / 10, 80 <= n < 95) for n in range(130)]
    assert told(run(make(rule), passer_by)) == [(5.0, "began", 0.0, 5.0)]


def test_luggage_that_moves_is_attended() -> None:
    rule = Abandoned(id="r", since_s=5.0)
    moments = frames(20, lambda t: still(math.floor(t / 4) * 4, label=1))
    assert run(make(rule), moments) == []


def test_nothing_owns_itself() -> None:
    rule = Abandoned(id="r", since_s=1.0, classes=("suitcase",), owner_classes=("person", "suitcase"))
    assert len(run(make(rule), frames(3, lambda t: still(0, label=1)))) == 1


def test_other_classes_are_no_luggage_and_no_owners() -> None:
    rule = Abandoned(id="r", since_s=1.0, classes=("suitcase",), owner_classes=("car",))
    people = [Moment(us(n / 10), {0: still(0), 1: still(0, ordinal=1, label=1)}) for n in range(20)]
    assert [h.ordinal for _, h in run(make(rule), people)] == [1]


def test_what_stood_still_and_moves_is_removed_at_that_moment() -> None:
    def look(t: float) -> Look:
        return still(0 if t < 8 else t, seen=not 4 <= t < 6)  # hidden for two seconds: not gone

    said = run(make(Removed(id="r", since_s=3.0)), frames(10, look))
    assert told(said) == [(8.0, "pulse", 0.0, 8.0)]
    assert said[0][1].value == pytest.approx(7.9)


def test_what_stood_still_and_is_no_more_is_removed_at_its_last_sight() -> None:
    def look(t: float) -> Look | None:
        if t > 9.05:
            return None
        return still(0, seen=t < 6.05, status="ended" if t > 8.95 else "confirmed")

    assert told(run(make(Removed(id="r", since_s=3.0)), frames(11, look))) == [(9.0, "pulse", 0.0, 6.0)]


def test_a_lost_source_removes_nothing() -> None:
    conditions = make(Removed(id="r", since_s=3.0))
    moments = frames(6, lambda t: still(0))
    assert run(conditions, moments) == []
    tracks, slots, *_ = tables(moments[-1])
    assert conditions.end_all(tracks, slots) == []
    ended = frames(6, lambda t: still(0, status="ended", seen=False))[-1:]
    assert run(conditions, ended) == []


def test_what_did_not_stand_in_the_zone_is_not_removed_from_it() -> None:
    conditions = make(Removed(id="r", since_s=3.0, zone="z"))
    assert run(conditions, frames(10, lambda t: still(0 if t < 8 else t))) == []
    stood = replace(still(0), visit=2, inside=True, enter_us=START_US)
    moments = frames(10, lambda t: stood if t < 8 else still(t))
    assert told(run(make(Removed(id="r", since_s=3.0, zone="z")), moments)) == [(8.0, "pulse", 0.0, 8.0)]


def test_what_did_not_stand_long_enough_for_todays_threshold_is_not_removed() -> None:
    conditions = make(Removed(id="r", since_s=3.0))
    moments = frames(10, lambda t: still(0 if t < 5 else t))
    run(conditions, moments[:45])
    conditions.set_threshold(0, 9.0)
    assert run(conditions, moments[45:]) == []


# ---- speed and direction -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("speed_mps", "sd_mps", "is_told"), [(5.0, 0.4, True), (5.0, 0.6, False), (4.4, 0.0, False)])
def test_a_speed_must_be_surely_above_the_limit(speed_mps: float, sd_mps: float, is_told: bool) -> None:
    rule = Speeding(id="r", limit_mps=4.5, sure_sd=1.0, hold_s=0.5)
    look = replace(SOMEBODY, speed_mps=speed_mps, speed_sd_mps=sd_mps)
    said = run(make(rule), frames(2, lambda t: look))
    assert told(said) == ([(0.5, "began", 0.0, 0.5)] if is_told else [])
    assert [h.value for _, h in said] == ([5.0] if is_told else [])


def test_an_unknown_speed_is_no_speed() -> None:
    assert run(make(Speeding(id="r", limit_mps=0.1, sure_sd=0.0)), frames(2, lambda t: SOMEBODY)) == []


def way(degrees: float, length: float = 1.0) -> tuple[float, float]:
    return length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))


@pytest.mark.parametrize(
    ("degrees", "speed_mps", "is_told"),
    [(180, 1.0, True), (121, 1.0, True), (-121, 1.0, True), (119, 1.0, False), (0, 9.0, False), (180, 0.5, False)],
)
def test_wrong_way_on_the_ground(degrees: float, speed_mps: float, is_told: bool) -> None:
    rule = WrongWay(id="r", allowed=((10.0, 10.0), (14.0, 13.0)), plane="ground", tolerance_deg=60.0)
    arrow = math.degrees(math.atan2(3.0, 4.0))
    look = replace(SOMEBODY, heading=way(arrow + degrees), speed_mps=speed_mps)
    said = run(make(rule), frames(1, lambda t: look))
    assert told(said) == ([(0.5, "began", 0.0, 0.5)] if is_told else [])
    for _, h in said:
        assert h.value == pytest.approx(-math.cos(math.radians(degrees)) * speed_mps, rel=1e-5)


@pytest.mark.parametrize(
    ("degrees", "heights_per_s", "is_told"), [(149, 0.5, False), (151, 0.5, True), (180, 0.25, False)]
)
def test_wrong_way_in_the_image_is_measured_in_the_picture_as_it_is_seen(
    degrees: float, heights_per_s: float, is_told: bool
) -> None:
    rule = WrongWay(id="r", allowed=((0.2, 0.2), (0.4, 0.5)), tolerance_deg=30.0, slowest_ratio=0.3)
    arrow = math.degrees(math.atan2(0.3, 0.2 * 1.5))  # the frame is half as wide again as it is high
    look = replace(SOMEBODY, height=0.2, velocity=way(arrow + degrees, 0.2 * heights_per_s))
    assert bool(run(make(rule), frames(1, lambda t: look))) == is_told


# ---- tripwires ---------------------------------------------------------------------------------------------------------


def crossing(ordinal: int, at_s: float, side: int = 1, wire: int = 0, label: int = 0) -> Pass:
    return Pass(ordinal, wire, side, label, ordinal, START_US, us(at_s))


def at_wire(rule: AnyRule, *passes: tuple[float, list[Pass]]) -> list[tuple[float, Held]]:
    walkers = {n: Look(n, START_US) for n in range(4)}
    return run(make(rule), [Moment(us(t), walkers, tuple(of_frame)) for t, of_frame in passes])


def test_crossings_are_told_by_the_time_at_which_the_wire_was_met() -> None:
    late = crossing(3, 0.2)  # of an object that was confirmed only now
    said = at_wire(LineCrossing(id="r", tripwire="w"), (1.0, [crossing(0, 0.9), crossing(1, 0.8, -1)]), (2.0, [late]))
    assert told(said) == [(1.0, "pulse", 0.8, 0.8), (1.0, "pulse", 0.9, 0.9), (2.0, "pulse", 0.2, 0.2)]
    assert [(h.ordinal, h.slot, h.value) for _, h in said] == [(1, 1, -1.0), (0, 0, 1.0), (3, 3, 1.0)]


def test_a_crossing_counts_by_wire_direction_and_class() -> None:
    rule = LineCrossing(id="r", tripwire="w", direction="left", classes=("person",))
    passes = [crossing(0, 0.1), crossing(1, 0.2, -1), crossing(2, 0.3, -1, wire=1), crossing(3, 0.4, -1, label=2)]
    assert [h.ordinal for _, h in at_wire(rule, (1.0, passes))] == [1]


def test_three_in_a_row_are_two_tailgatings() -> None:
    rule = Tailgating(id="r", tripwire="w", within_s=1.0)
    said = at_wire(
        rule, (1.0, [crossing(0, 0.9)]), (2.0, [crossing(2, 1.9), crossing(1, 1.4)]), (4.0, [crossing(3, 3.9)])
    )
    assert [(h.other_ordinal, h.ordinal) for _, h in said] == [(0, 1), (1, 2)]
    assert told(said) == [(2.0, "pulse", 0.9, 1.4), (2.0, "pulse", 1.4, 1.9)]
    assert [h.value for _, h in said] == pytest.approx([0.5, 0.5])


def test_who_is_known_later_but_went_first_is_followed() -> None:
    rule = Tailgating(id="r", tripwire="w", within_s=1.0)
    said = at_wire(rule, (1.0, [crossing(0, 0.9)]), (2.0, [crossing(1, 0.5)]), (3.0, [crossing(2, 1.6)]))
    assert [(h.other_ordinal, h.ordinal) for _, h in said] == [(1, 0), (0, 2)]
    assert told(said) == [(2.0, "pulse", 0.5, 0.9), (3.0, "pulse", 0.9, 1.6)]


def test_nobody_follows_himself_or_those_who_walk_the_other_way() -> None:
    rule = Tailgating(id="r", tripwire="w", within_s=1.0)
    assert (
        at_wire(rule, (1.0, [crossing(0, 0.5), crossing(1, 0.6, -1), crossing(2, 0.7, wire=1), crossing(0, 0.9)])) == []
    )


def test_within_is_met_to_the_microsecond() -> None:
    rule = Tailgating(id="r", tripwire="w", within_s=0.57)
    first, second = crossing(0, 1.0), crossing(1, 1.57)
    assert len(at_wire(rule, (2.0, [first]), (3.0, [second]))) == 1
    assert at_wire(rule, (2.0, [first]), (3.0, [replace(second, at_us=second.at_us + 1)])) == []


# ---- pairs -------------------------------------------------------------------------------------------------------------


def test_a_pair_is_of_one_class_and_another_and_ends_with_either() -> None:
    def moment(t: float) -> Moment:
        person = replace(SOMEBODY, ordinal=7, at_m=(1.0, 1.0), seen=t < 6, status="ended" if t >= 8 else "confirmed")
        car = Look(3, START_US, label=2, at_m=(1.0, 1.5 if t >= 1 else 9.0))
        looks = {0: car, 1: person, 2: replace(person, ordinal=8, at_m=(1.0, 1.0), status="confirmed")}
        return Moment(us(t), looks if t < 8.05 else {0: car, 2: looks[2]})

    rule = Proximity(id="r", distance_m=1.0, classes=("person",), other_classes=("car",), hold_s=2.0, gap_s=5.0)
    conditions = make(rule)
    moments = [moment(n / 10) for n in range(95)]
    said = run(conditions, moments[:40])
    assert [(t, h.ordinal, h.other_ordinal, h.value) for t, h in said] == [(3.0, 7, 3, 0.5), (3.0, 8, 3, 0.5)]
    tracks, slots, *_ = tables(moments[39])
    assert conditions.value(tracks, slots, 0, 7, 3) == 0.5 and math.isnan(conditions.value(tracks, slots, 0, 3, 7))
    assert conditions.holds(tracks, slots, moments[39].at_us, 0, 8, 3)
    said = run(conditions, moments[40:])
    assert [(t, h.kind, h.ordinal, h.at_us) for t, h in said] == [(8.0, Conditions.ENDED, 7, us(5.9))]


def many(count: int, seed: int, side_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    draw = random.Random(seed)
    tracks, motions, visits = np.zeros(count, TRACK), np.zeros(count, MOTION), np.zeros((count, 0), VISIT)
    tracks["status"], tracks["seen"], tracks["ordinal"] = 2, 1, range(count)
    motions["x_m"] = [draw.uniform(0, side_m) for _ in range(count)]
    motions["y_m"] = [draw.uniform(0, side_m) for _ in range(count)]
    return tracks, motions, visits


@pytest.mark.parametrize("seed", range(3))
def test_the_sweep_finds_every_near_pair(seed: int) -> None:
    tracks, motions, visits = many(400, seed, 60.0)
    motions["x_m"][::7] = 30.0  # equal keys
    motions["y_m"][::11] = np.nan
    conditions = Conditions([Proximity(id="r", distance_m=1.0, hold_s=0.0)], [], [], 400)
    conditions.set_labels(labels())
    said = conditions.step(tracks, 400, motions, visits, tables(Moment(us(0), {}))[4], 1.0, us(0))
    places = np.stack([motions["x_m"], motions["y_m"]], 1).astype(np.float64)
    wanted = {(a, b) for a, b in itertools.combinations(range(400), 2) if np.hypot(*(places[a] - places[b])) < 1.0}
    assert 20 < len(wanted) < MAX_PAIRS
    assert {(h.ordinal, h.other_ordinal) for h in said} == wanted and len(said) == len(wanted)


def test_pairs_without_room_are_refused_and_counted_and_the_known_ones_go_on() -> None:
    tracks, motions, visits = many(100, 1, 5.0)
    conditions = Conditions([Proximity(id="r", distance_m=9.0, hold_s=0.0)], [], [], 100)
    conditions.set_labels(labels())
    nobody = tables(Moment(us(0), {}))[4]
    first = conditions.step(tracks, 100, motions, visits, nobody, 1.0, us(0))
    assert len(first) == MAX_PAIRS and conditions.pair_head[REFUSED_PAIRS] == 1
    motions["x_m"][first[0].slot] = 100.0
    later = [h for n in range(1, 4) for h in conditions.step(tracks, 100, motions, visits, nobody, 1.0, us(n))]
    gone = [h for h in later if h.kind == Conditions.ENDED]
    assert {first[0].slot} <= {h.slot for h in gone} | {h.other_ordinal for h in gone}
    assert len(later) == 2 * len(gone)  # as many have found room
    assert conditions.snapshot(100).refused_pairs == 4


# ---- all of it ---------------------------------------------------------------------------------------------------------


def test_end_all_ends_what_is_open_and_forgets_the_rest() -> None:
    conditions = make(
        Intrusion(id="a", zone="z"), Crowding(id="b", zone="z", count=1, hold_s=0.0), Proximity(id="c", distance_m=2.0, hold_s=0.0),
        Loitering(id="d", zone="z", since_s=99.0), Tailgating(id="e", tripwire="w"),
    )  # fmt: skip
    inside = replace(SOMEBODY, visit=2, inside=True, enter_us=START_US, at_m=(1.0, 1.0))
    moments = [Moment(us(t), {0: inside, 2: replace(inside, ordinal=1)}, (crossing(0, t),)) for t in (0, 1)]
    assert len(run(conditions, moments)) == 4
    tracks, slots, *_ = tables(moments[-1])
    ended = conditions.end_all(tracks, slots)
    assert [(h.rule, h.slot, h.ordinal, h.other_ordinal) for h in ended] == [
        (0, 0, 0, -1), (0, 2, 1, -1), (1, -1, -1, -1), (2, 0, 0, 1),
    ]  # fmt: skip
    assert {(h.kind, h.since_us, h.at_us) for h in ended} == {(Conditions.ENDED, us(0), us(1))}
    assert [h.value for h in ended] == [1.0, 1.0, 2.0, 0.0]
    assert conditions.snapshot(slots) == make(*conditions._rules).snapshot(slots)


def test_with_new_settings_runs_follow_their_rule() -> None:
    a, b = Intrusion(id="a", zone="z", hold_s=3.0), Proximity(id="b", distance_m=2.0, hold_s=3.0)
    gone, new = Intrusion(id="gone", zone="z"), Intrusion(id="a", version=2, zone="z", hold_s=3.0)
    old = make(gone, a, b)
    inside = replace(SOMEBODY, visit=2, inside=True, enter_us=START_US, at_m=(1.0, 1.0))
    moments = [Moment(us(t), {0: inside, 1: replace(inside, ordinal=1)}) for t in range(6)]
    run(old, moments[:3])
    conditions = make(b, new, a)
    conditions.restore(old.snapshot(2), old.names)
    said = run(conditions, moments[3:])
    assert [(t, h.rule, h.since_us) for t, h in said] == [
        (3.0, 2, us(0)), (3.0, 2, us(0)), (3.0, 0, us(0)),
    ]  # fmt: skip


def test_more_rules_than_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 64"):
        make(*(Intrusion(id=str(n), zone="z") for n in range(65)))


def test_sorting_is_by_key_then_item() -> None:
    draw = random.Random(5)
    for n in (0, 1, 2, 7, 60, 400):
        keys = np.array([draw.randrange(20) / 4 for _ in range(n)], np.float64)
        items = np.array(draw.sample(range(1000), n), np.int64)
        wanted = sorted(zip(keys.tolist(), items.tolist(), strict=True))
        kernel.sort(keys, items, n)
        assert list(zip(keys.tolist(), items.tolist(), strict=True)) == wanted


# ---- rate --------------------------------------------------------------------------------------------------------------

SCENE_S = 40.0


def scene(t: float) -> dict[int, Look]:
    """Return a street corner at a time: somebody comes, waits beside a suitcase, leaves it; a car drives by the wrong way."""
    looks = {}
    walker = replace(SOMEBODY, ordinal=0, label=0)
    if t < 30.0:
        x = 10.0 - t if t < 5.03 else 5.0 if t < 15.01 else 5.0 - (t - 15.01)
        moving = not 5.03 <= t < 15.01
        looks[0] = replace(
            walker,
            at_m=(x, 2.0),
            speed_mps=1.0 if moving else 0.0,
            speed_sd_mps=0.1,
            still_us=us(t) if moving else us(5.03),
        )
    looks[1] = Look(1, START_US, label=1, at_m=(5.5, 2.0), still_us=START_US, speed_mps=0.0, speed_sd_mps=0.1)
    if 20.0 <= t < 26.02:
        looks[2] = Look(
            2, us(20), label=2, at_m=(-30.0 + 9.0 * (t - 20), 8.0), speed_mps=9.0, speed_sd_mps=0.5, heading=(1.0, 0.0)
        )
    return looks


def sampled(fps: float) -> list[Moment]:
    """Return frames of the scene with visits to the zone x < 7 m, gap 1 s, and ends of tracks 2 s after they are gone."""
    moments, visits = [], {}
    last: dict[int, tuple[int, Look]] = {}
    for n in range(round(SCENE_S * fps)):
        now_us, looks = START_US + round(n * S / fps), {}
        for slot, look in scene(n / fps).items():
            last[slot] = (now_us, look)
        for slot, (seen_us, look) in list(last.items()):
            seen = seen_us == now_us
            inside = seen and look.at_m[0] < 7.0
            enter_us, inside_us = visits.get(slot, (0, 0))
            if enter_us and now_us - inside_us > S:
                enter_us = 0
            if inside:
                enter_us, inside_us = enter_us or now_us, now_us
            visits[slot] = (enter_us, inside_us)
            over = now_us - seen_us > 2 * S
            looks[slot] = replace(
                look, seen=seen, inside=inside, enter_us=0 if over else enter_us, visit=2 if enter_us and not over else 0,
                status="ended" if over else "confirmed",
            )  # fmt: skip
            if over:
                del last[slot]
        moments.append(Moment(now_us, looks))
    return moments


RATED: Sequence[AnyRule] = (
    Intrusion(id="1", zone="z", classes=("person",), hold_s=1.0),
    Loitering(id="2", zone="z", since_s=6.0),
    Crowding(id="3", zone="z", count=2, hold_s=2.0),
    Empty(id="4", zone="z", since_s=4.0, classes=("person",)),
    Stopped(id="5", since_s=4.0, classes=("person",)),
    Speeding(id="6", limit_mps=5.0),
    WrongWay(id="7", allowed=((9.0, 8.0), (0.0, 8.0)), plane="ground"),
    Abandoned(id="8", since_s=8.0),
    Removed(id="9", since_s=5.0, classes=("person",)),
    Proximity(id="10", distance_m=2.0, classes=("person",), other_classes=("suitcase",), hold_s=3.0),
)


def test_at_any_rate_the_same_conditions_hold_at_the_same_times() -> None:
    def at_rate(fps: float) -> dict[tuple[int, int, int, int], list[Held]]:
        by_subject: dict[tuple[int, int, int, int], list[Held]] = {}
        for _, held in run(make(*RATED), sampled(fps)):
            by_subject.setdefault((held.rule, held.ordinal, held.other_ordinal, held.kind), []).append(held)
        return by_subject

    finest = at_rate(30.0)
    assert {rule for rule, *_ in finest} == set(range(len(RATED)))
    for fps in (5.0, 12.5):
        rated = at_rate(fps)
        assert {key: len(said) for key, said in rated.items()} == {key: len(said) for key, said in finest.items()}
        for key, said in rated.items():
            for one, other in zip(said, finest[key], strict=True):
                # A beginning and a hold may each be seen one frame late.
                assert abs(one.since_us - other.since_us) <= S / fps + S / 30.0
                assert abs(one.at_us - other.at_us) <= 2 * (S / fps + S / 30.0)
