"""Runs a `Stage` as a Flink keyed process function: one live object per key, and in keyed state what makes it again.

Python has no hook at a checkpoint, so with each record the state must be made whole; it is read once per key, after a
restart. Logic that is `Repeatable` has its records stored, in a log that a snapshot every so often makes empty: a restart
takes up the snapshot and repeats the log. Other logic has a snapshot stored with each record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

from operators.flink import record_log
from operators.flink.stage_shell import StageShell
from operators.stages.stage import Archiving, Input, KeyLogic, Repeatable, Stage

STATE_NAME = "logic"
ARCHIVE_NAME = "archive"
TERMS_NAME = "terms"
LOG_NAME = "log"
MAX_LOG_COUNT = 32
MAX_LOG_BYTES = 16 << 10
"""What the log of a key holds at most: a restart repeats 32 frames of each camera, and its state is 16 KiB larger."""
TIMER_GRAIN_MS = 1000
HOLD_UP_MS = 1000
"""A task that was held up for longer than this since it last looked has a backlog to read first."""
BACKLOG_MS = 2000


class _Live:
    __slots__ = ("archive", "arrived_ms", "held_ms", "log_bytes", "log_count", "logic", "repeatable", "timer_ms")

    def __init__(self, logic: KeyLogic, now_ms: int) -> None:
        self.logic = logic
        self.archive = logic.archive if isinstance(logic, Archiving) else None
        self.repeatable = logic if isinstance(logic, Repeatable) else None
        self.log_count, self.log_bytes = MAX_LOG_COUNT, 0  # full: a log follows upon a snapshot
        self.arrived_ms = now_ms  # processing time of the last record (or restart), hold-ups added
        self.timer_ms = 0  # the one timer that counts; 0: none
        self.held_ms = 0  # how long the task had been held up in all, when the timer was set


class KeyedShell(StageShell[Stage]):
    """Input: Row(value bytes or null, partition, offset). Output: Row(topic, key, value)."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Get the stage ready and the counters registered."""
        # PICKLED_BYTE_ARRAY holding bytes is the one type of bytes that works as state in both execution modes.
        self._state = runtime_context.get_state(ValueStateDescriptor(STATE_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._archive = runtime_context.get_state(ValueStateDescriptor(ARCHIVE_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._terms = runtime_context.get_state(ValueStateDescriptor(TERMS_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._log = runtime_context.get_list_state(ListStateDescriptor(LOG_NAME, Types.PICKLED_BYTE_ARRAY()))
        self._live: dict[str, _Live] = {}
        self._held_up = _hold_up_meter(runtime_context)
        self._begin(runtime_context)

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
        record = Input(value[0], value[1], value[2], ctx.timestamp())
        out = logic.on_record(record)
        if not self._note(live, record) and not self._store(live) and not logic.silence_ms:
            self._live.pop(key, None)  # keys that anybody can make up must not pile up here
        if logic.silence_ms:
            live.arrived_ms = int(time.time() * 1000)
            if not live.timer_ms:
                self._set_timer(live, ctx)
        return self._rows(out)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Any:
        """Tell the logic of silence, or look again later. Timers older than the live one are left from a restart.

        A task that is held up (InfluxDB away, a slow disk) hears nothing either, and that is not the source's silence:
        only the time counts in which it was free to read.
        """
        key = ctx.get_current_key()
        live = self._live.get(key) or self._load(key)
        if live.timer_ms and timestamp < live.timer_ms:
            return []
        live.timer_ms = 0
        if not live.logic.silence_ms:
            self._live.pop(key, None)  # settings may name it by the time of its next record
            return []
        now_ms = int(time.time() * 1000)
        total_ms, held_up_now = self._held_up()
        held_ms = max(total_ms - live.held_ms, now_ms - timestamp if now_ms - timestamp > HOLD_UP_MS else 0)
        if held_up_now or held_ms > HOLD_UP_MS:
            held_ms += BACKLOG_MS
        live.arrived_ms = min(live.arrived_ms + held_ms, now_ms)
        if now_ms < live.arrived_ms + live.logic.silence_ms:
            self._set_timer(live, ctx)
            return []
        out = live.logic.on_silence()
        self._store(live)
        return self._rows(out)

    def _note(self, live: _Live, record: Input) -> bool:
        """Write a record to the log; return False where a snapshot must be stored instead."""
        if live.repeatable is None or live.repeatable.must_store or live.log_count >= MAX_LOG_COUNT:
            return False
        entry = record_log.pack(record)
        live.log_bytes += len(entry)
        if live.log_bytes > MAX_LOG_BYTES:
            return False
        live.log_count += 1
        self._log.add(entry)
        return True

    def _store(self, live: _Live) -> bool:
        """Write the state of the key that is worked on; return False where it has none."""
        snapshot = live.logic.snapshot()
        if snapshot is None:
            return False
        self._state.update(snapshot)
        if live.archive is not None and (archive := live.archive()) is not None:
            self._archive.update(archive)
        if live.repeatable is not None:
            if (terms := live.repeatable.terms()) is not None:
                self._terms.update(terms)
            self._log.clear()
            live.log_count = live.log_bytes = 0
            live.repeatable.must_store = False
        return True

    def _load(self, key: str) -> _Live:
        logic = self._stage.logic(key)
        live = self._live[key] = _Live(logic, int(time.time() * 1000))
        data = self._state.value()
        if data is not None:
            terms = self._terms.value()
            if terms is not None and isinstance(logic, Repeatable):
                logic.restore_terms(terms)
            logic.restore(data)
            archive = self._archive.value()
            if archive is not None and isinstance(logic, Archiving):
                logic.restore_archive(archive)
            if isinstance(logic, Repeatable):
                logic.repeat([record_log.unpack(entry) for entry in self._log.get() or ()])
        return live

    def _set_timer(self, live: _Live, ctx: Any) -> None:
        at_ms = live.arrived_ms + live.logic.silence_ms
        live.timer_ms = at_ms + TIMER_GRAIN_MS - at_ms % TIMER_GRAIN_MS  # coarse, so that keys share timer ticks
        live.held_ms = self._held_up()[0]
        ctx.timer_service().register_processing_time_timer(live.timer_ms)


def _hold_up_meter(runtime_context: Any) -> Callable[[], tuple[int, bool]]:
    """Return a meter of back-pressure on this task: ms in all, and whether it is held up now.

    Flink fires processing-time timers on a task that back-pressure keeps from its input, so their being on time tells
    nothing. The JVM's own figures do, and Python reaches them in thread mode only; otherwise the meter says 0.
    """
    context = getattr(runtime_context, "_runtime_context", None)
    if context is None:
        return lambda: (0, False)
    figures = context.getMetricGroup().getTaskIOMetricGroup()
    soft = figures.getSoftBackPressuredTimePerSecond()
    return lambda: (figures.getAccumulatedBackPressuredTimeMs(), soft.isMeasuring())
