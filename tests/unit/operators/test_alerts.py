"""Alerts and their hysteresis against a model over the whole history."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.alerts import Alerts, Cause, Dwelling, Run
from operators.alerts.alerts import MAX_COOLING, MAX_OPEN
from schemas.rules import AnyRule, Crowding, Loitering
from schemas.wire import AlertTransition
from tests.unit.operators.scenes import START_US, bounded

CAUSE = Cause("settings", "sha", 0, 0, 0, 0)
S = 1_000_000


def us(at_s: float) -> int:
    return START_US + round(at_s * S)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("0+ 1+ 2+ 3+", {2: "open"}),  # held for the hold
        ("0+ 1- 2+ 3+", {2: "open"}),  # a short absence belongs to the run
        ("0+ 1- 2- 3-", {}),  # never long enough
        ("0+ 1- 2- 3- 3.5+ 4+ 5.5+", {5.5: "open"}),  # the run began anew
        ("0+ 2+ 3- 4- 4.5-", {2: "open", 4.5: "close"}),
        ("0+ 2+ 3- 4+ 5- 6+", {2: "open"}),  # short absences keep it open
        ("0+ 2+ 6+ 7+ 8+", {2: "open", 6: "close", 8: "open"}),  # a hole ends it even if true on both sides
        ("0- 5+", {}),
    ],
)
def test_a_run_opens_after_its_hold_and_closes_after_its_gap(steps: str, words: dict[float, str]) -> None:
    run, said = Run(), {}
    for step in steps.split():
        at_s = float(step[:-1])
        word = run.step(step[-1] == "+", us(at_s), 2 * S, 2 * S)
        if word:
            said[at_s] = word
    assert said == words


@bounded(150)
@given(
    st.lists(
        st.tuples(st.sampled_from([100_000, 1_000_000, 2_500_000]), st.integers(0, 3), st.sampled_from("...re")),
        max_size=60,
    ),
    st.sampled_from([0.0, 4.0]),
    st.sets(st.integers(0, 60), max_size=4),
)
def test_frames_that_need_no_step_can_be_left_out(
    history: list[tuple[int, int, str]], cooldown_s: float, restarts: set[int]
) -> None:
    rules: list[AnyRule] = [
        Crowding(id="c", zone="z", count=2, hold_s=1.0, gap_s=1.0, cooldown_s=cooldown_s, update_s=3.0),
        Loitering(id="l", zone="z", since_s=1.0, cooldown_s=cooldown_s, update_s=3.0),
    ]

    def say(every: bool) -> list[AlertTransition]:
        alerts, now, said = Alerts("s", "cam", rules, ["z"]), START_US, []
        zones, counts = alerts.thresholds()
        for n, (step, count, word) in enumerate(history):
            now += step
            dwellings = [Dwelling(word == "e", 0, 0, 7, START_US, START_US, now, "p")] if word != "." else []
            crowded = any([count][zone] >= least for zone, least in zip(zones, counts, strict=True))
            if every or dwellings or crowded or now >= alerts.wake_us():
                said += alerts.step(now, [count], dwellings, CAUSE, lambda zone: [(7, START_US)])
            if n in restarts:
                data, alerts = alerts.snapshot(), Alerts("s", "cam", rules, ["z"])
                alerts.restore(data)
        return said

    assert say(every=False) == say(every=True)


def crowding_model(counts: list[tuple[int, int]], rule: Crowding) -> list[tuple[str, int, int]]:
    """Return (transition, start, at) of opens and closes: cut the true frames into runs, then walk over each run."""
    true_at = [t for t, n in counts if n >= rule.count]
    runs: list[list[int]] = []
    for t in true_at:
        if runs and t - runs[-1][-1] <= rule.gap_s * S:
            runs[-1].append(t)
        else:
            runs.append([t])
    out, free_us, closed_at = [], -1, -1
    for run in runs:
        # A run that begins in the very frame in which another's end is found can open only with the next.
        opens = [t for t in run if t - run[0] >= rule.hold_s * S and t >= free_us and not (t == run[0] == closed_at)]
        if not opens:
            continue
        out.append(("open", run[0], opens[0]))
        seen_later = [t for t, _ in counts if t - run[-1] > rule.gap_s * S]
        if seen_later:
            out.append(("close", run[0], run[-1]))
            closed_at, free_us = seen_later[0], run[-1] + round(rule.cooldown_s * S)
    return out


@bounded(200)
@given(
    st.lists(st.tuples(st.sampled_from([100_000, 400_000, 1_000_000, 2_500_000]), st.integers(0, 4)), max_size=60),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([0.0, 2.0, 10.0]),
    st.sets(st.integers(0, 60), max_size=4),
)
def test_crowding_equals_a_model_of_runs_and_survives_restarts(
    history: list[tuple[int, int]], hold_s: float, gap_s: float, cooldown_s: float, restarts: set[int]
) -> None:
    rule = Crowding(id="c", zone="z", count=2, hold_s=hold_s, gap_s=gap_s, cooldown_s=cooldown_s, update_s=3.0)
    alerts, now, counts = Alerts("s", "cam", [rule], ["z"]), START_US, []
    said: list[AlertTransition] = []
    for n, (step, count) in enumerate(history):
        now += step
        counts.append((now, count))
        said += alerts.step(now, [count], (), CAUSE, lambda zone: [])
        if n in restarts:
            data, alerts = alerts.snapshot(), Alerts("s", "cam", [rule], ["z"])
            alerts.restore(data)
            assert alerts.snapshot() == data
    assert [(a.transition, a.start_us, a.at_us) for a in said if a.transition != "update"] == crowding_model(
        counts, rule
    )
    assert len({a.id for a in said}) == len(said)
    for before, update in itertools.pairwise(said):
        if update.transition == "update":
            assert update.alert_id == before.alert_id
            assert update.at_us - before.at_us >= 3 * S


@st.composite
def visits(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Draw (ordinal, enter, length) in tenths of seconds; visits of one object do not overlap."""
    out = []
    for ordinal in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, 50))
        for _ in range(draw(st.integers(0, 5))):
            length = draw(st.integers(0, 120))
            out.append((ordinal, at, length))
            at += length + draw(st.integers(1, 80))
    return out


