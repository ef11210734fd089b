"""What every reader of detections shares: lines of a plain or gzip file, refused rows counted, frames as messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.wire import EDGE_RATIO, MAX_DETECTIONS, DetectionFrame
from sightflow.errors import SightflowError

EPOCH_US = 1_577_836_800_000_000
"""Capture time of frame 1 of a file without times: 2020-01-01 UTC, so that two runs give the same bytes."""

SITE = CAMERA = "file"
MAX_GAP_FRAMES = 10_000_000
"""Frames missing in one place; more is taken for a mistake in the file (at 30 frames/s it would be four days)."""

Bytes = IO[bytes] | gzip.GzipFile
_GZIP_MAGIC = b"\x1f\x8b"


class BadInput(SightflowError):
    """A file of detections is not what it should be."""

    def __init__(self, path: Path, where: str, expected: str, got: object, remedy: str = "") -> None:
        shown = got if isinstance(got, str) else repr(got)
        super().__init__(f"{path}{', ' + where if where else ''}: expected {expected}, got {shown[:120]}", remedy)


@contextmanager
def opened(path: Path) -> Iterator[Bytes]:
    """Open a file, unpacking it where it is gzip whatever its name.

    Raises:
        BadInput: it cannot be read, or is cut off or damaged (also while the block reads).
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.open(raw, "rb") as unpacked:
                yield unpacked
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(path, "", "a whole gzip file", f"a damaged one ({error})", "fetch or write it again") from error
    except OSError as error:
        raise BadInput(path, "", "a file that can be read", str(error.strerror or error)) from error


def lines(file: Bytes, path: Path, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line without blanks at its ends), leaving out blank lines.

    Raises:
        BadInput: a line is longer than `max_bytes`.
    """
    number = 0
    while line := file.readline(max_bytes + 1):
        number += 1
        if len(line) > max_bytes:
            raise BadInput(path, f"line {number}", f"at most {max_bytes} bytes", "a longer line")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as some editors write
        if stripped := line.strip():
            yield number, stripped


@dataclass
class Tally:
    """What was refused or clipped, by reason: how many, and where the first was.

    Refused rows are left out of their frame; the frame is tracked without them.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str, count: int = 1) -> None:
        """Count `count` of a reason."""
        if count:
            self.counts[reason] = self.counts.get(reason, 0) + count
            self.first.setdefault(reason, where)

    def text(self) -> str:
        """Return all counts in words; empty when there are none."""
        return "; ".join(f"{reason}: {count:,} (first: {self.first[reason]})" for reason, count in self.counts.items())


NOT_FINITE = "refused, not a finite number"
NO_AREA = "refused, no width or height"
OUTSIDE = f"refused, further than {EDGE_RATIO} of a frame outside it"
TOO_MANY = f"refused, beyond the {MAX_DETECTIONS:,} best of a frame"
SCORE_CLIPPED = "clipped, score outside 0 to 1"
BOX_CLIPPED = "clipped, box reaches out of the frame"


class View(NamedTuple):
    """What a file without times and sizes does not say about its frames."""

    width_px: int
    height_px: int
    fps: float

    def capture_us(self, number: int) -> int:
        """Return the capture time of a frame (from 1)."""
        return EPOCH_US + round((number - 1) * 1e6 / self.fps)


class Rows(NamedTuple):
    """Detections of one frame as they stand in a file: pixels, and for each where it stands there."""

    boxes_px: npt.NDArray[np.float64]  # N×4: left, top, width, height
    scores: npt.NDArray[np.float64]  # N
    classes: npt.NDArray[np.uint8]  # N, index into the frame's labels
    places: npt.NDArray[np.int64]  # N, number of the line


def to_message(
    number: int, at_us: int, rows: Rows, labels: tuple[str, ...], view: View, tally: Tally
) -> DetectionFrame:
    """Return one frame (from 1) as the message that an agent would send; bad rows are left out and counted."""
    boxes, scores, classes = _checked(rows, view, tally)
    return DetectionFrame(
        site=SITE, camera=CAMERA, boot=EPOCH_US, seq=number - 1, capture_us=at_us, clock="file", recv_us=at_us,
        sent_us=at_us, width_px=view.width_px, height_px=view.height_px, labels=labels,
        boxes=boxes.tobytes(), scores=scores.tobytes(), classes=classes.tobytes(),
    )  # fmt: skip


def empty_message(number: int, at_us: int, view: View) -> DetectionFrame:
    """Return a frame in which nothing was detected."""
    return DetectionFrame(
        site=SITE, camera=CAMERA, boot=EPOCH_US, seq=number - 1, capture_us=at_us, clock="file", recv_us=at_us,
        sent_us=at_us, width_px=view.width_px, height_px=view.height_px,
    )  # fmt: skip


def _checked(
    rows: Rows, view: View, tally: Tally
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Apply the rules of `schemas.wire.check_detections` to each row alone."""
    size = np.array([view.width_px, view.height_px] * 2, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        corners = rows.boxes_px.copy()
        corners[:, 2:] += corners[:, :2]
        boxes = (corners / size).astype("<f4")
        finite = np.isfinite(rows.boxes_px).all(axis=1) & np.isfinite(rows.scores)
        near = ((boxes >= -EDGE_RATIO) & (boxes <= 1 + EDGE_RATIO)).all(axis=1)
        positive = (rows.boxes_px[:, 2:] > 0).all(axis=1)
        # After the rounding to float32 a sliver may have no extent left.
        empty = ~positive | (near & ~(boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    kept = finite & ~empty & near
    if not kept.all():
        for reason, bad in ((NOT_FINITE, ~finite), (NO_AREA, finite & empty), (OUTSIDE, finite & ~empty & ~near)):
            _count(tally, reason, bad, rows.places)
    scores = rows.scores
    beyond = kept & ((scores < 0) | (scores > 1))
    if beyond.any():
        _count(tally, SCORE_CLIPPED, beyond, rows.places)
        scores = np.clip(scores, 0.0, 1.0)
    out = kept & ((boxes < 0) | (boxes > 1)).any(axis=1)
    if out.any():
        _count(tally, BOX_CLIPPED, out, rows.places)
    chosen = np.flatnonzero(kept)
    if len(chosen) > MAX_DETECTIONS:
        best = np.argsort(-scores[chosen], kind="stable")[:MAX_DETECTIONS]
        surplus = np.delete(chosen, best)
        tally.add(TOO_MANY, f"line {rows.places[surplus[0]]}", len(surplus))
        chosen = chosen[np.sort(best)]
    return boxes[chosen], scores[chosen].astype("<f4"), rows.classes[chosen]


def _count(tally: Tally, reason: str, bad: npt.NDArray[np.bool_], places: npt.NDArray[np.int64]) -> None:
    found = np.flatnonzero(bad)
    if len(found):
        tally.add(reason, f"line {places[found[0]]}", len(found))


def filled(path: Path, number: int, last: int, place: str) -> range:
    """Return the numbers of the frames missing between `last` and `number`.

    Raises:
        BadInput: there are implausibly many.
    """
    if number - last > MAX_GAP_FRAMES:
        raise BadInput(
            path, place, f"a frame at most {MAX_GAP_FRAMES:,} after frame {last}", f"frame {number}",
            "frames are numbered from 1, one after the other",
        )  # fmt: skip
    return range(last + 1, number)
