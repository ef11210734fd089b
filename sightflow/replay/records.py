"""Recorded detections, whatever they lie in, as the records that the camera stage takes; one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from operators.stages.stage import Input
from schemas.wire import DetectionFrame, encode
from sightflow.errors import SightflowError
from sightflow.track import jsonl_file, mot_file
from sightflow.track.source import EPOCH_US, BadInput, Tally, View
from sightflow.track.stage_run import envelope
from sightflow.track.wire_file import MAX_BYTES, Recorded, read_bodies, recorded_in

FORMATS = ("wire", "messages", "jsonl", "mot")
_BY_SUFFIX = {
    ".wire": "wire", ".bin": "wire", ".msgpack": "wire", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "mot",
    ".csv": "mot",
}  # fmt: skip
NO_PARTITION = -1
"""Partition of what never was on a topic; its offset is its number in the input, from 0."""

Keyed = tuple[str, Input]


@dataclass(frozen=True)
class Span:
    """Capture times to replay, by the records' timestamps: from the first to before the second. None: no bound."""

    from_ms: int | None = None
    to_ms: int | None = None

    def has(self, time_ms: int) -> bool:
        """Whether a record belongs to it."""
        return (self.from_ms is None or time_ms >= self.from_ms) and (self.to_ms is None or time_ms < self.to_ms)


class Scene(NamedTuple):
    """What text files do not say: whose frames they are, their size and rate, the class of their boxes, their begin."""

    site: str
    camera: str
    view: View
    label: str
    start_us: int


def format_of(path: Path, named: str) -> str:
    """Return the format that is named, or that of a folder or of a file's extension.

    Raises:
        SightflowError: there is no such file, or its extension says nothing.
    """
    if not path.exists():
        raise SightflowError(
            f"--input {path}: no such file or folder",
            "a topic is named so: --input kafka://HOST:PORT/detections, or --input topic:detections for the local stack",
        )
    if named:
        return named
    if path.is_dir():
        return "messages"
    suffix = _suffix(path)
    if suffix not in _BY_SUFFIX:
        raise SightflowError(
            f"--input {path}: expected an extension of {', '.join(_BY_SUFFIX)} (or these with .gz), got {suffix!r}",
            f"name the format: --format {', or --format '.join(FORMATS)}",
        )
    return _BY_SUFFIX[suffix]


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def of_messages(bodies: Iterable[bytes]) -> Iterator[Keyed]:
    """Yield messages, and records with what Kafka knew of them, as records."""
    for place, body in enumerate(bodies):
        record = recorded_in(body)
        if record is not None:
            yield of_recorded(record)
        else:
            camera, time_ms = envelope(body)
            yield camera, Input(body, NO_PARTITION, place, time_ms)


def of_recorded(r: Recorded) -> Keyed:
    """Return a record of a topic as the stage takes it; a key that is not text is shown with marks, none is empty."""
    return (r.key or b"").decode(errors="replace"), Input(r.value, r.partition, r.offset, r.time_ms)


def bodies_of(paths: Sequence[Path], formats: Sequence[str]) -> Iterator[bytes]:
    """Yield what files of messages and folders of messages hold, in the order in which they are named."""
    for path, form in zip(paths, formats, strict=True):
        yield from _folder(path) if form == "messages" else (body for _, body in read_bodies(path))


def _folder(path: Path) -> Iterator[bytes]:
    """Yield the messages of a folder in the order of their names, numbers in them as numbers."""
    if not path.is_dir():
        raise BadInput(path, "", "a folder of messages", "a file", "one message a file: put them into a folder")
    files = sorted((p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")), key=_natural)
    if not files:
        raise BadInput(path, "", "files of messages", "an empty folder")
    for file in files:
        if _suffix(file) == ".wire":
            yield from (body for _, body in read_bodies(file))
            continue
        try:
            with file.open("rb") as opened:
                body = opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadInput(file, "", "a file that can be read", str(error.strerror or error)) from error
        if len(body) > MAX_BYTES:
            raise BadInput(file, "", f"one message of at most {MAX_BYTES} bytes", "a larger file")
        yield body


def _natural(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    words = re.findall(r"\d+|\D+", path.name)
    return [(not w.isdecimal(), int(w) if w.isdecimal() else 0, w) for w in words], path.name


def of_text(path: Path, form: str, scene: Scene, tally: Tally) -> Iterator[Keyed]:
    """Yield the frames of a text file as records of one camera; rows that are refused or clipped are counted."""
    frames: Iterator[DetectionFrame]
    if form == "mot":
        frames = mot_file.read(path, mot_file.measure(path), scene.view, scene.label, tally)
    else:
        frames = (frame for _, frame in jsonl_file.read(path, scene.view, scene.label, "", tally))
    shift_us = scene.start_us - EPOCH_US
    for place, f in enumerate(frames):
        at_us = f.capture_us + shift_us
        moved = msgspec.structs.replace(
            f, site=scene.site, camera=scene.camera, boot=f.boot + shift_us, capture_us=at_us, recv_us=at_us, sent_us=at_us
        )  # fmt: skip
        yield scene.camera, Input(encode(moved), NO_PARTITION, place, at_us // 1000)


def chosen(records: Iterable[Keyed], span: Span, cameras: frozenset[str]) -> Iterator[Keyed]:
    """Yield the records of a span of time and of some cameras; of all where none is named."""
    if span == Span() and not cameras:
        return iter(records)
    return ((key, record) for key, record in records if span.has(record.time_ms) and (not cameras or key in cameras))


def nothing_there(what: str) -> SightflowError:
    """Return what is said to an input without records."""
    return SightflowError(f"{what}: no records to replay", "is the span of time right (UTC)? is the camera's id?")
