"""Runs a `BatchStage` as a Flink keyed process function. Its keys are shards: few, so that a batch holds many cameras.

What a shard holds lies in keyed list state (adding to it is one write, however much is held) until it is written.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from pyflink.common import Row
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor

from operators.flink.keyed_shell import PYTHON_SWITCH_S
from operators.stages.stage import BatchStage, Input, Output

log = logging.getLogger(__name__)

STATE_NAME = "held"


class _Held:
    __slots__ = ("pieces", "stored")

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces  # not written yet
        self.stored = len(pieces)  # in the state: also what was written together with another shard's


class BatchShell(KeyedProcessFunction):
    """Input: Row(value bytes or null, partition, offset, record key). Output: Row(topic, key, value)."""

    def __init__(self, stage: BatchStage, build: str) -> None:
        self._stage = stage
        self._build = build

    def open(self, runtime_context: RuntimeContext) -> None:
        """Get the stage ready."""
        self._state = runtime_context.get_list_state(ListStateDescriptor(STATE_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._held: dict[str, _Held] = {}
        self._byte_count = 0
        sys.setswitchinterval(PYTHON_SWITCH_S)
        self._stage.open()
        log.info("sightflow build %s: %s ready", self._build, type(self._stage).__name__)

    def close(self) -> None:
        """Let the stage release what it holds."""
        self._stage.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Any:
        """Hold one record; write when there is enough."""
        held = self._of(ctx.get_current_key())
        piece, out = self._stage.take(value[3], Input(value[0], value[1], value[2], ctx.timestamp()))
        if piece is not None:
            if not held.stored:
                ctx.timer_service().register_processing_time_timer(self._next_tick_ms())
            self._state.add(piece)
            held.pieces.append(piece)
            held.stored += 1
            self._byte_count += len(piece)
            if self._byte_count >= self._stage.max_bytes:
                out = out + self._write_all()
                self._clear(held)
        return [Row(*o) for o in out]

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Any:
        """Write what all shards hold: it has waited long enough. After a restart, that is what the last checkpoint held.

        The shards' timers are due at the same ticks: the first one writes, the others find everything written. Flink lets
        each clear its own state only; what a crash leaves there is written once more.
        """
        held = self._of(ctx.get_current_key())
        out = self._write_all() if held.pieces else []
        self._clear(held)
        return [Row(*o) for o in out]

    def _of(self, shard: str) -> _Held:
        held = self._held.get(shard)
        if held is None:
            held = self._held[shard] = _Held(list(self._state.get() or ()))
            self._byte_count += sum(map(len, held.pieces))
        return held

    def _next_tick_ms(self) -> int:
        wait_ms = self._stage.max_wait_ms
        return (int(time.time() * 1000) // wait_ms + 1) * wait_ms

    def _write_all(self) -> list[Output]:
        out = self._stage.write([piece for held in self._held.values() for piece in held.pieces])
        for held in self._held.values():
            held.pieces = []
        self._byte_count = 0
        return out

    def _clear(self, held: _Held) -> None:
        if held.stored:
            self._state.clear()
            held.stored = 0
