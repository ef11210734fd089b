"""The rules of one camera: what opens, repeats and closes alerts, and what each says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from operators.alerts.run import Run
from schemas.ids import alert_id, track_id, transition_id
from schemas.rules import AnyRule, Crowding, Loitering
from schemas.wire import AlertTransition

MAX_OPEN = 1000  # alerts open at a time per camera; further ones are refused and counted
NEVER_US = 1 << 62
MAX_COOLING = 4096  # cool-downs that run at a time per camera; beyond, the oldest is cut short


class Cause(NamedTuple):
    """The input that a transition comes from."""

    settings: str
    model_sha: str
    partition: int
    offset: int
    seq: int
    sent_us: int


class Dwelling(NamedTuple):
    """A visit's dwell event, as the zones give it: 'reached' a threshold, or 'ended'."""

    ended: bool
    zone: int
    rule: int
    ordinal: int
    born_us: int
    enter_us: int
    at_us: int
    label: str


class Incident(Struct, array_like=True):
    """One open alert."""

    alert_id: str
    rule: int
    subjects: tuple[str, ...]
    label: str
    start_us: int
    said_us: int  # event time of the last transition
    updates: int
    value: float  # of a crowding rule as of the last transition; `Run.value` is newer
    said_value: float  # `value` at the last transition
    name: str = ""  # of the rule, as `_name` gives it: it outlives the rule


class _State(Struct, array_like=True):
    rules: list[str]
    incidents: list[tuple[tuple[int, int], Incident]]
    closed_us: list[tuple[tuple[int, int], int]]
    refused: int
    deferred: list[tuple[tuple[int, int], Dwelling]] = []
    orphans: list[Incident] = []


class _Moving(Struct, array_like=True):
    """All there is: what changes with every frame while a condition holds, and the rest."""

    runs: list[tuple[int, Run]]
    rest: msgspec.Raw  # a _State


