"""What two replays differ in: alerts by rule, what happened by zone and tripwire, figures of windows. One replay: its counts.

Everything is read from the files that the replay has written, a line at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from operators.stages.replay_stage import Side
from schemas.ids import alert_subject
from sightflow.replay.outputs import NEW, OLD, decode_figure, life_key
from sightflow.replay.sorting import SortedLines

STILL_OPEN_US = 1 << 62
MAX_BARS = 300
"""Alerts of a rule that the timeline shows one by one; of more it shows the stretches of time in which any was open."""
_STRETCHES = 500
COUNTER_FIELDS = ("in_count", "out_count", "occupancy_max")
"""Of figures that have a counter's tag, those that have a table of their own."""


class Transition(Struct):
    """Of a line of `alerts.jsonl`, what the comparison needs."""

    alert_id: str
    transition: str
    site: str
    camera: str
    rule: str
    rule_type: str
    start_us: int
    at_us: int
    reason: str = ""


class Happened(Struct):
    """Of a line of `events.jsonl`, likewise."""

    kind: str
    site: str
    camera: str
    at_us: int
    zone: str = ""
    tripwire: str = ""
    direction: str = ""
    born_inside: bool = False
    dwell_s: float = 0.0


_transition = msgspec.json.Decoder(Transition).decode
_happened = msgspec.json.Decoder(Happened).decode


@dataclass(frozen=True)
class Alert:
    """One alert from when its condition began to when it closed."""

    about: str  # camera, place and subject
    start_us: int
    opened_us: int
    end_us: int
    reason: str


@dataclass
class RuleRow:
    """One rule at one camera. `only` are alerts that the other side has none for; a bar is (alert, whether it has)."""

    site: str
    camera: str
    rule: str
    rule_type: str
    count: dict[str, int] = field(default_factory=lambda: {NEW: 0, OLD: 0})
    only: dict[str, int] = field(default_factory=lambda: {NEW: 0, OLD: 0})
    bars: dict[str, list[tuple[Alert, bool]]] = field(default_factory=lambda: {NEW: [], OLD: []})

    @property
    def differs(self) -> bool:
        """Whether an alert of one side has none on the other."""
        return any(self.only.values())


@dataclass
class Counts:
    """What happened in a zone or at a tripwire."""

    visits: int = 0
    entries: int = 0
    exits: int = 0
    dwell_sum_s: float = 0.0
    left: int = 0
    right: int = 0

    @property
    def dwell_mean_s(self) -> float | None:
        """Mean dwell of the visits that ended; None of none."""
        return self.dwell_sum_s / self.exits if self.exits else None


@dataclass
class PlaceRow:
    """One zone or tripwire of one camera."""

    site: str
    camera: str
    kind: str  # zone, tripwire
    place: str
    counts: dict[str, Counts] = field(default_factory=lambda: {NEW: Counts(), OLD: Counts()})

    @property
    def differs(self) -> bool:
        """Whether anything is not the same."""
        return self.counts[NEW] != self.counts[OLD]


@dataclass
class FigureRow:
    """One field of one series, over all its windows: sums of counts and seconds, extremes, means of means."""

    measurement: str
    tags: dict[str, str]
    field: str
    value: dict[str, float | None]

    @property
    def differs(self) -> bool:
        """Whether it is not the same."""
        return self.value.get(NEW) != self.value.get(OLD)


