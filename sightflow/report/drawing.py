"""Pictures and charts as SVG text. Everything that came in a message is escaped; colours are CSS variables of the page."""

from __future__ import annotations

import itertools
import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from schemas.settings import Camera, HeatMap, Tripwire
from sightflow.report.moments import Box, Moment
from sightflow.report.outcome import SOURCE_LOST, Incident, Occupancy

XY = tuple[float, float]
Scale = Callable[[float], float]

TRACK_COLOURS = ("#ff7f50", "#4cc9f0", "#ffd166", "#b8f35c", "#f78fe0", "#9db4ff", "#5ef2c2", "#ffb3a7")
"""Bright on purpose: they lie on a picture, each with a dark seam around it."""

_SEAM = "#10131a"
_ZONE = "#ffd60a"
_WIRE = "#ff4d6d"
_SUBJECT = "#ff3b30"


def colour(ordinal: int) -> str:
    """Return the colour of a track; neighbours in number differ."""
    return TRACK_COLOURS[ordinal % len(TRACK_COLOURS)]


def clock(at_us: int, zone: str, parts: str = "%H:%M:%S") -> str:
    """Return a time of day in the site's time zone."""
    return datetime.fromtimestamp(at_us / 1e6, ZoneInfo(zone)).strftime(parts)


# --- pictures ------------------------------------------------------------------------------------------------------


def picture(moment: Moment, camera: Camera, jpeg: bytes | None, alt: str) -> str:
    """Draw one frame: the real picture where there is one, zones, tripwires, trails, boxes."""
    w, h = moment.width_px, moment.height_px
    size = max(w, h) / 768  # text and lines keep their look whatever the resolution
    inner = [_backdrop(jpeg, w, h), _shapes(moment, camera, w, h, size)]
    inner += [_trail(box.trail, colour(box.ordinal), w, h, size) for box in moment.boxes if not box.predicted]
    inner += [_box(box, w, h, size) for box in sorted(moment.boxes, key=lambda b: b.corners[3])]
    return _svg(w, h, alt, "".join(inner), "shot")


def trail_map(trails: Sequence[tuple[int, list[XY]]], moment: Moment, camera: Camera, alt: str) -> str:
    """Draw the ways of all tracks of the span on a blank frame."""
    w, h = moment.width_px, moment.height_px
    size = max(w, h) / 768
    inner = [_backdrop(None, w, h), _shapes(moment, camera, w, h, size)]
    inner += [_trail(points, colour(ordinal), w, h, size) for ordinal, points in trails]
    return _svg(w, h, alt, "".join(inner), "shot")


def heat_picture(
    grid: HeatMap, cells: Sequence[tuple[int, int, float]], moment: Moment, camera: Camera, jpeg: bytes | None, alt: str
) -> str:  # fmt: skip
    """Draw (row, column, object-seconds) over a frame, or, for a grid on the ground, as a plan seen from above, y upwards."""
    on_ground = grid.plane == "ground"
    if on_ground:
        wide_m, high_m = grid.to_m[0] - grid.from_m[0], grid.to_m[1] - grid.from_m[1]
        w, h = 768, round(768 * high_m / wide_m)
    else:
        w, h = moment.width_px, moment.height_px
    size = max(w, h) / 768
    most_s = max((seconds for _, _, seconds in cells), default=0.0) or 1.0
    inner = [_backdrop(None if on_ground else jpeg, w, h)]
    across, down = w / grid.columns, h / grid.rows
    for row, column, seconds in cells:
        share = math.sqrt(seconds / most_s)  # by area, so to speak: faint places stay to be seen
        top = h - (row + 1) * down if on_ground else row * down
        inner.append(
            f'<rect x="{column * across:.1f}" y="{top:.1f}" width="{across:.1f}" height="{down:.1f}"'
            f' fill="{_heat(share)}" fill-opacity="{0.35 + 0.5 * share:.2f}"><title>{seconds:.1f} s</title></rect>'
        )
    if on_ground:
        far = f"{grid.to_m[0]:g}, {grid.to_m[1]:g} m"
        inner.append(_tag(6 * size, h - 8 * size, f"{grid.from_m[0]:g}, {grid.from_m[1]:g} m", _ZONE, size, "start"))
        inner.append(_tag(w - 6 * size, 18 * size, far, _ZONE, size, "end"))
    else:
        inner.append(_shapes(moment, camera, w, h, size))
    return _svg(w, h, alt, "".join(inner), "shot")