@bounded(150)
@given(
    visits(), st.sampled_from([0.5, 3.0]), st.sampled_from([0.0, 2.0, 15.0]), st.sets(st.integers(0, 700), max_size=4)
)
def test_loitering_opens_for_each_subject_and_waits_for_its_cool_down(
    stays: list[tuple[int, int, int]], since_s: float, cooldown_s: float, restarts: set[int]
) -> None:
    rule = Loitering(id="l", zone="z", since_s=since_s, cooldown_s=cooldown_s, update_s=1000.0)
    alerts, since = Alerts("s", "cam", [rule], ["z"]), round(since_s * 10)
    said: list[AlertTransition] = []
    end = max([e + n for _, e, n in stays], default=0) + 5
    for tick in range(end):
        dwellings = [
            Dwelling(ended, 0, 0, o, START_US, us(e / 10), us((e + n if ended else e + since) / 10), "person")
            for o, e, n in stays
            for ended in (True, False)
            if tick == (e + n + 1 if ended else e + since) and (ended or n >= since)
        ]
        inside = [(o, START_US) for o, e, n in stays if e <= tick <= e + n]
        said += alerts.step(us(tick / 10), [len(inside)], dwellings, CAUSE, lambda zone, now=inside: now)
        if tick in restarts:
            data, alerts = alerts.snapshot(), Alerts("s", "cam", [rule], ["z"])
            alerts.restore(data)
            assert alerts.snapshot() == data
    expected = []
    for ordinal in {o for o, _, _ in stays}:
        free = -1
        for _, enter, length in sorted(v for v in stays if v[0] == ordinal):
            opens = max(enter + since, free)
            if opens <= enter + length:
                expected.append((ordinal, enter, opens, enter + length))
                free = enter + length + round(cooldown_s * 10)
    closes = {a.alert_id: a.at_us for a in said if a.transition == "close"}
    got = [
        (int(a.subjects[0].rsplit("/", 1)[1]), a.start_us, a.at_us, closes[a.alert_id])
        for a in said
        if a.transition == "open"
    ]
    assert sorted(got) == sorted((o, us(a / 10), us(b / 10), us(c / 10)) for o, a, b, c in expected)
    assert len({a.id for a in said}) == len(said)


