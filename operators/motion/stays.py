"""How long each object has been in each zone, over the visits that have ended."""

from __future__ import annotations

from collections.abc import Sequence

_PER_SLOT = 256  # more than zones of a camera


class Stays:
    """Milliseconds by slot and zone. Empty for most objects most of the time: a visit counts when it has ended."""

    def __init__(self, zone_count: int) -> None:
        self._zone_count = zone_count
        self._ms: dict[int, int] = {}  # slot · 256 + zone → ms

    def add(self, slot: int, zone: int, ms: int) -> None:
        """Count an ended visit."""
        key = _PER_SLOT * slot + zone
        self._ms[key] = self._ms.get(key, 0) + ms

    def take(self, slot: int) -> dict[int, float]:
        """Return seconds by zone, and forget them: the object is gone."""
        ms, first = self._ms, _PER_SLOT * slot
        return {zone: ms.pop(first + zone) * 1e-3 for zone in range(self._zone_count) if first + zone in ms}

    def snapshot(self) -> dict[int, int]:
        """Return everything, to be encoded at once."""
        return dict(sorted(self._ms.items()))

    def restore(self, old: dict[int, int], old_zones: Sequence[str], zones: Sequence[str]) -> None:
        """Take up a snapshot made for `old_zones`; those that are gone are forgotten."""
        now = [zones.index(name) if name in zones else -1 for name in old_zones]
        kept = ((key // _PER_SLOT, now[key % _PER_SLOT], ms) for key, ms in old.items())
        self._ms = {_PER_SLOT * slot + zone: ms for slot, zone, ms in kept if zone >= 0}
