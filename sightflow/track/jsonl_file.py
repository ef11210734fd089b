"""Detections as JSON lines: one object per frame, frames in order, pixels.

    {"frame": 1, "detections": [{"box": [left, top, width, height], "score": 0.9, "class": "person"}, …]}

`frame` counts from 1. Several lines may belong to one frame. A line may also be one detection by itself
(`{"frame": 1, "box": […], "score": 0.9}`). `class` may be left out, and so may `time_s`, the frame's capture time in seconds
from any origin: where the first frame has it, all must, and it replaces `--fps`; frames that are not in the file are then
not invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from schemas.wire import MAX_LABELS, DetectionFrame, Label
from sightflow.track.source import (
    EPOCH_US,
    BadInput,
    Rows,
    Tally,
    View,
    empty_message,
    filled,
    lines,
    opened,
    to_message,
)

MAX_LINE_BYTES = 64 << 20
_MAX_TIME_S = 1e9  # thirty years after the first frame
_REMEDY = "see docs/tracking.md for the format"


class Detection(Struct, frozen=True):
    """One detection; null stands for a number that JSON cannot write, and is refused as such."""

    box: Annotated[tuple[float | None, ...], Meta(min_length=4, max_length=4)]  # left, top, width, height
    score: float | None
    label: Label = msgspec.field(name="class", default="")


class Line(Struct, frozen=True):
    """One line: a frame with its detections, or one detection."""

    frame: Annotated[int, Meta(ge=1, le=1 << 40)]
    time_s: float | None = None
    detections: tuple[Detection, ...] | None = None
    box: Annotated[tuple[float | None, ...], Meta(min_length=4, max_length=4)] | None = None
    score: float | None = None
    label: Label = msgspec.field(name="class", default="")

    def all(self) -> tuple[Detection, ...]:
        """Return the detections of the line."""
        alone = () if self.box is None else (Detection(self.box, self.score, self.label),)
        return (self.detections or ()) + alone


class _Head(Struct, frozen=True):
    frame: int


_decode = msgspec.json.Decoder(Line).decode
_decode_head = msgspec.json.Decoder(_Head).decode


def count_frames(path: Path) -> int:
    """Return the number of the last frame, for the progress shown; 0 where that cannot be told."""
    last = b""
    with opened(path) as file:
        for _, line in lines(file, path, MAX_LINE_BYTES):
            last = line
    try:
        return _decode_head(last).frame
    except msgspec.DecodeError:
        return 0


def has_times(path: Path) -> bool:
    """Return whether the first line has `time_s`, so that the file tells its own times."""
    with opened(path) as file:
        for number, text in lines(file, path, MAX_LINE_BYTES):
            return _line(path, number, text).time_s is not None
    return False


def read(path: Path, view: View, label: str, only: str, tally: Tally) -> Iterator[tuple[int, DetectionFrame]]:
    """Yield (the frame's number in the file, frame): from 1 to the last, empty ones too; with times, those that are there.

    Messages are always numbered one after the other: by time, a jump in the file's numbers is no loss.

    Args:
        label: class of detections that name none.
        only: keep only this class; empty keeps all.

    Raises:
        BadInput: a line is not of this format, or frames or times go backwards.
    """
    last, last_us = 0, 0
    clock: _Clock | None = None
    for count, (number, frame, time_s, found) in enumerate(_frames(path), 1):
        clock = clock or _Clock(path, view, time_s)
        at_us = clock.at_us(frame, time_s, number)
        if at_us <= last_us:
            raise BadInput(path, f"line {number}", "a time_s after the frame before", f"{time_s} s", _REMEDY)
        if not clock.by_time:
            for missing in filled(path, frame, last, f"line {number}"):
                yield missing, empty_message(missing, view.capture_us(missing), view)
        kept = [(place, d) for place, d in found if not only or (d.label or label) == only]
        yield frame, _message(path, count if clock.by_time else frame, at_us, kept, label, view, tally)
        last, last_us = frame, at_us


class _Clock:
    """Capture times: from `time_s` where the first frame has it, else from the frame's number."""

    def __init__(self, path: Path, view: View, first_s: float | None) -> None:
        self._path, self._view, self._first_s = path, view, first_s
        self.by_time = first_s is not None

    def at_us(self, frame: int, time_s: float | None, number: int) -> int:
        if (time_s is not None) != self.by_time:
            expected = "time_s, as the first frame has it" if self.by_time else "no time_s, as the first frame has none"
            raise BadInput(self._path, f"line {number}", expected, f"time_s {time_s}", _REMEDY)
        if time_s is None or self._first_s is None:
            return self._view.capture_us(frame)
        if not abs(time_s - self._first_s) <= _MAX_TIME_S:
            raise BadInput(self._path, f"line {number}", f"a time_s within {_MAX_TIME_S:g} s of the first", time_s)
        return EPOCH_US + round((time_s - self._first_s) * 1e6)


def _frames(path: Path) -> Iterator[tuple[int, int, float | None, list[tuple[int, Detection]]]]:
    """Yield (number of its first line, frame, time_s, [(line, detection)])."""
    first, current, time_s = 0, 0, None
    found: list[tuple[int, Detection]] = []
    with opened(path) as file:
        for number, text in lines(file, path, MAX_LINE_BYTES):
            line = _line(path, number, text)
            if line.frame < current:
                raise BadInput(
                    path, f"line {number}", f"frames in order (the line before has {current})", f"frame {line.frame}",
                    "sort the lines by frame",
                )  # fmt: skip
            if line.frame > current:
                if current:
                    yield first, current, time_s, found
                first, current, time_s, found = number, line.frame, line.time_s, []
            found.extend((number, d) for d in line.all())
    if current:
        yield first, current, time_s, found


def _line(path: Path, number: int, text: bytes) -> Line:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            path, f"line {number}", '{"frame": …, "detections": [{"box": [left, top, width, height], "score": …}]}',
            f"{text[:60].decode('utf-8', 'replace')!r} ({error})", _REMEDY,
        ) from None  # fmt: skip


def _message(
    path: Path, count: int, at_us: int, found: list[tuple[int, Detection]], label: str, view: View, tally: Tally
) -> DetectionFrame:
    names = [d.label or label for _, d in found]
    labels = tuple(dict.fromkeys(names))
    if len(labels) > MAX_LABELS:
        raise BadInput(path, f"line {found[0][0]}", f"at most {MAX_LABELS} classes in a frame", len(labels))
    index = {name: i for i, name in enumerate(labels)}
    rows = Rows(
        np.array([[np.nan if v is None else v for v in d.box] for _, d in found], np.float64).reshape(-1, 4),
        np.array([np.nan if d.score is None else d.score for _, d in found], np.float64),
        np.array([index[name] for name in names], np.uint8),
        np.array([place for place, _ in found], np.int64),
    )
    return to_message(count, at_us, rows, labels, view, tally)
