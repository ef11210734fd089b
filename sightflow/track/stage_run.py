"""The camera stage over messages in memory: the code of the job, without Flink and Kafka."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import numpy as np

from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.settings import Camera, SiteSettings
from schemas.wire import DeadLetter, DetectionFrame, TrackFrame, decode, encode
from sightflow.errors import SightflowError
from sightflow.pose_file import PoseFile
from sightflow.track.source import Tally

DEFAULT_TRACKER = "default"
_MAX_EXPECTED = 65_536  # frames in the stage at once: far more than it lets wait for a gap to be filled


class Tracked(NamedTuple):
    """What came of one frame. `number` is the frame's in the file; of wire messages it counts from 1, missing ones included."""

    number: int
    message: bytes  # the TrackFrame as it would stand on the topic
    frame: TrackFrame


def camera_settings(camera: str, tracker: str, pose: PoseFile | None) -> Camera:
    """Return a camera with default settings but for its tracker and pose.

    Raises:
        SightflowError: the settings know no tracker of this name.
    """
    choices = get_args(get_type_hints(Camera)["tracker"])
    if tracker not in choices:
        raise SightflowError(f"--tracker: expected one of {', '.join(choices)}, got {tracker!r}")
    chosen: dict[str, Any] = {"id": camera, "tracker": tracker}
    if pose is not None:
        chosen["pose"] = pose.settings
    try:
        return msgspec.convert(chosen, Camera)
    except msgspec.ValidationError as error:
        raise SightflowError(f"camera {camera!r}: {error}") from error


class StageRun:
    """One camera's logic of the camera stage, fed with one message after the other."""

    def __init__(self, site: str, camera: Camera, tally: Tally) -> None:
        stage = CameraStage([SiteSettings(version=1, site=site, cameras=(camera,))])
        stage.open()
        logic = stage.logic(camera.id)
        assert isinstance(logic, CameraLogic)
        self._logic = logic
        self._untracked_count = 0
        self._tally = tally
        self._numbering = _Numbering()

    def frames(
        self, messages: Iterable[tuple[int, bytes | DetectionFrame]], are_numbered: bool = False
    ) -> Iterator[Tracked]:
        """Yield the tracks of each frame, in the order of the stage; what it refuses is counted.

        Args:
            messages: (its place in the file, rising; message).
            are_numbered: the place is the frame's number; without, frames are numbered by their sequence.
        """
        place = 0
        for place, message in messages:
            if are_numbered and isinstance(message, DetectionFrame):
                self._numbering.expect(message.boot, message.seq, place)
            raw, at_ms = (
                (encode(message), message.capture_us // 1000) if isinstance(message, DetectionFrame)
                else (message, envelope(message)[1])
            )  # fmt: skip
            yield from self._tracked(self._logic.on_record(Input(raw, 0, place, at_ms)), place)
        # Frames that still wait for a gap to be filled come out as they do when a source falls silent.
        yield from self._tracked(self._logic.on_silence(), place)

    def _tracked(self, outputs: list[Output], place: int) -> Iterator[Tracked]:
        for output in outputs:
            if output.topic == topics.TRACKS:
                frame = decode(output.value, TrackFrame)
                yield Tracked(self._numbering.number(frame.boot, frame.seq), output.value, frame)
            elif output.topic == topics.DEAD_LETTERS:
                letter = decode(output.value, DeadLetter)
                self._tally.add(f"frame refused, {letter.reason}", f"message {place}: {letter.detail}")
        more = self._logic.untracked_count - self._untracked_count
        self._tally.add(f"not tracked, beyond {self._logic.capacity} objects at a time", f"message {place}", more)
        self._untracked_count += more


class _Numbering:
    """Numbers of frames that come out of the stage: those they had when they went in, else from 1 by their sequence.

    By sequence they rise over restarts of the agent, where its own starts again at 0.
    """

    def __init__(self) -> None:
        self._boot, self._before, self._last = 0, 0, 0
        self._expected: deque[tuple[int, int, int]] = deque(maxlen=_MAX_EXPECTED)  # boot, seq, number

    def expect(self, boot: int, seq: int, number: int) -> None:
        """Note the number of a frame that goes in; sequences rise."""
        self._expected.append((boot, seq, number))

    def number(self, boot: int, seq: int) -> int:
        """Return the number of a frame that comes out; what went in before it and did not come out was refused."""
        while self._expected and self._expected[0][:2] < (boot, seq):
            self._expected.popleft()
        if self._expected and self._expected[0][:2] == (boot, seq):
            return self._expected.popleft()[2]
        if boot > self._boot:
            self._boot, self._before = boot, self._last
        self._last = self._before + seq + 1
        return self._last


class _Head(msgspec.Struct):
    camera: str = ""
    capture_us: int = 0


_decode_head = msgspec.msgpack.Decoder(_Head).decode


def envelope(message: bytes) -> tuple[str, int]:
    """Return key and timestamp (ms) that an agent would have given this message; '' and 0 for one that cannot be read."""
    try:
        head = _decode_head(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        return "", 0
    return head.camera, head.capture_us // 1000


def keep_class(frame: DetectionFrame, only: str) -> DetectionFrame:
    """Return the frame with the detections of one class alone."""
    classes = np.frombuffer(frame.classes, np.uint8)
    wanted = np.array([label == only for label in frame.labels] + [False] * (256 - len(frame.labels)), bool)
    kept = wanted[classes]
    if kept.all():
        return frame

    def pick(packed: bytes) -> bytes:
        return np.frombuffer(packed, np.uint8).reshape(len(classes), -1)[kept].tobytes() if packed else b""

    return msgspec.structs.replace(
        frame, boxes=pick(frame.boxes), scores=pick(frame.scores), classes=pick(frame.classes),
        embeddings=pick(frame.embeddings),
    )  # fmt: skip