_HEAT = ((59, 15, 112), (183, 55, 121), (252, 137, 97), (252, 253, 191))


def _heat(share: float) -> str:
    at = min(max(share, 0.0), 1.0) * (len(_HEAT) - 1)
    i = min(int(at), len(_HEAT) - 2)
    mixed = (round(a + (b - a) * (at - i)) for a, b in zip(_HEAT[i], _HEAT[i + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _svg(w: float, h: float, alt: str, inner: str, kind: str) -> str:
    label = escape(alt, quote=True)
    return f'<svg class="{kind}" viewBox="0 0 {w:g} {h:g}" role="img" aria-label="{label}"><title>{label}</title>{inner}</svg>'


def _backdrop(jpeg: bytes | None, w: int, h: int) -> str:
    if jpeg is None:
        return f'<rect width="{w}" height="{h}" class="blank"/>'
    data = b64encode(jpeg).decode()
    return f'<image width="{w}" height="{h}" href="data:image/jpeg;base64,{data}"/>'


def _shapes(moment: Moment, camera: Camera, w: int, h: int, size: float) -> str:
    parts = []
    for zone in (z for z in camera.zones if z.plane == "image"):
        points = [(x * w, y * h) for x, y in zone.polygon]
        parts.append(
            f'<polygon points="{_points(points)}" fill="{_ZONE}" fill-opacity=".10" stroke="{_ZONE}"'
            f' stroke-width="{2 * size:.1f}" stroke-linejoin="round"/>'
        )
        x, y = max(points, key=lambda p: (p[1], p[0]))
        text = f"{zone.id}: {moment.inside[zone.id]} inside" if zone.id in moment.inside else zone.id
        parts.append(_tag(x, y + 20 * size, text, _ZONE, size, "middle"))
    parts += [_tripwire(wire, moment, w, h, size) for wire in camera.tripwires if wire.plane == "image"]
    return "".join(parts)


def _tripwire(wire: Tripwire, moment: Moment, w: int, h: int, size: float) -> str:
    """Draw the line, and on its middle an arrow to each side with the number of crossings that way."""
    points = [(x * w, y * h) for x, y in wire.points]
    line = (
        f'<polyline points="{_points(points)}" fill="none" stroke="{_SEAM}" stroke-width="{6 * size:.1f}" opacity=".6"/>'
        f'<polyline points="{_points(points)}" fill="none" stroke="{_WIRE}" stroke-width="{3 * size:.1f}"/>'
    )
    (ax, ay), (bx, by) = _longest_piece(points)
    length = math.hypot(bx - ax, by - ay)
    # Left as walked from the first to the last point; y grows downwards in a picture.
    left = ((by - ay) / length, -(bx - ax) / length)
    # At the end that is lower in the picture: there are fewer people in the way.
    foot_x, foot_y = max(points, key=lambda p: p[1])
    start = (foot_x, min(foot_y + 16 * size, h - 30 * size))
    counts = moment.crossed.get(wire.id)
    arrows = "".join(
        _arrow(start, (left[0] * sign, left[1] * sign), f"{word} {counts[i]}" if counts else word, size)
        for i, (sign, word) in enumerate(((1, "left"), (-1, "right")))
    )
    return line + arrows + _tag(start[0], start[1] + 24 * size, wire.id, _WIRE, size, "middle")


def _longest_piece(points: list[XY]) -> tuple[XY, XY]:
    return max(itertools.pairwise(points), key=lambda p: math.dist(*p))


def _arrow(start: XY, way: XY, text: str, size: float) -> str:
    x, y = start[0] + way[0] * 34 * size, start[1] + way[1] * 34 * size
    side = (-way[1] * 6 * size, way[0] * 6 * size)
    foot = (x - way[0] * 10 * size, y - way[1] * 10 * size)
    head = [(x, y), (foot[0] + side[0], foot[1] + side[1]), (foot[0] - side[0], foot[1] - side[1])]
    anchor = "end" if way[0] < -0.3 else "start" if way[0] > 0.3 else "middle"
    lower = 5 * size if abs(way[0]) > 0.3 else (18 * size if way[1] > 0 else -8 * size)
    return (
        f'<path d="M{start[0]:.1f} {start[1]:.1f}L{foot[0]:.1f} {foot[1]:.1f}" stroke="{_WIRE}" stroke-width="{3 * size:.1f}"/>'
        f'<polygon points="{_points(head)}" fill="{_WIRE}"/>'
        + _tag(x + way[0] * 5 * size, y + lower, text, _WIRE, size, anchor)
    )


def _tag(x: float, y: float, text: str, fill: str, size: float, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{15 * size:.1f}" font-weight="600" text-anchor="{anchor}" fill="{fill}"'
        f' stroke="{_SEAM}" stroke-width="{3.5 * size:.1f}" paint-order="stroke" stroke-linejoin="round">{escape(text)}</text>'
    )


def _trail(trail: Sequence[XY], stroke: str, w: int, h: int, size: float) -> str:
    if len(trail) < 2:
        return ""
    points = _points([(x * w, y * h) for x, y in trail])
    return (
        f'<polyline points="{points}" fill="none" stroke="{_SEAM}" stroke-width="{4.5 * size:.1f}" stroke-opacity=".45"'
        f' stroke-linejoin="round"/><polyline points="{points}" fill="none" stroke="{stroke}"'
        f' stroke-width="{2.2 * size:.1f}" stroke-linejoin="round" stroke-linecap="round"/>'
    )


def _box(box: Box, w: int, h: int, size: float) -> str:
    x1, y1, x2, y2 = (v * s for v, s in zip(box.corners, (w, h, w, h), strict=True))
    stroke = _SUBJECT if box.subject else colour(box.ordinal)
    width = (3.2 if box.subject else 2.0) * size
    dash = f' stroke-dasharray="{5 * size:.1f} {4 * size:.1f}"' if box.predicted else ""
    rect = f'x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" rx="{2 * size:.1f}" fill="none"'
    seam = f'<rect {rect} stroke="{_SEAM}" stroke-width="{width + 2 * size:.1f}" opacity=".45"/>' if not dash else ""
    text = f"#{box.ordinal}" if box.label == "person" else f"#{box.ordinal} {box.label}"
    anchor, at = ("end", min(x2, w - 2)) if x1 > w - 70 * size else ("start", max(x1, 2))
    tag = _tag(at, max(y1 - 5 * size, 14 * size), text, stroke, size, anchor)
    faint = ' opacity=".8"' if box.predicted else ""
    return f'<g{faint}>{seam}<rect {rect} stroke="{stroke}" stroke-width="{width:.1f}"{dash}/>{tag}</g>'


def _points(points: Sequence[XY]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


# --- charts --------------------------------------------------------------------------------------------------------

_CHART_W, _LEFT, _RIGHT, _TOP, _PLOT_H, _LANE_H = 880, 92, 14, 14, 170, 24


def occupancy_chart(
    curve: Occupancy, since_us: int, until_us: int, thresholds: Sequence[tuple[str, float]],
    incidents: Sequence[Incident], crossings: Sequence[tuple[int, str]], timezone: str, alt: str,
) -> str:  # fmt: skip
    """Draw how many were inside over time, with the crowding thresholds; below it a lane for each rule and for crossings.

    Args:
        thresholds: (rule, count) of the crowding rules of this zone.
        crossings: (time, 'left' or 'right').
    """
    span = max(1, until_us - since_us)
    top = max([curve.max_count, *(math.ceil(n) for _, n in thresholds), 1]) + 1

    def x(at_us: float) -> float:
        return _LEFT + (min(max(at_us, since_us), until_us) - since_us) / span * (_CHART_W - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return _TOP + _PLOT_H * (1 - count / top)

    rules = list(dict.fromkeys(i.rule for i in incidents))
    bottom = _TOP + _PLOT_H
    height = bottom + _LANE_H * (len(rules) + bool(crossings)) + 34
    parts = [
        _time_axis(since_us, until_us, x, height - 18, timezone),
        _count_axis(top, y),
        _area(curve, x, y, until_us),
    ]
    parts += [_threshold(rule, count, y) for rule, count in thresholds]
    for n, rule in enumerate(rules):
        lane = bottom + 8 + n * _LANE_H
        parts.append(_lane_name(rule, lane))
        parts += [_span_bar(i, x, lane, until_us, timezone) for i in incidents if i.rule == rule]
    if crossings:
        lane = bottom + 8 + len(rules) * _LANE_H
        parts.append(_lane_name("crossings", lane))
        parts += [_crossing_mark(x(at_us), lane, way) for at_us, way in crossings]
    return _svg(_CHART_W, height, alt, "".join(parts), "chart")


def _count_axis(top: int, y: Scale) -> str:
    step = max(1, math.ceil(top / 6))
    return (
        "".join(
            f'<line x1="{_LEFT}" x2="{_CHART_W - _RIGHT}" y1="{y(n):.1f}" y2="{y(n):.1f}" class="grid"/>'
            f'<text x="{_LEFT - 8}" y="{y(n) + 4:.1f}" class="axis" text-anchor="end">{n}</text>'
            for n in range(0, top + 1, step)
        )
        + f'<text x="16" y="{_TOP + _PLOT_H / 2:.0f}" class="axis" transform="rotate(-90 16 {_TOP + _PLOT_H / 2:.0f})" text-anchor="middle">people inside</text>'  # noqa: E501
    )


def _area(curve: Occupancy, x: Scale, y: Scale, until_us: int) -> str:
    path, level = "", 0
    for at_us, count in curve.steps:
        path += f"H{x(at_us):.1f}V{y(count):.1f}" if path else f"M{x(at_us):.1f} {y(count):.1f}"
        level = count
    path += f"H{x(until_us):.1f}"
    first = x(curve.steps[0][0])
    return (
        f'<path d="{path}V{y(0):.1f}H{first:.1f}Z" class="area"/><path d="{path}" class="curve"/>'
        f'<circle cx="{x(until_us):.1f}" cy="{y(level):.1f}" r="3" class="dot"/>'
    )


def _threshold(rule: str, count: float, y: Scale) -> str:
    at = y(count)
    return (
        f'<line x1="{_LEFT}" x2="{_CHART_W - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="threshold"/>'
        f'<text x="{_CHART_W - _RIGHT}" y="{at - 5:.1f}" class="threshold-name" text-anchor="end">'
        f"{escape(rule)}: at least {count:g}</text>"
    )


def _lane_name(name: str, lane: float) -> str:
    return f'<text x="{_LEFT - 8}" y="{lane + 13:.1f}" class="axis" text-anchor="end">{escape(name)}</text>'


def _span_bar(incident: Incident, x: Scale, lane: float, until_us: int, timezone: str) -> str:
    """Draw an alert: light from when its condition began, full from its opening to its close."""
    opened, closed = incident.open_us or incident.start_us, incident.close_us or until_us
    words = f"{incident.rule} {clock(incident.start_us, timezone)} to {clock(closed, timezone)}: {incident.reason}"
    begun, start, end = x(incident.start_us), x(opened), max(x(closed), x(opened) + 3)
    kind = "lost" if incident.rule_type == SOURCE_LOST else incident.rule_type
    return (
        f'<g class="bar {escape(kind, quote=True)}"><title>{escape(words)}</title>'
        f'<rect x="{begun:.1f}" y="{lane + 3:.1f}" width="{max(0.0, start - begun):.1f}" height="12" opacity=".35"/>'
        f'<rect x="{start:.1f}" y="{lane:.1f}" width="{end - start:.1f}" height="18" rx="3"/></g>'
    )


def _crossing_mark(at: float, lane: float, way: str) -> str:
    sign = -1 if way == "left" else 1
    points = [(at + sign * 6, lane + 9), (at - sign * 4, lane + 3), (at - sign * 4, lane + 15)]
    return f'<polygon points="{_points(points)}" class="cross-{"left" if way == "left" else "right"}"/>'


def _time_axis(since_us: int, until_us: int, x: Scale, at: float, timezone: str) -> str:
    span_s = (until_us - since_us) / 1e6
    step_s = next(
        (s for s in (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400) if span_s / s <= 8), 86_400
    )
    step_us = step_s * 1_000_000
    ticks = range(since_us - since_us % step_us + step_us, until_us + 1, step_us)
    form = "%H:%M:%S" if step_s < 60 else "%H:%M"

    def anchor(at_us: int) -> str:
        return "end" if x(at_us) > _CHART_W - 40 else "middle"

    return "".join(
        f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{_TOP}" y2="{at - 12:.1f}" class="grid faint"/>'
        f'<text x="{x(t):.1f}" y="{at + 6:.1f}" class="axis" text-anchor="{anchor(t)}">'
        f"{clock(t, timezone, form)}</text>"
        for t in ticks
    )


def dwell_chart(dwells_s: Sequence[float], mark: tuple[str, float] | None, alt: str) -> str:
    """Draw how many visits lasted how long; `mark` is (rule, seconds) of a loitering rule."""
    w, h, left, bottom, top = 420, 220, 40, 182, 24
    widest = max([*dwells_s, mark[1] if mark else 0.0, 1.0])
    bin_s = next((b for b in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800) if widest / b <= 12), 3600)
    bins = [0] * (int(widest // bin_s) + 1)
    for dwell in dwells_s:
        bins[int(dwell // bin_s)] += 1
    highest = max([*bins, 1])
    each = (w - left - 12) / len(bins)
    parts = []
    for i, n in enumerate(bins):
        x, high = left + i * each, (bottom - top) * n / highest
        if n:
            parts.append(
                f'<rect x="{x + 1.5:.1f}" y="{bottom - high:.1f}" width="{each - 3:.1f}" height="{high:.1f}" rx="2" class="bin"/>'
                f'<text x="{x + each / 2:.1f}" y="{bottom - high - 5:.1f}" class="axis strong" text-anchor="middle">{n}</text>'
            )
        if i % max(1, len(bins) // 7) == 0:
            parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" class="axis" text-anchor="middle">{i * bin_s}</text>')
    parts.append(f'<line x1="{left}" x2="{w - 12}" y1="{bottom}" y2="{bottom}" class="base"/>')
    parts.append(f'<text x="{(left + w) / 2:.0f}" y="{h - 4}" class="axis" text-anchor="middle">seconds inside</text>')
    parts.append(
        f'<text x="14" y="{(bottom + top) / 2:.0f}" class="axis" text-anchor="middle" transform="rotate(-90 14 {(bottom + top) / 2:.0f})">visits</text>'  # noqa: E501
    )
    if mark:
        x = left + mark[1] / bin_s * each
        late = x > w / 2  # its name would not fit to the right of it
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{bottom}" class="threshold"/>'
            f'<text x="{x - 5 if late else x + 5:.1f}" y="{top + 4}" class="threshold-name"'
            f' text-anchor="{"end" if late else "start"}">{escape(mark[0])}: {mark[1]:g} s</text>'
        )
    return _svg(w, h, alt, "".join(parts), "chart small")
