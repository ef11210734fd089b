"""A floor in metres and the camera over it: where a point of the floor is seen, and how large an object looks there.

The floor is z = 0 of the site's frame, z up; x and y in metres. Seen from above, y ahead, x is to the right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.settings import Camera, GroundPoint, Pose, Vector
from simulator.geometry import XY
from simulator.objects import SceneObject, Shape, Waypoint

F64 = npt.NDArray[np.float64]
STEP_S = 0.02
"""Paths on the floor are given to the camera as points so far apart; between them they are straight in the picture."""
MIN_HORIZON = 1e-9


@dataclass(frozen=True)
class View:
    """A camera `height_m` above the floor at `at_m`, looking ahead (along y) and `tilt_deg` down.

    field_of_view_deg: horizontal. The picture is `width_px` × `height_px`.
    """

    height_m: float = 8.0
    tilt_deg: float = 45.0
    field_of_view_deg: float = 80.0
    at_m: XY = (0.0, 0.0)
    width_px: int = 1280
    height_px: int = 720

    @property
    def focal_px(self) -> float:
        """Return the focal length."""
        return 0.5 * self.width_px / math.tan(math.radians(self.field_of_view_deg) / 2)

    @property
    def pose(self) -> Pose:
        """Return it as a site file has it."""
        s, c = math.sin(math.radians(self.tilt_deg)), math.cos(math.radians(self.tilt_deg))
        rotation: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, -s, -c), (0.0, c, -s))  # right, down, ahead
        centre = (self.at_m[0], self.at_m[1], self.height_m)
        x, y, z = (-1000.0 * sum(r * m for r, m in zip(row, centre, strict=True)) for row in rotation)
        f = self.focal_px
        return Pose(
            rotation=rotation, translation_mm=(x, y, z),
            intrinsic=((f, 0.0, self.width_px / 2), (0.0, f, self.height_px / 2), (0.0, 0.0, 1.0)),
        )  # fmt: skip

    def ground_points(self, places_m: Sequence[XY]) -> tuple[GroundPoint, ...]:
        """Return these places of the floor as correspondences for a site file."""
        floor = Floor.of_pose(self.pose, self.width_px, self.height_px)
        return tuple(GroundPoint(image=floor.to_image(p), ground_m=p) for p in places_m)

    def shape(self, width_m: float, height_m: float) -> Shape:
        """Return how an upright object of that size looks: its height is foreshortened, its width is not.

        At a foot's y (ratio of the frame) the inverse depth is (sin t + (y − ½) cos t / f) / h, f in frame heights.
        """
        s, c = math.sin(math.radians(self.tilt_deg)), math.cos(math.radians(self.tilt_deg))
        f = self.focal_px / self.height_px
        seen_m = height_m * c
        return Shape(
            height=f * seen_m * (s - 0.5 * c / f) / self.height_m,
            height_per_y=seen_m * c / self.height_m,
            aspect=width_m / seen_m * self.height_px / self.width_px,
        )


class Floor:
    """The map between floor (m) and picture (ratios of the frame)."""

    def __init__(self, to_image: F64) -> None:
        """Take the homography of (x m, y m, 1) to picture; its third coordinate is positive before the camera."""
        self._to_image, self._to_ground = to_image, np.linalg.inv(to_image)

    @classmethod
    def of_pose(cls, pose: Pose, width_px: int, height_px: int) -> Floor:
        """Return the floor that a posed camera sees."""
        k, r, t = (np.array(m, np.float64) for m in (pose.intrinsic, pose.rotation, pose.translation_mm))
        of_mm = k @ np.column_stack([r[:, 0], r[:, 1], t])
        return cls(np.diag([1 / width_px, 1 / height_px, 1.0]) @ of_mm @ np.diag([1000.0, 1000.0, 1.0]))

    @classmethod
    def of_points(cls, points: Sequence[GroundPoint]) -> Floor:
        """Return the floor that fits the correspondences best (direct linear transform; Hartley & Zisserman, 2004, 4.1)."""
        rows = []
        for p in points:
            (u, v), (x, y) = p.image, p.ground_m
            rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
            rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
        matrix: F64 = np.linalg.svd(np.array(rows, np.float64))[2][-1].reshape(3, 3)
        x, y = points[0].ground_m
        return cls(matrix if matrix[2] @ (x, y, 1.0) > 0 else -matrix)

    @classmethod
    def of_camera(cls, camera: Camera, width_px: int, height_px: int) -> Floor | None:
        """Return the floor that a camera's settings describe, if they do."""
        if camera.pose:
            return cls.of_pose(camera.pose, width_px, height_px)
        return cls.of_points(camera.ground_points) if camera.ground_points else None

    def to_image(self, p: XY) -> XY:
        """Return where a place on the floor is seen. Raises ValueError where it is not before the camera."""
        u, v, w = (float(c) for c in self._to_image @ (p[0], p[1], 1.0))
        if w < MIN_HORIZON:
            raise ValueError(f"expected a place before the camera, got {p} m")
        return u / w, v / w

    def to_ground(self, uv: F64) -> F64:
        """Return the places (N×2, m) that are seen at points of the picture (N×2)."""
        found = np.column_stack([uv, np.ones(len(uv))]) @ self._to_ground.T
        return np.asarray(found[:, :2] / found[:, 2:])


