"""The zones of one camera: packed visits and what happens to them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.anchors import anchor_weights, class_mask, pack_lines
from operators.zones import kernel
from schemas.settings import Zone


class Visit(NamedTuple):
    """Something that happened to a visit. `kind`: ENTER or EXIT."""

    kind: int
    slot: int
    zone: int
    ordinal: int
    born_us: int
    enter_us: int
    at_us: int
    label: int
    born_inside: int


class Zones:
    """Visits of all objects of one camera to its zones."""

    ENTER, EXIT = kernel.ENTER, kernel.EXIT

    def __init__(self, zones: Sequence[Zone], capacity: int) -> None:
        self.zones = tuple(zones)
        self.visits: npt.NDArray[Any] = np.zeros((capacity, len(zones)), kernel.VISIT)
        self.points, self.starts = pack_lines([z.polygon for z in zones])
        self.anchors = np.array([anchor_weights(z.anchor) for z in zones], np.float64).reshape(-1, 2)
        self.on_ground = np.array([z.plane == "ground" for z in zones], np.bool_)
        self.bands = np.array([z.band_m if z.plane == "ground" else z.band_ratio for z in zones], np.float64)
        self.gap_us = np.array([round(z.gap_s * 1e6) for z in zones], np.int64)
        self.min_inside_us = np.array([round(z.min_inside_s * 1e6) for z in zones], np.int64)
        self.wanted = np.zeros((len(zones), 256), np.bool_)
        self._out = np.zeros(0, kernel.RECORD)

    def set_labels(self, labels: Sequence[str]) -> None:
        """Say what the label indices of tracks mean; call again when labels are added."""
        for i, zone in enumerate(self.zones):
            self.wanted[i, : len(labels)] = class_mask(zone.classes, labels)

    def room(self, slots: int) -> int:
        """Return how many records one step can make: per object and zone an enter and an exit."""
        return slots * 2 * len(self.zones)

    def step(self, tracks: npt.NDArray[Any], slots: int, now_us: int, aspect: float = 1.0) -> list[Visit]:
        """Take the tracks after their step; return what happened, by slot, then zone. `aspect`: frame width / height."""
        if not self.zones or not slots:
            return []
        room = self.room(slots)
        if room > len(self._out):
            self._out = np.zeros(2 * room, kernel.RECORD)
        n = kernel.step(
            tracks, slots, self.visits, self.points, self.starts, self.anchors, self.on_ground, self.bands, self.gap_us,
            self.min_inside_us, self.wanted, aspect, now_us, self._out,
        )  # fmt: skip
        return [Visit(*r) for r in self._out[:n].tolist()] if n else []

    def end(self, zones: Sequence[int], tracks: npt.NDArray[Any], slots: int) -> list[Visit]:
        """End the visits to these zones, each at its last moment inside; return the exits of those that were reported."""
        exits = []
        for slot, zone in itertools.product(range(slots), zones):
            v, t = self.visits[slot, zone], tracks[slot]
            if t["status"] and v["open"] == 2:
                times = int(t["born_us"]), int(v["enter_us"]), int(v["inside_us"])
                label, born_inside = int(v["label"]), int(v["born_inside"])
                exits.append(Visit(self.EXIT, slot, zone, int(t["ordinal"]), *times, label, born_inside))
            v["open"] = 0
        return exits

    def restore(self, rows: bytes, places: Sequence[str]) -> None:
        """Take up live rows (of `visits`) for zones of these `Zone.place`; visits to others are forgotten, new zones start empty."""
        old = np.frombuffer(rows, kernel.VISIT).reshape(-1, len(places)) if places else None
        self.visits[:] = np.zeros((), kernel.VISIT)
        if old is None:
            return
        for i, zone in enumerate(self.zones):
            if zone.place in places:
                self.visits[: len(old), i] = old[:, places.index(zone.place)]
