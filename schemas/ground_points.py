"""The map of the floor that a camera's `ground_points` describe, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from schemas.settings import GroundPoint

F64 = npt.NDArray[np.float64]
LEAST_SPREAD = 1e-6
"""Singular value that says that points tell nothing of some direction, as a ratio of the greatest."""
MAX_ERROR_RATIO = 0.1
"""How far from where it is said to be seen a point may be on the floor that fits best: ratios of the frame."""


def floor_to_image(points: Sequence[GroundPoint]) -> F64:
    """Return the homography (3×3) from (x m, y m, 1) to the picture (ratios of the frame) that fits at least four points best.

    Its third coordinate is positive for the first point. Direct linear transform with normalisation (Hartley & Zisserman,
    2004, 4.4). Raises ValueError where the points do not tell one floor from another.
    """
    image, ground = (
        np.array([p.image for p in points], np.float64),
        np.array([p.ground_m for p in points], np.float64),
    )
    to_image, to_ground = _normaliser(image), _normaliser(ground)
    rows = []
    for (u, v), (x, y) in zip(_moved(to_image, image), _moved(to_ground, ground), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    _, sizes, vectors = np.linalg.svd(np.array(rows, np.float64))
    matrix = np.linalg.inv(to_image) @ vectors[8].reshape(3, 3) @ to_ground
    matrix /= np.abs(matrix).max()
    if sizes[7] <= LEAST_SPREAD * sizes[0] or np.linalg.cond(vectors[8].reshape(3, 3)) > 1 / LEAST_SPREAD:
        raise ValueError("the points lie on one line, or all but one do: expected four, no three of them on one line")
    return np.asarray(-matrix if matrix[2] @ (*ground[0], 1.0) < 0 else matrix)


def problem_of(points: Sequence[GroundPoint]) -> tuple[int, str]:
    """Return what is wrong with at least four finite points, and with which (−1: with all of them); '' if nothing is."""
    try:
        matrix = floor_to_image(points)
    except ValueError as e:
        return -1, str(e)
    errors = []
    for i, p in enumerate(points):
        seen = matrix @ (*p.ground_m, 1.0)
        if seen[2] <= 0:
            return i, f"with the other points, no camera can see {list(p.ground_m)} m there: are two points swapped?"
        errors.append(float(np.hypot(*(seen[:2] / seen[2] - p.image))))
    if max(errors) > MAX_ERROR_RATIO:
        worst = errors.index(max(errors))
        return (
            -1,
            f"they fit no one floor: the best leaves point {worst} {max(errors):.2f} of the frame away from its place",
        )
    if np.linalg.det(matrix) > 0:  # the picture's y points down: seen from above, that turns left into right
        return -1, "the floor is mirrored: seen from above, y must point to the left of x"
    return -1, ""


def _normaliser(points: F64) -> F64:
    """Return the map that moves the points' mean to 0 and their mean distance from it to 1."""
    middle = points.mean(axis=0)
    size = max(float(np.hypot(*(points - middle).T).mean()), 1e-12)
    return np.array([[1 / size, 0, -middle[0] / size], [0, 1 / size, -middle[1] / size], [0, 0, 1.0]])


def _moved(by: F64, points: F64) -> F64:
    return np.asarray(points * by[0, 0] + by[:2, 2])