def crowded(rules: list[AnyRule], ticks: int = 5) -> Alerts:
    """Return alerts after two were inside for `ticks` seconds."""
    alerts = Alerts("s", "cam", rules, ["z", "y"])
    for n in range(ticks):
        alerts.step(us(n), [2, 2], (), CAUSE, lambda zone: [])
    return alerts


def test_an_alert_whose_rule_is_gone_is_closed_with_the_next_frame_and_once() -> None:
    old = crowded([Crowding(id="c", zone="z", count=2, hold_s=1.0)])
    new = Alerts("s", "cam", [Crowding(id="c", zone="z", count=2, hold_s=1.0, version=2)], ["z", "y"])
    assert new.restore(old.snapshot()) == []
    again = Alerts("s", "cam", [], ["z"])
    again.restore(new.snapshot())  # before any frame: the orphan is kept
    for alerts in (new, again):
        (close,) = (a for a in alerts.step(us(6), [0, 0], (), CAUSE, lambda zone: []) if a.transition == "close")
        assert (close.rule, close.rule_version, close.zone, close.start_us) == ("c", 1, "z", us(0))
        assert alerts.step(us(7), [0, 0], (), CAUSE, lambda zone: []) == []


def test_rules_in_another_order_keep_their_alerts() -> None:
    first = Crowding(id="c", zone="z", count=2, hold_s=1.0)
    second = Loitering(id="l", zone="y", since_s=3.0)
    third = Loitering(id="m", zone="y", since_s=9.0)
    old = crowded([first, second, third])
    new = Alerts("s", "cam", [third, first, second], ["y", "z"])
    assert new.restore(old.snapshot()) == [1, 0]
    said = new.step(us(9), [0, 0], (), CAUSE, lambda zone: [])
    assert [(a.rule, a.transition, a.at_us) for a in said] == [("c", "close", us(4))]


def test_an_alert_is_not_opened_twice() -> None:
    alerts = Alerts("s", "cam", [Loitering(id="l", zone="z", since_s=1.0)], ["z"])
    reached = Dwelling(False, 0, 0, 7, START_US, us(0), us(1), "person")
    assert len(alerts.step(us(1), [1], [reached], CAUSE, lambda zone: [])) == 1
    assert [a.transition for a in alerts.step(us(2), [1], [reached], CAUSE, lambda zone: [])] in ([], ["update"])


def test_open_alerts_and_cool_downs_are_bounded() -> None:
    rule = Loitering(id="l", zone="z", since_s=1.0, cooldown_s=86_400.0, update_s=86_400.0)
    alerts = Alerts("s", "cam", [rule], ["z"])
    reached = [Dwelling(False, 0, 0, o, START_US, us(0), us(1), "p") for o in range(MAX_OPEN + 5)]
    assert len(alerts.step(us(1), [9], reached, CAUSE, lambda zone: [])) == MAX_OPEN
    assert alerts.refused == 5
    for batch in range(1, 8):
        ordinals = range(batch * MAX_OPEN, (batch + 1) * MAX_OPEN)
        ended = [Dwelling(True, 0, -1, o, START_US, us(0), us(2), "p") for o in range(batch * MAX_OPEN)]
        alerts.step(us(2), [9], ended, CAUSE, lambda zone: [])
        opened = [Dwelling(False, 0, 0, o, START_US, us(0), us(1), "p") for o in ordinals]
        alerts.step(us(3), [9], opened, CAUSE, lambda zone: [])
    assert len(alerts._closed_us) <= MAX_COOLING


def test_a_cool_down_that_is_over_is_forgotten() -> None:
    rule = Loitering(id="l", zone="z", since_s=1.0, cooldown_s=5.0)
    alerts = Alerts("s", "cam", [rule], ["z"])
    for n in range(50):
        at = n * 10
        alerts.step(us(at), [1], [Dwelling(False, 0, 0, n, START_US, us(at - 1), us(at), "p")], CAUSE, lambda z: [])
        alerts.step(
            us(at + 2), [0], [Dwelling(True, 0, -1, n, START_US, us(at - 1), us(at + 1), "p")], CAUSE, lambda z: []
        )
    assert len(alerts._closed_us) <= 2
