"""Results of tracking as a file: MOTChallenge text, JSON lines or length-prefixed `TrackFrame` messages."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.wire import TrackFrame, unpack_boxes
from sightflow.errors import SightflowError
from sightflow.track.outputs import part_of
from sightflow.track.source import EPOCH_US, Bytes
from sightflow.track.stage_run import Tracked
from sightflow.track.wire_file import write_message

F64 = npt.NDArray[np.float64]
FORMATS = ("mot", "jsonl", "wire")
_BY_SUFFIX = {".txt": "mot", ".csv": "mot", ".jsonl": "jsonl", ".wire": "wire", ".bin": "wire", ".msgpack": "wire"}


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
            "name the format: --out-format mot, jsonl or wire",
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
            writers: dict[str, Callable[[Bytes, bool], Writer]] = {
                "mot": MotWriter,
                "jsonl": JsonWriter,
                "wire": WireWriter,
            }
            yield writers[kind](file, with_predicted)
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


class JsonWriter:
    """One object per frame, also of frames without tracks; unseen objects are marked, so they are always there."""

    def __init__(self, file: Bytes, with_predicted: bool = True) -> None:
        self._file = file

    def write(self, tracked: Tracked) -> int:
        """Write one frame's line."""
        tracks = json_tracks(tracked.frame)
        line = {"frame": tracked.number, "time_s": (tracked.frame.capture_us - EPOCH_US) / 1e6, "tracks": tracks}
        self._file.write(msgspec.json.encode(line) + b"\n")
        return len(tracks)


class WireWriter:
    """Every frame's message as the stage made it, also of frames without tracks; unseen objects are marked in it."""

    def __init__(self, file: Bytes, with_predicted: bool = True) -> None:
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


def json_tracks(frame: TrackFrame) -> list[dict[str, Any]]:
    """Return the tracks of one frame, in order of id; what is in metres only where it is known."""
    size = np.array([frame.width_px, frame.height_px] * 2, np.float64)
    corners = unpack_boxes(frame).astype(np.float64) * size
    ids = np.frombuffer(frame.ordinals, "<u4").astype(np.int64) + 1
    scores = np.frombuffer(frame.scores, "<f4").tolist()
    places, speeds = on_ground(frame)
    tracks = []
    for i in np.argsort(ids, kind="stable").tolist():
        x1, y1, x2, y2 = corners[i].tolist()
        track: dict[str, Any] = {
            "id": int(ids[i]), "box": [round(c, 2) for c in (x1, y1, x2 - x1, y2 - y1)], "score": round(scores[i], 4),
            "class": frame.labels[frame.classes[i]], "predicted": bool(frame.states[i]),
        }  # fmt: skip
        if np.isfinite(places[i]).all():
            track["ground_m"] = [round(c, 3) for c in places[i].tolist()]
            track["speed_mps"], track["speed_sd_mps"] = (round(c, 3) for c in speeds[i].tolist())
        tracks.append(track)
    return tracks


def on_ground(frame: TrackFrame) -> tuple[F64, F64]:
    """Return place (N×2, m) and speed with its standard deviation (N×2, m/s) of each track; NaN where they are not known."""
    n = len(frame.states)
    if not frame.ground:
        return np.full((n, 2), np.nan), np.full((n, 2), np.nan)
    places = np.frombuffer(frame.ground, "<f4").reshape(-1, 2).astype(np.float64)
    velocities = np.frombuffer(frame.ground_velocities, "<f4").reshape(-1, 2).astype(np.float64)
    sds = np.frombuffer(frame.speed_sds, "<f4").astype(np.float64)
    return places, np.column_stack([np.hypot(velocities[:, 0], velocities[:, 1]), sds])