@dataclass(frozen=True)
class FloorPath:
    """Where somebody walks: `stops` are (s, x m, y m), between them the speed is even; for `blend_s` before and after
    each the velocity goes over evenly from one to the next, so that nobody turns or stops on the spot."""

    stops: tuple[tuple[float, float, float], ...]
    blend_s: float = 0.2

    def __post_init__(self) -> None:
        if any(b[0] <= a[0] for a, b in pairwise(self.stops)):
            raise ValueError(f"expected stops in order of time, got {self.stops}")

    def at(self, times_s: F64) -> F64:
        """Return the places (N×2, m): the mean of the even walk over `blend_s` before and after each time."""
        ahead, behind = self._sum_until(times_s + self.blend_s), self._sum_until(times_s - self.blend_s)
        return np.asarray((ahead - behind) / (2 * self.blend_s))

    def _sum_until(self, times_s: F64) -> F64:
        """Return the integral of the even walk from the first stop on (standing before it and after the last)."""
        stops = np.array(self.stops, np.float64)
        times, places = stops[:, 0], stops[:, 1:]
        lasting = np.diff(times)[:, None]
        speeds = np.vstack([np.diff(places, axis=0) / lasting, [[0.0, 0.0]]])
        sums = np.vstack([[[0.0, 0.0]], np.cumsum(lasting * (places[1:] + places[:-1]) / 2, axis=0)])
        i = np.clip(np.searchsorted(times, times_s, side="right") - 1, 0, None)
        over = (times_s - times[i])[:, None]
        return np.asarray(sums[i] + over * places[i] + np.maximum(over, 0.0) ** 2 / 2 * speeds[i])


def seen_object(
    name: str, label: str, path: FloorPath, size_m: XY, view: View, hidden: tuple[tuple[float, float], ...] = ()
) -> SceneObject:
    """Return how the camera sees somebody of that width and height who walks there."""
    floor, shape = Floor.of_pose(view.pose, view.width_px, view.height_px), view.shape(*size_m)
    start_s, end_s = path.stops[0][0], path.stops[-1][0]
    count = max(2, math.ceil((end_s - start_s) / STEP_S) + 1)
    times = np.linspace(start_s, end_s, count)
    feet = [floor.to_image((x, y)) for x, y in path.at(times).tolist()]
    points = tuple(Waypoint(t, *foot) for t, foot in zip(times.tolist(), feet, strict=True))
    return SceneObject(name, label, points, shape, hidden)


def in_picture(camera: Camera, width_px: int, height_px: int) -> Camera:
    """Return the camera with its zones and tripwires of the ground as they are seen in the picture.

    Straight lines stay straight, and who walks there is where the foot of the box is.
    """
    floor = Floor.of_camera(camera, width_px, height_px)
    if floor is None:
        return camera
    seen = {"plane": "image", "anchor": "bottom_center"}
    zones = (
        msgspec.structs.replace(z, polygon=tuple(map(floor.to_image, z.polygon)), **seen) if z.plane == "ground" else z
        for z in camera.zones
    )
    wires = (
        msgspec.structs.replace(w, points=tuple(map(floor.to_image, w.points)), **seen) if w.plane == "ground" else w
        for w in camera.tripwires
    )
    return msgspec.structs.replace(camera, zones=tuple(zones), tripwires=tuple(wires))
