"""Runs a `Stage`: one live object per key, and in Flink's keyed state, as of each checkpoint, what makes it again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from operators.flink.stage_shell import UNCHANGED, StageShell, hold_up_meter
from operators.stages.stage import Archiving, Input, KeyLogic, Output, Stage, UnderTerms

HOLD_UP_MS = 1000
"""A tick that comes later than this tells that the whole process was held up, which no figure of back-pressure shows."""
BACKLOG_MS = 2000
"""A task that was held up has a backlog to read first: it takes as long as the hold-up did, at most this long."""

_HEARD = -1
_TOLD = 1 << 62
"""Instead of the time since when nothing has come: something has since the last tick; the logic has been told of silence."""


class _Live:
    __slots__ = ("is_changed", "logic", "since_ms")

    def __init__(self, logic: KeyLogic) -> None:
        self.logic = logic
        self.is_changed = False  # since its state was last asked for
        self.since_ms = _HEARD  # by the shell's clock


class KeyedShell(StageShell[Stage]):
    """Input: (key, ms, value or None, partition, offset). State of a key: snapshot, archive, terms."""

    state_names = ("logic", "archive", "terms")

    def open(self, context: Any) -> None:
        """Get the stage ready, start the clock."""
        self._live: dict[str, _Live] = {}
        self._unnamed: dict[str, Sequence[Any]] = {}  # states of keys that the stage does not know now
        self._held_up = hold_up_meter(context)
        super().open(context)
        self._clock_ms = 0  # time in which the task was free to read, as of the last tick
        self._backlog_ms = 0  # free time that is still to go into the backlog
        self._late_ms = 0  # what ticks have been late since the clock went on
        self._held_ms, self._went_on_ms = self._held_up()[0], uptime_ms()

    def restore(self, parts: Sequence[Any]) -> None:
        """Make the logic of a key again. Settings may name it by the time of its next record: until then its state stays."""
        self._unnamed[parts[0]] = parts
        self._begin(parts[0])

    def take(self, columns: Sequence[Any]) -> list[Any]:
        """Hand each record to its key's logic."""
        out: list[Output] = []
        live_of = self._live
        column = iter(columns)
        for key, time_ms, value, partition, offset in zip(column, column, column, column, column, strict=True):
            live = live_of.get(key) or self._begin(key)
            out += live.logic.on_record(Input(value, partition, offset, time_ms))
            live.is_changed, live.since_ms = True, _HEARD
        return self._flat(out)

    def tick(self, due_ms: int) -> list[Any]:
        """Tell the logic of each key of which nothing has come for long.

        A task that is held up (InfluxDB away, a slow disk) hears nothing either, and that is not the source's silence: only
        the time counts in which it was free to read.
        """
        late_ms = now_ms() - due_ms
        if late_ms > HOLD_UP_MS:
            self._late_ms += late_ms
        held_ms, is_held_up = self._held_up()
        if is_held_up:
            return []  # for how long is known when it has ended
        self._go_on(held_ms)
        out: list[Output] = []
        clock_ms = self._clock_ms
        for live in self._live.values():
            if live.since_ms == _HEARD:
                live.since_ms = clock_ms
            elif 0 < live.logic.silence_ms <= clock_ms - live.since_ms:
                live.since_ms = _TOLD
                out += live.logic.on_silence()
                live.is_changed = True
        return self._flat(out)

    def changed_states(self) -> list[Any]:
        """Return the state of each key that a record or a silence has come to since."""
        states: list[Any] = []
        for key, live in self._live.items():
            if live.is_changed:
                live.is_changed = False
                logic = live.logic
                states += (key, logic.snapshot())
                states.append(logic.archive() if isinstance(logic, Archiving) else UNCHANGED)
                states.append(logic.terms() if isinstance(logic, UnderTerms) else UNCHANGED)
        return states

    def _begin(self, key: str) -> _Live:
        logic = self._stage.logic(key)
        live = _Live(logic)
        if logic.snapshot() is None:
            return live  # keys that anybody can make up must not pile up here
        self._live[key] = live
        parts = self._unnamed.pop(key, None)
        if parts is not None:
            _, snapshot, archive, terms = parts
            if terms is not None and isinstance(logic, UnderTerms):
                logic.restore_terms(terms)
            logic.restore(snapshot)
            if archive is not None and isinstance(logic, Archiving):
                logic.restore_archive(archive)
        return live

    def _go_on(self, held_ms: int) -> None:
        """Have the clock go on by the time in which the task was free; what it needs for its backlog is not free."""
        at_ms = uptime_ms()
        lost_ms = max(held_ms - self._held_ms, self._late_ms)
        free_ms = max(at_ms - self._went_on_ms - lost_ms, 0)
        self._backlog_ms = min(self._backlog_ms + lost_ms, BACKLOG_MS)
        read_ms = min(self._backlog_ms, free_ms)
        self._backlog_ms -= read_ms
        self._clock_ms += free_ms - read_ms
        self._held_ms, self._went_on_ms, self._late_ms = held_ms, at_ms, 0


def now_ms() -> int:
    """Return processing time, by which ticks are due; it can be set back."""
    return time.time_ns() // 1_000_000


def uptime_ms() -> int:
    """Return a time that only goes on."""
    return time.monotonic_ns() // 1_000_000
