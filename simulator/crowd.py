"""Crowds before a camera, still or moving, as a real detector would report them, with the truth beside it.

Objects walk or drive on a plane in metres, a pinhole camera looks at them, the nearer hides the farther, and a detector
profile (fitted to real ones) misses, blurs, doubles and invents boxes. Errors are correlated in time, as real ones are:
what was missed is likely to be missed again a moment later, whatever the frame rate. The same arguments give the same
frames, always.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from simulator.scene import DEFAULT_START_US, FrameClock

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

NEAR_M = 1.0  # nothing nearer to the camera's plane than this is seen
DEFAULT_CLOCK = FrameClock(fps=25.0)
TICK_S = 0.05  # the world moves in steps of this, whatever the camera's clock
OCCLUSION_CELLS = 12  # per side of a box: how finely hiding is measured
_WORLD_STREAM, _CLOCK_STREAM, _DETECTOR_STREAM = 11, 12, 13


@dataclass(frozen=True)
class DetectorProfile:
    """How one kind of detector errs.

    edge_ratio: standard deviation of a box's centre, as ratios of its width and height; size_ratio: of its width and
    height. steady_ratio: share of that variance that stays for `steady_s` (the rest is new in each frame). recall:
    chance to see an object in full view; `visible_half` is the visible share at which it has halved. score_top,
    score_spread: of objects in full view; hidden ones lose up to `score_loss`. score_floor: nothing below is reported.
    ghost_count: places in view that are mistaken for objects now and then; false_per_s: false boxes anywhere.
    double_ratio: chance that an object gets a second, smaller box. label_flicker_ratio: chance of another class.
    """

    edge_ratio: tuple[float, float] = (0.03, 0.015)
    size_ratio: tuple[float, float] = (0.06, 0.03)
    steady_ratio: float = 0.6
    steady_s: float = 0.5
    recall: float = 0.97
    visible_half: float = 0.3
    small_px: float = 25.0  # height at which recall has halved
    miss_s: float = 0.2  # how long a miss lasts on average
    score_top: float = 0.92
    score_spread: float = 0.05
    score_loss: float = 0.6
    score_floor: float = 0.05
    ghost_count: int = 3
    ghost_score: float = 0.25
    false_per_s: float = 0.5
    double_ratio: float = 0.01
    label_flicker_ratio: float = 0.0


PROFILES: dict[str, DetectorProfile] = {
    # Street scenes: 57 % of all objects found, scores near 1 for everything, hardly a false box.
    "faster-rcnn": DetectorProfile(
        (0.03, 0.012), (0.06, 0.03), 0.6, 0.5, 0.95, 0.62, 60, 0.3, 0.99, 0.01, 0.1, 0.05, 1, 0.5, 0.1, 0.003
    ),
    # The same streets: 90 % found, low scores for hidden ones, a long tail of weak false boxes.
    "yolox": DetectorProfile(
        (0.04, 0.012), (0.09, 0.025), 0.8, 0.6, 0.98, 0.28, 25, 0.15, 0.91, 0.03, 0.75, 0.03, 8, 0.12, 6.0, 0.03
    ),
    # Lidar boxes of cars at 10 frames/s: few misses, many false ones, scores from 0.1 to 1.
    "pointrcnn": DetectorProfile(
        (0.02, 0.03), (0.04, 0.04), 0.5, 0.5, 0.97, 0.15, 12, 0.2, 0.95, 0.1, 0.6, 0.1, 10, 0.25, 8.0, 0.0
    ),
    # The same for people: low scores throughout.
    "pointrcnn-people": DetectorProfile(
        (0.06, 0.03), (0.18, 0.05), 0.6, 0.5, 0.85, 0.25, 20, 0.25, 0.55, 0.14, 0.3, 0.1, 14, 0.28, 14.0, 0.01
    ),
    # A small network on an edge device.
    "mobilenet": DetectorProfile(
        (0.05, 0.04), (0.1, 0.06), 0.5, 0.4, 0.88, 0.4, 50, 0.3, 0.75, 0.12, 0.5, 0.15, 4, 0.3, 1.0, 0.02, 0.02
    ),
}
"""Fitted by eye to box errors, recall, score quantiles and false boxes of these detectors on street and road footage."""


@dataclass(frozen=True)
class CrowdScene:
    """A crowd and one camera.

    people_count and car_count: objects in the world at any time (who leaves is replaced). camera_height_m, tilt_deg
    (down), field_of_view_deg (horizontal). motion: `still`, `shaking` (a pole in the wind, a hand), `driving` (forward
    and round bends). extent_m: depth of the world. speed_mps: mean walking speed; cars do six times that.
    """

    seed: int = 0
    profile: str = "yolox"
    people_count: int = 20
    car_count: int = 0
    duration_s: float = 20.0
    clock: FrameClock = DEFAULT_CLOCK
    camera_height_m: float = 3.0
    tilt_deg: float = 8.0
    field_of_view_deg: float = 60.0
    motion: Literal["still", "shaking", "driving"] = "still"
    extent_m: float = 25.0
    speed_mps: float = 1.2
    width_px: int = 1280
    height_px: int = 720

    @property
    def focal_ratio(self) -> float:
        """Focal length as a ratio of the frame's width."""
        return 0.5 / math.tan(math.radians(self.field_of_view_deg) / 2)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes by index."""
        return ("person", "car")

    def frames(self) -> Iterator[CrowdFrame]:
        """Yield every frame in order of time, the empty ones too."""
        world, camera = _World(self), _Camera(self)
        detector = _Detector(self)
        clock_rng = np.random.default_rng([self.seed, _CLOCK_STREAM])
        for at_us in self.clock.times_us(self.duration_s, clock_rng):
            at_s = at_us / 1e6
            world.advance(at_s, camera)
            ids, kinds, boxes, depths = camera.look(world, at_s)
            shares = _visible_shares(boxes, depths)
            seen, scores, classes = detector.report(at_s, ids, kinds, boxes, shares)
            kept = (shares > 0.1) & (boxes[:, 3] - boxes[:, 1] > 8 / self.height_px)
            yield CrowdFrame(
                DEFAULT_START_US + at_us, seen.astype(np.float32), scores.astype(np.float32),
                classes.astype(np.uint8), ids[kept], boxes[kept], kinds[kept], shares[kept],
            )  # fmt: skip


@dataclass(frozen=True)
class CrowdFrame:
    """What a detector reports (`boxes` N×4 x1 y1 x2 y2 as ratios of the frame, `scores`, `classes`) and what is there
    (`truth_*`, M objects of which at least a tenth is visible)."""

    capture_us: int
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.uint8]
    truth_ids: I64
    truth_boxes: F64
    truth_classes: I64
    truth_shares: F64


class _World:
    """Objects on the plane: x right, y ahead of where the camera starts, in metres."""

    def __init__(self, scene: CrowdScene) -> None:
        self._scene = scene
        self._rng = np.random.default_rng([scene.seed, _WORLD_STREAM])
        n = scene.people_count + scene.car_count
        self.kinds = np.array([0] * scene.people_count + [1] * scene.car_count, np.int64)
        self.ids = np.zeros(n, np.int64)
        self.xy, self.v, self.size = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros((n, 2))
        self._pause_s = np.zeros(n)
        self._next, self._at_s = 1, 0.0
        for i in range(n):
            self._place(i, (0.0, 0.0, 0.0), anywhere=True)

    def _place(self, i: int, pose: tuple[float, float, float], anywhere: bool) -> None:
        s, rng = self._scene, self._rng
        half = math.radians(s.field_of_view_deg) / 2
        depth = s.extent_m * math.sqrt(rng.uniform(0.03, 1.0))
        side = rng.uniform(-1, 1) if anywhere else math.copysign(1.1, rng.uniform(-1, 1))
        x, y = depth * math.tan(half) * side, depth
        heading = rng.choice([-1.0, 1.0]) if anywhere else -math.copysign(1.0, side)
        angle = rng.normal(0.0, 0.5)  # mostly across the view, some along it
        if rng.random() < 0.25:
            angle += math.pi / 2 * rng.choice([-1.0, 1.0])
        speed = s.speed_mps * max(0.2, rng.normal(1.0, 0.25)) * (6.0 if self.kinds[i] else 1.0)
        vx, vy = speed * heading * math.cos(angle), speed * math.sin(angle)
        turn = pose[2]
        self.xy[i] = (
            pose[0] + x * math.cos(turn) + y * math.sin(turn),
            pose[1] - x * math.sin(turn) + y * math.cos(turn),
        )
        self.v[i] = (vx * math.cos(turn) + vy * math.sin(turn), -vx * math.sin(turn) + vy * math.cos(turn))
        self.size[i] = (1.9, 1.5) if self.kinds[i] else (0.62, 1.7)
        self.size[i] *= max(0.7, rng.normal(1.0, 0.07))
        self.ids[i], self._next = self._next, self._next + 1
        self._pause_s[i] = 0.0

    def advance(self, to_s: float, camera: _Camera) -> None:
        """Move everything on, in steps that do not depend on the camera's clock."""
        while self._at_s + TICK_S <= to_s:
            self._tick(camera.pose(self._at_s))
            self._at_s += TICK_S

    def _tick(self, pose: tuple[float, float, float]) -> None:
        rng, n = self._rng, len(self.ids)
        bend = rng.normal(0.0, 0.12, n) * math.sqrt(TICK_S) * np.where(self.kinds == 1, 0.2, 1.0)
        c, s = np.cos(bend), np.sin(bend)
        self.v = np.stack([c * self.v[:, 0] - s * self.v[:, 1], s * self.v[:, 0] + c * self.v[:, 1]], 1)
        starts = (rng.random(n) < 0.03 * TICK_S) & (self.kinds == 0)
        self._pause_s = np.where(starts, rng.uniform(1, 4, n), np.maximum(self._pause_s - TICK_S, 0.0))
        self.xy += self.v * TICK_S * (self._pause_s == 0)[:, None]
        x, y = _into_view(self.xy, pose)
        wide = math.tan(math.radians(self._scene.field_of_view_deg) / 2) * np.maximum(y, 1.0) * 1.25 + 1.0
        for i in np.flatnonzero((np.abs(x) > wide) | (y < 0.5) | (y > 1.3 * self._scene.extent_m)):
            self._place(int(i), pose, anywhere=self._scene.motion == "driving" and rng.random() < 0.5)


