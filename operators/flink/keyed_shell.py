"""Runs a `Stage` as a Flink keyed process function: one live object per key, its snapshot in keyed state.

Thread mode only needs the snapshot after a restart: the live object is kept, the state is written through with each
record (there is no hook at a checkpoint in Python), and read once per key.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from pyflink.common import Row
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

from operators.stages.stage import Input, KeyLogic, Stage

log = logging.getLogger(__name__)

STATE_NAME = "logic"
TIMER_GRAIN_MS = 1000


class _Live:
    __slots__ = ("arrived_ms", "logic", "timer_ms")

    def __init__(self, logic: KeyLogic, now_ms: int) -> None:
        self.logic = logic
        self.arrived_ms = now_ms  # processing time of the last record; after a restart, the time of that
        self.timer_ms = 0  # the one timer that counts; 0: none


class KeyedShell(KeyedProcessFunction):
    """Input: Row(value bytes or null, partition, offset). Output: Row(topic, key, value)."""

    def __init__(self, stage: Stage, build: str) -> None:
        self._stage = stage
        self._build = build

    def open(self, runtime_context: RuntimeContext) -> None:
        """Get the stage ready and the counters registered."""
        # PICKLED_BYTE_ARRAY holding bytes is the one type of bytes that works as state in both execution modes.
        self._state = runtime_context.get_state(ValueStateDescriptor(STATE_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._live: dict[str, _Live] = {}
        metrics = runtime_context.get_metrics_group()
        self._records = metrics.counter("sightflow_records")
        self._dead_letters = metrics.counter("sightflow_dead_letters")
        self._stage.open()
        log.info("sightflow build %s: %s ready", self._build, type(self._stage).__name__)

    def close(self) -> None:
        """Let the stage release what it holds."""
        close = getattr(self._stage, "close", None)
        if close is not None:
            close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Any:
        """Hand one record to its key's logic."""
        key = ctx.get_current_key()
        live = self._live.get(key) or self._load(key)
        logic = live.logic
        out = logic.on_record(Input(value[0], value[1], value[2], ctx.timestamp()))
        snapshot = logic.snapshot()
        if snapshot is None:
            if not logic.silence_ms:
                self._live.pop(key, None)  # keys that anybody can make up must not pile up here
        else:
            self._state.update(snapshot)
        if logic.silence_ms:
            live.arrived_ms = int(time.time() * 1000)
            if not live.timer_ms:
                self._set_timer(live, ctx)
        self._records.inc()
        return [Row(*o) for o in out]

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Any:
        """Tell the logic of silence, or look again later. Timers older than the live one are left from a restart."""
        key = ctx.get_current_key()
        live = self._live.get(key) or self._load(key)
        if live.timer_ms and timestamp < live.timer_ms:
            return []
        live.timer_ms = 0
        if not live.logic.silence_ms:
            return []
        if time.time() * 1000 < live.arrived_ms + live.logic.silence_ms:
            self._set_timer(live, ctx)
            return []
        out = live.logic.on_silence()
        snapshot = live.logic.snapshot()
        if snapshot is not None:
            self._state.update(snapshot)
        return [Row(*o) for o in out]

    def _load(self, key: str) -> _Live:
        logic = self._stage.logic(key)
        live = self._live[key] = _Live(logic, int(time.time() * 1000))
        data = self._state.value()
        if data is not None:
            logic.restore(data)
        return live

    def _set_timer(self, live: _Live, ctx: Any) -> None:
        at_ms = live.arrived_ms + live.logic.silence_ms
        live.timer_ms = at_ms + TIMER_GRAIN_MS - at_ms % TIMER_GRAIN_MS  # coarse, so that keys share timer ticks
        ctx.timer_service().register_processing_time_timer(live.timer_ms)
