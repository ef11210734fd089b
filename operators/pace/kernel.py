"""One step of the paces of a camera over the packed table PACE[slot, zone], beside its visits."""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel

PACE = np.dtype(
    [
        ("from_m", "<f4"),  # what the object had walked when it was first seen inside on this visit
        ("to_m", "<f4"),  # … and when it was last
        ("before_m", "<f4"),  # walked on the visit before, where this one began in the very frame that ended it
        ("spare", "<f4"),
    ],
    align=True,
)


@kernel
def step(tracks: Any, slots: int, motions: Any, visits: Any, paces: Any, now_us: int) -> None:
    """Note how far each object that is seen inside a zone has walked so far.

    Args:
        tracks, slots, motions, visits: the tables of tracks, motions and visits after their step; the first `slots` rows are live.
        paces: PACE[capacity, Z], changed in place; Z is 0 where the camera's ground is not known.
    """
    for i in range(slots if paces.shape[1] else 0):
        if not tracks[i].status:
            continue
        for zone in range(paces.shape[1]):
            v, p = visits[i, zone], paces[i, zone]
            if not v.open or not v.inside:
                continue
            walked_m = motions[i].distance_m
            if v.enter_us == now_us:
                p.before_m = np.float64(p.to_m) - np.float64(p.from_m)
                p.from_m = walked_m
            p.to_m = walked_m
