"""One step of all visits of a camera over the packed table VISIT[slot, zone]."""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel

VISIT = np.dtype(
    [
        ("enter_us", "<i8"),  # event time of the first observation inside
        ("inside_us", "<i8"),  # event time of the last one
        ("open", "u1"),  # 0 none, 1 not yet reported, 2 reported
        ("born_inside", "u1"),
        ("inside", "u1"),  # observed inside in this frame
        ("label", "u1"),  # the object's label when the visit was reported
        ("held", "u1"),  # inside when last looked at: the band outside the polygon counts as inside
    ],
    align=True,
)

RECORD = np.dtype(
    [
        ("kind", "<i4"),
        ("slot", "<i4"),
        ("zone", "<i4"),
        ("ordinal", "<i8"),
        ("born_us", "<i8"),
        ("enter_us", "<i8"),
        ("at_us", "<i8"),
        ("label", "<i4"),
        ("born_inside", "<i4"),
    ],
    align=True,
)
ENTER, EXIT = 0, 1

_CONFIRMED, _ENDED = 2, 3  # operators.tracking.table; capabilities do not import each other


@kernel
def inside_polygon(points: Any, start: int, stop: int, x: Any, y: Any) -> bool:
    """Even-odd rule; a point on an edge towards smaller x or y is inside, towards larger outside (Franklin, PNPOLY).

    Two polygons that share an edge compute the same for it, whichever way they walk it: a point is never in both or neither.
    """
    inside = False
    j = stop - 1
    for i in range(start, stop):
        if (points[i, 1] > y) != (points[j, 1] > y):
            low, high = (j, i) if points[i, 1] > y else (i, j)
            ax, ay = points[low, 0], points[low, 1]
            if (x - ax) * (points[high, 1] - ay) < (points[high, 0] - ax) * (y - ay):
                inside = not inside
        j = i
    return inside


@kernel
def is_near(points: Any, start: int, stop: int, x: Any, y: Any, scale: Any, band: Any) -> bool:
    """Whether the polygon's outline is at most `band` away, where x is as long as `scale` in units of y."""
    j = stop - 1
    for i in range(start, stop):
        ux, uy = (points[i, 0] - points[j, 0]) * scale, points[i, 1] - points[j, 1]
        px, py = (x - points[j, 0]) * scale, y - points[j, 1]
        s = min(max((px * ux + py * uy) / (ux * ux + uy * uy), 0.0), 1.0)
        dx, dy = px - s * ux, py - s * uy
        if dx * dx + dy * dy <= band * band:
            return True
        j = i
    return False


@kernel
def _record(out: Any, n: int, kind: int, slot: int, zone: int, t: Any, v: Any, at_us: int) -> int:
    r = out[n]
    r.kind, r.slot, r.zone = kind, slot, zone
    r.ordinal, r.born_us, r.enter_us, r.at_us = t.ordinal, t.born_us, v.enter_us, at_us
    r.label, r.born_inside = v.label, v.born_inside
    return n + 1


@kernel
def step(
    tracks: Any, slots: int, visits: Any, points: Any, starts: Any, anchors: Any, on_ground: Any, bands: Any, gap_us: Any,
    min_inside_us: Any, wanted: Any, aspect: Any, now_us: int, out: Any,
) -> int:  # fmt: skip
    """Advance every visit by one frame and write what happened to `out` (RECORD); return the number of records.

    Args:
        tracks, slots: the track table after its step; the first `slots` rows are live.
        visits: VISIT[capacity, Z], changed in place.
        points, starts: polygons as `anchors.pack_lines` gives them.
        anchors: Z×2 weights, `anchors.anchor_weights`.
        on_ground: bool Z: the polygon is in metres, and the object's ground point is what lies in it.
        bands: float64 Z: who is inside stays so to this distance outside; frame heights or metres.
        gap_us, min_inside_us: int64 Z.
        wanted: bool Z×256, by label.
        aspect: frame width / height.
        out: room for at least slots × 2 Z records.

    A visit is dated by observations: it begins with the first inside and ends with the last; an object unseen or
    outside for no longer than the zone's gap is still on its visit. An unconfirmed object's is kept, not reported.
    Where an object's ground point is not known, a zone on the ground takes it for unseen.
    """
    n = 0
    zones = visits.shape[1]
    for i in range(slots):
        t = tracks[i]
        if t.status == 0:
            continue
        new_born = t.born_us == now_us
        for zone in range(zones):
            v = visits[i, zone]
            if new_born:  # whatever the slot's last owner left, so that live and restored tables stay equal
                v.enter_us, v.inside_us, v.open, v.born_inside, v.label, v.held = 0, 0, 0, 0, 0, 0
            v.inside = 0
            if v.open and (t.status == _ENDED or now_us - v.inside_us > gap_us[zone]):
                if v.open == 2:
                    n = _record(out, n, EXIT, i, zone, t, v, v.inside_us)
                v.open = 0
            if not t.seen or t.status == _ENDED or not (wanted[zone, t.label] or v.open == 2):
                continue
            x, y, scale = np.float64(0.0), np.float64(0.0), aspect
            if on_ground[zone]:
                if not t.has_ground:
                    continue
                x, y, scale = np.float64(t.ground[0]), np.float64(t.ground[1]), 1.0
            else:
                x = t.box[0] + anchors[zone, 0] * (t.box[2] - t.box[0])
                y = t.box[1] + anchors[zone, 1] * (t.box[3] - t.box[1])
            start, stop = starts[zone], starts[zone + 1]
            if not inside_polygon(points, start, stop, x, y) and not (
                v.open and v.held and bands[zone] > 0.0 and is_near(points, start, stop, x, y, scale, bands[zone])
            ):
                v.held = 0
                continue
            v.inside, v.held = 1, 1
            v.inside_us = now_us
            if not v.open:
                v.open, v.enter_us, v.label = 1, now_us, 0  # that of an earlier visit is not stored
                v.born_inside = 1 if new_born else 0
            if t.status == _CONFIRMED and v.open == 1 and now_us - v.enter_us >= min_inside_us[zone]:
                v.open, v.label = 2, t.label
                n = _record(out, n, ENTER, i, zone, t, v, v.enter_us)
    return n
