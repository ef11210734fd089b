"""A deterministic world in front of cameras, seen by a detector model, as the messages an agent would send.

The same arguments give the same bytes, always. Nothing is held in memory but the objects' paths.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.settings import SiteSettings
from schemas.wire import DetectionFrame
from simulator.objects import Box, SceneObject

DEFAULT_START_US = 1_700_000_000_000_000
"""2023-11-14T22:13:20Z; a whole multiple of 10 s, so that scenes start with a window."""
BOOT_LEAD_US = 5_000_000
RECEIVE_DELAY_US = 30_000
SEND_DELAY_US = 8_000
MODEL_SHA = "51f0117e5ce4e000"
_CLOCK_STREAM, _DETECTOR_STREAM = 1, 2


@dataclass(frozen=True)
class FrameClock:
    """When a camera takes frames. `jitter_ratio` of a frame interval (0 to 0.9) around each due time; `drop_ratio`
    of frames are never seen by the agent (they get no sequence number)."""

    fps: float = 10.0
    jitter_ratio: float = 0.0
    drop_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.fps <= 240 and 0 <= self.jitter_ratio <= 0.9 and 0 <= self.drop_ratio < 1):
            raise ValueError(f"expected 0 < fps ≤ 240, 0 ≤ jitter_ratio ≤ 0.9, 0 ≤ drop_ratio < 1; got {self}")

    def times_us(self, duration_s: float, rng: np.random.Generator) -> Iterator[int]:
        """Yield the frames' times in µs from the scene's start, strictly rising."""
        for k in range(int(duration_s * self.fps)):
            shift = self.jitter_ratio * rng.random() if self.jitter_ratio else 0.0
            if not self.drop_ratio or rng.random() >= self.drop_ratio:
                yield round((k + shift) / self.fps * 1e6)


@dataclass(frozen=True)
class DetectorModel:
    """How a detector errs. The default is exact: every visible object, its true box, its true class.

    box_noise_ratio: standard deviation of each edge, as a ratio of the box's width or height. miss_ratio: chance that
    a visible object is not reported in a frame. false_count: mean number of false boxes a frame (Poisson).
    label_flicker_ratio: chance of another label of the scene. score_min, score_max: scores are uniform between
    (false boxes: below the middle).
    """

    box_noise_ratio: float = 0.0
    miss_ratio: float = 0.0
    false_count: float = 0.0
    label_flicker_ratio: float = 0.0
    score_min: float = 0.9
    score_max: float = 0.9

    @property
    def is_exact(self) -> bool:
        """Whether nothing is drawn by chance."""
        chances = (self.box_noise_ratio, self.miss_ratio, self.false_count, self.label_flicker_ratio)
        return not any(chances) and self.score_min == self.score_max


NOISY_DETECTOR = DetectorModel(0.03, 0.05, 0.05, 0.02, 0.4, 0.98)
"""About what a small network does on a good day."""

POOR_DETECTOR = DetectorModel(0.06, 0.15, 0.2, 0.05, 0.3, 0.95)
"""The same at night."""

Detection = tuple[Box, float, str]


@dataclass(frozen=True)
class CameraScene:
    """What one camera looks at. `restarts_s`: when its agent starts anew (new boot id, sequence from 0)."""

    camera: str
    objects: tuple[SceneObject, ...]
    clock: FrameClock = FrameClock()
    detector: DetectorModel = DetectorModel()
    quiet_s: float = 1.0
    restarts_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A site's cameras for `duration_s`. `settings` is the site's, as agent and jobs would have it."""

    settings: SiteSettings
    cameras: tuple[CameraScene, ...]
    duration_s: float
    seed: int = 0
    start_us: int = DEFAULT_START_US
    width_px: int = 1280
    height_px: int = 720

    @property
    def labels(self) -> tuple[str, ...]:
        """Every true label in the scene, sorted."""
        return tuple(sorted({o.label for c in self.cameras for o in c.objects}))

    @property
    def end_us(self) -> int:
        """When the scene ends."""
        return self.start_us + round(self.duration_s * 1e6)

    def camera(self, name: str) -> CameraScene:
        """Return one camera's scene. Raises KeyError."""
        for camera in self.cameras:
            if camera.camera == name:
                return camera
        raise KeyError(name)

    def frame_times_us(self, camera: str) -> Iterator[int]:
        """Yield the capture times (UTC, µs) of all frames that the agent looked at, the unsent empty ones too."""
        index = [c.camera for c in self.cameras].index(camera)
        rng = np.random.default_rng([self.seed, index, _CLOCK_STREAM])
        for at_us in self.cameras[index].clock.times_us(self.duration_s, rng):
            yield self.start_us + at_us

    def frames(self) -> Iterator[DetectionFrame]:
        """Yield every camera's messages in order of capture time (ties: in order of the cameras)."""
        streams = [self.camera_frames(c.camera) for c in self.cameras]
        return heapq.merge(*streams, key=lambda frame: frame.capture_us)

    def camera_frames(self, camera: str) -> Iterator[DetectionFrame]:
        """Yield one camera's messages: each frame with something in it; of the others one each `quiet_s`."""
        view = self.camera(camera)
        boot_us, seq, last_sent_us = self.start_us - BOOT_LEAD_US, 0, None
        restarts_us = [self.start_us + round(r * 1e6) for r in view.restarts_s]
        for capture_us, detections in self.observations(camera):
            while restarts_us and restarts_us[0] <= capture_us:
                boot_us, seq, last_sent_us = restarts_us.pop(0), 0, None
            if not detections and last_sent_us is not None and capture_us - last_sent_us < view.quiet_s * 1e6:
                continue
            yield self._message(camera, boot_us, seq, capture_us, detections)
            seq, last_sent_us = seq + 1, capture_us

    def observations(self, camera: str) -> Iterator[tuple[int, list[Detection]]]:
        """Yield capture time (µs) and what the detector reports of it, for every frame, sent or not."""
        view = self.camera(camera)
        index = self.cameras.index(view)
        waiting = sorted(view.objects, key=lambda o: (o.start_s, o.name), reverse=True)
        present: list[SceneObject] = []
        for k, capture_us in enumerate(self.frame_times_us(camera)):
            at_s = (capture_us - self.start_us) / 1e6
            while waiting and waiting[-1].start_s <= at_s:
                present.append(waiting.pop())
            present = [o for o in present if o.end_s >= at_s]
            seen: list[Detection] = [
                (o.box(at_s), view.detector.score_max, o.label) for o in present if o.is_visible(at_s)
            ]
            if not view.detector.is_exact:
                rng = np.random.default_rng([self.seed, index, _DETECTOR_STREAM, k])
                seen = _err(seen, view.detector, self.labels, rng)
            turn = k % len(seen) if seen else 0  # no tracker may lean on the order of boxes
            yield capture_us, seen[turn:] + seen[:turn]

    def _message(
        self, camera: str, boot_us: int, seq: int, capture_us: int, detections: list[Detection]
    ) -> DetectionFrame:
        boxes, scores, classes, labels = pack_detections(detections)
        return DetectionFrame(
            site=self.settings.site,
            camera=camera,
            boot=boot_us,
            seq=seq,
            capture_us=capture_us,
            clock="rtcp_sr",
            recv_us=capture_us + RECEIVE_DELAY_US,
            sent_us=capture_us + RECEIVE_DELAY_US + SEND_DELAY_US,
            width_px=self.width_px,
            height_px=self.height_px,
            model="simulator",
            model_sha=MODEL_SHA,
            labels=labels,
            boxes=boxes,
            scores=scores,
            classes=classes,
        )