class _Camera:
    def __init__(self, scene: CrowdScene) -> None:
        self._scene = scene
        rng = np.random.default_rng([scene.seed, _WORLD_STREAM, 1])
        self._phases = rng.uniform(0, 2 * math.pi, 6)
        self._rates = rng.uniform(0.4, 1.6, 6)

    def pose(self, at_s: float) -> tuple[float, float, float]:
        """Return x, y (metres) and heading (radians, clockwise)."""
        if self._scene.motion != "driving":
            return 0.0, 0.0, 0.0
        p = self._phases
        turn = 0.35 * (math.sin(0.35 * at_s + p[0]) - math.sin(p[0]))
        ahead = 2.0 * at_s + 4.0 * (math.sin(0.25 * at_s + p[1]) - math.sin(p[1]))
        return ahead * math.sin(turn) * 0.5, ahead, turn

    def _sway(self, at_s: float) -> tuple[float, float]:
        """Return offsets of the picture, as ratios of its height."""
        if self._scene.motion == "still":
            return 0.0, 0.0
        size = 0.03 if self._scene.motion == "shaking" else 0.006
        waves = np.sin(2 * math.pi * self._rates * at_s + self._phases)
        return size * float(waves[:3].sum()) / 2, size * float(waves[3:].sum()) / 4

    def look(self, world: _World, at_s: float) -> tuple[I64, I64, F64, F64]:
        """Return ids, kinds, boxes (x1 y1 x2 y2 as ratios, may stick out) and depths of what is in the frame."""
        s = self._scene
        x, y = _into_view(world.xy, self.pose(at_s))
        aspect, f = s.width_px / s.height_px, s.focal_ratio * s.width_px / s.height_px
        tilt = math.radians(s.tilt_deg)
        dx, dy = self._sway(at_s)
        depth = y * math.cos(tilt) + s.camera_height_m * math.sin(tilt)
        ahead = depth > NEAR_M
        depth = np.maximum(depth, NEAR_M)
        foot = 0.5 + dy + f * (s.camera_height_m * math.cos(tilt) - y * math.sin(tilt)) / depth
        height = f * world.size[:, 1] / depth
        along = np.abs(world.v[:, 0]) / np.maximum(np.hypot(world.v[:, 0], world.v[:, 1]), 1e-9)
        width = f * world.size[:, 0] * np.where(world.kinds == 1, 1 + along, 0.8 + 0.3 * along) / depth
        cx = 0.5 + (f * x / depth + dx) / aspect
        boxes = np.stack([cx - width / aspect / 2, foot - height, cx + width / aspect / 2, foot], 1)
        inside = np.clip(np.minimum(boxes[:, 2], 1) - np.maximum(boxes[:, 0], 0), 0, None) * np.clip(
            np.minimum(boxes[:, 3], 1) - np.maximum(boxes[:, 1], 0), 0, None
        )
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        shown = ahead & (inside > 0.4 * area) & (height < 2.0)
        return world.ids[shown], world.kinds[shown], boxes[shown], depth[shown]