@dataclass
class CounterRow:
    """One counter of one camera: (side, field) → total, of the fields in `COUNTER_FIELDS`."""

    site: str
    camera: str
    counter: str
    value: dict[tuple[str, str], float | None] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether anything is not the same."""
        return any(self.value.get((NEW, name)) != self.value.get((OLD, name)) for name in COUNTER_FIELDS)


@dataclass(frozen=True)
class Comparison:
    """Rows in order of camera and name; `sides` says which of NEW and OLD were replayed."""

    sides: tuple[str, ...]
    rules: list[RuleRow]
    places: list[PlaceRow]
    figures: list[FigureRow]
    dead_letters: dict[str, int]
    first_us: int
    last_us: int

    def counters(self) -> list[CounterRow]:
        """Return the counters, as their figures say."""
        rows: dict[tuple[str, str, str], CounterRow] = {}
        for f in self.figures:
            if is_of_counter(f):
                key = (f.tags.get("site", ""), f.tags.get("camera", ""), f.tags["counter"])
                row = rows.setdefault(key, CounterRow(*key))
                row.value.update({(side, f.field): value for side, value in f.value.items()})
        return [rows[key] for key in sorted(rows)]

    def other_figures(self) -> list[FigureRow]:
        """Return the figures that differ and stand in no other table."""
        return [f for f in self.figures if f.differs and not is_of_counter(f)]


def is_of_counter(f: FigureRow) -> bool:
    """Whether a figure stands in the counters' table."""
    return "counter" in f.tags and f.field in COUNTER_FIELDS


def compare(files: Mapping[str, Path], sides: Sequence[Side], folder: Path) -> Comparison:
    """Read the files of a replay.

    Args:
        files: `side/name` → file.
        sides: what was replayed; rules and places in their site files are shown where nothing happened, too.
        folder: an empty one to work in.
    """
    extent = _Extent()
    figures = _figures(files, sides, extent)
    places = _places(files, sides, extent)
    rules = _rules(files, sides, folder, extent)
    letters = {side.name: sum(1 for _ in _lines(files[f"{side.name}/dead-letters"])) for side in sides}
    names = tuple(side.name for side in sides)
    return Comparison(names, rules, places, figures, letters, extent.first_us, extent.last_us)


@dataclass
class _Extent:
    first_us: int = 0
    last_us: int = 0

    def take(self, at_us: int) -> None:
        if not self.first_us or at_us < self.first_us:
            self.first_us = at_us
        self.last_us = max(self.last_us, at_us)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            yield line[:-1]


def event_lines(path: Path) -> Iterator[Happened]:
    """Yield the events of a file."""
    return map(_happened, _lines(path))


# --- alerts --------------------------------------------------------------------------------------------------------

_RuleKey = tuple[str, str, str]


