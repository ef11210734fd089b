"""From points of the floor to the homography: as the camera's pose has it, and as another solver has it; bad points are refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from operators.tracking.ground import image_to_ground as posed_to_ground
from operators.tracking.ground import points_to_ground
from schemas import homography
from schemas.fields import SettingsError
from schemas.homography import BadPoints, apply, image_to_ground
from schemas.settings import Camera, GroundPoint, SiteSettings
from schemas.settings_checks import check_settings
from simulator.floor import Floor, View

VIEW = View(height_m=6.0, tilt_deg=30.0)
PLACES = ((-4.0, 7.0), (5.0, 8.0), (6.0, 18.0), (-5.0, 16.0))


def seen(places: Sequence[tuple[float, float]], view: View = VIEW) -> tuple[GroundPoint, ...]:
    """Return points of the floor as the camera sees them."""
    return view.ground_points(places)


@pytest.mark.parametrize("tilt", [12.0, 30.0, 60.0, 89.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (5000.0, -3000.0)])
def test_points_say_what_the_pose_says(tilt: float, shift: tuple[float, float]) -> None:
    view = View(height_m=6.0, tilt_deg=tilt, at_m=shift)
    inner = (
        ((-2.0, 8.0), (2.0, 8.0), (2.5, 11.0), (-2.5, 12.0)) if tilt < 50 else ((-2, 1), (2, 1), (2.5, 4), (-2.5, 4.5))
    )
    places = [(x + shift[0], y + shift[1]) for x, y in inner]
    found = points_to_ground(view.ground_points(places), view.width_px / view.height_px)
    posed = posed_to_ground(view.pose, view.height_px)
    assert found == pytest.approx(posed, abs=1e-6 * np.abs(posed).max())


def test_noise_is_evened_out_as_least_squares_do() -> None:
    rng = np.random.default_rng(5)
    places = [(x, y) for x in (-4.0, 0.0, 4.0) for y in (7.0, 10.0, 14.0, 18.0)]
    exact = seen(places)
    noisy = [GroundPoint(image=tuple(np.array(p.image) + rng.normal(0, 1e-3, 2)), ground_m=p.ground_m) for p in exact]
    few = [noisy[i] for i in (0, 3, 8, 11)]
    assert worst(image_to_ground(noisy), exact) < worst(image_to_ground(few), exact)
    # Beside a solver that shares nothing with it: total least squares by SVD, the other way round.
    floor = Floor.of_points(noisy)
    for p in exact:
        assert apply(image_to_ground(noisy), *p.image)[:2] == pytest.approx(
            floor.to_ground(np.array([p.image]))[0], abs=0.05
        )


def worst(found: Sequence[float], points: Sequence[Any]) -> float:
    """Return by how much the worst point is missed, m."""
    return max(math.dist(apply(found, *p.image)[:2], p.ground_m) for p in points)


def test_the_third_coordinate_is_positive_below_the_horizon_only() -> None:
    found = image_to_ground(seen(PLACES))
    horizon = 0.5 - math.tan(math.radians(30.0)) * VIEW.focal_px / VIEW.height_px
    assert apply(found, 0.3, horizon + 0.01)[2] > 0 > apply(found, 0.3, horizon - 0.01)[2]


def test_any_order_of_points_is_as_good_and_a_mirrored_floor_is_none() -> None:
    points = seen(PLACES)
    for order in itertools.permutations(points):
        assert image_to_ground(order) == pytest.approx(image_to_ground(points), rel=1e-6, abs=1e-9)
    mirrored = [GroundPoint(image=p.image, ground_m=(p.ground_m[0], -p.ground_m[1])) for p in points]
    refused(tuple(mirrored), "cameras[0].ground_points", "mirrored")


def test_a_long_strip_is_good_enough() -> None:
    assert worst(image_to_ground(seen([(-0.5, 7.0), (0.5, 7.0), (0.5, 27.0), (-0.5, 27.0)])), seen(PLACES)) < 1e-6


LINE = [(-4.0, 7.0), (0.0, 9.0), (4.0, 11.0), (-5.0, 16.0)]


@pytest.mark.parametrize(
    ("points", "path", "problem"),
    [
        (seen(PLACES[:3]), "", "at least four points, got 3"),
        (seen(LINE), "", "on one line"),
        (seen([(x, 0.5 * x + 9.0) for x in (-4.0, -1.0, 0.0, 2.0, 4.0)]), "", "on one line"),
        (seen([PLACES[0]] * 4), "", "all points are one"),
        (seen([PLACES[0], PLACES[1], PLACES[2], PLACES[2]]), "", "on one line"),
        (seen([(-4.0, 7.0), (0.0, 9.0), (4.0, 11.02), (-5.0, 16.0)]), "", "on one line, or near it"),
    ],
)
def test_points_that_tell_too_little_are_refused(points: tuple[GroundPoint, ...], path: str, problem: str) -> None:
    refused(points, "cameras[0].ground_points", problem)


def test_swapped_points_are_refused() -> None:
    a, b, c, d = seen(PLACES)
    swapped = (a, GroundPoint(image=c.image, ground_m=b.ground_m), GroundPoint(image=b.image, ground_m=c.ground_m), d)
    refused(swapped, "cameras[0].ground_points[", "are two points swapped")


def test_points_that_do_not_fit_together_are_refused_by_name() -> None:
    places = [*PLACES, (0.0, 12.0), (1.0, 9.0), (-2.0, 14.0)]
    points = list(seen(places))
    bound = homography.ERROR_M + homography.ERROR_RATIO * max(math.dist(p, q) for p in places for q in places)
    points[4] = GroundPoint(image=points[4].image, ground_m=(4.0, 12.0))
    refused(tuple(points), "cameras[0].ground_points[4]", f"expected at most {bound:.2f} m")


def refused(points: tuple[GroundPoint, ...], path: str, problem: str) -> None:
    """Fail unless settings with these points are refused so."""
    with pytest.raises(SettingsError) as e:
        check_settings(SiteSettings(version=1, site="s", cameras=(Camera(id="c", ground_points=points),)))
    assert e.value.path.startswith(path) and problem in e.value.problem
    with pytest.raises(BadPoints):
        image_to_ground(points)


def test_good_points_are_taken() -> None:
    check_settings(SiteSettings(version=1, site="s", cameras=(Camera(id="c", ground_points=seen(PLACES)),)))


def test_the_example_of_the_document_is_good() -> None:
    points = [((0.21, 0.93), (0, 0)), ((0.88, 0.90), (6, 0)), ((0.64, 0.38), (6, 14)), ((0.37, 0.39), (0, 14))]
    image_to_ground(msgspec.convert([{"image": i, "ground_m": g} for i, g in points], list[GroundPoint]))
