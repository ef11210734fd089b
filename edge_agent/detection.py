"""The detection thread: newest frames in, messages into the spool."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.agent_clock import AgentClock
from edge_agent.counts import CameraCounts
from edge_agent.frame_message import QuietRule, make_message, pack_objects
from edge_agent.newest_frames import CapturedFrame, NewestFrames
from edge_agent.spool import Record, RecordTooLarge, Spool, SpoolFull
from schemas.topics import DETECTIONS, MAX_MESSAGE_BYTES
from schemas.wire import encode

_log = logging.getLogger(__name__)


class Detected(Protocol):
    """What a detector answers: N×4 boxes as ratios of the frame, N scores, N indexes into its labels."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]: ...
    @property
    def scores(self) -> npt.NDArray[np.float32]: ...
    @property
    def classes(self) -> npt.NDArray[np.uint16]: ...


class FrameDetector(Protocol):
    """What the agent needs of a detector; `edge_agent.detector.Detector` is one."""

    @property
    def model(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    def detect(self, bgr: npt.NDArray[np.uint8]) -> Detected: ...


@dataclass
class CameraDetection:
    """What the detection thread keeps of one camera."""

    detector: FrameDetector
    quiet: QuietRule
    counts: CameraCounts
    seq: int = 0
    last_capture_us: int = 0


class DetectionLoop:
    """Takes frames in turn, detects, and stores one message for each frame that is worth it.

    One thread for all cameras: inference is what the machine has least of, and the newest frame of each camera waits.
    """

    def __init__(
        self, site: str, boot: int, cameras: dict[str, CameraDetection], frames: NewestFrames, spool: Spool,
        clock: AgentClock,
    ) -> None:  # fmt: skip
        self._site, self._boot = site, boot
        self._cameras, self._frames, self._spool, self._clock = cameras, frames, spool, clock
        self._is_stopping = False
        self._logged_s = -10.0
        self.detect_s = 0.0
        """CPU-independent total of seconds spent in the detector."""
        self.detect_count = 0
        self.beat_s = time.monotonic()

    def stop(self) -> None:
        """Make `run` return once no frame waits."""
        self._is_stopping = True
        self._frames.close()

    def run(self) -> None:
        """Work until stopped. For a thread of its own."""
        while True:
            self.beat_s = time.monotonic()
            frame = self._frames.take(0.5)
            if frame is not None:
                self.process(frame)
            elif self._is_stopping:
                return

    def process(self, frame: CapturedFrame) -> None:
        """Detect in one frame, release it, and store its message; whatever happens is counted."""
        camera = self._cameras[frame.camera]
        try:
            if frame.capture_us <= camera.last_capture_us:
                camera.counts.drop("clock_backwards")
                return
            camera.last_capture_us = frame.capture_us
            objects = self._detect(frame, camera)
        finally:
            frame.release()
        if objects is None:
            return
        if not camera.quiet.is_wanted(len(objects["scores"]), frame.capture_us):  # type: ignore[arg-type]
            camera.counts.add("quiet_count")
            return
        self._store(frame, camera, objects)

    def _detect(self, frame: CapturedFrame, camera: CameraDetection) -> dict[str, object] | None:
        began_s = time.monotonic()
        try:
            found = camera.detector.detect(frame.bgr)
            objects = pack_objects(found.boxes, found.scores, found.classes, camera.detector.labels)
        except Exception as e:  # noqa: BLE001 (runtimes share no error class; one frame must not end the agent)
            camera.counts.drop("detector_error")
            self._complain(f"camera {frame.camera}: the detector failed on a frame: {type(e).__name__}: {e}")
            return None
        self.detect_s += time.monotonic() - began_s
        self.detect_count += 1
        return objects

    def _store(self, frame: CapturedFrame, camera: CameraDetection, objects: dict[str, object]) -> None:
        message = make_message(
            self._site, self._boot, camera.seq, frame, self._clock.now_us(), camera.detector.model,
            camera.detector.fingerprint, objects,
        )  # fmt: skip
        value = encode(message)
        if len(value) > MAX_MESSAGE_BYTES:
            camera.counts.drop("message_too_large")
            return
        try:
            self._spool.append(Record(DETECTIONS, frame.camera.encode(), frame.capture_us // 1000, value))
        except SpoolFull as e:
            camera.counts.drop("disk_full")
            self._complain(f"camera {frame.camera}: frame dropped, {e}; free some space")
            return
        except RecordTooLarge:
            camera.counts.drop("message_too_large")
            return
        camera.seq += 1  # only now: numbers have no gaps
        camera.counts.add("sent_count")

    def _complain(self, text: str) -> None:
        if time.monotonic() - self._logged_s >= 10.0:
            self._logged_s = time.monotonic()
            _log.error("%s", text)
