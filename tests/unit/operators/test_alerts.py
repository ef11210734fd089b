"""The life of alerts: every cell of its table, a slow oracle over whole histories, and that nothing depends on restarts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.alerts import alerts as life
from operators.alerts.alerts import (
    BEGAN,
    ENDED,
    GROUP,
    MAX_ACTIVE,
    MAX_COOLING,
    MAX_SUBJECTS,
    PULSE,
    Alerts,
    Cause,
    Held,
    Orders,
)
from operators.alerts.lifecycle import TABLE, Action, Impossible, Input, State, follow
from operators.alerts.words import WORDS
from schemas import rules
from schemas.rules import (
    AnyRule,
    Crowding,
    Escalation,
    Intrusion,
    LineCrossing,
    Loitering,
    OffHours,
    Proximity,
    Removed,
    Speeding,
)
from schemas.settings import Period, Schedule
from schemas.wire import AlertTransition, encode
from tests.unit.operators.scenes import START_US, bounded

CAUSE = Cause("settings", "sha", 0, 0, 0, 0)
S = 1_000_000
NOON_US = START_US // (86_400 * S) * 86_400 * S + 12 * 3600 * S
ARMED_MINUTES = ((0, 2), (3, 5), (8, 9))  # after noon
SHIFT = Schedule(id="shift", periods=tuple(Period(start=f"12:{a:02}", end=f"12:{b:02}") for a, b in ARMED_MINUTES))


def us(at_s: float) -> int:
    return NOON_US + round(at_s * S)


@dataclass
class Scene:
    """What conditions would answer."""

    held: set[tuple[int, int]] | None = None  # (rule, ordinal) that are true in this frame; None: all
    value_now: float = 7.0
    inside: list[tuple[int, int]] = field(default_factory=list)

    def value(self, rule: int, ordinal: int, other_ordinal: int) -> float:
        return self.value_now

    def holds(self, rule: int, ordinal: int, other_ordinal: int) -> bool:
        return self.held is None or (rule, ordinal) in self.held

    def present(self, rule: int) -> list[tuple[int, int]]:
        return self.inside


def held(kind: int, at_us: int, rule: int = 0, ordinal: int = 7, since_us: int | None = None, other: int = -1) -> Held:
    since_us = at_us if since_us is None else since_us
    return Held(kind, rule, 0, "person", ordinal, START_US, other, START_US if other >= 0 else 0, since_us, at_us, 1.0)


class Camera:
    """One camera's alerts, driven in seconds after noon."""

    def __init__(self, *of: AnyRule, schedules: Sequence[Schedule] = (SHIFT,)) -> None:
        self.made = (of, schedules)
        self.alerts = Alerts("s", "cam", of, schedules)
        self.scene = Scene()
        self.said: list[AlertTransition] = []

    def at(self, at_s: float, *records: tuple[int, int] | Held) -> list[AlertTransition]:
        """Take a frame; records: (kind, ordinal) of rule 0, dated now."""
        now = us(at_s)
        given_ = [r if isinstance(r, Held) else held(r[0], now, ordinal=r[1]) for r in records]
        out = self.alerts.step(now, given_, self.scene, CAUSE)
        self.said += out
        return out

    def restart(self, *of: AnyRule) -> None:
        """Go on from a snapshot, with other rules perhaps."""
        data, self.alerts = self.alerts.snapshot(), Alerts("s", "cam", of or self.made[0], self.made[1])
        self.alerts.restore(data)


def told(transitions: Sequence[AlertTransition]) -> list[tuple[str, str, float]]:
    return [(t.transition, t.cause, (t.at_us - NOON_US) / S) for t in transitions]


# ---- the table ----------------------------------------------------------------------------------------------------


