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

MAX_DWELL_RULES = 64


class Visit(NamedTuple):
    """Something that happened to a visit. `kind`: ENTER, EXIT or REACHED (dwell threshold `rule`)."""

    kind: int
    slot: int
    zone: int
    rule: int
    ordinal: int
    born_us: int
    enter_us: int
    at_us: int
    label: int
    born_inside: int


class Zones:
    """Visits of all objects of one camera to its zones.

    `dwell_rules` are (zone index, seconds): a REACHED record comes once per visit that lasts that long.
    """

    ENTER, EXIT, REACHED = kernel.ENTER, kernel.EXIT, kernel.REACHED

    def __init__(self, zones: Sequence[Zone], dwell_rules: Sequence[tuple[int, float]], capacity: int) -> None:
        if len(dwell_rules) > MAX_DWELL_RULES:
            raise ValueError(f"expected at most {MAX_DWELL_RULES} dwell rules per camera, got {len(dwell_rules)}")
        self.zones = tuple(zones)
        self.visits: npt.NDArray[Any] = np.zeros((capacity, len(zones)), kernel.VISIT)
        self.inside_count = np.zeros(len(zones), np.int64)
        self.points, self.starts = pack_lines([z.polygon for z in zones])
        self.anchors = np.array([anchor_weights(z.anchor) for z in zones], np.float64).reshape(-1, 2)
        self.on_ground = np.array([z.plane == "ground" for z in zones], np.bool_)
        self.bands = np.array([z.band_m if z.plane == "ground" else z.band_ratio for z in zones], np.float64)
        self.gap_us = np.array([round(z.gap_s * 1e6) for z in zones], np.int64)
        self.min_inside_us = np.array([round(z.min_inside_s * 1e6) for z in zones], np.int64)
        self.rule_zone = np.array([zone for zone, _ in dwell_rules], np.int64)
        self.rule_us = np.array([round(seconds * 1e6) for _, seconds in dwell_rules], np.int64)
        self.wanted = np.zeros((len(zones), 256), np.bool_)
        self._out = np.zeros(0, kernel.RECORD)

    def set_labels(self, labels: Sequence[str]) -> None:
        """Say what the label indices of tracks mean; call again when labels are added."""
        for i, zone in enumerate(self.zones):
            self.wanted[i, : len(labels)] = class_mask(zone.classes, labels)

    def room(self, slots: int) -> int:
        """Return how many records one step can make: per object and zone an enter and an exit, per dwell rule one."""
        return slots * (2 * len(self.zones) + len(self.rule_us))

    def step(self, tracks: npt.NDArray[Any], slots: int, now_us: int, aspect: float = 1.0) -> list[Visit]:
        """Take the tracks after their step; return what happened, by slot, then zone. `aspect`: frame width / height."""
        if not self.zones or not slots:
            self.inside_count[:] = 0
            return []
        room = self.room(slots)
        if room > len(self._out):
            self._out = np.zeros(2 * room, kernel.RECORD)
        n = kernel.step(
            tracks, slots, self.visits, self.points, self.starts, self.anchors, self.on_ground, self.bands, self.gap_us,
            self.min_inside_us, self.wanted, self.rule_zone, self.rule_us, aspect, now_us, self.inside_count, self._out,
        )  # fmt: skip
        return [Visit(*r) for r in self._out[:n].tolist()] if n else []

    def snapshot(self, slots: int) -> bytes:
        """Return the live rows."""
        return self.visits[:slots].tobytes()

    def present(self, zone: int, slots: int) -> list[int]:
        """Return the slots of those counted in `inside_count` of the last step."""
        v = self.visits[:slots, zone]
        return np.flatnonzero((v["inside"] == 1) & (v["open"] == 2)).tolist()  # type: ignore[no-any-return]

    def end(self, zones: Sequence[int], tracks: npt.NDArray[Any], slots: int) -> list[Visit]:
        """End the visits to these zones, each at its last moment inside; return the exits of those that were reported."""
        exits = []
        for slot, zone in itertools.product(range(slots), zones):
            v, t = self.visits[slot, zone], tracks[slot]
            if t["status"] and v["open"] == 2:
                times = int(t["born_us"]), int(v["enter_us"]), int(v["inside_us"])
                label, born_inside = int(v["label"]), int(v["born_inside"])
                exits.append(Visit(self.EXIT, slot, zone, -1, int(t["ordinal"]), *times, label, born_inside))
            v["open"] = 0
        return exits

    def restore(self, rows: bytes, places: Sequence[str], rule_of: Sequence[int] | None = None) -> None:
        """Take up live rows written for zones of these `Zone.place`; visits to others are forgotten, new zones start empty.

        `rule_of` gives today's index of each dwell rule that they were written for, −1 for one that is gone.
        """
        old = np.frombuffer(rows, kernel.VISIT).reshape(-1, len(places)) if places else None
        self.visits[:] = np.zeros((), kernel.VISIT)
        if old is None:
            return
        for i, zone in enumerate(self.zones):
            if zone.place in places:
                self.visits[: len(old), i] = old[:, places.index(zone.place)]
        if rule_of is not None and list(rule_of) != list(range(len(self.rule_us))):
            reached = self.visits["reached"].copy()
            self.visits["reached"] = 0
            for before, now in enumerate(rule_of):
                if now >= 0:
                    bit = (reached >> np.uint64(before)) & np.uint64(1)
                    self.visits["reached"] |= bit << np.uint64(now)
