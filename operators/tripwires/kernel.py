"""One step of all tripwires of a camera over the packed table APPROACH[slot, wire].

An object is settled on a side while its anchor is farther from the wire than the hysteresis band. Between two settled
observations the segments of its path that meet the wire are counted: settled on the other side after an odd number, it
has crossed; after an even one, it has walked round an end. Two observations suffice, and a return counts again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel

APPROACH = np.dtype(
    [
        ("crossed_us", "<i8"),  # time at which the path last met the wire; 0 once that makes no crossing any more
        ("x", "<f4"),  # last observed anchor (ratios of the frame) or ground point (m)
        ("y", "<f4"),
        ("at_us", "<i8"),  # when that was
        ("side", "i1"),  # settled side: −1 left, +1 right, 0 not yet settled
        ("odd", "u1"),  # the path met the wire an odd number of times since it was settled
        ("pending", "i1"),  # an unconfirmed object's crossing: side walked to, or 0
        ("known", "u1"),  # x, y, at_us are set
    ],
    align=True,
)
CROSSING = np.dtype(
    [
        ("slot", "<i4"), ("wire", "<i4"), ("side", "<i4"), ("label", "<i4"),
        ("ordinal", "<i8"), ("born_us", "<i8"), ("at_us", "<i8"),
    ],
    align=True,
)  # fmt: skip

_CONFIRMED, _ENDED = 2, 3  # operators.tracking.table


@kernel
def signed_distance(points: Any, start: int, stop: int, x: Any, y: Any, aspect: float) -> float:
    """Distance from the polyline in units of y, where x is `aspect` as long; positive on the right if y points down."""
    best, sign, best_lean = np.inf, 1.0, 0.0
    for i in range(start, stop - 1):
        ax, ay = points[i, 0] * aspect, points[i, 1]
        ux, uy = points[i + 1, 0] * aspect - ax, points[i + 1, 1] - ay
        px, py = x * aspect - ax, y - ay
        length2 = ux * ux + uy * uy
        s = min(max((px * ux + py * uy) / length2, 0.0), 1.0)
        dx, dy = px - s * ux, py - s * uy
        d2 = dx * dx + dy * dy
        turn = ux * py - uy * px
        # At a bend two segments are equally near: the one that the point lies beside, not behind, decides.
        lean = abs(turn) / np.sqrt(length2)
        if d2 < best - 1e-12 or (d2 < best + 1e-12 and lean > best_lean):
            best, best_lean = d2, lean
            sign = 1.0 if turn > 0.0 else -1.0
    return float(sign * np.sqrt(best))


@kernel
def _turn(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> float:
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


@kernel
def meeting(points: Any, start: int, stop: int, x0: Any, y0: Any, x1: Any, y1: Any) -> tuple[int, float]:
    """Count where the path from (x0, y0) to (x1, y1) meets the polyline, and say how far along (0..1) the last one is.

    Half-open on both: a path that ends on the wire meets it there or in its next segment, never in both.
    """
    count, last = 0, 0.0
    for i in range(start, stop - 1):
        ax, ay, bx, by = points[i, 0], points[i, 1], points[i + 1, 0], points[i + 1, 1]
        d0, d1 = _turn(ax, ay, bx, by, x0, y0), _turn(ax, ay, bx, by, x1, y1)
        e0, e1 = _turn(x0, y0, x1, y1, ax, ay), _turn(x0, y0, x1, y1, bx, by)
        if (d0 > 0.0) != (d1 > 0.0) and (e0 > 0.0) != (e1 > 0.0):
            count += 1
            last = max(last, d0 / (d0 - d1))
    return count, last


@kernel
def ground_sense(floor: Any) -> float:
    """Return +1 where the ground's axes turn as those of the picture do (from x to y clockwise, seen from above), or −1.

    `floor`: the homography from the picture to the ground, 9 numbers by rows, its third coordinate positive on the ground
    that is seen; empty without. The camera looks from above, so what it sees on the right is right: the sign of
    the homography's determinant says whether that is where the ground's turn is positive.
    """
    if floor.shape[0] < 9:
        return 1.0
    det = (
        floor[0] * (floor[4] * floor[8] - floor[5] * floor[7])
        - floor[1] * (floor[3] * floor[8] - floor[5] * floor[6])
        + floor[2] * (floor[3] * floor[7] - floor[4] * floor[6])
    )
    return 1.0 if det > 0.0 else -1.0


@kernel
def step(
    tracks: Any, slots: int, approaches: Any, points: Any, starts: Any, anchors: Any, on_ground: Any, bands: Any,
    wanted: Any, aspect: float, sense: float, now_us: int, out: Any,
) -> int:  # fmt: skip
    """Advance by one frame and write crossings to `out` (CROSSING, room for slots × wires); return their number.

    Arrays as in `operators.zones.kernel.step`; `sense` as `ground_sense` gives it.
    """
    n = 0
    for i in range(slots):
        t = tracks[i]
        if t.status == 0 or t.status == _ENDED:
            continue
        for wire in range(approaches.shape[1]):
            a = approaches[i, wire]
            if t.born_us == now_us:
                a.known, a.side, a.odd, a.pending, a.crossed_us = 0, 0, 0, 0, 0
            if t.seen and (t.has_ground or not on_ground[wire]):
                # Rounded as they are kept, so that one segment ends exactly where the next begins.
                x, y, scale, right = np.float64(0.0), np.float64(0.0), aspect, 1.0
                if on_ground[wire]:
                    x, y, scale, right = np.float64(t.ground[0]), np.float64(t.ground[1]), 1.0, sense
                else:
                    x = np.float64(np.float32(t.box[0] + anchors[wire, 0] * (t.box[2] - t.box[0])))
                    y = np.float64(np.float32(t.box[1] + anchors[wire, 1] * (t.box[3] - t.box[1])))
                if a.known:
                    count, along = meeting(
                        points, starts[wire], starts[wire + 1], np.float64(a.x), np.float64(a.y), x, y
                    )
                    if count:
                        a.crossed_us = a.at_us + np.int64(along * (now_us - a.at_us))
                        a.odd = (a.odd + count) % 2
                a.x, a.y, a.at_us, a.known = x, y, now_us, 1
                d = right * signed_distance(points, starts[wire], starts[wire + 1], x, y, scale)
                if abs(d) > bands[wire]:
                    side = 1 if d > 0.0 else -1
                    if a.side == -side and a.odd and wanted[wire, t.label]:
                        a.pending = side if a.pending != -side else 0
                    a.side, a.odd = side, 0
            if a.pending and t.status == _CONFIRMED:
                r = out[n]
                r.slot, r.wire, r.side, r.label = i, wire, a.pending, t.label
                r.ordinal, r.born_us, r.at_us = t.ordinal, t.born_us, a.crossed_us
                a.pending = 0
                n += 1
            if not a.odd and not a.pending:
                a.crossed_us = 0  # no crossing can be dated there any more: not stored
    return n