def test_every_cell_of_the_table_is_reached_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[tuple[State, Input]] = set()

    def noting(state: int, event: Input) -> tuple[State, Action]:
        result = follow(state, event)
        reached.add((State(state), event))
        return result

    monkeypatch.setattr(life, "follow", noting)
    rule = Intrusion(
        id="i", zone="z", grouped=True, cooldown_s=20.0, update_s=5.0, schedule="shift",
        escalate=(Escalation(after_s=8.0, severity="critical"),),
    )  # fmt: skip
    wire = LineCrossing(id="w", tripwire="t", gap_s=3.0, cooldown_s=60.0)
    other = Loitering(id="other", zone="z", since_s=1.0)

    def opened(kind: AnyRule, records: int, acknowledged: bool) -> Camera:
        c = Camera(kind)
        c.at(1, (records, 1))
        if acknowledged:
            c.alerts.give_orders(Orders(acknowledged={c.said[0].alert_id: ("me", "")}))
        return c

    for acknowledged in (False, True):
        c = opened(rule, BEGAN, acknowledged)
        c.at(2, (BEGAN, 2), (BEGAN, 2))
        c.at(7)
        c.at(9)
        c.at(11, (BEGAN, 3), (BEGAN, 3))
        c.at(12, (ENDED, 3))
        c.at(121)  # disarmed
        c.at(122, (BEGAN, 3), (BEGAN, 3))
        c.at(123, (ENDED, 3))
        c.at(124, (ENDED, 1), (ENDED, 2), (ENDED, 2), held(ENDED, us(124), rule=0, ordinal=9))
        c.at(125, (BEGAN, 1))
        c.restart(other)
        c = opened(rule, BEGAN, acknowledged)
        c.at(2)
        c.at(3, (ENDED, 1))
        c.at(100, (BEGAN, 1))
        c = opened(rule, BEGAN, acknowledged)
        c.at(2)
        c.restart(other)
        c.at(3)
        c = opened(wire, PULSE, acknowledged)
        c.at(2)
        c.at(3, (PULSE, 1))
    c = Camera(rule)
    c.at(1, (ENDED, 1))
    c = Camera(wire)
    c.at(1, (PULSE, 1))
    c.at(6)
    c.at(7, (PULSE, 1), (PULSE, 1))
    c.at(7.5, (PULSE, 1))
    c = Camera(wire)
    c.at(1, (PULSE, 1))
    c.at(6)
    c.restart(other)
    assert reached == set(TABLE)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Input))
def test_what_is_not_in_the_table_raises(state: State, event: Input) -> None:
    if (state, event) in TABLE:
        next_state, action = follow(state, event)
        is_open = state in (State.OPEN, State.ACKNOWLEDGED)
        will_be = next_state in (State.OPEN, State.ACKNOWLEDGED)
        assert (action is Action.OPEN) == (will_be and not is_open)
        assert (action is Action.CLOSE) == (is_open and not will_be)
        assert action is not Action.UPDATE or is_open
    else:
        with pytest.raises(Impossible, match=state.name):
            follow(state, event)


def test_the_readme_shows_the_table() -> None:
    readme = (Path(life.__file__).parent / "README.md").read_text(encoding="utf-8")
    for event in Input:
        (row,) = (r for r in readme.splitlines() if r.startswith(f"| {event.name}: "))
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        for state, cell in zip(State, cells, strict=True):
            next_state, action = TABLE.get((state, event), (None, None))
            move = "" if next_state is None else "stays" if next_state is state else f"→ {next_state.name}"
            assert cell == move + (f", {action.value}" if action not in (None, Action.NOTHING) else "")


# ---- an oracle ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One time that a condition of a subject (or group) holds, as frames."""

    begin: int
    found: int  # frame in which its end is known
    end_us: int
    holds: set[int]
    since: dict[int, list[int]]  # frame → beginnings of those who are in it
    moves: dict[int, list[str]] = field(default_factory=dict)  # frame → joined, left


@dataclass
class History:
    """What happens: frames, and what is true in them."""

    times: list[int]
    records: list[list[Held]]
    true: list[set[tuple[int, int]]]
    muted: list[bool]
    acks: set[int]  # frames before which all that has been opened is acknowledged


def armed(at_us: int) -> bool:
    return any(us(60 * a) <= at_us < us(60 * b) for a, b in ARMED_MINUTES)


