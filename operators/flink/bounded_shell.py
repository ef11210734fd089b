"""Runs a `Stage` over input that ends: no clock is looked at, and each key hears of silence once, when the input has ended."""

from __future__ import annotations

from typing import Any

from operators.flink.keyed_shell import KeyedShell
from operators.flink.stage_shell import NOTHING
from operators.stages.stage import Output


class BoundedShell(KeyedShell):
    """Input as `KeyedShell`."""

    def open(self, context: Any) -> None:
        """Get the stage ready."""
        self._ended: list[str] = []  # keys that have heard of the end since states were last asked for
        super().open(context)

    def tick(self, due_ms: int) -> list[Any]:
        """Do nothing."""
        return []

    def finish(self) -> list[Any]:
        """The input has ended. No state stays: a task that is made again once more must not tell of the end again."""
        out: list[Output] = []
        for key in sorted(self._live):
            out += self._live.pop(key).logic.on_silence()
            self._ended.append(key)
        return self._flat(out)

    def changed_states(self) -> list[Any]:
        """Return what has changed, and that nothing is left of the keys that have ended."""
        states = super().changed_states()
        for key in self._ended:
            states += (key, NOTHING, NOTHING, NOTHING)
        self._ended.clear()
        return states
