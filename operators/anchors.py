"""Which point of a box stands for the object, and polygons and polylines as flat arrays for kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

XY = tuple[float, float]
F64 = npt.NDArray[np.float64]


def anchor_weights(anchor: str) -> tuple[float, float]:
    """Return (u, v): the anchor is x1 + u·width, y1 + v·height. `anchor` as in `schemas.fields.ANCHORS`."""
    vertical, _, horizontal = anchor.partition("_")
    u = {"left": 0.0, "center": 0.5, "right": 1.0, "": 0.5}[horizontal]
    return u, {"top": 0.0, "center": 0.5, "bottom": 1.0}[vertical]


def pack_lines(lines: Sequence[Sequence[XY]]) -> tuple[F64, npt.NDArray[np.int64]]:
    """Return all points (P×2) and the start of each line in them (len(lines) + 1)."""
    starts = np.cumsum([0, *(len(line) for line in lines)]).astype(np.int64)
    points = [p for line in lines for p in line]
    return np.array(points, np.float64).reshape(-1, 2), starts


def class_mask(classes: Sequence[str], labels: Sequence[str]) -> list[bool]:
    """Tell for each label whether it is wanted; an empty `classes` wants all."""
    return [not classes or label in classes for label in labels]