def runs_of(h: History, rule: int, of: AnyRule) -> dict[int, list[Run]]:
    """Cut a rule's records into runs, per subject, or GROUP."""
    found: dict[int, list[Run]] = {}
    if isinstance(of, LineCrossing):
        pulses: dict[int, list[int]] = {}
        for i, records in enumerate(h.records):
            for r in records:
                if r.rule == rule:
                    pulses.setdefault(r.ordinal, []).append(i)
        for ordinal, frames in pulses.items():
            for i in frames:
                runs = found.setdefault(ordinal, [])
                if not runs or h.times[i] - runs[-1].end_us > of.gap_s * S:
                    runs.append(Run(i, 0, 0, set(), {}))
                runs[-1].end_us = h.times[i]
            for run in found[ordinal]:
                run.found = next((i for i, t in enumerate(h.times) if t - run.end_us > of.gap_s * S), len(h.times))
                run.holds = set(range(run.begin, run.found))
                run.since = {i: [h.times[run.begin]] for i in run.holds}
        return found
    inside: dict[int, dict[int, int]] = {}
    current: dict[int, Run] = {}
    for i, records in enumerate(h.records):
        for r in records:
            if r.rule != rule:
                continue
            key = GROUP if of.grouped else r.ordinal
            members = inside.setdefault(key, {})
            if r.kind == BEGAN:
                if members:
                    current[key].moves.setdefault(i, []).append("joined")
                else:
                    current[key] = Run(i, len(h.times), 0, set(), {})
                    found.setdefault(key, []).append(current[key])
                members[r.ordinal] = r.since_us
            else:
                del members[r.ordinal]
                current[key].end_us = max(current[key].end_us, r.at_us)
                if members:
                    current[key].moves.setdefault(i, []).append("left")
                else:
                    current[key].found = i
        for key, members in inside.items():
            if members:
                current[key].since[i] = list(members.values())
                if any((rule, ordinal) in h.true[i] for ordinal in members):
                    current[key].holds.add(i)
    return found


def oracle(h: History, of: Sequence[AnyRule]) -> list[tuple[object, ...]]:
    """Return (rule, subject, transition, cause, at, start, severity) of all that should be said, sorted; no incident."""
    said: list[tuple[object, ...]] = []
    boundaries = [us(60 * b) for _, b in ARMED_MINUTES]
    for index, rule in enumerate(of):
        scheduled = rule.schedule != ""
        last_start = -1
        opened: list[tuple[int, int]] = []
        for key, runs in runs_of(h, index, rule).items():
            closed = None
            for run in runs:
                k, told_before = run.begin, False
                while True:
                    free = [
                        j
                        for j in range(k, run.found)
                        if j in run.holds and not h.muted[j] and (not scheduled or armed(h.times[j]))
                        and (closed is None or h.times[j] >= closed + rule.cooldown_s * S)
                    ]  # fmt: skip
                    if not free:
                        break
                    j = free[0]
                    start = h.times[j] if told_before else min(run.since[j])
                    if key < 0:
                        start = h.times[j] if start <= last_start else start
                        last_start = start
                    told_before = True
                    opened.append((j, key))
                    close, at, because = run.found, run.end_us, "condition"
                    if scheduled:
                        for d in range(j + 1, min(run.found + 1, len(h.times))):
                            until = run.end_us if d == run.found else h.times[d]
                            over = [b for b in boundaries if h.times[j] < b <= until]
                            if over:
                                close, at, because = d, over[-1], "schedule"
                                break
                    said.append((index, key, "open", "condition", h.times[j], start, rule.severity))
                    severity = updates(h, rule, run, j, close, because, (index, key, start), said)
                    if close < len(h.times):
                        said.append((index, key, "close", because, at, start, severity))
                    if because == "condition" or close >= len(h.times):
                        closed = at
                        break
                    closed, k = at, close
    return sorted(said, key=repr)


def updates(
    h: History, rule: AnyRule, run: Run, j: int, close: int, because: str, who: tuple[int, int, int],
    said: list[tuple[object, ...]],
) -> str:  # fmt: skip
    """Add the updates of one alert; return its severity at the end."""
    index, key, start = who
    heard, level, severity, acknowledged = h.times[j], 0, rule.severity, False
    for i in range(j, min(close + 1, len(h.times))):
        now = h.times[i]
        for move in run.moves.get(i, []) if i > j else []:
            if not h.muted[i]:
                said.append((index, key, "update", move, now, start, severity))
                heard = now
        if i == close or acknowledged:
            continue
        if i > j and any(j < a <= i for a in h.acks):
            acknowledged = True
            said.append((index, key, "update", "acknowledged", now, start, severity))
        elif not h.muted[i]:
            due = [n for n, e in enumerate(rule.escalate, 1) if now - h.times[j] >= e.after_s * S and n > level]
            if due:
                level, heard = due[-1], now
                severity = rule.escalate[level - 1].severity
                said.append((index, key, "update", "escalation", now, start, severity))
            elif now - heard >= rule.update_s * S:
                heard = now
                said.append((index, key, "update", "repetition", now, start, severity))
    return severity