def _rules(files: Mapping[str, Path], sides: Sequence[Side], folder: Path, extent: _Extent) -> list[RuleRow]:
    rows: dict[_RuleKey, RuleRow] = {}
    for side in sides:
        for site in side.sites:
            for camera in site.cameras:
                for rule in camera.rules:
                    rows.setdefault(
                        (site.site, camera.id, rule.id), RuleRow(site.site, camera.id, rule.id, rule_type_of(rule))
                    )
    ordered = {side.name: _by_rule(files[f"{side.name}/alerts"], folder / side.name, extent) for side in sides}
    for key, of_side in _merged({name: groupby(of, key=_rule_key) for name, of in ordered.items()}):
        alerts = {name: list(_alerts(transitions, rows, key)) for name, transitions in of_side}
        _match(rows[key], alerts, len(sides) > 1, (extent.last_us - extent.first_us) // _STRETCHES)
    return [rows[key] for key in sorted(rows)]


def rule_type_of(rule: Struct) -> str:
    """Return the type of a rule as its site file and its alerts name it."""
    return str(rule.__struct_config__.tag)


def _rule_key(t: Transition) -> _RuleKey:
    return t.site, t.camera, t.rule


def _by_rule(path: Path, folder: Path, extent: _Extent) -> Iterator[Transition]:
    """Yield transitions rule by rule, each rule's by alert and in the order of its life: a close may be dated before the opening."""
    folder.mkdir()
    ordered = SortedLines(lambda line: (*_rule_key(_transition(line)), *life_key(line)), folder)
    for line in _lines(path):
        extent.take(_transition(line).at_us)
        ordered.add(line)
    return map(_transition, ordered)


def _merged(
    groups: dict[str, Any],
) -> Iterator[tuple[_RuleKey, Iterator[tuple[str, Iterable[Transition]]]]]:
    """Yield (rule, its transitions on each side that has any), rule by rule."""
    heads = {name: next(of_side, None) for name, of_side in groups.items()}
    while any(heads.values()):
        key = min(head[0] for head in heads.values() if head)
        having = [name for name, head in heads.items() if head and head[0] == key]
        yield key, ((name, heads[name][1]) for name in having)  # type: ignore[index]
        for name in having:
            heads[name] = next(groups[name], None)


def _alerts(transitions: Iterable[Transition], rows: dict[_RuleKey, RuleRow], key: _RuleKey) -> Iterator[Alert]:
    """Fold transitions to alerts."""
    live: dict[str, Transition] = {}
    for t in transitions:
        rows.setdefault(key, RuleRow(*key, t.rule_type))
        if t.transition == "open":
            live[t.alert_id] = t
        elif t.transition == "close" and (opened := live.pop(t.alert_id, None)) is not None:
            yield _alert(opened, t.at_us)
    for opened in live.values():
        yield _alert(opened, STILL_OPEN_US)


def _alert(opened: Transition, end_us: int) -> Alert:
    return Alert(alert_subject(opened.alert_id), opened.start_us, opened.at_us, end_us, opened.reason)


def _match(row: RuleRow, alerts: dict[str, list[Alert]], both: bool, stretch_us: int) -> None:
    """Pair the alerts of both sides: of one subject (or place), their spans overlapping, the earlier first."""
    paired: dict[str, set[int]] = {name: set() for name in (NEW, OLD)}
    ordered = {name: sorted(alerts.get(name, ()), key=_span) for name in (NEW, OLD)}
    i = j = 0
    new, old = ordered[NEW], ordered[OLD]
    while i < len(new) and j < len(old):
        a, b = new[i], old[j]
        if a.about == b.about and a.start_us <= b.end_us and b.start_us <= a.end_us:
            paired[NEW].add(i)
            paired[OLD].add(j)
            i, j = i + 1, j + 1
        elif (a.about, a.end_us) < (b.about, b.end_us):
            i += 1
        else:
            j += 1
    for name, of_side in ordered.items():
        row.count[name] = len(of_side)
        row.only[name] = len(of_side) - len(paired[name]) if both else 0
        bars = [(alert, k in paired[name] or not both) for k, alert in enumerate(of_side)]
        row.bars[name] = _bars(sorted(bars, key=lambda bar: bar[0].opened_us), stretch_us)


def _bars(bars: list[tuple[Alert, bool]], stretch_us: int) -> list[tuple[Alert, bool]]:
    """Return alerts as they are drawn; very many are joined where one opens soon after the other has closed."""
    if len(bars) <= MAX_BARS:
        return bars
    joined: list[tuple[Alert, bool]] = []
    for alert, paired in bars:
        before, same = joined[-1] if joined else (alert, not paired)
        if same == paired and alert.opened_us <= before.end_us + stretch_us:
            end_us = max(before.end_us, alert.end_us)
            joined[-1] = (replace(before, end_us=end_us, reason="several alerts"), paired)
        else:
            joined.append((replace(alert, start_us=alert.opened_us), paired))
    return joined


def _span(a: Alert) -> tuple[str, int, int]:
    return a.about, a.start_us, a.end_us


# --- zones and tripwires -------------------------------------------------------------------------------------------


def _places(files: Mapping[str, Path], sides: Sequence[Side], extent: _Extent) -> list[PlaceRow]:
    rows: dict[tuple[str, str, str, str], PlaceRow] = {}
    for side in sides:
        for site in side.sites:
            for camera in site.cameras:
                for kind, places in (("zone", camera.zones), ("tripwire", camera.tripwires)):
                    for place in places:
                        key = (site.site, camera.id, kind, place.id)
                        rows.setdefault(key, PlaceRow(*key))
    for side in sides:
        for e in event_lines(files[f"{side.name}/events"]):
            extent.take(e.at_us)
            if e.zone or e.tripwire:
                key = (e.site, e.camera, "zone" if e.zone else "tripwire", e.zone or e.tripwire)
                _count(rows.setdefault(key, PlaceRow(*key)).counts[side.name], e)
    return [rows[key] for key in sorted(rows)]


def _count(c: Counts, e: Happened) -> None:
    if e.kind == "enter":
        c.visits += 1
        c.entries += not e.born_inside
    elif e.kind == "exit":
        c.exits += 1
        c.dwell_sum_s = round(c.dwell_sum_s + e.dwell_s, 6)
    elif e.kind == "crossing":
        c.left += e.direction == "left"
        c.right += e.direction == "right"


# --- figures of windows --------------------------------------------------------------------------------------------

_FigureKey = tuple[str, tuple[tuple[str, str], ...], str]


def _figures(files: Mapping[str, Path], sides: Sequence[Side], extent: _Extent) -> list[FigureRow]:
    """Add up every numeric field of every series by what its name says it is; others are left out."""
    totals: dict[_FigureKey, dict[str, list[float]]] = {}  # → side → [value, how many]
    for side in sides:
        for line in _lines(files[f"{side.name}/windows"]):
            f = decode_figure(line)
            extent.take(f.at_ns // 1000)
            tags = tuple(sorted(f.tags.items()))
            for name, value in f.fields.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or _kind(name) is None:
                    continue
                _add(totals.setdefault((f.measurement, tags, name), {}), side.name, _kind(name), value)
    return [
        FigureRow(key[0], dict(key[1]), key[2], {side.name: _value(key[2], of.get(side.name)) for side in sides})
        for key, of in sorted(totals.items())
    ]


def _kind(name: str) -> str | None:
    words = name.split("_")
    return next((kind for kind in ("count", "sum", "max", "min", "mean") if kind in words[-2:]), None)


def _add(of: dict[str, list[float]], side: str, kind: str | None, value: float) -> None:
    known = of.get(side)
    if known is None:
        of[side] = [value, 1]
        return
    if kind == "max":
        known[0] = max(known[0], value)
    elif kind == "min":
        known[0] = min(known[0], value)
    else:
        known[0] += value
    known[1] += 1


def _value(name: str, total: list[float] | None) -> float | None:
    if total is None:
        return None
    value = total[0] / total[1] if _kind(name) == "mean" else total[0]
    return round(value, 6)


# --- as data -------------------------------------------------------------------------------------------------------


def as_data(c: Comparison) -> dict[str, Any]:
    """Return the comparison as `summary.json` has it."""
    return {
        "sides": list(c.sides),
        "first_us": c.first_us,
        "last_us": c.last_us,
        "rules": [
            {"site": r.site, "camera": r.camera, "rule": r.rule, "rule_type": r.rule_type}
            | {"alert_count": {s: r.count[s] for s in c.sides}}
            | ({"only_count": {s: r.only[s] for s in c.sides}} if len(c.sides) > 1 else {})
            for r in c.rules
        ],
        "places": [
            {"site": p.site, "camera": p.camera, p.kind: p.place} | {s: _counts(p, s) for s in c.sides}
            for p in c.places
        ],
        "figures": [
            {"measurement": f.measurement, "tags": f.tags, "field": f.field, "value": f.value} for f in c.figures
        ],
        "dead_letter_count": c.dead_letters,
    }


def _counts(p: PlaceRow, side: str) -> dict[str, Any]:
    c = p.counts[side]
    if p.kind == "tripwire":
        return {"left_count": c.left, "right_count": c.right}
    mean = c.dwell_mean_s
    return {
        "visit_count": c.visits, "entry_count": c.entries, "exit_count": c.exits,
        "dwell_mean_s": None if mean is None else round(mean, 6),
    }  # fmt: skip
