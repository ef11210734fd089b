"""MOTChallenge text: `frame,id,left,top,width,height,score[,…]`, pixels, frames from 1; the id is not looked at.

The file is read twice: once to see whether its frames are in order, how many rows and frames it has, and whether each row
can be read; then frame by frame. Only a file out of order is held in memory, 60 bytes a row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.wire import DetectionFrame
from sightflow.track.source import BadInput, Rows, Tally, View, empty_message, filled, lines, opened, to_message

MAX_LINE_BYTES = 4096
MAX_UNSORTED_ROWS = 10_000_000
_COLUMNS = "frame,id,left,top,width,height,score"
_MAX_FRAME = 1 << 40


@dataclass(frozen=True)
class Extent:
    """What a first look tells."""

    row_count: int
    frame_count: int  # number of the last frame
    in_order: bool


def measure(path: Path) -> Extent:
    """Look through a file.

    Raises:
        BadInput: a row is not of this format; file, line, expected and got are named.
    """
    rows = last = before = 0
    in_order = True
    with opened(path) as file:
        for number, line in lines(file, path, MAX_LINE_BYTES):
            frame = _frame(path, number, line)
            rows += 1
            in_order = in_order and frame >= before
            before = frame
            last = max(last, frame)
    return Extent(rows, last, in_order)


def read(path: Path, extent: Extent, view: View, label: str, tally: Tally) -> Iterator[DetectionFrame]:
    """Yield every frame from 1 to the last one in the file, empty ones too.

    Args:
        extent: of `measure`.
        label: class of all boxes.
        tally: counts what is refused.
    """
    frames = _in_order(path) if extent.in_order else _sorted(path, extent)
    last = 0
    for number, rows in frames:
        for missing in filled(path, number, last, f"line {rows.places[0]}"):
            yield empty_message(missing, view.capture_us(missing), view)
        yield to_message(number, view.capture_us(number), rows, (label,), view, tally)
        last = number


def _in_order(path: Path) -> Iterator[tuple[int, Rows]]:
    values, places = array("d"), array("q")
    current = 0
    with opened(path) as file:
        for number, line in lines(file, path, MAX_LINE_BYTES):
            frame = _frame(path, number, line)
            if frame != current and places:
                yield current, _rows(values, places)
                values, places = array("d"), array("q")
            current = frame
            values.extend(_numbers(path, number, line))
            places.append(number)
    if places:
        yield current, _rows(values, places)


def _sorted(path: Path, extent: Extent) -> Iterator[tuple[int, Rows]]:
    if extent.row_count > MAX_UNSORTED_ROWS:
        raise BadInput(
            path, "", f"rows in order of frames, or at most {MAX_UNSORTED_ROWS:,}", f"{extent.row_count:,} out of order",
            "sort it first: sort -s -t, -k1,1n",
        )  # fmt: skip
    values, places, frames = array("d"), array("q"), array("q")
    with opened(path) as file:
        for number, line in lines(file, path, MAX_LINE_BYTES):
            frames.append(_frame(path, number, line))
            values.extend(_numbers(path, number, line))
            places.append(number)
    numbers = np.frombuffer(frames, np.int64)
    order = np.argsort(numbers, kind="stable")
    table, where = np.frombuffer(values, np.float64).reshape(-1, 5)[order], np.frombuffer(places, np.int64)[order]
    firsts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for i, begin in enumerate(firsts):
        end = firsts[i + 1] if i + 1 < len(firsts) else len(order)
        yield int(numbers[order[begin]]), _split(table[begin:end], where[begin:end])


def _rows(values: array[float], places: array[int]) -> Rows:
    return _split(np.frombuffer(values, np.float64).reshape(-1, 5), np.frombuffer(places, np.int64))


def _split(
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]], places: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Rows:
    return Rows(table[:, :4], table[:, 4], np.zeros(len(places), np.uint8), places)


def _frame(path: Path, number: int, line: bytes) -> int:
    word = line.partition(b",")[0]
    try:
        frame = int(word)
    except ValueError:
        frame = _whole(word)
    if not 1 <= frame <= _MAX_FRAME:
        raise BadInput(
            path, f"line {number}", f"{_COLUMNS} with a frame number from 1", _shown(line),
            "MOTChallenge numbers frames from 1; is it this format (--format)?",
        )  # fmt: skip
    return frame


def _whole(word: bytes) -> int:
    """Return the number that `1.0` or `1e0` is, or 0."""
    try:
        value = float(word)
    except ValueError:
        return 0
    return int(value) if value == value and abs(value) < _MAX_FRAME and value == int(value) else 0


def _numbers(path: Path, number: int, line: bytes) -> list[float]:
    """Return left, top, width, height, score."""
    words = line.split(b",")
    if len(words) < 7:
        raise BadInput(path, f"line {number}", f"at least 7 columns ({_COLUMNS})", f"{len(words)}: {_shown(line)}")
    try:
        return [float(word) for word in words[2:7]]
    except ValueError:
        raise BadInput(path, f"line {number}", f"numbers ({_COLUMNS})", _shown(line)) from None


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))
