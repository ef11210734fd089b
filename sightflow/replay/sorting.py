"""Lines in order, however many: sorted in memory as far as it is meant to go, on disk beyond."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MAX_HELD_BYTES = 32 << 20
MAX_RUNS = 64
_OVERHEAD_BYTES = 800  # of a line and its key in memory, beside the text itself
_CHUNK = 1 << 16


class SortedLines:
    """Takes lines in any order; gives them back by key, equal keys by the lines' bytes.

    Args:
        key_of: returns what a line is sorted by.
        folder: an empty one, for what does not fit into memory.
        max_held_bytes: how much is held before it goes there.
    """

    def __init__(self, key_of: Callable[[bytes], Any], folder: Path, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._key_of, self._folder, self._max = key_of, folder, max_held_bytes
        self._held: list[tuple[Any, bytes]] = []
        self._held_bytes = 0
        self._runs: list[Path] = []
        self._numbers = itertools.count()

    def add(self, line: bytes) -> None:
        """Take a line, without its end."""
        self._held.append((self._key_of(line), line))
        self._held_bytes += len(line) + _OVERHEAD_BYTES
        if self._held_bytes >= self._max:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        """Yield every line in order; none is to be added after that."""
        self._held.sort()
        parts: list[Iterator[tuple[Any, bytes]]] = [self._read(run) for run in self._runs]
        return (line for _, line in heapq.merge(*parts, iter(self._held)))

    def _spill(self) -> None:
        self._held.sort()
        self._runs.append(self._write(iter(self._held)))
        self._held, self._held_bytes = [], 0
        if len(self._runs) >= MAX_RUNS:
            old = self._runs
            self._runs = [self._write(heapq.merge(*map(self._read, old)))]
            for run in old:
                run.unlink()

    def _write(self, lines: Iterator[tuple[Any, bytes]]) -> Path:
        path = self._folder / f"run-{next(self._numbers)}"
        with path.open("wb", _CHUNK) as file:
            file.writelines(line + b"\n" for _, line in lines)
        return path

    def _read(self, path: Path) -> Iterator[tuple[Any, bytes]]:
        with path.open("rb", _CHUNK) as file:
            for text in file:
                line = text[:-1]
                yield self._key_of(line), line