def pack_detections(detections: list[Detection]) -> tuple[bytes, bytes, bytes, tuple[str, ...]]:
    """Pack to the wire's boxes, scores, classes and labels (only those present, sorted)."""
    labels = tuple(sorted({label for _, _, label in detections}))
    return (
        _little([box for box, _, _ in detections], "<f4"),
        _little([score for _, score, _ in detections], "<f4"),
        bytes(labels.index(label) for _, _, label in detections),
        labels,
    )


def _little(values: list[Box] | list[float], dtype: str) -> bytes:
    return np.array(values, dtype=dtype).tobytes()


def _err(
    seen: list[Detection], model: DetectorModel, labels: tuple[str, ...], rng: np.random.Generator
) -> list[Detection]:
    """Apply a detector's errors to what a perfect one would report."""
    reported = [_blur(d, model, labels, rng) for d in seen if rng.random() >= model.miss_ratio]
    reported += [_false_box(model, labels, rng) for _ in range(rng.poisson(model.false_count))]
    return [d for d in reported if d[0][0] < d[0][2] and d[0][1] < d[0][3]]


def _blur(detection: Detection, model: DetectorModel, labels: tuple[str, ...], rng: np.random.Generator) -> Detection:
    (x1, y1, x2, y2), _, label = detection
    noise: npt.NDArray[np.float64] = rng.normal(0.0, model.box_noise_ratio, 4) if model.box_noise_ratio else np.zeros(4)
    width, height = x2 - x1, y2 - y1
    box = (x1 + noise[0] * width, y1 + noise[1] * height, x2 + noise[2] * width, y2 + noise[3] * height)
    if rng.random() < model.label_flicker_ratio:
        label = labels[int(rng.integers(len(labels)))]
    return _clip(box), float(rng.uniform(model.score_min, model.score_max)), label


def _false_box(model: DetectorModel, labels: tuple[str, ...], rng: np.random.Generator) -> Detection:
    x, y = rng.uniform(0.05, 0.95, 2)
    width, height = rng.uniform(0.02, 0.12, 2)
    score = float(rng.uniform(model.score_min, (model.score_min + model.score_max) / 2))
    label = labels[int(rng.integers(len(labels)))] if labels else "person"
    return _clip((x - width / 2, y - height / 2, x + width / 2, y + height / 2)), score, label


def _clip(box: tuple[float, ...]) -> Box:
    x1, y1, x2, y2 = (min(1.0, max(0.0, float(c))) for c in box)
    return x1, y1, x2, y2