class Alerts:
    """All rules of one camera. Keys inside are (rule index, ordinal of the subject, or −1 for the zone itself)."""

    def __init__(self, site: str, camera: str, rules: Sequence[AnyRule], zone_ids: Sequence[str]) -> None:
        self.site, self.camera = site, camera
        self.rules = tuple(rules)
        self.zone_of = [zone_ids.index(r.zone) for r in self.rules]
        self.dirty = True  # anything but the runs has changed
        self._running = True  # the runs may have changed
        self.refused = 0
        self._crowding = [
            (i, r, self.zone_of[i], round(r.hold_s * 1e6), round(r.gap_s * 1e6))
            for i, r in enumerate(self.rules)
            if isinstance(r, Crowding)
        ]
        self._loitering = [i for i, r in enumerate(self.rules) if isinstance(r, Loitering)]
        self._runs = {i: Run() for i, *_ in self._crowding}
        self._incidents: dict[tuple[int, int], Incident] = {}
        self._closed_us: dict[tuple[int, int], int] = {}  # of those whose cool-down may still run
        self._deferred: dict[tuple[int, int], Dwelling] = {}  # visits that reached their threshold in a cool-down
        self._orphans: list[Incident] = []  # open alerts whose rule new settings have taken away
        self._update_due_us = 0
        self._rest = msgspec.Raw(b"")
        self._snapshot = b""

    def thresholds(self) -> tuple[list[int], list[int]]:
        """Return zone index and count of each crowding rule: with that many inside, `step` has something to do."""
        return [zone for _, _, zone, _, _ in self._crowding], [rule.count for _, rule, _, _, _ in self._crowding]

    def wake_us(self) -> int:
        """Return from when on `step` may have something to do in a frame without dwell events and below `thresholds`."""
        if self._orphans or self._deferred or any(run.phase for run in self._runs.values()):
            return 0
        return self._update_due_us if self._incidents else NEVER_US

    def dwell_rules(self) -> list[tuple[int, float]]:
        """Return (zone index, seconds) of each loitering rule, in the order that `Dwelling.rule` counts them."""
        return [(self.zone_of[i], r.since_s) for i, r in enumerate(self.rules) if isinstance(r, Loitering)]

    def step(
        self,
        now_us: int,
        inside_count: Sequence[int],
        dwellings: Iterable[Dwelling],
        cause: Cause,
        present: Callable[[int], list[tuple[int, int]]],
    ) -> list[AlertTransition]:
        """Take one frame: objects observed inside per zone, dwell events in order; return transitions.

        `present(zone)` gives (ordinal, born_us) of those inside; it is asked only when an alert opens.
        """
        out: list[AlertTransition] = []
        if self._orphans:
            self._close_orphans(now_us, cause, out)
        for d in dwellings:
            self._dwelling(d, now_us, cause, out)
        if self._deferred:
            self._open_deferred(now_us, cause, present, out)
        for i, rule, zone, hold_us, gap_us in self._crowding:
            run = self._runs[i]
            holds = inside_count[zone] >= rule.count
            if not holds and not run.phase:
                continue
            self._running = True
            true_us = run.true_us
            word = run.step(holds, now_us, hold_us, gap_us, not self._cooling((i, -1), now_us))
            if word == "close":
                self._close((i, -1), true_us, f"fewer than {rule.count} inside", cause, out)
            elif word == "open":
                subjects = tuple(track_id(self.site, self.camera, b, o) for o, b in present(zone))
                self._open((i, -1), "-", subjects, "", run.since_us, now_us, inside_count[zone], cause, out)
            elif (i, -1) in self._incidents:
                run.value = float(inside_count[zone])
        if self._incidents and now_us >= self._update_due_us:
            self._repeat(now_us, cause, out)
        return out

    def close_all(self, at_us: int, reason: str, cause: Cause) -> list[AlertTransition]:
        """Close everything at `at_us`: nothing more is known."""
        out: list[AlertTransition] = []
        for key in sorted(self._incidents):
            self._close(key, at_us, reason, cause, out)
        self._deferred = {}
        self._runs = {i: Run() for i in self._runs}
        self.dirty = self._running = True
        return out

    def _measure(self, incident: Incident) -> None:
        """Bring a crowding alert's value up to date."""
        if incident.rule in self._runs:
            incident.value = self._runs[incident.rule].value

    def _dwelling(self, d: Dwelling, now_us: int, cause: Cause, out: list[AlertTransition]) -> None:
        if d.ended:
            for i in self._loitering:
                if self.zone_of[i] != d.zone:
                    continue
                if self._deferred.pop((i, d.ordinal), None) is not None:
                    self.dirty = True
                if (i, d.ordinal) in self._incidents:
                    self._incidents[i, d.ordinal].value = (d.at_us - d.enter_us) * 1e-6
                    self._close((i, d.ordinal), d.at_us, "the visit has ended", cause, out)
            return
        key = (self._loitering[d.rule], d.ordinal)
        if not self._cooling(key, now_us):
            self._open_dwelling(key, d, now_us, cause, out)
        elif len(self._deferred) < MAX_OPEN:
            self._deferred[key] = d
            self.dirty = True
        else:
            self.refused += 1

    def _open_dwelling(
        self, key: tuple[int, int], d: Dwelling, now_us: int, cause: Cause, out: list[AlertTransition]
    ) -> None:
        subject = track_id(self.site, self.camera, d.born_us, d.ordinal)
        dwell_s = (now_us - d.enter_us) * 1e-6
        self._open(key, subject, (subject,), d.label, d.enter_us, now_us, dwell_s, cause, out)

    def _open_deferred(
        self, now_us: int, cause: Cause, present: Callable[[int], list[tuple[int, int]]], out: list[AlertTransition]
    ) -> None:
        """Open what had to wait for its cool-down, once the object is seen inside after it."""
        for key in sorted(self._deferred):
            d = self._deferred[key]
            if not self._cooling(key, now_us) and (d.ordinal, d.born_us) in present(d.zone):
                del self._deferred[key]
                self._open_dwelling(key, d, now_us, cause, out)

    def _close_orphans(self, now_us: int, cause: Cause, out: list[AlertTransition]) -> None:
        for incident in self._orphans:
            out.append(self._say(incident, "close", 0, now_us, "its rule is no longer in the settings", cause))
        self._orphans = []
        self.dirty = True

    def _cooling(self, key: tuple[int, int], now_us: int) -> bool:
        closed_us = self._closed_us.get(key)
        return closed_us is not None and now_us - closed_us < self.rules[key[0]].cooldown_s * 1e6

    def _open(
        self, key: tuple[int, int], subject: str, subjects: tuple[str, ...], label: str, start_us: int, now_us: int,
        value: float, cause: Cause, out: list[AlertTransition],
    ) -> None:  # fmt: skip
        rule = self.rules[key[0]]
        if key in self._incidents:
            return
        if len(self._incidents) >= MAX_OPEN:
            self.refused += 1
            return
        alert = alert_id(self.site, rule.id, rule.version, self.camera, rule.zone, subject, start_us)
        incident = Incident(
            alert, key[0], subjects, label, start_us, now_us, 0, float(value), float(value), _name(rule)
        )
        self._incidents[key] = incident
        if key[0] in self._runs:
            self._runs[key[0]].value = incident.value
        self.dirty = True
        self._update_due_us = min(self._update_due_us or now_us, now_us)
        out.append(self._say(incident, "open", 0, now_us, _why(rule, value), cause))

    def _repeat(self, now_us: int, cause: Cause, out: list[AlertTransition]) -> None:
        due = []
        for key in sorted(self._incidents):
            incident = self._incidents[key]
            rule = self.rules[incident.rule]
            interval_us = round(rule.update_s * 1e6)
            if now_us - incident.said_us >= interval_us:
                if isinstance(rule, Loitering):
                    incident.value = (now_us - incident.start_us) * 1e-6
                self._measure(incident)
                incident.updates += 1
                incident.said_us = now_us
                out.append(self._say(incident, "update", incident.updates, now_us, _why(rule, incident.value), cause))
            due.append(incident.said_us + interval_us)
        self._update_due_us = min(due)
        self.dirty = True

    def _close(self, key: tuple[int, int], at_us: int, reason: str, cause: Cause, out: list[AlertTransition]) -> None:
        incident = self._incidents.pop(key, None)
        if incident is None:
            return
        self._measure(incident)
        rule = self.rules[incident.rule]
        self.dirty = True
        if rule.cooldown_s:
            self._closed_us = {k: t for k, t in self._closed_us.items() if self._cooling(k, at_us)}
            self._closed_us[key] = at_us
            if len(self._closed_us) > MAX_COOLING:
                del self._closed_us[min(self._closed_us, key=lambda k: (self._closed_us[k], k))]
        out.append(self._say(incident, "close", 0, at_us, reason, cause))

    def _say(
        self, incident: Incident, transition: str, number: int, at_us: int, reason: str, cause: Cause
    ) -> AlertTransition:
        rule_id, version, rule_type, zone = incident.name.split("/")
        before, incident.said_value = incident.said_value, incident.value
        return AlertTransition(
            id=transition_id(incident.alert_id, transition, number),
            alert_id=incident.alert_id,
            transition=transition,  # type: ignore[arg-type]
            site=self.site,
            camera=self.camera,
            rule=rule_id,
            rule_version=int(version),
            rule_type=rule_type,
            zone=zone,
            subjects=incident.subjects,
            label=incident.label,
            start_us=incident.start_us,
            at_us=at_us,
            value=round(float(incident.value), 6),
            before=0.0 if transition == "open" else round(float(before), 6),
            thresholds=_thresholds(self.rules[incident.rule]) if incident.rule >= 0 else {},
            reason=reason,
            settings=cause.settings,
            model_sha=cause.model_sha,
            evidence_from_us=incident.start_us,
            evidence_to_us=at_us,
            input_partition=cause.partition,
            input_offset=cause.offset,
            input_seq=cause.seq,
            detection_sent_us=cause.sent_us,
        )

    def snapshot(self) -> bytes:
        """Return everything as MessagePack (made anew only when it has changed)."""
        if self.dirty:
            self._rest = msgspec.Raw(self._encode())
        if self.dirty or self._running:
            self._snapshot = msgspec.msgpack.encode(_Moving(list(self._runs.items()), self._rest))
            self.dirty = self._running = False
        return self._snapshot

    def _encode(self) -> bytes:
        return msgspec.msgpack.encode(
            _State(
                [_name(r) for r in self.rules],
                list(self._incidents.items()),
                list(self._closed_us.items()),
                self.refused,
                list(self._deferred.items()),
                self._orphans,
            )
        )

    def restore(self, data: bytes) -> list[int]:
        """Take up a snapshot; return for each dwell rule of the snapshot which of `dwell_rules` it is now, or −1.

        Rules are matched by id, version, type and zone. Alerts of rules that are gone are closed with the next frame;
        whatever else belongs to those is forgotten.
        """
        moving = msgspec.msgpack.decode(data, type=_Moving)
        state = msgspec.msgpack.decode(moving.rest, type=_State)
        runs = dict(moving.runs)
        now = {_name(r): i for i, r in enumerate(self.rules)}
        index = {old: now[name] for old, name in enumerate(state.rules) if name in now}
        self._orphans = state.orphans
        for old, run in runs.items():
            if index.get(old, -1) in self._runs:
                self._runs[index[old]] = run
        for (old, ordinal), incident in state.incidents:
            if old in index:
                incident.rule = index[old]
                self._incidents[index[old], ordinal] = incident
            else:
                incident.value = runs[old].value if old in runs else incident.value
                incident.rule = -1
                self._orphans.append(incident)
        self._closed_us = {(index[old], o): t for (old, o), t in state.closed_us if old in index}
        self._deferred = {(index[old], o): d for (old, o), d in state.deferred if old in index}
        self.refused = state.refused
        self._update_due_us = 0
        self.dirty = self._running = True
        loitering = [old for old, name in enumerate(state.rules) if name.split("/")[2] == "loitering"]
        return [self._loitering.index(index[old]) if old in index else -1 for old in loitering]


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
    )


def _name(rule: AnyRule) -> str:
    """Return id/version/type/zone: a rule under which these change is another rule."""
    return f"{rule.id}/{rule.version}/{type(rule).__struct_config__.tag}/{rule.zone}"


def _thresholds(rule: AnyRule) -> dict[str, float]:
    if isinstance(rule, Crowding):
        return {"count": float(rule.count), "hold_s": rule.hold_s, "gap_s": rule.gap_s}
    return {"since_s": rule.since_s}


def _why(rule: AnyRule, value: float) -> str:
    if isinstance(rule, Crowding):
        return f"{value:.0f} inside {rule.zone}, at least {rule.count} for {rule.hold_s:g} s"
    return f"inside {rule.zone} for {value:.1f} s, at least {rule.since_s:g} s"