class _Detector:
    """Errors of one camera's detector: an Ornstein–Uhlenbeck process per object, so that they do not hang on the rate."""

    def __init__(self, scene: CrowdScene) -> None:
        self._scene, self._profile = scene, PROFILES[scene.profile]
        self._rng = np.random.default_rng([scene.seed, _DETECTOR_STREAM])
        self._state: dict[int, F64] = {}  # by object: five slow errors and one for misses, each of unit variance
        self._at_s = 0.0
        p, rng = self._profile, self._rng
        centre = rng.uniform(0.1, 0.9, (p.ghost_count, 2))
        height = rng.uniform(0.06, 0.3, p.ghost_count)
        size = np.stack([height * 0.45 / (scene.width_px / scene.height_px), height], 1)
        self._ghosts = np.hstack([centre - size / 2, centre + size / 2])

    def report(self, at_s: float, ids: I64, kinds: I64, boxes: F64, shares: F64) -> tuple[F64, F64, I64]:
        """Return boxes, scores and classes of one frame, in no order that a tracker could lean on."""
        p, rng, s = self._profile, self._rng, self._scene
        dt, self._at_s = at_s - self._at_s, at_s
        keep = np.array([math.exp(-dt / p.steady_s)] * 5 + [math.exp(-dt / p.miss_s)])
        before, self._state = self._state, {}
        found: list[tuple[Any, float, int]] = []
        for object_id, kind, box, share in zip(ids.tolist(), kinds.tolist(), boxes, shares.tolist(), strict=True):
            fresh = rng.normal(size=6)
            old = before.get(object_id)
            slow = fresh if old is None else keep * old + np.sqrt(1 - keep**2) * fresh
            self._state[object_id] = slow
            height_px = (box[3] - box[1]) * s.height_px
            chance = p.recall * _rise(share, p.visible_half, 0.08) * _rise(height_px, p.small_px, p.small_px / 6)
            quick = rng.normal(size=5)
            if _normal_cdf(float(slow[5])) > chance:
                continue
            error = math.sqrt(p.steady_ratio) * slow[:5] + math.sqrt(1 - p.steady_ratio) * quick
            score = p.score_top + p.score_spread * error[4] - p.score_loss * (1 - share) ** 1.5
            blurred = _blur(box, error * (1 + 1.5 * (1 - share)), p)
            label = 1 - kind if rng.random() < p.label_flicker_ratio else kind
            found.append((blurred, score, label))
            if rng.random() < p.double_ratio:
                found.append((_blur(box, error + rng.normal(size=5) * 2, p), score * rng.uniform(0.4, 0.9), label))
        for ghost in self._ghosts:
            if rng.random() < 0.3:
                found.append((_blur(ghost, rng.normal(size=5), p), p.ghost_score * rng.uniform(0.3, 1.8), 0))
        for _ in range(rng.poisson(p.false_per_s * min(dt, 0.1))):
            height = rng.uniform(0.04, 0.4)
            x, y, width = rng.uniform(), rng.uniform(0.3, 1), height * 0.45 / (s.width_px / s.height_px)
            found.append((np.array([x, y - height, x + width, y]), p.ghost_score * rng.uniform(0.3, 1.5), 0))
        found = [d for d in found if d[1] >= p.score_floor and _is_in_frame(d[0])]
        order = rng.permutation(len(found))
        return (
            np.array([found[i][0] for i in order]).reshape(-1, 4),
            np.array([min(d, 0.999) for d in (found[i][1] for i in order)]),
            np.array([found[i][2] for i in order], np.int64),
        )


