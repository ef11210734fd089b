"""The alerts of one camera: conditions that begin and end, hours, orders and time, put through one table (`lifecycle`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan, nan
from typing import Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from operators.alerts.lifecycle import Action, Input, State, follow
from operators.alerts.schedule import Hours
from operators.alerts.words import over, thresholds, why
from schemas.fields import Severity
from schemas.ids import alert_id, track_id, transition_id
from schemas.rules import AnyRule, LineCrossing, OffHours, WireRule, identity
from schemas.settings import Schedule
from schemas.wire import NEVER_US, AlertCause, AlertTransition

MAX_ACTIVE = 1000  # subjects of alerts that are open or may open, per camera; further ones are refused and counted
MAX_COOLING = 4096  # cool-downs that run at a time per camera; beyond, the oldest is cut short
MAX_SUBJECTS = 100  # named in a transition; `subject_count` counts them all
BEGAN, ENDED, PULSE = range(3)
PLACE, GROUP = -1, -2
"""Instead of an ordinal: the rule's place itself, and all subjects of a rule whose alerts are grouped."""


class Cause(NamedTuple):
    """The input that a transition comes from."""

    settings: str
    model_sha: str
    partition: int
    offset: int
    seq: int
    sent_us: int


class Held(NamedTuple):
    """A rule's condition begins to hold for a subject, ends, or was true at one moment."""

    kind: int  # BEGAN, ENDED, PULSE
    rule: int
    slot: int
    label: str  # of the subject
    ordinal: int  # PLACE: the place itself
    born_us: int
    other_ordinal: int  # the second of a pair; −1: none
    other_born_us: int
    since_us: int  # when it began
    at_us: int  # of an end: when it was true last
    value: float  # what the rule measures, then


class Facts(Protocol):
    """What can be asked of conditions that have begun; it is asked rarely."""

    def value(self, rule: int, ordinal: int, other_ordinal: int) -> float:
        """Return what the rule measures, as of the last time its condition was true; NaN: not known any more."""

    def holds(self, rule: int, ordinal: int, other_ordinal: int) -> bool:
        """Whether the condition is true in this very frame."""

    def present(self, rule: int) -> list[tuple[int, int]]:
        """Return (ordinal, born_us) of the objects that a rule about a place counts in this frame."""


class Orders(NamedTuple):
    """What people have said that holds now."""

    muted: frozenset[str] = frozenset()  # ids of rules; '*' for all of them
    acknowledged: Mapping[str, tuple[str, str]] = {}  # alert id → author and comment


class Member(Struct, array_like=True):
    """One subject of a condition."""

    ordinal: int
    born_us: int
    other_ordinal: int
    other_born_us: int
    since_us: int
    pulse_us: int  # time of the last pulse; 0: it began and will end
    heard_us: int  # the frame in which that was known
    value: float
    label: str


class Alert(Struct, array_like=True):
    """One open alert."""

    alert_id: str
    name: str  # of the rule, as `identity` gives it: it outlives the rule
    subjects: tuple[str, ...]
    subject_count: int
    label: str
    start_us: int
    opened_us: int
    said_us: int  # event time of the last transition
    updates: int
    value: float
    said_value: float  # `value` at the last transition
    severity: Severity
    level: int  # of escalation
    incident: str
    acknowledged_by: str = ""


class Entry(Struct, array_like=True):
    """What is known of a (rule, subject) whose condition holds."""

    state: int
    members: list[Member]
    closed_us: int  # when its last alert closed; 0: none whose cool-down may still run
    told: bool = False  # this condition has had an alert before
    ended_us: int = 0  # the latest end among those who have left
    pulses: int = 0
    alert: Alert | None = None


Key = tuple[int, int, int]
"""Index of the rule; ordinal of the subject, PLACE or GROUP; ordinal of the other one or −1."""


class Last(Struct, array_like=True):
    """The last alert of a rule."""

    incident: str
    closed_us: int
    start_us: int  # of the last one for the place or the group


