"""Results of tracking as a file: MOTChallenge text or length-prefixed `TrackFrame` messages."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from schemas.wire import TrackFrame, unpack_boxes
from sightflow.errors import SightflowError
from sightflow.track.outputs import part_of
from sightflow.track.source import Bytes
from sightflow.track.stage_run import Tracked
from sightflow.track.wire_file import write_message

FORMATS = ("mot", "wire")
_BY_SUFFIX = {".txt": "mot", ".csv": "mot", ".wire": "wire", ".bin": "wire", ".msgpack": "wire"}


class Writer(Protocol):
    """Takes frames in order."""

    def write(self, tracked: Tracked) -> int:
        """Write one frame; return how many boxes it has."""


def format_of(path: Path, named: str) -> str:
    """Return the format named, or that of the file's extension (before `.gz`).

    Raises:
        SightflowError: the extension says nothing.
    """
    if named:
        return named
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise SightflowError(
            f"--out {path}: expected an extension of {', '.join(_BY_SUFFIX)} (or these with .gz), got {suffix!r}",
            "name the format: --out-format mot, or --out-format wire",
        )
    return _BY_SUFFIX[suffix]


@contextmanager
def writing(path: Path, kind: str, with_predicted: bool) -> Iterator[Writer]:
    """Open a writer; the file takes its name only when the block ends well, so that none is ever half a result.

    Raises:
        SightflowError: it cannot be written.
    """
    part = part_of(path)
    try:
        with ExitStack() as stack:
            file: Bytes = stack.enter_context(part.open("wb"))
            if path.suffix == ".gz":  # no name and no time in it: two runs give the same bytes
                file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, 0))
            yield MotWriter(file, with_predicted) if kind == "mot" else WireWriter(file)
        part.replace(path)
    except OSError as error:
        raise SightflowError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


class MotWriter:
    """`frame,id,left,top,width,height,score,-1,-1,-1`: pixels with two decimals, ids from 1.

    Args:
        with_predicted: also write where unseen objects are thought to be; the text cannot mark them as such.
    """

    def __init__(self, file: Bytes, with_predicted: bool = False) -> None:
        self._file, self._with_predicted = file, with_predicted

    def write(self, tracked: Tracked) -> int:
        """Write one frame's rows."""
        rows = mot_rows(tracked.number, tracked.frame, self._with_predicted)
        self._file.write("".join(rows).encode())
        return len(rows)


class WireWriter:
    """Every frame's message as the stage made it, also of frames without tracks."""

    def __init__(self, file: Bytes) -> None:
        self._file = file

    def write(self, tracked: Tracked) -> int:
        """Write one frame's message."""
        write_message(self._file, tracked.message)
        return len(tracked.frame.states)


def mot_rows(number: int, frame: TrackFrame, with_predicted: bool = False) -> list[str]:
    """Return the rows of one frame, in order of id."""
    if not frame.states:
        return []
    size = np.array([frame.width_px, frame.height_px] * 2, np.float64)
    corners = unpack_boxes(frame).astype(np.float64) * size
    ids = np.frombuffer(frame.ordinals, "<u4").astype(np.int64) + 1  # ordinals start at 0
    scores = np.frombuffer(frame.scores, "<f4").tolist()
    rows = []
    for i in np.argsort(ids, kind="stable").tolist():
        if frame.states[i] and not with_predicted:
            continue
        x1, y1, x2, y2 = corners[i].tolist()
        rows.append(f"{number},{ids[i]},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{scores[i]:.4f},-1,-1,-1\n")
    return rows
