"""People who walk on the floor by a course that is known exactly, seen by a camera whose pose is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.motion import Motion
from operators.tracking import Tracker, TrackerConfig
from schemas.settings import Pose

START_US = 1_700_000_000_000_000
HEIGHT_PX = 1080.0
ASPECT = 16 / 9
TALL_M, WIDE = 1.75, 0.4
CAMERA_M = 5.0
DOWN = math.radians(25.0)
FOCAL_PX = 1100.0
STILL_M, STILL_RATIO = 0.5, 0.25

Course = Callable[[float], tuple[float, float]]
"""Where somebody is after so many seconds, in metres."""


def pose() -> Pose:
    """Return the camera's: above (0, 0), looking along +y and down."""
    c, s = math.cos(DOWN), math.sin(DOWN)
    rotation = ((1.0, 0.0, 0.0), (0.0, -s, -c), (0.0, c, -s))  # right, down, ahead
    translation = tuple(-r[2] * CAMERA_M * 1000.0 for r in rotation)
    k = ((FOCAL_PX, 0.0, HEIGHT_PX * ASPECT / 2), (0.0, FOCAL_PX, HEIGHT_PX / 2), (0.0, 0.0, 1.0))
    return Pose(rotation=rotation, translation_mm=translation, intrinsic=k)  # type: ignore[arg-type]


def pixel(x: float, y: float, z: float) -> tuple[float, float]:
    """Return where a point of the site is seen, as ratios of the frame."""
    p = pose()
    point = np.array(p.intrinsic) @ (np.array(p.rotation) @ (x * 1e3, y * 1e3, z * 1e3) + np.array(p.translation_mm))
    return float(point[0] / point[2] / (HEIGHT_PX * ASPECT)), float(point[1] / point[2] / HEIGHT_PX)


def box(x: float, y: float) -> tuple[float, float, float, float]:
    """Return the exact box of somebody at a place: x1, y1, x2, y2, ratios."""
    foot, head = pixel(x, y, 0.0), pixel(x, y, TALL_M)
    half = WIDE * (foot[1] - head[1]) / ASPECT / 2
    return foot[0] - half, head[1], foot[0] + half, foot[1]


@dataclass
class Seen:
    """One frame of one stroller, after tracker and motion."""

    at_s: float
    now_us: int
    x: float
    y: float
    row: Any  # a copy of MOTION
    track: Any  # a copy of TRACK
    motion: Motion


def stroll(
    course: Course, seconds: float, fps: float, noise: float, seed: int = 0, on_ground: bool = True,
    seen: Callable[[float], bool] = lambda _: True, compiled: bool = True,
) -> Iterator[Seen]:  # fmt: skip
    """Yield what is known of somebody in each frame; box edges err by `noise` heights (white, per frame).

    Frames come by a jittered clock, so that no two rates see the same moments.
    """
    rng = np.random.default_rng(seed)
    config = TrackerConfig(capacity=4)
    tracker = Tracker(config, compiled=compiled, pose=pose() if on_ground else None)
    motion = Motion(STILL_M, STILL_RATIO, config.capacity)
    labels = np.zeros(256, np.uint8)
    for n in range(int(seconds * fps)):
        at_s = (n + rng.uniform(-0.2, 0.2)) / fps + 0.2 / fps
        x, y = course(at_s)
        exact = box(x, y)
        high = exact[3] - exact[1]
        error = rng.normal(0, noise, 4) * high / np.array([ASPECT, 1, ASPECT, 1])
        boxes = (np.array([exact]) + error).astype(np.float32)
        if not seen(at_s):
            boxes = boxes[:0]
        count = len(boxes)
        now_us = START_US + round(at_s * 1e6)
        tracker.step(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.uint8), labels, now_us, ASPECT,
                     height_px=HEIGHT_PX)  # fmt: skip
        motion.step(tracker.tracks, tracker.slots, on_ground, now_us)
        yield Seen(at_s, now_us, x, y, motion.motions[0].copy(), tracker.tracks[0].copy(), motion)


def line(speed_mps: float, angle: float = 0.0, x: float = -6.0, y: float = 10.0) -> Course:
    """Walk straight on."""
    return lambda s: (x + speed_mps * s * math.cos(angle), y + speed_mps * s * math.sin(angle))


def circle(speed_mps: float, radius_m: float, y: float = 10.0) -> Course:
    """Walk round."""
    return lambda s: (radius_m * math.cos(speed_mps * s / radius_m), y + radius_m * math.sin(speed_mps * s / radius_m))


def legs(points: list[tuple[float, float, float]]) -> Course:
    """Be at each (seconds, x, y), and go straight and steadily in between; stay at the last."""
    t, x, y = (np.array(c) for c in zip(*points, strict=True))
    return lambda s: (float(np.interp(s, t, x)), float(np.interp(s, t, y)))


def length(course: Course, seconds: float) -> float:
    """Return how far somebody walks, by steps of 1 ms."""
    p = np.array([course(s) for s in np.arange(0.0, seconds, 1e-3)])
    return float(np.hypot(*np.diff(p, axis=0).T).sum())
