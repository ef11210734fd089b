"""Detections to messages: which frames are worth one, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.newest_frames import CapturedFrame
from schemas.wire import MAX_DETECTIONS, MAX_LABELS, DetectionFrame

Floats = npt.NDArray[np.float32]
MAX_LABEL_CHARACTERS = 64


class QuietRule:
    """While nothing is seen, one empty frame each `quiet_s` says that the camera lives; else every frame is sent."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_us = int(quiet_s * 1e6)
        self._was_empty = False
        self._sent_us = 0

    def is_wanted(self, object_count: int, capture_us: int) -> bool:
        """Return whether the frame is sent. The first empty one always is: it says that the scene has cleared."""
        is_repeat = object_count == 0 and self._was_empty
        # Half a frame early rather than a whole frame late, so that at least one a second it is.
        if is_repeat and 0 <= capture_us - self._sent_us < 0.95 * self._quiet_us:
            return False
        self._was_empty, self._sent_us = object_count == 0, capture_us
        return True


def pack_objects(
    boxes: Floats, scores: Floats, classes: npt.NDArray[np.integer[Any]], labels: Sequence[str]
) -> dict[str, object]:
    """Return the message fields labels, boxes, scores, classes for N×4 boxes (ratios of the frame), N, N.

    Boxes are clipped to the frame; what is then empty, or not a number, is left out; the best-scored MAX_DETECTIONS
    stay. Only the labels that occur are named.
    """
    boxes = np.clip(np.asarray(boxes, np.float32).reshape(-1, 4), 0.0, 1.0)
    scores = np.asarray(scores, np.float32)
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    good &= (scores >= 0) & (scores <= 1)
    kept = np.flatnonzero(good)
    if len(kept) > MAX_DETECTIONS:
        kept = kept[np.argsort(-scores[kept], kind="stable")[:MAX_DETECTIONS]]
    present, index = np.unique(np.asarray(classes)[kept], return_inverse=True)
    if len(present) > MAX_LABELS:
        raise ValueError(f"expected at most {MAX_LABELS} classes in one frame, got {len(present)}")
    return {
        "labels": tuple(labels[int(c)][:MAX_LABEL_CHARACTERS] for c in present),
        "boxes": boxes[kept].astype("<f4").tobytes(),
        "scores": scores[kept].astype("<f4").tobytes(),
        "classes": index.astype(np.uint8).tobytes(),
    }


def make_message(
    site: str, boot: int, seq: int, frame: CapturedFrame, sent_us: int, model: str, model_sha: str,
    objects: dict[str, object],
) -> DetectionFrame:  # fmt: skip
    """Return the wire message for one frame; `objects` comes from `pack_objects`."""
    height_px, width_px = frame.bgr.shape[:2]
    return DetectionFrame(
        site=site, camera=frame.camera, boot=boot, seq=seq, capture_us=frame.capture_us, clock=frame.clock,
        recv_us=frame.recv_us, sent_us=sent_us, width_px=width_px, height_px=height_px, model=model[:256],
        model_sha=model_sha, **objects,  # type: ignore[arg-type]
    )  # fmt: skip
