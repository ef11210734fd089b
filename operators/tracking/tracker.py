"""The tracker of one camera: the table and its parameters. The work is in `kernel`, or in `plain` without numba."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.compiled import COMPILED
from operators.tracking import kernel, plain
from operators.tracking.config import TrackerConfig, layout
from operators.tracking.ground import NO_GROUND, Pose, image_to_ground, points_to_ground
from operators.tracking.table import (
    BAD_DETECTIONS,
    FREE,
    HEADER_SIZE,
    NOISE,
    REFUSED_BIRTHS,
    REFUSED_FRAMES,
    SLOTS,
    STREAM_SIZE,
    SURPLUS_DETECTIONS,
    TRACK,
)
from schemas.homography import PointPair

MAX_DETECTIONS = 1000
"""Per frame (schemas.wire.MAX_DETECTIONS); of more, the strongest are taken."""
MAX_EMBEDDING_DIM = 512
"""Longer embeddings are not used: they would make a camera's state larger than a megabyte."""
EMBEDDING_MEMORY_S = 0.4
"""After this long since its last observation, a new one makes up half of a track's embedding; after less, less."""
EMBEDDING_UNIT = 2047.0
"""Embeddings are kept as whole numbers at this length: their products and all partial sums stay below 2²⁴, so that float32
adds them exactly, in whatever order a BLAS takes them."""
NO_AFFINITY = np.zeros((0, 0), np.float32)


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
    """Packed state of one camera's tracks. `tracks[:slots]` is the live part.

    Args:
        config: settings.
        pose: of the camera; with it, association happens on the ground as well, and `ground` of a track is set.
        ground_points: the same from points of the floor, where there is no pose.
        compiled: use numba's kernels; by default where numba is installed. Both ways give the same bits.
    """

    def __init__(
        self, config: TrackerConfig, compiled: bool = COMPILED, pose: Pose | None = None,
        ground_points: Sequence[PointPair] = (),
    ) -> None:  # fmt: skip
        if kernel.compiled_layout() != layout():
            raise RuntimeError(
                "expected kernels compiled for this TrackerConfig, got older ones from numba's cache: "
                "delete operators/tracking/__pycache__"
            )
        self.config = config
        self.tracks: npt.NDArray[Any] = np.zeros(config.capacity, TRACK)
        self.header = np.zeros(HEADER_SIZE, np.int64)
        self.stream = np.zeros(STREAM_SIZE, np.float64)
        self.clock = np.zeros(1, np.int64)  # event time of the last frame; 0 before the first
        self._way: Any = kernel if compiled else plain
        self._step: Callable[..., None] = self._way.step
        self.parameters = config.vector()
        self._pose, self._points = pose, tuple(ground_points)
        self._ground, self._picture = NO_GROUND, (-1.0, -1.0)
        self.column_of = np.zeros(config.capacity, np.int64)
        self._gallery: npt.NDArray[np.float32] | None = None  # capacity × dimension, rows as `_whole` gives them
        self._embedding_model = ""
        self._seen_us = np.zeros(0, np.int64)  # of the slots before the step, for `remember`

    @property
    def last_us(self) -> int:
        """Event time of the last frame, 0 before the first."""
        return int(self.clock[0])

    @last_us.setter
    def last_us(self, at_us: int) -> None:
        self.clock[0] = at_us

    @property
    def slots(self) -> int:
        """Number of slots in use, counted to the highest."""
        return int(self.header[SLOTS])

    @property
    def refused_count(self) -> int:
        """Births refused because the table was full."""
        return int(self.header[REFUSED_BIRTHS])

    @property
    def bad_count(self) -> int:
        """Detections left out: not finite, without area, too far out of the frame, score not 0 to 1."""
        return int(self.header[BAD_DETECTIONS])

    @property
    def surplus_count(self) -> int:
        """Detections left out beyond MAX_DETECTIONS in a frame, the weakest ones."""
        return int(self.header[SURPLUS_DETECTIONS])

    @property
    def refused_frame_count(self) -> int:
        """Frames refused because their time did not lie after the last one's."""
        return int(self.header[REFUSED_FRAMES])

    def step(
        self, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], classes: npt.NDArray[np.uint8],
        label_of: npt.NDArray[np.uint8], now_us: int, aspect: float,
        embeddings: npt.NDArray[Any] | None = None, embedding_model: str = "", height_px: float = 0.0,
    ) -> bool:  # fmt: skip
        """Take one frame.

        Args:
            boxes, scores, classes, label_of: as `kernel.step`.
            now_us: event time; must lie after the last frame's.
            aspect: frame width / height.
            embeddings: N×D appearance vectors of `embedding_model`, or None. Vectors of another model or dimension than
                the tracks' make them forget theirs.

            height_px: of the frame; the pose needs it. 0: twice the principal point's.

        Returns:
            Whether it was taken; a frame from the past is counted and changes nothing else.
        """
        if self.last_us and now_us <= self.last_us:
            self.header[REFUSED_FRAMES] += 1
            return False
        last_us = self.last_us or now_us
        ground = self.ground(height_px, aspect)
        if len(scores) > MAX_DETECTIONS:
            strongest = np.sort(np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")[:MAX_DETECTIONS])
            self.header[SURPLUS_DETECTIONS] += len(scores) - MAX_DETECTIONS
            boxes, scores, classes = boxes[strongest], scores[strongest], classes[strongest]
            embeddings = None if embeddings is None else embeddings[strongest]
        affinity, vectors = NO_AFFINITY, None
        if embeddings is not None:
            affinity, vectors = self.compare(embeddings, embedding_model)
        self._step(
            self.tracks, self.header, self.stream, boxes, scores, classes, label_of, affinity, ground, self.column_of,
            now_us, last_us, aspect, self.parameters,
        )  # fmt: skip
        if vectors is not None:
            self.remember(vectors)
        self.last_us = now_us
        return True

    def ground(self, height_px: float, aspect: float) -> npt.NDArray[np.float64]:
        """Return what `kernel.step` wants to know of the floor, in a frame of this height and aspect."""
        if self._picture != (height_px, aspect):
            self._picture = (height_px, aspect)
            if self._pose is not None:
                self._ground = image_to_ground(self._pose, height_px)
            elif self._points:
                self._ground = points_to_ground(self._points, aspect)
        return self._ground

    def compare(
        self, embeddings: npt.NDArray[Any], model: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Return likeness of the tracks' embeddings and a frame's (slots × N), and what to `remember` after the step."""
        vectors = self._vectors(embeddings, model)
        if vectors is None or self._gallery is None:
            return NO_AFFINITY, None
        affinity = (self._gallery[: self.slots] @ vectors.T) / np.float32(EMBEDDING_UNIT**2)
        affinity[:, ~vectors.any(axis=1)] = self.config.embedding_even  # no appearance says neither yes nor no
        self._seen_us = self.tracks["seen_us"].copy()
        return affinity, vectors

    def _vectors(self, embeddings: npt.NDArray[Any], model: str) -> npt.NDArray[np.float32] | None:
        """Return embeddings as `_whole` does, or None where they cannot be used."""
        dim = embeddings.shape[1] if embeddings.ndim == 2 else 0
        if not 0 < dim <= MAX_EMBEDDING_DIM:
            return None
        if self._gallery is None or self._gallery.shape[1] != dim or self._embedding_model != model:
            self._gallery = np.zeros((self.config.capacity, dim), np.float32)
            self._embedding_model = model
            self.tracks["has_embedding"] = 0
        return _whole(embeddings)

    def remember(self, vectors: npt.NDArray[np.float32]) -> None:
        """Blend what was seen into the tracks' embeddings."""
        assert self._gallery is not None
        rows = np.flatnonzero(self.column_of[: self.slots] >= 0)
        seen = vectors[self.column_of[rows]]
        usable = seen.any(axis=1)
        rows, seen = rows[usable], seen[usable]
        past_s = (self.tracks["seen_us"][rows] - self._seen_us[rows]) * 1e-6
        is_known = self.tracks["has_embedding"][rows] == 1
        keep = np.where(is_known, EMBEDDING_MEMORY_S / (EMBEDDING_MEMORY_S + past_s), 0.0)[:, None]
        self._gallery[rows] = _whole(keep * self._gallery[rows] + (1.0 - keep) * seen)
        self.tracks["has_embedding"][rows] = 1

    def publish(self, out: Scratch, aspect: float) -> tuple[int, list[int], list[int]]:
        """Fill `out` with this frame's tracks; return their number and the slots confirmed and ended in this frame."""
        n, births, ends = self._way.publish(
            self.tracks, self.header[SLOTS], aspect, self.parameters, out.born_us, out.ordinals, out.boxes,
            out.velocities, out.states, out.labels, out.scores, out.births, out.ends,
        )  # fmt: skip
        return n, out.births[:births].tolist() if births else [], out.ends[:ends].tolist() if ends else []

    def end_all(self) -> None:
        """End every track: the source is lost."""
        self._way.end_all(self.tracks, self.header)

    def embeddings(self) -> tuple[str, bytes]:
        """Return what a snapshot holds of appearance: model, and the live rows' embeddings."""
        if self._gallery is None:
            return self._embedding_model, b""
        n = self.slots
        used = (self.tracks["has_embedding"][:n] == 1) & (self.tracks["status"][:n] != FREE)
        if not used.any():  # as a tracker has it that was restored when nobody was there
            return self._embedding_model, b""
        rows = self._gallery[:n] * used[:, None]
        return self._embedding_model, rows.astype("<i2").tobytes()

    def restore(
        self, last_us: int, header: bytes, stream: bytes, rows: bytes, embedding_model: str = "", gallery: bytes = b""
    ) -> None:
        """Take up `last_us`, `header`, `stream`, the live rows of `tracks`, and `embeddings`."""
        self.last_us = last_us
        self.tracks[: self.slots] = np.zeros((), TRACK)
        self.header[:] = np.frombuffer(header, np.int64)
        self.stream[:] = np.frombuffer(stream, np.float64)
        self.tracks[: self.slots] = np.frombuffer(rows, TRACK)
        self._embedding_model, self._gallery = embedding_model, None
        if gallery:
            live = np.frombuffer(gallery, "<i2").reshape(self.slots, -1)
            self._gallery = np.zeros((self.config.capacity, live.shape[1]), np.float32)
            self._gallery[: self.slots] = live

    def liveliness(self) -> tuple[float, ...]:
        """Return how much livelier than expected the stream is, per axis (x, y, width, height); 0 before a frame."""
        return tuple(self.stream[NOISE:].tolist())


def _whole(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return rows at length EMBEDDING_UNIT, rounded to whole numbers; a row without length or meaning becomes 0."""
    with np.errstate(all="ignore"):
        wide = vectors.astype(np.float64)
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        whole = np.rint(wide * (EMBEDDING_UNIT / length))
    whole[~np.isfinite(whole).all(axis=1)] = 0.0
    rows: npt.NDArray[np.float32] = whole.astype(np.float32)
    return rows
