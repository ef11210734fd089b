"""Draws tracks on a video: a box, the number, the speed where it is known, and the way of the last seconds of each object;
unseen ones dashed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.wire import TrackFrame, unpack_boxes
from sightflow.errors import SightflowError
from sightflow.report.drawing import colour
from sightflow.track.outputs import part_of
from sightflow.track.results import on_ground

TRAIL_S = 3.0
_MAX_TRAIL_POINTS = 400
_SEAM = (26, 19, 16)
_DASH_PX = 9
_ENCODER_WAIT_S = 60

Picture = npt.NDArray[np.uint8]


class _Sink(Protocol):
    def put(self, picture: Picture) -> None: ...

    def close(self) -> None: ...


class Renderer:
    """Reads one picture of the video per frame, draws on it, and hands it to the encoder.

    Frame n of the detections is picture n of the video, whatever their rates.
    """

    def __init__(self, video: Any, sink: _Sink, size_px: tuple[int, int], fps: float) -> None:
        self._video, self._sink, self._size_px = video, sink, size_px
        self._trails: dict[int, deque[tuple[int, int]]] = {}
        self._trail_length = max(2, min(_MAX_TRAIL_POINTS, round(TRAIL_S * fps)))
        self._number = 0
        self.ended_at = 0  # first frame that the video no longer had; 0: it had all

    def draw(self, number: int, frame: TrackFrame) -> None:
        """Draw one frame; pictures of frames left out go to the result as they are."""
        while not self.ended_at and self._number < number:
            self._number += 1
            ok, picture = self._video.read()
            if not ok:
                self.ended_at = self._number
                return
            if self._number == number:
                self._draw(picture, frame)
            self._sink.put(picture)

    def _draw(self, picture: Picture, frame: TrackFrame) -> None:
        import cv2

        width, height = self._size_px
        unit = max(1, round(max(width, height) / 768))
        corners = (unpack_boxes(frame) * np.array([width, height] * 2)).round().astype(int).tolist()
        ordinals = np.frombuffer(frame.ordinals, "<u4").tolist()
        self._forget(set(ordinals))
        speeds = on_ground(frame)[1][:, 0].tolist()
        for ordinal, (x1, y1, x2, y2), predicted, label, speed in zip(
            ordinals, corners, frame.states, frame.classes, speeds, strict=True
        ):
            bgr = _bgr(colour(ordinal))
            trail = self._trails.setdefault(ordinal, deque(maxlen=self._trail_length))
            trail.append(((x1 + x2) // 2, y2))
            cv2.polylines(picture, [np.array(trail, np.int32)], False, bgr, unit, cv2.LINE_AA)
            if predicted:
                _dashed(picture, (x1, y1, x2, y2), bgr, unit)
            else:
                cv2.rectangle(picture, (x1, y1), (x2, y2), _SEAM, 3 * unit, cv2.LINE_AA)
                cv2.rectangle(picture, (x1, y1), (x2, y2), bgr, 2 * unit - 1, cv2.LINE_AA)
            name = frame.labels[label] if label < len(frame.labels) else ""
            text = f"#{ordinal + 1}" if name in ("", "person") else f"#{ordinal + 1} {name}"
            if np.isfinite(speed):
                text += f" {speed:.1f} m/s"
            at = (max(2, x1), max(16 * unit, y1 - 5 * unit))
            for ink, thickness in ((_SEAM, 3 * unit), (bgr, unit)):
                cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * unit, ink, thickness, cv2.LINE_AA)

    def _forget(self, alive: set[int]) -> None:
        for ordinal in [o for o in self._trails if o not in alive]:
            del self._trails[ordinal]


def _bgr(css: str) -> tuple[int, int, int]:
    return int(css[5:7], 16), int(css[3:5], 16), int(css[1:3], 16)


def _dashed(picture: Picture, box: tuple[int, int, int, int], bgr: tuple[int, int, int], unit: int) -> None:
    import cv2

    x1, y1, x2, y2 = box
    step = _DASH_PX * unit
    height, width = picture.shape[:2]
    for x in range(max(0, x1), min(width, x2), 2 * step):
        for y in (y1, y2):
            cv2.line(picture, (x, y), (min(x + step, x2), y), bgr, unit)
    for y in range(max(0, y1), min(height, y2), 2 * step):
        for x in (x1, x2):
            cv2.line(picture, (x, y), (x, min(y + step, y2)), bgr, unit)


@contextmanager
def rendering(video_path: Path, out: Path, fps: float) -> Iterator[Renderer]:
    """Open a video and the encoder of the result; the result takes its name only when the block ends well.

    H.264 by GStreamer, which the set-up installs; without it MPEG-4 part 2 by OpenCV, which browsers do not play.

    Raises:
        SightflowError: the video cannot be read, or the result cannot be written.
    """
    import cv2

    video = cv2.VideoCapture(str(video_path))
    part = part_of(out, ".part.mp4")
    try:
        if not video.isOpened():
            raise SightflowError(f"--video {video_path}: expected a video that OpenCV can read, got none")
        width, height = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not out.parent.is_dir():
            raise SightflowError(f"--render {out}: expected a folder that exists, got {out.parent}")
        sink: _Sink = (
            _GstreamerSink(part, width, height, fps) if shutil.which("gst-launch-1.0") else _OpenCvSink(part, width, height, fps)
        )  # fmt: skip
        try:
            yield Renderer(video, sink, (width, height), fps)
        finally:
            sink.close()
        part.replace(out)
    finally:
        video.release()
        part.unlink(missing_ok=True)


class _OpenCvSink:
    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        import cv2

        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not self._writer.isOpened():
            raise SightflowError(f"--render: {path.parent} cannot be written, or OpenCV has no MPEG-4 encoder")

    def put(self, picture: Picture) -> None:
        self._writer.write(picture)

    def close(self) -> None:
        self._writer.release()


class _GstreamerSink:
    """Raw pictures through a pipe to x264."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the sink
        rate = f"{round(fps * 1000)}/1000"
        pipeline = [
            "fdsrc", "fd=0", f"blocksize={width * height * 3}", "!", "rawvideoparse", "format=bgr", f"width={width}",
            f"height={height}", f"framerate={rate}", "!", "videoconvert", "!", "video/x-raw,format=I420", "!",
            "x264enc", "pass=qual", "quantizer=22", "speed-preset=veryfast", "!", "video/x-h264,profile=high", "!",
            "h264parse", "!", "mp4mux", "faststart=true", "!", "filesink", f"location={path}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["gst-launch-1.0", "-q", *pipeline], stdin=subprocess.PIPE, stdout=self._log, stderr=self._log
        )

    def put(self, picture: Picture) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(picture.tobytes())
        except BrokenPipeError:
            raise SightflowError(f"--render: the encoder ended: {self._said()}") from None

    def close(self) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            status = self._process.wait(_ENCODER_WAIT_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            status = self._process.wait()
        said = self._said()
        self._log.close()
        if status != 0:
            raise SightflowError(f"--render: the encoder ended with status {status}: {said}")

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read(2000).decode("utf-8", "replace").strip()[-500:] or "it said nothing"
