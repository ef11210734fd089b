"""The tracker of one camera: the table and its parameters. The work is in `kernel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.tracking import kernel
from operators.tracking.table import TRACK


@dataclass(frozen=True)
class TrackerConfig:
    """Scores are ratios, times seconds of event time.

    Raising `memory_s` bridges longer occlusions and risks taking another object for the lost one; raising
    `probation_s` hides more false detections and shows objects later.
    """

    score_high: float = 0.4
    score_low: float = 0.1
    score_new: float = 0.4
    memory_s: float = 1.5
    probation_s: float = 0.15
    capacity: int = 512  # objects per camera; further births are refused and counted


class Scratch:
    """Arrays that one thread's trackers share: their contents mean nothing between two calls."""

    def __init__(self, capacity: int) -> None:
        self.born_us = np.zeros(capacity, np.int64)
        self.ordinals = np.zeros(capacity, np.uint32)
        self.boxes = np.zeros((capacity, 4), np.float32)
        self.velocities = np.zeros((capacity, 2), np.float32)
        self.states = np.zeros(capacity, np.uint8)
        self.labels = np.zeros(capacity, np.uint8)
        self.scores = np.zeros(capacity, np.float32)
        self.births = np.zeros(capacity, np.int64)
        self.ends = np.zeros(capacity, np.int64)


class Tracker:
    """Packed state of one camera's tracks. `tracks[:slots]` is the live part."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self.tracks: npt.NDArray[Any] = np.zeros(config.capacity, TRACK)
        self.header = np.zeros(3, np.int64)
        self.last_us = 0
        self._parameters = np.array(
            [
                config.score_high,
                config.score_low,
                config.score_new,
                round(config.memory_s * 1e6),
                round(config.probation_s * 1e6),
            ],
            np.float64,
        )

    @property
    def slots(self) -> int:
        """Number of slots in use, counted to the highest."""
        return int(self.header[0])

    @property
    def refused_count(self) -> int:
        """Births refused because the table was full."""
        return int(self.header[2])

    def step(
        self, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], classes: npt.NDArray[np.uint8],
        label_of: npt.NDArray[np.uint8], now_us: int, aspect: float,
    ) -> None:  # fmt: skip
        """Take one frame (arrays as `kernel.step`); `now_us` must lie after the last frame's."""
        last_us = self.last_us or now_us
        kernel.step(
            self.tracks, self.header, boxes, scores, classes, label_of, now_us, last_us, aspect, self._parameters
        )
        self.last_us = now_us

    def publish(self, out: Scratch, aspect: float) -> tuple[int, list[int], list[int]]:
        """Fill `out` with this frame's tracks; return their number and the slots confirmed and ended in this frame."""
        n, births, ends = kernel.publish(
            self.tracks, self.header[0], aspect, out.born_us, out.ordinals, out.boxes, out.velocities, out.states,
            out.labels, out.scores, out.births, out.ends,
        )  # fmt: skip
        return n, out.births[:births].tolist() if births else [], out.ends[:ends].tolist() if ends else []

    def end_all(self) -> None:
        """End every track: the source is lost."""
        kernel.end_all(self.tracks, self.header)

    def snapshot(self) -> tuple[int, bytes, bytes]:
        """Return (last_us, header, live rows)."""
        return self.last_us, self.header.tobytes(), self.tracks[: self.header[0]].tobytes()

    def restore(self, last_us: int, header: bytes, rows: bytes) -> None:
        """Take up a snapshot."""
        self.last_us = last_us
        self.header = np.frombuffer(header, np.int64).copy()
        self.tracks = np.zeros(self.config.capacity, TRACK)
        self.tracks[: self.slots] = np.frombuffer(rows, TRACK)