def _into_view(xy: F64, pose: tuple[float, float, float]) -> tuple[F64, F64]:
    """Return coordinates right of and ahead of the camera."""
    dx, dy = xy[:, 0] - pose[0], xy[:, 1] - pose[1]
    c, s = math.cos(pose[2]), math.sin(pose[2])
    return c * dx - s * dy, s * dx + c * dy


def _blur(box: Any, error: F64, p: DetectorProfile) -> F64:
    w, h = box[2] - box[0], box[3] - box[1]
    cx = (box[0] + box[2]) / 2 + p.edge_ratio[0] * error[0] * w
    cy = (box[1] + box[3]) / 2 + p.edge_ratio[1] * error[1] * h
    w *= max(0.3, 1 + p.size_ratio[0] * error[2])
    h *= max(0.3, 1 + p.size_ratio[1] * error[3])
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def _is_in_frame(box: F64) -> bool:
    return bool(box[0] < 0.98 and box[1] < 0.98 and box[2] > 0.02 and box[3] > 0.02 and np.abs(box - 0.5).max() <= 1)


def _visible_shares(boxes: F64, depths: F64) -> F64:
    """Return the share of each box that no nearer box hides (bodies fill about the middle 80 % of a box's width)."""
    shares = np.ones(len(boxes))
    steps = (np.arange(OCCLUSION_CELLS) + 0.5) / OCCLUSION_CELLS
    shrink = 0.1 * (boxes[:, 2] - boxes[:, 0])
    for i, b in enumerate(boxes):
        nearer = np.flatnonzero(
            (depths < depths[i]) & (boxes[:, 0] < b[2]) & (boxes[:, 2] > b[0])
            & (boxes[:, 1] < b[3]) & (boxes[:, 3] > b[1])
        )  # fmt: skip
        if not len(nearer):
            continue
        x, y = b[0] + steps * (b[2] - b[0]), b[1] + steps * (b[3] - b[1])
        hidden = np.zeros((OCCLUSION_CELLS, OCCLUSION_CELLS), bool)
        for j in nearer:
            in_x = (x > boxes[j, 0] + shrink[j]) & (x < boxes[j, 2] - shrink[j])
            hidden |= in_x[None, :] & ((y > boxes[j, 1]) & (y < boxes[j, 3]))[:, None]
        shares[i] = 1 - hidden.mean()
    return shares


def _rise(value: float, half: float, width: float) -> float:
    """Logistic step: 0.5 at `half`."""
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, (value - half) / width))))


def _normal_cdf(value: float) -> float:
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))
