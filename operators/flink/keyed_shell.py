"""Runs a `Stage`: one live object per key, and in Flink's keyed state, as of each checkpoint, what makes it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from operators.flink.stage_shell import NOTHING, StageShell, hold_up_meter, now_ms
from operators.stages.stage import Archiving, Input, KeyLogic, Output, Stage, UnderTerms

HOLD_UP_MS = 1000
"""A tick that comes later than this by more than its due time tells that the task was held up."""
BACKLOG_MS = 2000
"""A task that was held up has a backlog to read first: for this long it hears no silence."""


class _Live:
    __slots__ = ("arrived_ms", "is_silent", "logic")

    def __init__(self, logic: KeyLogic, arrived_ms: int) -> None:
        self.logic = logic
        self.arrived_ms = arrived_ms  # of the last record (or restart), by the shell's clock
        self.is_silent = False  # the logic has been told


class KeyedShell(StageShell[Stage]):
    """Input: (key, ms, value or None, partition, offset). State of a key: snapshot, archive, terms."""

    state_names = ("logic", "archive", "terms")

    def open(self, context: Any) -> None:
        """Get the stage ready, start the clock."""
        self._live: dict[str, _Live] = {}
        self._changed: set[str] = set()
        self._unnamed: dict[str, Sequence[Any]] = {}  # states of keys that the stage does not know now
        self._held_up = hold_up_meter(context)
        self._held_ms = self._held_up()[0]
        self._free_ms = 0  # the clock: time in which the task was free to read, as of the last tick
        self._ticked_ms = now_ms()
        super().open(context)

    def restore(self, parts: Sequence[Any]) -> None:
        """Make the logic of a key again. Settings may name it by the time of its next record: until then its state stays."""
        key = parts[0]
        self._unnamed[key] = parts
        if not self._begin(key).logic.silence_ms:
            del self._live[key]

    def take(self, columns: Sequence[Any]) -> list[Any]:
        """Hand each record to its key's logic."""
        out: list[Output] = []
        live_of, arrived_ms = self._live, self._clock_ms()
        column = iter(columns)
        for key, time_ms, value, partition, offset in zip(column, column, column, column, column, strict=True):
            live = live_of.get(key) or self._begin(key)
            out += live.logic.on_record(Input(value, partition, offset, time_ms))
            live.arrived_ms, live.is_silent = arrived_ms, False
            if live.logic.silence_ms:
                self._changed.add(key)
            else:
                del live_of[key]  # keys that anybody can make up must not pile up here
        return self._flat(out)

    def tick(self, due_ms: int) -> list[Any]:
        """Tell the logic of each key of which nothing has come for long.

        A task that is held up (InfluxDB away, a slow disk) hears nothing either, and that is not the source's silence: only
        the time counts in which it was free to read.
        """
        at_ms = now_ms()
        held_ms, is_held_up = self._held_up()
        lost_ms = max(held_ms - self._held_ms, at_ms - due_ms if at_ms - due_ms > HOLD_UP_MS else 0)
        if is_held_up or lost_ms > HOLD_UP_MS // 2:
            lost_ms += BACKLOG_MS
        self._free_ms += at_ms - self._ticked_ms - lost_ms
        self._ticked_ms, self._held_ms = at_ms, held_ms
        out: list[Output] = []
        for key, live in self._live.items():
            if not live.is_silent and self._free_ms >= live.arrived_ms + live.logic.silence_ms:
                live.is_silent = True
                out += live.logic.on_silence()
                self._changed.add(key)
        return self._flat(out)

    def changed_states(self) -> list[Any]:
        """Return the state of each key that a record or a silence has come to since."""
        states: list[Any] = []
        for key in self._changed:
            logic = self._live[key].logic
            snapshot = logic.snapshot()
            if snapshot is None:
                states += (key, NOTHING, NOTHING, NOTHING)
                continue
            archive = logic.archive() if isinstance(logic, Archiving) else None
            states += (key, snapshot, archive, logic.terms() if isinstance(logic, UnderTerms) else None)
        self._changed.clear()
        return states

    def _begin(self, key: str) -> _Live:
        logic = self._stage.logic(key)
        live = self._live[key] = _Live(logic, self._clock_ms())
        parts = self._unnamed.pop(key, None) if logic.silence_ms else None
        if parts is not None:
            _, snapshot, archive, terms = parts
            if terms is not None and isinstance(logic, UnderTerms):
                logic.restore_terms(terms)
            logic.restore(snapshot)
            if archive is not None and isinstance(logic, Archiving):
                logic.restore_archive(archive)
        return live

    def _clock_ms(self) -> int:
        return self._free_ms + now_ms() - self._ticked_ms
