"""How long each object has been in each zone, over the visits that have ended."""

from __future__ import annotations

from collections.abc import Sequence


class Stays:
    """Milliseconds by slot and zone. Empty for most objects most of the time: a visit counts when it has ended."""

    def __init__(self) -> None:
        self._ms: dict[int, dict[int, int]] = {}

    def add(self, slot: int, zone: int, ms: int) -> None:
        """Count an ended visit."""
        zones = self._ms.setdefault(slot, {})
        zones[zone] = zones.get(zone, 0) + ms

    def take(self, slot: int) -> dict[int, float]:
        """Return seconds by zone, and forget them: the object is gone."""
        return {zone: ms * 1e-3 for zone, ms in sorted(self._ms.pop(slot, {}).items())}

    def snapshot(self) -> dict[int, dict[int, int]]:
        """Return everything."""
        return {slot: dict(sorted(zones.items())) for slot, zones in sorted(self._ms.items())}

    def restore(self, old: dict[int, dict[int, int]], old_zones: Sequence[str], zones: Sequence[str]) -> None:
        """Take up a snapshot made for `old_zones`; those that are gone are forgotten."""
        now = [zones.index(name) if name in zones else -1 for name in old_zones]
        self._ms = {}
        for slot, times in old.items():
            kept = {now[zone]: ms for zone, ms in times.items() if now[zone] >= 0}
            if kept:
                self._ms[slot] = kept
