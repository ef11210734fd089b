"""The tripwires of one camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.anchors import anchor_weights, class_mask, pack_lines
from operators.tripwires import kernel
from schemas.settings import Tripwire

NO_FLOOR = np.zeros(0)
"""Of a camera whose ground is not known (`kernel.ground_sense`)."""


class Crossing(NamedTuple):
    """One object crossed one wire. `side`: −1 to the left, +1 to the right, as walked from first to last point."""

    slot: int
    wire: int
    side: int
    label: int
    ordinal: int
    born_us: int
    at_us: int


class Tripwires:
    """Where each object of one camera stands to each of its wires."""

    def __init__(self, wires: Sequence[Tripwire], capacity: int) -> None:
        self.wires = tuple(wires)
        self.approaches: npt.NDArray[Any] = np.zeros((capacity, len(wires)), kernel.APPROACH)
        self.points, self.starts = pack_lines([w.points for w in wires])
        self.anchors = np.array([anchor_weights(w.anchor) for w in wires], np.float64).reshape(-1, 2)
        self.on_ground = np.array([w.plane == "ground" for w in wires], np.bool_)
        self.bands = np.array([w.band_m if w.plane == "ground" else w.band_ratio for w in wires], np.float64)
        self.wanted = np.zeros((len(wires), 256), np.bool_)
        self._out = np.zeros(0, kernel.CROSSING)

    def set_labels(self, labels: Sequence[str]) -> None:
        """Say what the label indices of tracks mean; call again when labels are added."""
        for i, wire in enumerate(self.wires):
            self.wanted[i, : len(labels)] = class_mask(wire.classes, labels)

    def room(self, slots: int) -> int:
        """Return how many crossings one step can make."""
        return slots * len(self.wires)

    def step(
        self,
        tracks: npt.NDArray[Any],
        slots: int,
        aspect: float,
        now_us: int,
        floor: npt.NDArray[np.float64] = NO_FLOOR,
    ) -> list[Crossing]:
        """Take the tracks after their step; return crossings by slot, then wire. `floor` as `kernel.ground_sense` takes it."""
        if not self.wires or not slots:
            return []
        if self.room(slots) > len(self._out):
            self._out = np.zeros(2 * self.room(slots), kernel.CROSSING)
        n = kernel.step(
            tracks, slots, self.approaches, self.points, self.starts, self.anchors, self.on_ground, self.bands,
            self.wanted, aspect, kernel.ground_sense(floor), now_us, self._out,
        )  # fmt: skip
        return [Crossing(*r) for r in self._out[:n].tolist()] if n else []

    def restore(self, rows: bytes, places: Sequence[str]) -> None:
        """Take up live rows (of `approaches`) for wires of these `Tripwire.place`; others are forgotten, new ones start empty."""
        old = np.frombuffer(rows, kernel.APPROACH).reshape(-1, len(places)) if places else None
        self.approaches[:] = np.zeros((), kernel.APPROACH)
        if old is None:
            return
        for i, wire in enumerate(self.wires):
            if wire.place in places:
                self.approaches[: len(old), i] = old[:, places.index(wire.place)]
