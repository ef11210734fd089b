"""The timeline of a replay: one self-contained HTML file, without scripts and without anything fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sightflow.replay.comparison import COUNTER_FIELDS, STILL_OPEN_US, Alert, Comparison, PlaceRow, RuleRow, event_lines
from sightflow.replay.outputs import NEW, OLD
from sightflow.replay.table import number
from sightflow.replay.times import shown

COLUMNS = 120
"""Stretches of time that visits and crossings are counted in."""
MAX_LANES = 40
"""Of rules, of zones and of tripwires each; those that differ come first."""
MAX_FIGURES = 200
WIDTH, BAR_HEIGHT = 1000.0, 18.0
_MIN_BAR = 3.0
_TICKS = 5


@dataclass(frozen=True)
class Facts:
    """What the head of the page says."""

    inputs: str
    settings: Mapping[str, str]  # by side
    record_count: int


def render(c: Comparison, facts: Facts, files: Mapping[str, Path]) -> str:
    """Return the page as HTML text."""
    environment = Environment(
        loader=PackageLoader("sightflow", "replay"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(_context(c, facts, files))


def _context(c: Comparison, facts: Facts, files: Mapping[str, Path]) -> dict[str, Any]:
    both = len(c.sides) > 1
    order = [side for side in (OLD, NEW) if side in c.sides]  # old above new
    bins = _bins(c, files)
    rules = sorted(c.rules, key=lambda r: (not r.differs, r.site, r.camera, r.rule))
    zones = sorted((p for p in c.places if p.kind == "zone"), key=_place_order)
    wires = sorted((p for p in c.places if p.kind == "tripwire"), key=_place_order)
    figures = c.other_figures() if both else []
    return {
        "both": both,
        "facts": facts,
        "span": f"{shown(c.first_us)} to {shown(c.last_us)}" if c.first_us else "nothing happened",
        "ticks": _ticks(c),
        "tiles": _tiles(c),
        "sides": order,
        "rules": rules,
        "zones": zones,
        "wires": wires,
        "counters": sorted(c.counters(), key=lambda row: not row.differs),
        "counter_fields": COUNTER_FIELDS,
        "number": number,
        "lanes": {
            "Alerts": [_rule_lane(r, c, order) for r in rules[:MAX_LANES]],
            "Visits begun": [_count_lane(p, bins, order) for p in zones[:MAX_LANES]],
            "Crossings": [_count_lane(p, bins, order) for p in wires[:MAX_LANES]],
        },
        "left_out": {
            "Alerts": max(0, len(rules) - MAX_LANES),
            "Visits begun": max(0, len(zones) - MAX_LANES),
            "Crossings": max(0, len(wires) - MAX_LANES),
        },
        "figures": figures[:MAX_FIGURES],
        "figures_left_out": max(0, len(figures) - MAX_FIGURES),
        "dead_letters": c.dead_letters,
        "OLD": OLD,
        "NEW": NEW,
    }


def _place_order(p: PlaceRow) -> tuple[bool, str, str, str]:
    return not p.differs, p.site, p.camera, p.place


def _tiles(c: Comparison) -> list[dict[str, str]]:
    def values(name: str, of: Mapping[str, float]) -> dict[str, str]:
        if len(c.sides) == 1:
            return {"name": name, "value": number(of[NEW]), "note": ""}
        change = of[NEW] - of[OLD]
        note = "no change" if not change else f"{'+' if change > 0 else '−'}{number(abs(change))}"
        return {"name": name, "value": f"{number(of[OLD])} → {number(of[NEW])}", "note": note}

    def total(kind: str, pick: str) -> dict[str, float]:
        return {s: sum(getattr(p.counts[s], pick) for p in c.places if p.kind == kind) for s in c.sides}

    left, right = total("tripwire", "left"), total("tripwire", "right")
    return [
        values("Alerts", {s: sum(r.count[s] for r in c.rules) for s in c.sides}),
        values("Visits", total("zone", "visits")),
        values("Entries", total("zone", "entries")),
        values("Crossings", {s: left[s] + right[s] for s in c.sides}),
    ]


# --- time ----------------------------------------------------------------------------------------------------------


def _ticks(c: Comparison) -> list[str]:
    if not c.first_us:
        return []
    span_us = max(c.last_us - c.first_us, 1)
    texts = [shown(c.first_us + span_us * i // (_TICKS - 1)).removesuffix(" UTC") for i in range(_TICKS)]
    same_day = len({text[:10] for text in texts}) == 1
    return [text[11:] if same_day else text[5:16] for text in texts]


def _x(at_us: int, c: Comparison) -> float:
    span_us = max(c.last_us - c.first_us, 1)
    return WIDTH * min(max((at_us - c.first_us) / span_us, 0.0), 1.0)


def _bins(c: Comparison, files: Mapping[str, Path]) -> dict[tuple[str, str, str, str], dict[str, list[int]]]:
    """Count visits begun and crossings by place, side and stretch of time."""
    found: dict[tuple[str, str, str, str], dict[str, list[int]]] = {}
    span_us = max(c.last_us - c.first_us, 1)
    for side in c.sides:
        for e in event_lines(files[f"{side}/events"]):
            if e.kind in ("enter", "crossing") and (e.zone or e.tripwire):
                key = (e.site, e.camera, "zone" if e.zone else "tripwire", e.zone or e.tripwire)
                counts = found.setdefault(key, {s: [0] * COLUMNS for s in c.sides})
                counts[side][min((e.at_us - c.first_us) * COLUMNS // span_us, COLUMNS - 1)] += 1
    return found


# --- drawing -------------------------------------------------------------------------------------------------------


def _rule_lane(row: RuleRow, c: Comparison, order: Sequence[str]) -> dict[str, Any]:
    strips = []
    for side in order:
        last = sorted(row.bars[side], key=lambda bar: not bar[1])  # what is only here lies on top
        bars = [_bar(alert, paired, c) for alert, paired in last]
        strips.append({"side": side, "svg": _svg("".join(bars)), "count": row.count[side]})
    return {"name": f"{row.camera} · {row.rule}", "type": row.rule_type, "strips": strips, "differs": row.differs}


def _bar(alert: Alert, paired: bool, c: Comparison) -> str:
    opened = min(_x(alert.opened_us, c), WIDTH - _MIN_BAR)
    begin = min(_x(alert.start_us, c), opened)
    end = max(_x(min(alert.end_us, c.last_us), c), opened + _MIN_BAR)
    until = "open at the end" if alert.end_us == STILL_OPEN_US else shown(alert.end_us)
    title = f"{shown(min(alert.opened_us, alert.end_us))} to {until}: {alert.reason}"
    kind = "bar" if paired else "bar alone"
    waiting = (
        f'<rect class="{kind} waiting" x="{begin:.1f}" y="0" width="{opened - begin:.1f}" height="{BAR_HEIGHT:g}"/>'
        if opened - begin > 0.05
        else ""
    )
    return (
        f"<g><title>{escape(title)}</title>{waiting}"
        f'<rect class="{kind}" x="{begin if not waiting else opened:.1f}" y="0" width="{end - opened:.1f}"'
        f' height="{BAR_HEIGHT:g}"/></g>'
    )


def _count_lane(
    row: PlaceRow, bins: Mapping[tuple[str, str, str, str], dict[str, list[int]]], order: Sequence[str]
) -> dict[str, Any]:
    counts = bins.get((row.site, row.camera, row.kind, row.place), {side: [0] * COLUMNS for side in order})
    most = max(1, *(max(counts[side]) for side in order))
    width = WIDTH / COLUMNS
    strips = []
    for side in order:
        other = next((s for s in order if s != side), side)
        bars = []
        for i, count in enumerate(counts[side]):
            if count:
                height = BAR_HEIGHT * count / most
                kind = "bar" if count == counts[other][i] else "bar alone"
                bars.append(
                    f'<rect class="{kind}" x="{i * width:.1f}" y="{BAR_HEIGHT - height:.1f}" width="{width * 0.86:.1f}"'
                    f' height="{height:.1f}"><title>{count}</title></rect>'
                )
        strips.append({"side": side, "svg": _svg("".join(bars)), "count": sum(counts[side])})
    return {"name": f"{row.camera} · {row.place}", "type": "", "strips": strips, "differs": row.differs}


def _svg(inner: str) -> Markup:
    return Markup(f'<svg viewBox="0 0 {WIDTH:g} {BAR_HEIGHT:g}" preserveAspectRatio="none" role="img">{inner}</svg>')
