"""The motions of one camera: the packed table, and what is said of a track at its end."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.motion import kernel

_AT_END = ["fastest_mps", "vertex_count", "still_us", "stopped_ms"]


class Trajectory(NamedTuple):
    """How an object moved from its first observation to its last."""

    path: tuple[tuple[int, float, float], ...]
    """(ms since born_us, x, y): metres, or frame heights where the ground is not known. Straight and steady in between."""
    error: float
    """Each observation lies within this of the path, at its own time; metres or frame heights."""
    stopped_s: float
    """In stays of at least `kernel.STOP_S`."""
    distance_m: float | None
    speed_mean_mps: float | None
    speed_max_mps: float | None
    """The mean over the fastest stretch of the path of at least `kernel.STRETCH_S`; where none is so long, over all of it."""

    def fields(self, aspect: float) -> dict[str, Any]:
        """Return it as `schemas.wire.Event` has it: in the image x is a ratio of the frame's width; rounded, the error up."""
        on_ground = self.distance_m is not None
        wide, digits = (1.0, 3) if on_ground else (aspect, 5)
        return {
            "path_plane": ("ground" if on_ground else "image") if self.path else "",
            "path": tuple([(ms, round(x / wide, digits), round(y, digits)) for ms, x, y in self.path]),
            "path_error": math.ceil(self.error * 10**digits + 1.0) / 10**digits,
            "stopped_s": self.stopped_s,
            "distance_m": _rounded(self.distance_m),
            "speed_mean_mps": _rounded(self.speed_mean_mps),
            "speed_max_mps": _rounded(self.speed_max_mps),
        }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


class Motion:
    """Packed motions of one camera's objects, by slot.

    Args:
        still_m, still_ratio: who stays within this radius stands still: metres, and heights of the box without ground.
        capacity: slots.
    """

    def __init__(self, still_m: float, still_ratio: float, capacity: int) -> None:
        self.motions: npt.NDArray[Any] = np.zeros(capacity, kernel.MOTION)
        self.still = np.array([still_m, still_ratio], np.float64)
        self._course = np.zeros((kernel.MAX_VERTICES + 1, 4))

    def step(self, tracks: npt.NDArray[Any], slots: int, on_ground: bool, now_us: int) -> None:
        """Take the tracks after their step."""
        kernel.step(tracks, slots, self.motions, self.still, on_ground, now_us)

    def trajectory(self, seen_us: int, slot: int, on_ground: bool) -> Trajectory:
        """Return how the object of a slot has moved, up to its last observation at `seen_us`."""
        count, walked_m = kernel.course(self.motions, slot, on_ground, self._course)
        course = self._course[:count].tolist()
        path = tuple([(int(ms), x, y) for x, y, ms, _ in course])
        fastest_mps, vertex_count, still_us, stopped_ms = self.motions[_AT_END].item(slot)
        if count > vertex_count:  # the last stretch is open
            (before_ms, *begin), (after_ms, *end) = path[-2:]
            seconds = (after_ms - before_ms) * 1e-3
            if seconds >= kernel.STRETCH_S:
                fastest_mps = max(fastest_mps, math.dist(begin, end) / seconds)
        mean_mps = float(walked_m) / ((path[-1][0] - path[0][0]) * 1e-3) if count > 1 else 0.0
        stayed_ms = (seen_us - still_us) // 1000
        if stayed_ms >= kernel.STOP_S * 1e3:
            stopped_ms += stayed_ms
        is_known = on_ground and count > 0
        return Trajectory(
            path,
            max([error for _, _, _, error in course[1:]], default=kernel.STEP_M if on_ground else kernel.STEP_RATIO),
            stopped_ms * 1e-3,
            float(walked_m) if is_known else None,
            mean_mps if is_known else None,
            max(fastest_mps, mean_mps) if is_known else None,
        )

    def restore(self, rows: bytes, tracks: npt.NDArray[Any], slots: int, on_ground: bool) -> None:
        """Take up the live rows of a snapshot; `tracks` as they were then."""
        old = np.frombuffer(rows, kernel.MOTION)
        self.motions[:] = np.zeros((), kernel.MOTION)
        self.motions[: len(old)] = old
        kernel.derive_all(tracks, slots, self.motions, on_ground)
