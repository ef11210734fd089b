"""From a camera's pose, or from points of the floor, to the ground: a pinhole camera over a flat floor (Hartley & Zisserman,
Multiple View Geometry, 2004, 8.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas import homography
from schemas.homography import PointPair

F64 = npt.NDArray[np.float64]
NO_GROUND = np.zeros(0)


class Pose(Protocol):
    """A point X (mm) of the site is seen at the pixel K (R X + T), divided by its third coordinate; the floor is z = 0."""

    @property
    def rotation(self) -> Any:
        """Return R, 3×3."""

    @property
    def translation_mm(self) -> Any:
        """Return T, 3."""

    @property
    def intrinsic(self) -> Any:
        """Return K, 3×3, in pixels of the frame."""


def image_to_ground(pose: Pose, height_px: float = 0.0) -> F64:
    """Return the nine numbers, by rows, of the homography from frame heights to metres on the floor.

    Its third coordinate is positive for what lies before the camera and below the horizon. Without `height_px` the
    principal point is taken for the frame's centre. Raises ValueError where the camera sees the floor as a line.
    """
    k, r, t = (np.asarray(m, np.float64) for m in (pose.intrinsic, pose.rotation, pose.translation_mm))
    floor = k @ np.column_stack([r[:, 0], r[:, 1], t])  # (X mm, Y mm, 1) to pixels
    if not abs(np.linalg.det(floor)) > 1e-9 * np.linalg.norm(floor, axis=0).prod():  # true for 0 and NaN too
        raise ValueError("expected a camera outside of the floor's plane")
    height = height_px or 2.0 * k[1, 2]
    inverse = np.linalg.inv(floor) @ np.diag([height, height, 1.0])
    inverse[:2] /= 1000.0
    inverse /= np.abs(inverse[2]).max()
    # Before the camera the depth r₃·X + t₃ is positive; its inverse is, up to a positive factor, the third coordinate.
    u, v = float(k[0, 2]) / height, float(k[1, 2]) / height
    for below in (0.5, 1.0, 2.0, -0.5, -1.0, -2.0):  # some point of the floor that is seen
        w = inverse[2] @ (u, v + below, 1.0)
        x, y = (inverse[:2] @ (u, v + below, 1.0) / w) * 1000.0
        if r[2, 0] * x + r[2, 1] * y + t[2] > 0:
            if w < 0:
                inverse = -inverse
            break
    return np.ascontiguousarray(inverse.reshape(9))


def points_to_ground(points: Sequence[PointPair], aspect: float) -> F64:
    """Return the same homography from points of the floor, for frames of this aspect (width / height).

    It is worked out in ratios of the frame, as when the settings were checked. Raises `schemas.homography.BadPoints`.
    """
    found = np.array(homography.image_to_ground(points)).reshape(3, 3)
    found[:, 0] /= aspect
    found /= np.abs(found[2]).max()
    return np.ascontiguousarray(found.reshape(9))
