"""From points of the floor that are seen in the picture to the homography between the two, in plain floats.

The direct linear transform in normalised coordinates (Hartley & Zisserman, Multiple View Geometry, 2004, 4.1 and 4.4). All
points that can be seen lie before the horizon, and so does their centre of gravity: there the third coordinate is not 0, and may
be set to 1. What is left is an ordinary problem of least squares; it is solved by modified Gram–Schmidt (Björck, Numerical
Methods for Least Squares Problems, 1996, 2.4), whose arithmetic is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

XY = tuple[float, float]
Homography = tuple[float, float, float, float, float, float, float, float, float]

MIN_POINTS = 4
MIN_SINE = 0.01
"""Of the angle between what one number of the homography does to the points and all that the others can do. Where it is
smaller, the points hardly tell that number: the corners of a square have 0.6, of a strip of 1 × 20 m 0.04, three of four points
on a line 0."""
MIN_SPREAD = 1e-6  # of points around their centre: ratios of the frame, metres
ERROR_M, ERROR_RATIO = 0.25, 0.02
"""Each point must be met within so many metres, and so much of the points' extent."""


class PointPair(Protocol):
    """Where one point of the floor is seen (ratios of the frame), and where it lies (m)."""

    @property
    def image(self) -> XY:
        """Return the one."""

    @property
    def ground_m(self) -> XY:
        """Return the other."""


class BadPoints(ValueError):
    """Points that give no homography. `index` is the point at fault, −1 where it is all of them."""

    def __init__(self, problem: str, index: int = -1) -> None:
        super().__init__(problem)
        self.index = index


def image_to_ground(points: Sequence[PointPair]) -> Homography:
    """Return the nine numbers, by rows, of the homography from ratios of the frame to metres on the floor.

    Its third coordinate is positive for what lies before the horizon, and 1 in the points' middle. Raises BadPoints: fewer than
    four, too many of them on one line, on two sides of the horizon, one that is not met within ERROR_M and ERROR_RATIO, or a
    floor that is seen from below.
    """
    if len(points) < MIN_POINTS:
        raise BadPoints(f"expected at least four points, got {len(points)}")
    (u0, v0, of_image), (x0, y0, of_ground) = _frame([p.image for p in points]), _frame([p.ground_m for p in points])
    rows, sides = [], []
    for p in points:
        u, v = (p.image[0] - u0) / of_image, (p.image[1] - v0) / of_image
        x, y = (p.ground_m[0] - x0) / of_ground, (p.ground_m[1] - y0) / of_ground
        rows += [[u, v, 1.0, 0.0, 0.0, 0.0, -x * u, -x * v], [0.0, 0.0, 0.0, u, v, 1.0, -y * u, -y * v]]
        sides += [x, y]
    a, b, c, d, e, f, g, h = _least_squares(rows, sides)
    # From the points' own coordinates back to ratios and metres.
    n = 1.0 - (g * u0 + h * v0) / of_image
    g, h = g / of_image, h / of_image
    a, b, d, e = (of_ground * k / of_image for k in (a, b, d, e))
    c, f = of_ground * c - a * u0 - b * v0, of_ground * f - d * u0 - e * v0
    found = (a + x0 * g, b + x0 * h, c + x0 * n, d + y0 * g, e + y0 * h, f + y0 * n, g, h, n)
    _check(found, points)
    return found


def apply(homography: Sequence[float], u: float, v: float) -> tuple[float, float, float]:
    """Return x, y and the third coordinate: where it is not positive, the point is not seen on the floor."""
    a, b, c, d, e, f, g, h, n = homography
    third = g * u + h * v + n
    if third == 0.0:
        return math.inf, math.inf, 0.0
    return (a * u + b * v + c) / third, (d * u + e * v + f) / third, third


def _frame(points: list[XY]) -> tuple[float, float, float]:
    """Return the middle of points and their mean distance from it."""
    n = len(points)
    x0, y0 = math.fsum(x for x, _ in points) / n, math.fsum(y for _, y in points) / n
    spread = math.fsum(math.hypot(x - x0, y - y0) for x, y in points) / n
    if not spread > MIN_SPREAD:
        raise BadPoints("all points are one")
    return x0, y0, spread


def _least_squares(rows: list[list[float]], sides: list[float]) -> list[float]:
    """Return the x that brings rows · x next to the sides. Raises BadPoints where the columns hardly differ."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    size, rest = len(columns), list(sides)
    triangle = [[0.0] * size for _ in range(size)]
    projected = [0.0] * size
    for j, column in enumerate(columns):
        before = math.sqrt(math.fsum(row[j] * row[j] for row in rows))
        length = math.sqrt(math.fsum(k * k for k in column))
        if not length > MIN_SINE * before:
            raise BadPoints("too many of the points lie on one line, or near it: no three of the four outermost should")
        triangle[j][j] = length
        unit = [k / length for k in column]
        for other in range(j + 1, size):
            triangle[j][other] = share = _dot(unit, columns[other])
            columns[other] = [k - share * q for k, q in zip(columns[other], unit, strict=True)]
        projected[j] = _dot(unit, rest)
        rest = [k - projected[j] * q for k, q in zip(rest, unit, strict=True)]
    found = [0.0] * size
    for j in reversed(range(size)):
        known = math.fsum(triangle[j][k] * found[k] for k in range(j + 1, size))
        found[j] = (projected[j] - known) / triangle[j][j]
    return found


def _dot(a: list[float], b: list[float]) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def _check(homography: Homography, points: Sequence[PointPair]) -> None:
    extent = max(math.dist(p.ground_m, q.ground_m) for p in points for q in points)
    bound = ERROR_M + ERROR_RATIO * extent
    errors = []
    for i, p in enumerate(points):
        x, y, third = apply(homography, *p.image)
        if not third > 0.0:
            seen_m = list(p.ground_m)
            raise BadPoints(f"with the other points, no camera can see {seen_m} m there: are two points swapped?", i)
        errors.append(math.dist((x, y), p.ground_m))
    worst = max(errors)
    if not worst <= bound:
        problem = f"they fit no one floor: this one is missed most, by {worst:.2f} m, expected at most {bound:.2f} m"
        raise BadPoints(problem, errors.index(worst))
    a, b, c, d, e, f, g, h, n = homography
    # The picture's y points down: seen from above, the map turns left into right.
    if a * (e * n - f * h) - b * (d * n - f * g) + c * (d * h - e * g) > 0.0:
        raise BadPoints("the floor is mirrored: seen from above, y must point to the left of x")