class _State(Struct, array_like=True):
    rules: list[str]
    active: list[tuple[Key, Entry]]
    cooling: list[list[tuple[tuple[int, int], int]]]  # per rule
    last: list[tuple[int, Last]]
    orphans: list[Alert]
    refused: int


class _Frame(NamedTuple):
    """The step that is being taken."""

    now_us: int
    facts: Facts
    cause: Cause
    out: list[AlertTransition]


class Alerts:
    """All rules of one camera.

    Args:
        site, camera: names.
        rules: of the camera, in the order that `Held.rule` counts them.
        schedules: of the site.
        timezone: of the site, IANA name.
    """

    def __init__(
        self,
        site: str,
        camera: str,
        rules: Sequence[AnyRule],
        schedules: Sequence[Schedule] = (),
        timezone: str = "UTC",
    ) -> None:
        self.site, self.camera = site, camera
        self.rules = tuple(rules)
        self._names = [identity(r) for r in self.rules]
        self.refused = 0
        by_id = {s.id: Hours(s, timezone) for s in schedules}
        scheduled = [by_id[r.schedule] if r.schedule else None for r in self.rules]
        self._hours = [None if r.off_hours else h for r, h in zip(self.rules, scheduled, strict=True)]
        self._turning = [
            (i, h, r) for i, (r, h) in enumerate(zip(self.rules, scheduled, strict=True)) if r.off_hours and h
        ]
        self._off = [False] * len(self.rules)  # thresholds are those outside the schedule
        self._turn_us = 0
        self._applied = list(self.rules)  # with the thresholds that hold now
        self._gap_us = [round(r.gap_s * 1e6) for r in self.rules]
        self._update_us = [round(r.update_s * 1e6) for r in self.rules]
        self._active: dict[Key, Entry] = {}
        self._cooling: list[dict[tuple[int, int], int]] = [
            {} for _ in self.rules
        ]  # per rule, when its alerts closed, in turn
        self._cooling_count = 0
        self._last: dict[int, Last] = {}
        self._orphans: list[Alert] = []  # open alerts whose rule new settings have taken away
        self._size = 0  # of all members
        self._orders = Orders()
        self._wake_us = 0
        self._touched: dict[Key, None] = {}

    # ---- what comes from outside ----------------------------------------------------------------------------------

    def wake_us(self) -> int:
        """Return from when on `step` may have something to do without records."""
        return 0 if self._orphans else self._wake_us

    def turn_us(self) -> int:
        """Return when `turn` must be called next."""
        return self._turn_us

    def turn(self, now_us: int) -> list[tuple[int, float]]:
        """Go over to the thresholds that hold at a frame, before its conditions are looked at.

        Returns (index, threshold) of each rule that has another one now than at the last call; unit as in the settings.
        """
        if now_us < self._turn_us:
            return []
        turned: list[tuple[int, float]] = []
        self._turn_us = NEVER_US
        for i, hours, rule in self._turning:
            off = not hours.armed(now_us)
            self._turn_us = min(self._turn_us, hours.next_change_us(now_us))
            if off != self._off[i]:
                self._off[i] = off
                given = _given(rule.off_hours)
                self._applied[i] = msgspec.structs.replace(rule, **given) if off else rule
                turned += [(i, float(getattr(self._applied[i], name))) for name in given]
        return turned

    @property
    def orders(self) -> Orders:
        """What was given last."""
        return self._orders

    def give_orders(self, orders: Orders) -> None:
        """Take what people have said that holds from the next frame on."""
        if orders != self._orders:
            self._orders = orders
            self._wake_us = 0

    def step(self, now_us: int, held: Iterable[Held], facts: Facts, cause: Cause) -> list[AlertTransition]:
        """Take one frame: what its conditions say, ends before beginnings; return transitions."""
        f = _Frame(now_us, facts, cause, [])
        if self._orphans:
            self._withdraw(f)
        due = now_us >= self._wake_us
        if due:
            self._let_pulses_pass(f)
        for h in held:
            if h.kind == ENDED:
                self._leave(self._key(h), h.ordinal, h.other_ordinal, h.at_us, h.value, f)
            else:
                self._enter(h, f)
        self._look_at_the_clock(f, sorted(self._active) if due else sorted(self._touched))
        if due or self._touched:
            looked_at = self._active if due else [k for k in self._touched if k in self._active]
            wake_us = min((self._due_us(key, now_us) for key in looked_at), default=NEVER_US)
            self._wake_us = wake_us if due else min(wake_us, self._wake_us)
        self._touched.clear()
        return f.out

    def note(self, held: Iterable[Held]) -> None:
        """Take the values of conditions that have ended and are not told of otherwise, before `close_all`."""
        for h in held:
            member = _member(self._active.get(self._key(h)), h.ordinal, h.other_ordinal)
            if member is not None:
                member.value = h.value

    def close_all(
        self, at_us: int, because: AlertCause, reason: str, facts: Facts, cause: Cause
    ) -> list[AlertTransition]:
        """Close everything at `at_us`: nothing more is known. Cool-downs go on."""
        f = _Frame(at_us, facts, cause, [])
        for key in sorted(self._active):
            entry = self._active[key]
            pulses = [m.pulse_us for m in entry.members]
            self._feed(key, entry, Input.ENDED, f, because, reason, max(pulses) if all(pulses) else at_us)
        return f.out

    def measure(self, facts: Facts) -> None:
        """Bring the values of open alerts up to date, before their rules may be taken away."""
        for key, entry in self._active.items():
            if entry.alert:
                entry.alert.value = self._value(key, entry, facts)

    # ---- subjects come and go -------------------------------------------------------------------------------------

    def _key(self, h: Held) -> Key:
        if self.rules[h.rule].grouped and h.ordinal != PLACE:
            return h.rule, GROUP, -1
        return h.rule, h.ordinal, h.other_ordinal

    def _enter(self, h: Held, f: _Frame) -> None:
        key, event = self._key(h), Input.PULSE if h.kind == PULSE else Input.BEGAN
        entry = self._active.get(key)
        member = _member(entry, h.ordinal, h.other_ordinal)
        if member is None and self._size >= MAX_ACTIVE:
            self.refused += 1
            return
        known = entry is not None
        if entry is None:
            entry = self._active[key] = self._begin(key, event, f.now_us)
        if member is None:
            event = Input.JOINED
            member = Member(h.ordinal, h.born_us, h.other_ordinal, h.other_born_us, h.since_us, 0, 0, h.value, h.label)
            entry.members.append(member)
            self._size += 1
        member.value = h.value
        if h.kind == PULSE:
            member.pulse_us, member.heard_us = h.at_us, f.now_us
            entry.pulses += 1
        if known:
            self._feed(key, entry, event, f, "joined", "")
        self._touched[key] = None

    def _begin(self, key: Key, event: Input, now_us: int) -> Entry:
        """Return an entry for a condition that begins, with what is known of its cool-down."""
        closed_us, state = self._cooling[key[0]].pop(key[1:], 0), State.IDLE
        if closed_us:
            state = State.COOLING
            self._cooling_count -= 1
            if self._cool_us(key, closed_us) <= now_us:
                state, closed_us = follow(state, Input.COOLED)[0], 0
        return Entry(follow(state, event)[0], [], closed_us)

    def _leave(self, key: Key, ordinal: int, other: int, at_us: int, value: float, f: _Frame) -> None:
        entry = self._active.get(key)
        member = _member(entry, ordinal, other)
        if entry is None or member is None:
            follow(State.COOLING if key[1:] in self._cooling[key[0]] else State.IDLE, Input.ENDED)
            return
        entry.ended_us = max(entry.ended_us, at_us)
        member.value = value
        self._touched[key] = None
        if len(entry.members) > 1:
            entry.members.remove(member)
            self._size -= 1
            self._feed(key, entry, Input.LEFT, f, "left", "")
            return
        self._disarm(key, entry, entry.ended_us, f)
        if entry.alert:
            is_counted = key[1] == GROUP or self._counts_pulses(key)
            entry.alert.value = self._value(key, entry, f.facts) if is_counted else value
        self._feed(key, entry, Input.ENDED, f, "condition", over(self._applied[key[0]]), entry.ended_us)

    def _let_pulses_pass(self, f: _Frame) -> None:
        """End what has had no pulse for longer than the gap."""
        passed = [
            (m.pulse_us, key, m.ordinal, m.other_ordinal, m.value)
            for key, entry in self._active.items()
            for m in entry.members
            if m.pulse_us and f.now_us - m.heard_us > self._gap_us[key[0]]
        ]
        for pulse_us, key, ordinal, other, value in sorted(passed):
            self._leave(key, ordinal, other, pulse_us, value, f)

    def _withdraw(self, f: _Frame) -> None:
        for alert in self._orphans:
            state = State.ACKNOWLEDGED if alert.acknowledged_by else State.OPEN
            follow(state, Input.WITHDRAWN)
            out_of = "its rule is no longer in the settings"
            f.out.append(self._transition(alert, "close", 0, f.now_us, "settings", out_of, {}, False, f.cause))
        self._orphans = []

    # ---- time passes ----------------------------------------------------------------------------------------------

    def _look_at_the_clock(self, f: _Frame, keys: Sequence[Key]) -> None:
        looked_at = [(key, self._active[key]) for key in keys if key in self._active]
        for key, entry in looked_at:
            self._disarm(key, entry, f.now_us, f)
        for key, entry in looked_at:
            if entry.state == State.POTENTIAL and self._is_free(key, entry, f):
                self._feed(key, entry, Input.FREE, f, "condition", "")
            if entry.state == State.OPEN:
                self._look_at_open(key, entry, f)

    def _look_at_open(self, key: Key, entry: Entry, f: _Frame) -> None:
        alert, rule = entry.alert, self.rules[key[0]]
        assert alert is not None
        said = self._orders.acknowledged.get(alert.alert_id)
        if said is not None:
            author, comment = said
            alert.acknowledged_by = author or "somebody"
            reason = f"acknowledged by {alert.acknowledged_by}" + (f": {comment}" if comment else "")
            self._feed(key, entry, Input.ACKNOWLEDGED, f, "acknowledged", reason)
            return
        if self._is_muted(key):
            return
        level = sum(f.now_us - alert.opened_us >= round(e.after_s * 1e6) for e in rule.escalate)
        if level > alert.level:
            due = rule.escalate[level - 1]
            alert.level, alert.severity = level, due.severity
            reason = f"open for {due.after_s:g} s and not acknowledged: {due.severity}"
            self._feed(key, entry, Input.ESCALATION, f, "escalation", reason)
        elif f.now_us - alert.said_us >= self._update_us[key[0]]:
            self._feed(key, entry, Input.REPETITION, f, "repetition", "")

    def _disarm(self, key: Key, entry: Entry, until_us: int, f: _Frame) -> None:
        """Close an alert whose armed hours have ended by then."""
        hours = self._hours[key[0]]
        if hours is None or entry.alert is None:
            return
        ended_us = hours.ended_us(until_us)
        if ended_us <= entry.alert.opened_us:
            if hours.armed(until_us):
                return
            ended_us = until_us  # it opened under another schedule
        reason = f"the armed hours of {hours.schedule.id} are over"
        self._feed(key, entry, Input.DISARMED, f, "schedule", reason, ended_us)

    def _is_free(self, key: Key, entry: Entry, f: _Frame) -> bool:
        """Whether nothing bars the alert, and the condition is true in this frame."""
        hours = self._hours[key[0]]
        if (hours and not hours.armed(f.now_us)) or self._is_muted(key):
            return False
        if entry.closed_us and f.now_us < self._cool_us(key, entry.closed_us):
            return False
        return any(m.pulse_us or f.facts.holds(key[0], m.ordinal, m.other_ordinal) for m in entry.members)

    def _is_muted(self, key: Key) -> bool:
        muted = self._orders.muted
        return bool(muted) and ("*" in muted or self.rules[key[0]].id in muted)

    def _cool_us(self, key: Key, closed_us: int) -> int:
        """Return when a cool-down is over."""
        return closed_us + round(self.rules[key[0]].cooldown_s * 1e6)

    def _due_us(self, key: Key, now_us: int) -> int:
        """Return when an entry must be looked at next."""
        entry, rule, hours = self._active[key], self.rules[key[0]], self._hours[key[0]]
        ends = [m.heard_us + self._gap_us[key[0]] + 1 for m in entry.members if m.pulse_us]
        armed = hours is None or hours.armed(now_us)
        if hours and (entry.alert or not armed):
            ends.append(hours.next_change_us(now_us))
        if entry.state == State.OPEN and not self._is_muted(key):
            alert = entry.alert
            assert alert is not None
            ends.append(alert.said_us + self._update_us[key[0]])
            ends += [alert.opened_us + round(e.after_s * 1e6) for e in rule.escalate[alert.level :]]
        elif entry.state == State.POTENTIAL and armed and not self._is_muted(key):
            ends.append(self._cool_us(key, entry.closed_us) if entry.closed_us else 0)
        return min(ends, default=NEVER_US)

    # ---- the table at work ----------------------------------------------------------------------------------------

    def _feed(
        self,
        key: Key,
        entry: Entry,
        event: Input,
        f: _Frame,
        because: AlertCause,
        reason: str,
        at_us: int | None = None,
    ) -> None:
        """Put one input through the table; `at_us`: the time of a close, else the frame's."""
        state, action = follow(entry.state, event)
        if action is Action.OPEN:
            entry.state = state
            self._open(key, entry, f)
        elif action is Action.UPDATE:
            entry.state = state
            self._update(key, entry, f, because, reason)
        elif action is Action.CLOSE:
            self._close(key, entry, f, because, reason, f.now_us if at_us is None else at_us)
        entry.state = state
        if state == State.COOLING:
            self._rest(key, entry, f.now_us)

    def _open(self, key: Key, entry: Entry, f: _Frame) -> None:
        rule, last = self.rules[key[0]], self._last.get(key[0])
        start_us = f.now_us if entry.told else min(m.since_us for m in entry.members)
        if key[1] < 0 and last and start_us <= last.start_us:
            start_us = f.now_us
        first = entry.members[0]
        subject = "-" if key[1] < 0 else self._subjects(first)[0]
        if key[2] >= 0:
            subject += f"+{key[2]}"
        name = alert_id(self.site, rule.id, rule.version, self.camera, _place(rule), subject, start_us)
        incident = self._incident(key[0], name, f.now_us)
        alert = entry.alert = Alert(
            name, self._names[key[0]], (), 0, "", start_us, f.now_us, f.now_us, 0, 0.0, 0.0, rule.severity, 0, incident
        )
        self._last[key[0]] = Last(
            incident, last.closed_us if last else 0, start_us if key[1] < 0 else last.start_us if last else 0
        )
        self._name_subjects(key, entry, alert, f)
        alert.value = alert.said_value = self._value(key, entry, f.facts)
        self._say(key, entry, "open", 0, f.now_us, "condition", self._why(key, entry), f)

    def _incident(self, rule: int, own: str, now_us: int) -> str:
        """Return the incident of an alert that opens: the last alert's, where that is open or closed shortly before."""
        last, regroup_us = self._last.get(rule), round(self.rules[rule].regroup_s * 1e6)
        if last is None or not regroup_us:
            return own
        is_open = any(key[0] == rule and entry.alert for key, entry in self._active.items())
        return last.incident if is_open or now_us - last.closed_us <= regroup_us else own

    def _update(self, key: Key, entry: Entry, f: _Frame, because: AlertCause, reason: str) -> None:
        alert = entry.alert
        assert alert is not None
        if because in ("joined", "left"):
            self._name_subjects(key, entry, alert, f)
            if self._is_muted(key):
                return
        alert.value = self._value(key, entry, f.facts)
        alert.updates += 1
        alert.said_us = f.now_us
        self._say(key, entry, "update", alert.updates, f.now_us, because, reason or self._why(key, entry), f)

    def _close(self, key: Key, entry: Entry, f: _Frame, because: AlertCause, reason: str, at_us: int) -> None:
        alert = entry.alert
        assert alert is not None
        at_us = max(at_us, alert.start_us)  # a pulse that is known late may lie before the alert that it opened
        if because != "condition":
            alert.value = self._value(key, entry, f.facts)
        self._say(key, entry, "close", 0, at_us, because, reason, f)
        last = self._last[key[0]]
        last.closed_us = max(last.closed_us, at_us)
        entry.alert, entry.told, entry.closed_us = None, True, at_us

    def _rest(self, key: Key, entry: Entry, now_us: int) -> None:
        """Keep no more of a condition that has ended than its cool-down."""
        del self._active[key]
        self._touched.pop(key, None)
        self._size -= len(entry.members)
        if self._cool_us(key, entry.closed_us) <= now_us:
            follow(State.COOLING, Input.COOLED)
            return
        cooling = self._cooling[key[0]]
        cooling[key[1:]] = entry.closed_us
        self._cooling_count += 1
        while cooling and (
            self._cooling_count > MAX_COOLING or self._cool_us(key, next(iter(cooling.values()))) <= now_us
        ):
            del cooling[next(iter(cooling))]
            self._cooling_count -= 1
            follow(State.COOLING, Input.COOLED)

    # ---- what is said ---------------------------------------------------------------------------------------------

    def _counts_pulses(self, key: Key) -> bool:
        return isinstance(self.rules[key[0]], LineCrossing)

    def _value(self, key: Key, entry: Entry, facts: Facts) -> float:
        """Return what is measured: of a group the number of its subjects, of crossings theirs, else what the rule measures."""
        first = entry.members[0]
        if self._counts_pulses(key):
            return float(entry.pulses)
        if key[1] == GROUP:
            return float(len(entry.members))
        measured = nan if first.pulse_us else float(facts.value(key[0], first.ordinal, first.other_ordinal))
        return (
            first.value if isnan(measured) else measured
        )  # a moment, or no longer under way: what was told of it last

    def _why(self, key: Key, entry: Entry) -> str:
        alert = entry.alert
        assert alert is not None
        count = len(entry.members) if key[1] == GROUP else 0
        last = entry.members[-1]
        side = ("right" if last.value > 0 else "left") if self._counts_pulses(key) else ""
        return why(self._applied[key[0]], alert.value, alert.label, count, side)

    def _subjects(self, m: Member) -> tuple[str, ...]:
        both = ((m.born_us, m.ordinal), (m.other_born_us, m.other_ordinal))
        return tuple(track_id(self.site, self.camera, born_us, o) for born_us, o in both if o >= 0)

    def _name_subjects(self, key: Key, entry: Entry, alert: Alert, f: _Frame) -> None:
        if key[1] == PLACE:
            present = f.facts.present(key[0])
            names = [track_id(self.site, self.camera, born_us, ordinal) for ordinal, born_us in present]
        else:
            names = list(dict.fromkeys(name for m in entry.members[:MAX_SUBJECTS] for name in self._subjects(m)))
            label = entry.members[0].label
            alert.label = label if all(m.label == label for m in entry.members) else ""
        alert.subjects = tuple(names[:MAX_SUBJECTS])
        alert.subject_count = max(len(names), len(entry.members))

    def _say(
        self, key: Key, entry: Entry, transition: Literal["open", "update", "close"], number: int, at_us: int,
        because: AlertCause, reason: str, f: _Frame,
    ) -> None:  # fmt: skip
        alert = entry.alert
        assert alert is not None
        asked = thresholds(self._applied[key[0]])
        said = self._transition(alert, transition, number, at_us, because, reason, asked, self._off[key[0]], f.cause)
        f.out.append(msgspec.structs.replace(said, muted=True) if self._is_muted(key) else said)

    def _transition(
        self, alert: Alert, transition: Literal["open", "update", "close"], number: int, at_us: int, because: AlertCause,
        reason: str, asked: dict[str, float], off_hours: bool, cause: Cause,
    ) -> AlertTransition:  # fmt: skip
        rule_id, version, rule_type, place = alert.name.split("/")[:4]
        on_wire = rule_type in _WIRE_TYPES
        before, alert.said_value = alert.said_value, alert.value
        return AlertTransition(
            id=transition_id(alert.alert_id, transition, number),
            alert_id=alert.alert_id,
            transition=transition,
            site=self.site,
            camera=self.camera,
            rule=rule_id,
            rule_version=int(version),
            rule_type=rule_type,
            zone="" if on_wire else place,
            subjects=alert.subjects,
            label=alert.label,
            start_us=alert.start_us,
            at_us=at_us,
            value=round(float(alert.value), 6),
            before=0.0 if transition == "open" else round(float(before), 6),
            thresholds=asked,
            reason=reason,
            settings=cause.settings,
            model_sha=cause.model_sha,
            evidence_from_us=alert.start_us,
            evidence_to_us=at_us,
            input_partition=cause.partition,
            input_offset=cause.offset,
            input_seq=cause.seq,
            detection_sent_us=cause.sent_us,
            severity=alert.severity,
            cause=because,
            incident=alert.incident,
            tripwire=place if on_wire else "",
            subject_count=alert.subject_count,
            acknowledged_by=alert.acknowledged_by,
            off_hours=off_hours,
        )

    # ---- state ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return everything as MessagePack."""
        state = _State(
            self._names, list(self._active.items()), [list(c.items()) for c in self._cooling],
            list(self._last.items()), self._orphans, self.refused,
        )  # fmt: skip
        return msgspec.msgpack.encode(state)

    def restore(self, data: bytes) -> None:
        """Take up a snapshot. Rules are matched by `identity`: alerts of those that are gone close with the next frame."""
        state = msgspec.msgpack.decode(data, type=_State)
        now = {name: i for i, name in enumerate(self._names)}
        index = {old: now[name] for old, name in enumerate(state.rules) if name in now}
        self._orphans = state.orphans
        for (old, ordinal, other), entry in state.active:
            if old in index:
                self._active[index[old], ordinal, other] = entry
                self._size += len(entry.members)
            elif entry.alert:
                self._orphans.append(entry.alert)
            else:
                follow(entry.state, Input.WITHDRAWN)
        for old, cooling in enumerate(state.cooling):
            if old in index:
                self._cooling[index[old]] = dict(cooling)
                self._cooling_count += len(cooling)
            elif cooling:
                follow(State.COOLING, Input.WITHDRAWN)
        self._last = {index[old]: last for old, last in state.last if old in index}
        self.refused = state.refused
        self._wake_us = 0