@st.composite
def rule_sets(draw: st.DrawFn) -> list[AnyRule]:
    """One rule of each kind of condition."""

    def common() -> dict[str, object]:
        return {
            "cooldown_s": draw(st.sampled_from([0.0, 3.0, 45.0])),
            "update_s": draw(st.sampled_from([2.0, 10.0, 1000.0])),
            "schedule": draw(st.sampled_from(["", "shift"])),
            "regroup_s": draw(st.sampled_from([0.0, 20.0])),
            "escalate": draw(
                st.sampled_from(
                    [(), (Escalation(after_s=5.0, severity="critical"),),
                     (Escalation(after_s=4.0, severity="warning"), Escalation(after_s=7.0, severity="critical"))]
                )
            ),
        }  # fmt: skip

    return [
        Loitering(id="l", zone="z", since_s=1.0, severity="info", **common()),  # type: ignore[arg-type]
        Crowding(id="c", zone="z", count=2, **common()),  # type: ignore[arg-type]
        LineCrossing(id="w", tripwire="t", gap_s=draw(st.sampled_from([1.0, 6.0])), **common()),  # type: ignore[arg-type]
        Intrusion(id="i", zone="z", grouped=True, **common()),  # type: ignore[arg-type]
    ]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw frames, and when the conditions of a few subjects hold."""
    steps = draw(st.lists(st.sampled_from([200_000, S, S, 2 * S, 5 * S, 20 * S, 70 * S]), min_size=1, max_size=40))
    times = [us(draw(st.integers(-20, 100)))]
    for step in steps:
        times.append(times[-1] + step)
    h = History(times, [[] for _ in times], [set() for _ in times], [], set())
    for rule, ordinals in ((0, (1, 2)), (1, (-1,)), (3, (1, 2, 3))):
        for ordinal in ordinals:
            at = draw(st.integers(0, 8))
            while at < len(times):
                end = at + draw(st.integers(0, 12))
                found = end + draw(st.integers(1, 3))
                since = times[at] - draw(st.sampled_from([0, 0, 500_000]))
                h.records[at].append(held(BEGAN, times[at], rule, ordinal, since))
                for i in range(at, min(end + 1, len(times))):
                    if i in (at, end) or draw(st.booleans()):
                        h.true[i].add((rule, ordinal))
                if found < len(times):
                    h.records[found].insert(0, held(ENDED, times[end], rule, ordinal, since))
                at = found + draw(st.integers(0, 5))
    for i in sorted(draw(st.sets(st.integers(0, len(times) - 1), max_size=12))):
        h.records[i].append(held(PULSE, times[i], 2, draw(st.integers(1, 2))))
    muted = False
    for _ in times:
        muted ^= draw(st.sampled_from([False] * 9 + [True]))
        h.muted.append(muted)
    h.acks = draw(st.sets(st.integers(1, len(times)), max_size=2))
    return h


def play(
    h: History, of: Sequence[AnyRule], every: bool = True, restarts: frozenset[int] = frozenset()
) -> list[AlertTransition]:
    """Put a history through `Alerts`."""
    alerts, said, orders = Alerts("s", "cam", of, [SHIFT]), [], Orders()
    for i, now in enumerate(h.times):
        acknowledged = {t.alert_id: ("me", "") for t in said} if i in h.acks else orders.acknowledged
        orders = Orders(frozenset("*" if h.muted[i] else ""), {**orders.acknowledged, **acknowledged})
        alerts.give_orders(orders)
        if every or h.records[i] or now >= alerts.wake_us():
            said += alerts.step(now, h.records[i], Scene(h.true[i]), CAUSE)
        if i in restarts:
            data, alerts = alerts.snapshot(), Alerts("s", "cam", of, [SHIFT])
            alerts.restore(data)
            assert alerts.snapshot() == data
            alerts.give_orders(orders)
    return said


def subject_of(t: AlertTransition) -> int:
    kind = {"crowding": -1, "intrusion": GROUP}.get(t.rule_type)
    return kind if kind is not None else int(t.subjects[0].rsplit("/", 1)[1])


@bounded(120)
@given(histories(), rule_sets())
def test_the_life_of_alerts_equals_a_slow_oracle(h: History, of: list[AnyRule]) -> None:
    said = play(h, of)
    got = [("lcwi".index(t.rule), subject_of(t), t.transition, t.cause, t.at_us, t.start_us, t.severity) for t in said]
    assert sorted(got, key=repr) == oracle(h, of)
    assert len({t.id for t in said}) == len(said)
    assert incidents(said) == incidents_by_hand(said, of)


def incidents(said: Sequence[AlertTransition]) -> dict[str, str]:
    return {t.alert_id: t.incident for t in said}


def incidents_by_hand(said: Sequence[AlertTransition], of: Sequence[AnyRule]) -> dict[str, str]:
    """In the order in which things were said: whatever opens joins the alert before, if that is near."""
    found: dict[str, str] = {}
    for rule in of:
        last, open_now, closed_us = "", set(), -1
        for t in (t for t in said if t.rule == rule.id):
            if t.transition == "open":
                near = bool(rule.regroup_s) and (open_now or 0 <= t.at_us - closed_us <= rule.regroup_s * S)
                last = found[t.alert_id] = last if last and near else t.alert_id
                open_now.add(t.alert_id)
            elif t.transition == "close":
                open_now.discard(t.alert_id)
                closed_us = max(closed_us, t.at_us)
    return found


@bounded(70)
@given(histories(), rule_sets(), st.frozensets(st.integers(0, 40), max_size=5))
def test_restarts_and_frames_that_need_no_step_change_nothing(
    h: History, of: list[AnyRule], restarts: frozenset[int]
) -> None:
    said = [encode(t) for t in play(h, of)]
    assert [encode(t) for t in play(h, of, restarts=restarts)] == said
    assert [encode(t) for t in play(h, of, every=False, restarts=restarts)] == said


# ---- one thing at a time ------------------------------------------------------------------------------------------


def test_a_condition_that_holds_when_arming_begins_opens_then_and_says_when_it_began() -> None:
    c = Camera(Intrusion(id="i", zone="z", schedule="shift"))
    c.at(150, (BEGAN, 7))
    (opened,) = c.at(181)
    assert (told([opened]), opened.start_us) == ([("open", "condition", 181)], us(150))
    (closed,) = c.at(310)
    assert (told([closed]), closed.reason) == ([("close", "schedule", 300)], "the armed hours of shift are over")
    (again,) = c.at(481)
    assert again.start_us == us(481) and again.alert_id != opened.alert_id


def test_an_end_before_the_armed_hours_end_is_told_as_an_end() -> None:
    c = Camera(Intrusion(id="i", zone="z", schedule="shift"))
    c.at(100, (BEGAN, 7))
    assert told(c.at(125, held(ENDED, us(119)))) == [("close", "condition", 119)]
    c.at(181, (BEGAN, 7))
    assert told(c.at(305, held(ENDED, us(301)))) == [("close", "schedule", 300)]


def test_off_hours_change_thresholds_and_disarm_nothing() -> None:
    rule = Loitering(id="l", zone="z", since_s=60.0, schedule="shift", off_hours=OffHours(since_s=5.0))
    c = Camera(rule)
    assert c.alerts.turn(us(10)) == [] and c.alerts.turn_us() == us(120)
    assert c.alerts.turn(us(120)) == [(0, 5.0)] and c.alerts.turn_us() == us(180)
    c.scene.value_now = 6.0
    (opened,) = c.at(130, (BEGAN, 7))
    assert (opened.thresholds, opened.off_hours) == ({"since_s": 5.0}, True)
    assert opened.reason == "inside z for 6.0 s, at least 5 s"
    c.restart()
    assert c.alerts.turn(us(181)) == [], "its own thresholds are what conditions begin with"
    (update,) = c.at(181)
    assert (update.thresholds, update.off_hours) == ({"since_s": 60.0}, False)
    assert c.alerts.turn(us(300)) == [(0, 5.0)] and c.alerts.turn(us(481)) == [(0, 60.0)]


def test_escalation_says_the_highest_level_that_is_due_and_ends_with_an_acknowledgement() -> None:
    levels = (Escalation(after_s=5.0, severity="warning"), Escalation(after_s=9.0, severity="critical"))
    c = Camera(Intrusion(id="i", zone="z", severity="info", escalate=levels, update_s=1000.0))
    c.at(0, (BEGAN, 1), (BEGAN, 2))
    assert [t.severity for t in c.at(6)] == ["warning", "warning"]
    c.alerts.give_orders(Orders(acknowledged={c.said[0].alert_id: ("ann", "on my way")}))
    (ack, other) = c.at(30)
    assert (ack.cause, ack.acknowledged_by, ack.severity) == ("acknowledged", "ann", "warning")
    assert ack.reason == "acknowledged by ann: on my way"
    assert (other.cause, other.severity) == ("escalation", "critical")
    assert other.reason == "open for 9 s and not acknowledged: critical"
    assert c.at(5000) and not [t for t in c.said if t.alert_id == ack.alert_id and t.at_us > ack.at_us]
    (closed,) = c.at(5001, (ENDED, 1))
    assert closed.acknowledged_by == "ann"
    c = Camera(Intrusion(id="i", zone="z", severity="info", escalate=levels, update_s=1000.0))
    c.at(0, (BEGAN, 1))
    assert [t.severity for t in c.at(20)] == ["critical"]


def test_what_is_muted_opens_nothing_and_repeats_nothing_but_says_its_end() -> None:
    c = Camera(Intrusion(id="i", zone="z", update_s=2.0), Loitering(id="l", zone="z", since_s=1.0, update_s=2.0))
    c.at(0, (BEGAN, 1))
    c.alerts.give_orders(Orders(muted=frozenset({"i"})))
    assert told(c.at(3, (BEGAN, 2), held(BEGAN, us(3), rule=1))) == [("open", "condition", 3)]
    (closed,) = c.at(4, (ENDED, 1))
    assert closed.muted and closed.rule == "i"
    c.alerts.give_orders(Orders())
    (late,) = (t for t in c.at(20) if t.rule == "i")
    assert (told([late]), late.start_us) == ([("open", "condition", 20)], us(3))


def test_an_alert_that_had_to_wait_opens_only_while_its_condition_is_true() -> None:
    c = Camera(Intrusion(id="i", zone="z", cooldown_s=10.0))
    c.at(0, (BEGAN, 1))
    c.at(1, held(ENDED, us(1), ordinal=1))
    c.at(5, (BEGAN, 1))
    c.scene.held = set()  # unseen
    assert c.at(11) == []
    c.scene.held = None
    assert told(c.at(12)) == [("open", "condition", 12)]


def test_pulses_keep_an_alert_open_for_the_gap_and_it_ends_with_the_last() -> None:
    c = Camera(LineCrossing(id="w", tripwire="gate", gap_s=3.0, direction="any"))
    (opened,) = c.at(0, (PULSE, 1))
    assert (opened.tripwire, opened.zone, opened.value, opened.reason) == (
        "gate",
        "",
        1.0,
        "person crossed gate to the right",
    )
    assert c.at(3, (PULSE, 1)) == []
    assert c.at(6) == []
    (closed,) = c.at(6.1)
    assert (told([closed]), closed.value) == ([("close", "condition", 3)], 2.0)
    assert closed.reason == "no other crossing for 3 s"


def test_a_group_names_who_is_in_it() -> None:
    c = Camera(Intrusion(id="i", zone="z", grouped=True, update_s=1000.0))
    (opened,) = c.at(0, (BEGAN, 1), (BEGAN, 2))
    assert (opened.subject_count, opened.value, opened.reason) == (2, 2.0, "2 at a time inside z")
    assert opened.alert_id == f"s/i@1/cam/z/-/{NOON_US}"
    (joined,) = c.at(1, (BEGAN, 3))
    assert [s.rsplit("/", 1)[1] for s in joined.subjects] == ["1", "2", "3"] and joined.before == 2.0
    left = c.at(2, (ENDED, 1), held(ENDED, us(0.5), ordinal=3))
    assert [(t.cause, t.subject_count, t.value) for t in left] == [("left", 2, 2.0), ("left", 1, 1.0)]
    assert told(c.at(3, held(ENDED, us(1.5), ordinal=2))) == [("close", "condition", 2)], "the last of all ends"


def test_a_large_group_is_named_in_part_and_counted_whole() -> None:
    c = Camera(Intrusion(id="i", zone="z", grouped=True))
    (opened,) = c.at(0, *((BEGAN, n) for n in range(MAX_SUBJECTS + 20)))
    assert (len(opened.subjects), opened.subject_count) == (MAX_SUBJECTS, MAX_SUBJECTS + 20)


def test_both_of_a_pair_are_named() -> None:
    c = Camera(Proximity(id="p", distance_m=2.0))
    c.scene.value_now = 1.25
    (opened,) = c.at(0, held(BEGAN, us(0), ordinal=4, other=9))
    assert opened.alert_id.split("/")[4] == "4+9" and len(opened.subjects) == 2
    assert opened.reason == "1.2 m apart, nearer than 2 m for 5 s"


def test_alerts_soon_after_one_another_are_one_incident() -> None:
    c = Camera(Intrusion(id="i", zone="z", regroup_s=10.0))
    for begin, end in ((0, 5), (14, 16), (30, 31)):
        c.at(begin, (BEGAN, begin))
        c.at(end, (ENDED, begin))
    opens = [t for t in c.said if t.transition == "open"]
    assert [t.incident for t in opens] == [opens[0].alert_id, opens[0].alert_id, opens[2].alert_id]


def test_bounds_hold_and_refusals_are_counted() -> None:
    c = Camera(Intrusion(id="i", zone="z", cooldown_s=86_400.0, update_s=86_400.0))
    assert len(c.at(0, *((BEGAN, n) for n in range(MAX_ACTIVE + 5)))) == MAX_ACTIVE
    assert c.alerts.refused == 5
    for batch in range(6):
        first = batch * MAX_ACTIVE
        c.at(2 * batch + 1, *((ENDED, first + n) for n in range(MAX_ACTIVE + 5)))
        c.at(2 * batch + 2, *((BEGAN, first + MAX_ACTIVE + n) for n in range(MAX_ACTIVE)))
    assert sum(map(len, c.alerts._cooling)) == MAX_COOLING
    assert len(c.alerts._active) == MAX_ACTIVE == c.alerts._size
    c.restart()
    assert (c.alerts.refused, c.alerts._size) == (5, MAX_ACTIVE)


def test_a_rule_that_has_no_cool_down_to_cut_short_gives_up_its_own() -> None:
    c = Camera(Intrusion(id="x", zone="z", cooldown_s=60.0), Intrusion(id="y", zone="z", cooldown_s=60.0))
    for n in range(MAX_COOLING):
        c.at(10 + n * 1e-3, (BEGAN, n))
        c.at(10 + n * 1e-3 + 5e-4, (ENDED, n))
    c.at(15.0, held(BEGAN, us(15.0), rule=1))
    assert told(c.at(15.1, held(ENDED, us(15.1), rule=1))) == [("close", "condition", 15.1)]
    assert [len(cooling) for cooling in c.alerts._cooling] == [MAX_COOLING, 0]
    assert c.alerts._cooling_count == MAX_COOLING


def test_nothing_is_kept_of_what_is_over() -> None:
    c = Camera(Intrusion(id="i", zone="z", cooldown_s=5.0), Loitering(id="l", zone="z", since_s=1.0))
    for n in range(50):
        c.at(10 * n, (BEGAN, n), held(BEGAN, us(10 * n), rule=1, ordinal=n))
        c.at(10 * n + 1, (ENDED, n), held(ENDED, us(10 * n), rule=1, ordinal=n))
    assert not c.alerts._active and sum(map(len, c.alerts._cooling)) == 1 and c.alerts._size == 0


def test_everything_closes_when_the_source_is_lost_and_cool_downs_go_on() -> None:
    c = Camera(Intrusion(id="i", zone="z", cooldown_s=60.0), Crowding(id="c", zone="z", count=2))
    c.at(0, (BEGAN, 1), held(BEGAN, us(0), rule=1, ordinal=-1))
    closed = c.alerts.close_all(us(4), "source_lost", "the source is lost", c.scene, CAUSE)
    assert told(closed) == [("close", "source_lost", 4)] * 2
    assert {t.reason for t in closed} == {"the source is lost"}
    assert c.at(30, held(BEGAN, us(30), ordinal=1)) == []
    assert told(c.at(64)) == [("open", "condition", 64)]


def test_an_alert_whose_rule_is_gone_closes_once_and_others_keep_their_place() -> None:
    first, second = Intrusion(id="a", zone="z"), Intrusion(id="b", zone="y")
    c = Camera(first, second)
    c.at(0, (BEGAN, 1), held(BEGAN, us(0), rule=1, ordinal=2))
    c.restart(second)
    c.restart(second)  # before any frame
    (closed,) = c.at(1)
    assert (closed.rule, closed.zone, closed.cause, closed.thresholds) == ("a", "z", "settings", {})
    assert [t.rule for t in c.at(2, held(ENDED, us(2), rule=0, ordinal=2))] == ["b"]


def test_another_schedule_that_is_not_armed_closes_what_is_open() -> None:
    rule = Intrusion(id="i", zone="z", schedule="shift")
    c = Camera(rule)
    c.at(30, (BEGAN, 1))
    c.made = ((rule,), (Schedule(id="shift", periods=(Period(start="20:00", end="21:00"),)),))
    c.restart()
    assert told(c.at(40)) == [("close", "schedule", 40)]


EXAMPLES: dict[type, dict[str, object]] = {
    rules.Crowding: {"zone": "z", "count": 3}, rules.Loitering: {"zone": "z", "since_s": 9.0},
    rules.DwellLimit: {"zone": "z", "limit_s": 9.0}, rules.QueueWait: {"zone": "z", "wait_s": 9.0},
    rules.QueueLength: {"zone": "z", "count": 3}, rules.Intrusion: {"zone": "z"},
    rules.RestrictedClass: {"zone": "z", "classes": ("car",)}, rules.Empty: {"zone": "z", "since_s": 9.0},
    rules.Stopped: {}, rules.Speeding: {"limit_mps": 9.0}, rules.WrongWay: {"allowed": ((0.0, 0.0), (1.0, 0.0))},
    rules.Abandoned: {}, rules.Removed: {}, rules.Proximity: {"distance_m": 9.0},
    rules.LineCrossing: {"tripwire": "t"}, rules.Tailgating: {"tripwire": "t"},
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("grouped", [False, True])
def test_every_type_of_rule_explains_itself(kind: type, grouped: bool) -> None:
    c = Camera(kind(id="r", grouped=grouped, severity="critical", **EXAMPLES[kind]))
    said = c.at(0, (BEGAN, 1)) + c.at(11, (BEGAN, 2)) + c.at(12, (ENDED, 1), (ENDED, 2))
    assert {t.transition for t in said} == {"open", "update", "close"}
    assert all(t.reason and "{" not in t.reason and t.severity == "critical" for t in said)
    assert all(t.thresholds and set(t.thresholds) <= set(kind.__struct_fields__) for t in said)
    place = EXAMPLES[kind].get("zone") or EXAMPLES[kind].get("tripwire")
    opened = said[0]
    assert opened.zone + opened.tripwire == (place or "")
    assert (opened.settings, opened.model_sha, opened.input_partition) == ("settings", "sha", 0)
    for t in said:
        assert (t.evidence_from_us, t.evidence_to_us) == (t.start_us, t.at_us)


def test_all_sixteen_types_have_words() -> None:
    assert set(WORDS) == set(rules.AnyRule.__args__)
    assert set(EXAMPLES) == set(WORDS)


def test_speed_that_is_over_says_so() -> None:
    c = Camera(Speeding(id="s", limit_mps=8.0))
    c.scene.value_now = 9.26
    (opened,) = c.at(0, (BEGAN, 1))
    assert opened.reason == "9.3 m/s, faster than 8 m/s for 0.5 s"
    (closed,) = c.at(1, (ENDED, 1))
    assert closed.reason == "no longer faster than 8 m/s" and closed.value == 1.0


def test_ids_are_distinct_over_many_lives() -> None:
    c = Camera(Crowding(id="c", zone="z", count=1, schedule="shift"))
    for n in range(0, 600, 7):
        kind = BEGAN if n % 2 == 0 else ENDED
        c.at(n, held(kind, us(n), ordinal=-1, since_us=us(0)))
    assert len({t.id for t in c.said}) == len(c.said) and len(c.said) > 10
    for a, b in itertools.pairwise([t for t in c.said if t.transition != "update"]):
        assert (a.transition, b.transition) in (("open", "close"), ("close", "open"))


def test_a_pulse_that_is_known_late_is_open_for_the_gap_and_dated_by_itself() -> None:
    c = Camera(rules.Removed(id="r", gap_s=3.0))
    c.at(10, held(PULSE, us(5), since_us=us(-60)))
    assert told(c.said) == [("open", "condition", 10)] and c.said[0].start_us == us(-60)
    assert c.at(13) == []
    assert told(c.at(13.1)) == [("close", "condition", 5)]


def test_no_alert_closes_before_it_starts_where_pulses_of_a_group_are_known_late() -> None:
    c = Camera(Removed(id="r", since_s=1.0, gap_s=0.5, grouped=True))
    for known_s, at_s in ((10.0, 9.0), (11.0, 8.5)):  # the second says of a time before the first one's start
        c.at(known_s, held(PULSE, us(at_s), ordinal=int(10 * at_s)))
        c.at(known_s + 0.6)
    assert [(t.transition, (t.start_us - NOON_US) / S, (t.at_us - NOON_US) / S) for t in c.said] == [
        ("open", 9.0, 10.0), ("close", 9.0, 9.0), ("open", 11.0, 11.0), ("close", 11.0, 11.0),
    ]  # fmt: skip


def test_an_incident_goes_on_from_the_latest_close_whichever_was_said_last() -> None:
    c = Camera(Intrusion(id="i", zone="z", regroup_s=10.0))
    c.at(0, (BEGAN, 1), (BEGAN, 2))
    c.at(12, held(ENDED, us(12), ordinal=1))
    c.at(13, held(ENDED, us(5), ordinal=2))
    (opened,) = c.at(21, (BEGAN, 3))
    assert opened.incident == c.said[0].alert_id != opened.alert_id
