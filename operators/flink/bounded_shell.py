"""Runs a `Stage` over input that ends: no clock is looked at, and each key hears of silence once, when the input has ended."""

from __future__ import annotations

from typing import Any

from operators.flink.keyed_shell import KeyedShell
from operators.stages.stage import Output


class BoundedShell(KeyedShell):
    """Input as `KeyedShell`."""

    def tick(self, due_ms: int) -> list[Any]:
        """Do nothing."""
        return []

    def finish(self) -> list[Any]:
        """The input has ended."""
        out: list[Output] = []
        for key in sorted(self._live):
            out += self._live[key].logic.on_silence()
        self._changed.update(self._live)
        return self._flat(out)
