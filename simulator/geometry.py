"""Plane geometry by the plainest method, in image coordinates: ratios of the frame, x to the right, y DOWN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

XY = tuple[float, float]

ANCHOR_FRACTIONS: dict[str, XY] = {
    f"{row}_{column}".replace("center_center", "center"): (fx, fy)
    for row, fy in (("top", 0.0), ("center", 0.5), ("bottom", 1.0))
    for column, fx in (("left", 0.0), ("center", 0.5), ("right", 1.0))
}
"""Where each anchor lies in a box, as fractions of its width and height from its top left corner."""


def side_of(a: XY, b: XY, p: XY) -> float:
    """Return > 0 where `p` lies right of the line walked from `a` to `b`, < 0 where left, 0 on it.

    y points down: for a walk up the image (b above a) the right side is +x, as a person walking there would say.
    """
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


def is_inside(p: XY, polygon: Sequence[XY]) -> bool:
    """Even-odd rule: whether a ray from `p` to the right meets an odd number of edges."""
    inside = False
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (ay > p[1]) != (by > p[1]) and p[0] < ax + (p[1] - ay) / (by - ay) * (bx - ax):
            inside = not inside
    return inside


def meeting_fraction(p: XY, q: XY, a: XY, b: XY) -> float | None:
    """Return how far along p→q (0 to 1) it meets segment ab, or None where it does not (or runs parallel to it)."""
    across = (q[0] - p[0]) * (b[1] - a[1]) - (q[1] - p[1]) * (b[0] - a[0])
    if across == 0.0:
        return None
    along_path = ((a[0] - p[0]) * (b[1] - a[1]) - (a[1] - p[1]) * (b[0] - a[0])) / across
    along_edge = ((a[0] - p[0]) * (q[1] - p[1]) - (a[1] - p[1]) * (q[0] - p[0])) / across
    return along_path if 0.0 <= along_path <= 1.0 and 0.0 <= along_edge <= 1.0 else None


def segment_distance(p: XY, a: XY, b: XY) -> float:
    """Return the distance from `p` to segment ab."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / (dx * dx + dy * dy)
    along = min(1.0, max(0.0, along))
    return math.hypot(p[0] - a[0] - along * dx, p[1] - a[1] - along * dy)


def polyline_distance(p: XY, points: Sequence[XY]) -> float:
    """Return the distance from `p` to the nearest point of an open polyline."""
    return min(segment_distance(p, a, b) for a, b in pairwise(points))
