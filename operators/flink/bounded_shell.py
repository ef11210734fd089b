"""Runs a `Stage` over input that ends: no clock is looked at, and each key hears of silence once, when the input has ended."""

from __future__ import annotations

from typing import Any

from pyflink.datastream import KeyedProcessFunction

from operators.flink.keyed_shell import KeyedShell
from operators.stages.stage import Input

END_OF_TIME_MS = (1 << 63) - 1
"""The watermark that Flink sends behind the last record of a source that ends, and nowhere else."""


class BoundedShell(KeyedShell):
    """Input: Row(value bytes or null, partition, offset). Output: Row(topic, key, value)."""

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Any:
        """Hand one record to its key's logic."""
        key = ctx.get_current_key()
        live = self._live.get(key) or self._load(key)
        out = live.logic.on_record(Input(value[0], value[1], value[2], ctx.timestamp()))
        if not self._store(live):
            self._live.pop(key, None)  # keys that anybody can make up must not pile up here
        elif not live.timer_ms:
            live.timer_ms = END_OF_TIME_MS
            ctx.timer_service().register_event_time_timer(END_OF_TIME_MS)
        return self._rows(out)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Any:
        """The input has ended."""
        key = ctx.get_current_key()
        live = self._live.pop(key, None) or self._load(key)
        self._live.pop(key, None)
        self._state.clear()
        self._archive.clear()
        return self._rows(live.logic.on_silence())
