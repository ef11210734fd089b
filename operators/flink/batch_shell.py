"""Runs a `BatchStage`. Its keys are shards: few, so that a batch holds many cameras.

What a shard holds when a checkpoint is taken goes into its state, and is written after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from operators.flink.stage_shell import NOTHING, StageShell
from operators.stages.stage import BatchStage, Input, Output

_pieces = msgspec.msgpack.Decoder(list[bytes])


class BatchShell(StageShell[BatchStage]):
    """Input: (shard, ms, value or None, partition, offset, record key). State of a shard: the pieces it holds."""

    state_names = ("held",)
    max_count = 256
    max_wait_ms = 100

    def __init__(self, stage: BatchStage, build: str) -> None:
        super().__init__(stage, build)
        self.tick_ms = stage.max_wait_ms

    def open(self, context: Any) -> None:
        """Get the stage ready."""
        self._held: dict[str, list[bytes]] = {}
        self._stored: set[str] = set()  # shards whose state is not empty
        self._byte_count = 0
        super().open(context)

    def restore(self, parts: Sequence[Any]) -> None:
        """Hold what was held at the checkpoint."""
        shard, held = parts
        pieces = self._held[shard] = _pieces.decode(held)
        self._stored.add(shard)
        self._byte_count += sum(map(len, pieces))

    def take(self, columns: Sequence[Any]) -> list[Any]:
        """Hold records; write when there is enough."""
        out: list[Output] = []
        column = iter(columns)
        records = zip(column, column, column, column, column, column, strict=True)
        for shard, time_ms, value, partition, offset, key in records:
            piece, brought = self._stage.take(key, Input(value, partition, offset, time_ms))
            out += brought
            if piece is not None:
                self._held.setdefault(shard, []).append(piece)
                self._byte_count += len(piece)
                if self._byte_count >= self._stage.max_bytes:
                    out += self._write()
        return self._flat(out)

    def tick(self, due_ms: int) -> list[Any]:
        """Write what all shards hold: it has waited long enough."""
        return self._flat(self._write())

    def finish(self) -> list[Any]:
        """Write what is left."""
        return self._flat(self._write())

    def changed_states(self) -> list[Any]:
        """Return what the shards hold now."""
        states: list[Any] = []
        for shard in self._stored | self._held.keys():
            pieces = self._held.get(shard)
            states += (shard, msgspec.msgpack.encode(pieces) if pieces else NOTHING)
        self._stored = set(self._held)
        return states

    def _write(self) -> list[Output]:
        if not self._held:
            return []
        brought = self._stage.write([piece for pieces in self._held.values() for piece in pieces])
        self._held.clear()
        self._byte_count = 0
        return [output for i in sorted(brought) for output in brought[i]]
