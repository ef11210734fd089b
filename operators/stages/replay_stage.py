"""The camera stage over recorded frames, under one or several sets of settings at once; what comes out are lines of files.

record → for each side: the very logic that runs live → events, alerts, figures, dead letters as JSON lines
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Archiving, Input, KeyLogic, Output
from schemas import topics
from schemas.settings import SiteSettings
from schemas.wire import Figures, Point, decode

FILES = {
    topics.EVENTS: "events",
    topics.ALERTS: "alerts",
    topics.FIGURES: "windows",
    topics.DEAD_LETTERS: "dead-letters",
}
"""Topic → name of the file that stands for it. What goes to other topics is left out: tracks are as many as frames."""

RECORDS = "records"
"""Instead of `side/file`, of lines that say how many records were taken: their sum counts each once, whatever was restarted."""

_decode_any = msgspec.msgpack.Decoder().decode
_encode_line = msgspec.json.Encoder().encode


class Side(NamedTuple):
    """One set of settings: site files that hold from the beginning of time, and versions of the topic `settings`."""

    name: str
    sites: tuple[SiteSettings, ...]
    versions: tuple[tuple[str, Input], ...] = ()


class ReplayStage:
    """Makes, for each camera, logic that runs the frames through every side. Holds settings only: it can be pickled.

    An output is a line of a file: topic `side/file`, and the line without its end as value.
    """

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = tuple(sides)

    def open(self) -> None:
        """Compile the kernels and take every version of the settings, before the first frame."""
        self._stages: list[tuple[str, LiveCameraStage]] = []
        for side in self.sides:
            stage = LiveCameraStage(side.sites)
            stage.open()
            for key, record in side.versions:
                stage.on_settings(key, record)
            self._stages.append((side.name, stage))

    def logic(self, key: str) -> KeyLogic:
        """Return fresh logic for a camera, known to a side or not."""
        return ReplayLogic([(name, stage.logic(key)) for name, stage in self._stages])


class _State(Struct, array_like=True):
    count: int
    sides: list[tuple[bytes | None, bytes | None]]  # snapshot, archive


_decode_state = msgspec.msgpack.Decoder(_State).decode


class ReplayLogic:
    """One camera under all sides. `on_silence` is for the end of the input; silences within it the frames tell themselves."""

    silence_ms = 0

    def __init__(self, sides: list[tuple[str, KeyLogic]]) -> None:
        self._sides = sides
        self._archives: list[bytes | None] = [None] * len(sides)
        self._count = 0
        self._is_known = any(logic.snapshot() is not None for _, logic in sides)

    def on_record(self, record: Input) -> list[Output]:
        """Take one record of `detections`."""
        out: list[Output] = []
        if self._is_known:
            self._count += 1
        else:
            out.append(Output(RECORDS, "", b"1"))
        for name, logic in self._sides:
            for o in logic.on_record(record):
                if o.topic in FILES:
                    _write(name, o, out)
        return out

    def on_silence(self) -> list[Output]:
        """The input has ended: to the stage that is a silence of the camera."""
        out = [Output(RECORDS, "", b"%d" % self._count)]
        for name, logic in self._sides:
            for o in logic.on_silence():
                if o.topic in FILES:
                    _write(name, o, out)
        return out

    def snapshot(self) -> bytes | None:
        """Return the state of every side; None where no side knows the camera."""
        if not self._is_known:
            return None
        parts = []
        for i, (_, logic) in enumerate(self._sides):
            if isinstance(logic, Archiving):
                self._archives[i] = logic.archive() or self._archives[i]
            parts.append((logic.snapshot(), self._archives[i]))
        return msgspec.msgpack.encode(_State(self._count, parts))

    def restore(self, data: bytes) -> None:
        """Take up a snapshot of a stage with the same sides."""
        state = _decode_state(data)
        self._count = state.count
        for i, (snapshot, archive) in enumerate(state.sides):
            logic, self._archives[i] = self._sides[i][1], archive
            if snapshot is not None:
                logic.restore(snapshot)
            if archive is not None and isinstance(logic, Archiving):
                logic.restore_archive(archive)


def _write(side: str, output: Output, out: list[Output]) -> None:
    file = f"{side}/{FILES[output.topic]}"
    if output.topic == topics.FIGURES:
        out.extend(Output(file, output.key, point_line(p)) for p in decode(output.value, Figures).points)
    else:  # whatever fields a message has, those that are appended to it later too
        out.append(Output(file, output.key, _encode_line(_decode_any(output.value))))


def point_line(point: Point) -> bytes:
    """Return a point as JSON: measurement, tags, fields, and the time that InfluxDB has it at."""
    tags = dict(sorted(point.tags.items()))
    return _encode_line({"measurement": point.measurement, "tags": tags, "at_ns": point.at_ns, "fields": point.fields})
