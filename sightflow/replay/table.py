"""The comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from sightflow.replay.comparison import COUNTER_FIELDS, Comparison, CounterRow, FigureRow, PlaceRow
from sightflow.replay.outputs import NEW, OLD

ZONE_FIGURES = ("visits", "entries", "mean dwell s")
WIRE_FIGURES = ("left", "right")
COUNTER_FIGURES = ("in", "out", "most inside")
MAX_ROWS = 60
"""Of one table on a terminal; `summary.json` has all."""


def text_of(c: Comparison) -> str:
    """Return the tables: rules, zones, tripwires, counters; of two replays also the window figures that differ."""
    both = len(c.sides) > 1
    cameras = len({(r.site, r.camera) for r in c.rules} | {(p.site, p.camera) for p in c.places}) > 1
    places = sorted(c.places, key=lambda p: not p.differs)  # the differing first: of very many rows not all are shown
    parts = [
        _table(
            "alerts", _head(both, "rule", "type") + (["only old", "only new"] if both else []), _rules(c, both), cameras
        ),
        _table(
            "zones",
            _place_head("zone", ZONE_FIGURES, both),
            [_zone(p, both) for p in places if p.kind == "zone"],
            cameras,
        ),
        _table(
            "tripwires",
            _place_head("tripwire", WIRE_FIGURES, both),
            [_wire(p, both) for p in places if p.kind == "tripwire"],
            cameras,
        ),
    ]
    counters = sorted(c.counters(), key=lambda row: not row.differs)
    parts.append(
        _table(
            "counters",
            _place_head("counter", COUNTER_FIGURES, both),
            [_counter(row, both) for row in counters],
            cameras,
        )
    )
    if both:
        differing = c.other_figures()
        parts.append(
            _table("window figures that differ (sums, extremes, means over all windows)",
                   ["", "measurement", "tags", "field", "old", "new"], [_figure(f) for f in differing], False)
        )  # fmt: skip
    letters = [
        f"{name} {c.dead_letters[name]:,}" if both else f"{c.dead_letters[name]:,}"
        for name in (OLD, NEW)
        if name in c.sides
    ]
    parts.append(f"dead letters: {', '.join(letters)}")
    return "\n\n".join(part for part in parts if part)


def _head(both: bool, *names: str) -> list[str]:
    return ["camera", *names, *(("old", "new") if both else ("alerts",))]


def _place_head(place: str, names: Sequence[str], both: bool) -> list[str]:
    return ["camera", place, *([f"{name} {side}" for name in names for side in ("old", "new")] if both else names)]


def _rules(c: Comparison, both: bool) -> list[list[str]]:
    rows = []
    for r in sorted(c.rules, key=lambda r: not r.differs):
        counts = [r.count[OLD], r.count[NEW], r.only[OLD], r.only[NEW]] if both else [r.count[NEW]]
        rows.append([r.camera, r.rule, r.rule_type, *map(str, counts)])
    return rows


def _zone(p: PlaceRow, both: bool) -> list[str]:
    cells = [p.camera, p.place]
    for value in ("visits", "entries", "dwell_mean_s"):
        for side in (OLD, NEW) if both else (NEW,):
            cells.append(number(getattr(p.counts[side], value)))
    return cells


def _wire(p: PlaceRow, both: bool) -> list[str]:
    cells = [p.camera, p.place]
    for value in ("left", "right"):
        for side in (OLD, NEW) if both else (NEW,):
            cells.append(str(getattr(p.counts[side], value)))
    return cells


def _counter(row: CounterRow, both: bool) -> list[str]:
    sides = (OLD, NEW) if both else (NEW,)
    values = [number(row.value.get((side, name))) for name in COUNTER_FIELDS for side in sides]
    return [row.camera, row.counter, *values]


def _figure(f: FigureRow) -> list[str]:
    tags = " ".join(f"{k}={v}" for k, v in f.tags.items() if k != "site")
    return ["", f.measurement, tags, f.field, number(f.value[OLD]), number(f.value[NEW])]


def number(value: float | None) -> str:
    """Return a number for people; – for none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".removesuffix(".00")


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], with_camera: bool) -> str:
    if not rows:
        return ""
    first = 0 if with_camera else 1
    shown = [list(row)[first:] for row in [head, *rows[:MAX_ROWS]]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    words = [_is_word(name) for name in shown[0]]
    lines = [
        "  "
        + "  ".join(c.ljust(w) if word else c.rjust(w) for c, w, word in zip(row, widths, words, strict=True)).rstrip()
        for row in shown
    ]
    if len(rows) > MAX_ROWS:
        lines.append(f"  … and {len(rows) - MAX_ROWS:,} more")
    return "\n".join([title, *lines])


def _is_word(name: str) -> bool:
    return name in ("camera", "rule", "type", "zone", "tripwire", "counter", "measurement", "tags", "field")
