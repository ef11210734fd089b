"""Who went from which zone to which: of each track, the visit before the one that begins."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

STILL_THERE = -1


class Flows:
    """The last begun visit of each live track, as (zone index, µs at which it ended or STILL_THERE)."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}

    def begin(self, ordinal: int, zone: int) -> tuple[int, int] | None:
        """Note that a visit has begun; return the one before it: zone, and µs at which it ended or STILL_THERE. None: the first."""
        before = self._last.get(ordinal)
        self._last[ordinal] = zone, STILL_THERE
        return before

    def end(self, ordinal: int, zone: int, exit_us: int) -> None:
        """Note that a visit has ended."""
        if self._last.get(ordinal) == (zone, STILL_THERE):
            self._last[ordinal] = zone, exit_us

    def forget(self, ordinal: int) -> None:
        """Note that a track has ended."""
        self._last.pop(ordinal, None)

    def snapshot(self) -> bytes:
        """Return the state as MessagePack."""
        return msgspec.msgpack.encode(self._last)

    def restore(self, data: bytes, zone_of: Sequence[int]) -> None:
        """Take up a snapshot. `zone_of` gives today's index of each zone of then, −1 for one that is gone."""
        last = msgspec.msgpack.decode(data, type=dict[int, tuple[int, int]])
        self._last = {ordinal: (zone_of[z], at) for ordinal, (z, at) in last.items() if zone_of[z] >= 0}