def source_alert(
    site: str, camera: str, transition: Literal["open", "close"], start_us: int, at_us: int, cause: Cause
) -> AlertTransition:
    """Say that a camera sends no more frames since `start_us`, or that it sends again."""
    alert = alert_id(site, "source-lost", 1, camera, "", "-", start_us)
    return AlertTransition(
        id=transition_id(alert, transition, 0),
        alert_id=alert,
        transition=transition,
        site=site,
        camera=camera,
        rule="source-lost",
        rule_version=1,
        rule_type="source_lost",
        start_us=start_us,
        at_us=at_us,
        value=(at_us - start_us) * 1e-6,
        reason="no frames from this camera" if transition == "open" else "frames again",
        settings=cause.settings,
        model_sha=cause.model_sha,
        evidence_from_us=start_us,
        evidence_to_us=at_us,
        input_partition=cause.partition,
        input_offset=cause.offset,
        input_seq=cause.seq,
        detection_sent_us=cause.sent_us,
        incident=alert,
    )


_WIRE_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in WireRule.__subclasses__())


def _place(rule: AnyRule) -> str:
    return rule.tripwire if isinstance(rule, WireRule) else rule.zone


def _given(off: OffHours | None) -> dict[str, float]:
    """Return the off-hours parameters that are given; a rule has one that can be."""
    values = {name: getattr(off, name, None) for name in OffHours.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None}


def _member(entry: Entry | None, ordinal: int, other_ordinal: int) -> Member | None:
    for m in entry.members if entry else ():
        if (m.ordinal, m.other_ordinal) == (ordinal, other_ordinal):
            return m
    return None
