"""Keep the best of overlapping boxes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def best_first(scores: Floats, limit_count: int) -> Ints:
    """Indices of the `limit_count` highest scores, highest first; equal scores keep input order."""
    order: Ints = np.argsort(-scores, kind="stable")[:limit_count]
    return order


def overlaps(boxes: Floats) -> Floats:
    """Intersection over union of each pair of N boxes (x1 y1 x2 y2): N×N; 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0.0), axis=2)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    union = area[:, None] + area[None, :] - intersection
    ratio: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return ratio


def suppress(boxes: Floats, classes: Ints, iou: float) -> Ints:
    """Greedy suppression within each class; boxes come best first.

    Returns the kept indices, ascending (so still best first). A box goes when it overlaps an
    earlier kept box of its class by more than `iou`. Cost grows with the square of N: cap N before.
    """
    clash = overlaps(boxes) > iou
    clash &= classes[:, None] == classes[None, :]
    alive = np.ones(len(boxes), bool)
    for i in np.flatnonzero(clash.sum(axis=1) > 1):
        if alive[i]:
            alive[i + 1 :] &= ~clash[i, i + 1 :]
    kept: Ints = np.flatnonzero(alive)
    return kept
