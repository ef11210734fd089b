"""The page of an evaluation: one self-contained HTML file, without scripts and without anything fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sightflow.evaluate.sequences import SequenceTables
from sightflow.report.drawing import colour

MAX_LIVES = 80
"""Objects in the chart of ids, those seen longest first."""

_BIN_COUNT = 120
_W, _LEFT, _RIGHT, _H, _TOP = 880, 52, 14, 190, 12
_LANE = 9
_CURVES = ("HOTA", "DetA", "AssA")

_RATIOS = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR", "MOTA", "MOTP")
_COUNTS = (
    ("id switches", "IDSW"), ("fragments", "Frag"), ("false pos.", "CLR_FP"), ("misses", "CLR_FN"), ("mostly tracked", "MT"),
    ("mostly lost", "ML"), ("objects", "GT_IDs"), ("ids", "IDs"), ("truth boxes", "GT_Dets"),
)  # fmt: skip


def render(answer: dict[str, Any], tables: Sequence[SequenceTables], span: tuple[int, int] | None) -> str:
    """Return the page as HTML text.

    Args:
        answer: of the scorer.
        tables: what was scored.
        span: first and last frame that counted; None for all.
    """
    environment = Environment(
        loader=PackageLoader("sightflow", "evaluate"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    rows = [(name, s["figures"]) for name, s in answer["sequences"].items()]
    if len(rows) > 1:
        rows.append(("all together", answer["combined"]))
    preprocess = {t.name: t.preprocess for t in tables}
    return environment.get_template("page.html.jinja").render(
        frames=f"frames {span[0]} to {span[1]}" if span else "all frames",
        tiles=_tiles(answer["combined"]),
        ratio_names=_RATIOS,
        count_names=[title for title, _ in _COUNTS],
        rows=[_row(name, figures) for name, figures in rows],
        sequences=[_sequence(name, s, preprocess.get(name, "")) for name, s in answer["sequences"].items()],
    )


def _tiles(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        ("HOTA", f"{100 * figures['HOTA']:.1f}", "detection and association together, mean over 19 overlaps"),
        ("IDF1", f"{100 * figures['IDF1']:.1f}", "how much of each object's life has one id"),
        ("MOTA", f"{100 * figures['MOTA']:.1f}", "1 − (misses + false positives + switches) / boxes of truth"),
        ("id switches", f"{figures['IDSW']:.0f}", f"{figures['GT_IDs']:.0f} objects, {figures['IDs']:.0f} ids given"),
    ]


def _row(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "ratios": [f"{100 * figures[key]:.1f}" for key in _RATIOS],
        "counts": [f"{figures[key]:,.0f}" for _, key in _COUNTS],
    }


def _sequence(name: str, found: dict[str, Any], preprocess: str) -> dict[str, Any]:
    lives = sorted(found["lives"], key=lambda life: -sum(b - a + 1 for a, b, _ in life["spans"]))
    frames = found["frames"]
    return {
        "name": name,
        "preprocess": preprocess,
        "row": _row(name, found["figures"]),
        "curves": Markup(_curve_chart(found["figures"]["curves"], f"{name}: HOTA, DetA and AssA by overlap")),
        "course": Markup(_course_chart(frames, f"{name}: misses, false positives and id switches over time")),
        "lives": Markup(_life_chart(lives[:MAX_LIVES], frames, f"{name}: which id each object had")),
        "life_count": len(lives),
        "shown_count": min(len(lives), MAX_LIVES),
    }


# --- charts --------------------------------------------------------------------------------------------------------


def _svg(height: float, alt: str, inner: str) -> str:
    label = escape(alt, quote=True)
    return f'<svg viewBox="0 0 {_W} {height:g}" role="img" aria-label="{label}"><title>{label}</title>{inner}</svg>'


def _x(ratio: float) -> float:
    return _LEFT + ratio * (_W - _LEFT - _RIGHT)


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "axis") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _grid(y: float, text: str) -> str:
    return f'<path d="M{_LEFT} {y:.1f}H{_W - _RIGHT}" class="grid"/>' + _text(_LEFT - 7, y + 4, text, "end")


def _curve_chart(curves: dict[str, list[float]], alt: str) -> str:
    """HOTA and its two factors, from loose (IoU 0.05) to strict (0.95)."""
    bottom = _TOP + _H
    parts = [_grid(bottom - _H * v / 100, str(v)) for v in (0, 25, 50, 75, 100)]
    count = len(curves["HOTA"])
    for name in _CURVES:
        points = " ".join(f"{_x(i / (count - 1)):.1f},{bottom - _H * v:.1f}" for i, v in enumerate(curves[name]))
        parts.append(f'<polyline points="{points}" class="line {name.lower()}"/>')
    parts += [_text(_x((i) / (count - 1)), bottom + 18, f"{0.05 * (i + 1):.2f}") for i in range(0, count, 3)]
    return _svg(bottom + 26, alt, "".join(parts))


def _course_chart(frames: list[list[int]], alt: str) -> str:
    """Misses upwards, false positives downwards, per frame on average of each bin; a tick for each id switch."""
    if not frames:
        return _svg(40, alt, _text(_W / 2, 24, "no frames"))
    first, last = frames[0][0], frames[-1][0]
    length = last - first + 1
    bins = min(_BIN_COUNT, length)
    sums = [[0, 0, 0] for _ in range(bins)]
    for frame, _, misses, extras, switches in frames:
        found = sums[(frame - first) * bins // length]
        found[0], found[1], found[2] = found[0] + misses, found[1] + extras, found[2] + switches
    per_bin = length / bins
    top = max(1.0, *(max(m, e) / per_bin for m, e, _ in sums))
    middle, half = _TOP + _H / 2, _H / 2 - 4
    parts = [_grid(middle - half, f"{top:.0f}"), _grid(middle, "0"), _grid(middle + half, f"{top:.0f}")]
    width = (_x(1) - _x(0)) / bins
    lane = _TOP + _H + 12
    for i, (misses, extras, switches) in enumerate(sums):
        x, up, down = _x(i / bins), half * misses / per_bin / top, half * extras / per_bin / top
        parts.append(f'<rect x="{x:.1f}" y="{middle - up:.1f}" width="{width:.2f}" height="{up:.1f}" class="miss"/>')
        parts.append(f'<rect x="{x:.1f}" y="{middle:.1f}" width="{width:.2f}" height="{down:.1f}" class="extra"/>')
        if switches:
            parts.append(
                f'<circle cx="{x + width / 2:.1f}" cy="{lane:.1f}" r="{2.5 + min(switches, 5):.1f}" class="switch"/>'
            )
    parts.append(_text(_LEFT - 7, lane + 4, "ids", "end"))
    parts += [_text(_x(r), lane + 24, f"{first + round(r * (last - first))}") for r in (0, 0.25, 0.5, 0.75, 1)]
    return _svg(lane + 32, alt, "".join(parts))


def _life_chart(lives: list[dict[str, Any]], frames: list[list[int]], alt: str) -> str:
    """A lane per object; where its colour changes, its id does; thin where nobody tracked it."""
    if not lives:
        return _svg(40, alt, _text(_W / 2, 24, "no objects"))
    first, last = frames[0][0], frames[-1][0]
    length = last - first + 1
    parts = []
    for n, life in enumerate(lives):
        y = _TOP + n * _LANE
        parts.append(_text(_LEFT - 7, y + _LANE - 1, str(life["id"]), "end", "tiny"))
        for begin, end, who in life["spans"]:
            x, width = _x((begin - first) / length), max(0.8, (_x(1) - _x(0)) * (end - begin + 1) / length - 0.6)
            if who < 0:
                parts.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="2" class="lost"/>')
            else:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_LANE - 2}" fill="{colour(who)}">'
                    f"<title>object {life['id']} as id {who}, frames {begin} to {end}</title></rect>"
                )
    bottom = _TOP + len(lives) * _LANE
    parts += [_text(_x(r), bottom + 18, f"{first + round(r * (last - first))}") for r in (0, 0.25, 0.5, 0.75, 1)]
    return _svg(bottom + 26, alt, "".join(parts))
