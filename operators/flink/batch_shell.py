"""Runs a `BatchStage` as a Flink keyed process function. Its keys are shards: few, so that a batch holds many cameras.

What a shard holds lies in keyed list state (adding to it is one write, however much is held) until it is written.
"""

from __future__ import annotations

import time
from typing import Any

from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor

from operators.flink.stage_shell import StageShell
from operators.stages.stage import BatchStage, Input, Output

STATE_NAME = "held"


class _Held:
    __slots__ = ("is_stored", "out", "pieces")

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces  # not written yet
        self.is_stored = bool(pieces)  # the state holds some: also what was written together with another shard's
        self.out: list[Output] = []  # what writing brought; sent when the state is cleared, so that no crash doubles it


class BatchShell(StageShell[BatchStage]):
    """Input: Row(value bytes or null, partition, offset, record key). Output: Row(topic, key, value)."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Get the stage ready."""
        self._state = runtime_context.get_list_state(ListStateDescriptor(STATE_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._held: dict[str, _Held] = {}
        self._byte_count = 0
        self._begin(runtime_context)

    def close(self) -> None:
        """Let the stage release what it holds."""
        self._stage.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Any:
        """Hold one record; write when there is enough."""
        held = self._of(ctx.get_current_key())
        piece, out = self._stage.take(value[3], Input(value[0], value[1], value[2], ctx.timestamp()))
        if piece is not None:
            if not held.is_stored:
                ctx.timer_service().register_processing_time_timer(self._next_tick_ms())
            self._state.add(piece)
            held.pieces.append(piece)
            held.is_stored = True
            self._byte_count += len(piece)
            if self._byte_count >= self._stage.max_bytes:
                self._write_all()
                out = out + self._clear(held)
        return self._rows(out)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Any:
        """Write what all shards hold: it has waited long enough. After a restart, that is what the last checkpoint held.

        The shards' timers are due at the same ticks: the first one writes, the others find everything written. Flink lets
        each clear its own state only; what a crash leaves there is written once more.
        """
        held = self._of(ctx.get_current_key())
        if held.pieces:
            self._write_all()
        return self._rows(self._clear(held))

    def _of(self, shard: str) -> _Held:
        held = self._held.get(shard)
        if held is None:
            held = self._held[shard] = _Held(list(self._state.get() or ()))
            self._byte_count += sum(map(len, held.pieces))
        return held

    def _next_tick_ms(self) -> int:
        wait_ms = self._stage.max_wait_ms
        return (int(time.time() * 1000) // wait_ms + 1) * wait_ms

    def _write_all(self) -> None:
        shards = [held for held in self._held.values() for _ in held.pieces]
        brought = self._stage.write([piece for held in self._held.values() for piece in held.pieces])
        for i, out in brought.items():
            shards[i].out += out
        for held in self._held.values():
            held.pieces = []
        self._byte_count = 0

    def _clear(self, held: _Held) -> list[Output]:
        if held.is_stored:
            self._state.clear()
            held.is_stored = False
        out, held.out = held.out, []
        return out
