"""The paces of one camera's objects: how far they walk on each visit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.pace import kernel

SHORTEST_US = 500_000
"""A shorter visit has no speed: a box that is off by some centimetres would make it."""


class Paces:
    """Packed paces by slot and zone; of no zone where the camera's ground is not known."""

    def __init__(self, zone_count: int, has_ground: bool, capacity: int) -> None:
        self.paces: npt.NDArray[Any] = np.zeros((capacity, zone_count if has_ground else 0), kernel.PACE)

    def speed_mps(self, slot: int, zone: int, dwell_us: int, begun_again: bool) -> float | None:
        """Return the mean speed of a visit that has ended: the way walked from the first to the last moment inside, over the dwell.

        `begun_again`: another visit of the object to the zone has begun in this frame. None: not known.
        """
        if dwell_us < SHORTEST_US or zone >= self.paces.shape[1]:
            return None
        paces = self.paces
        if begun_again:
            way_m = paces["before_m"].item(slot, zone)
        else:
            way_m = paces["to_m"].item(slot, zone) - paces["from_m"].item(slot, zone)
        return max(way_m, 0.0) / (dwell_us * 1e-6) if math.isfinite(way_m) else None

    def restore(self, rows: bytes, zone_of: Sequence[int]) -> None:
        """Take up the rows of a snapshot; `zone_of` gives today's index of each zone of then, −1 for one that is gone.

        No rows, where the ground was not known then: visits that are open have no speed.
        """
        self.paces[:] = np.zeros((), kernel.PACE)
        self.paces["from_m"] = math.nan if zone_of and not rows else 0.0
        if not self.paces.shape[1] or not rows:
            return
        old = np.frombuffer(rows, kernel.PACE).reshape(-1, len(zone_of))
        for before, now in enumerate(zone_of):
            if now >= 0:
                self.paces[: len(old), now] = old[:, before]
