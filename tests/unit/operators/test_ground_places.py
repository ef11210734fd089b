"""Zones and tripwires in metres, through the whole stage: people of known paths before a camera of known pose."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.camera_stage import CameraStage
from operators.stages.stage import Input
from schemas.settings import Camera, Pose, SiteSettings, Tripwire, Zone
from schemas.wire import Event
from tests.unit.operators.scenes import CAMERA, START_US, bounded, events_of, feed, make_frame, open_stage, to_input

XY = tuple[float, float]
FRAME = (1600.0, 1000.0)
HEIGHT_M, WIDTH_M = 1.7, 0.5
L_SHAPE = ((-2.0, 8.0), (2.0, 8.0), (2.0, 10.0), (0.0, 10.0), (0.0, 12.0), (-2.0, 12.0))
WIRE = ((-4.0, 9.0), (0.0, 9.5), (4.0, 9.0))


def pose(z_up: bool) -> Pose:
    """A camera 5 m above the floor's origin that looks along y and 25° down; its z axis points up, or down (and y back)."""
    pitch = math.radians(25)
    forward = np.array([0.0, math.cos(pitch), -math.sin(pitch)])
    right = np.array([1.0, 0.0, 0.0])
    rotation, centre = np.stack([right, np.cross(forward, right), forward]), np.array([0.0, 0.0, 5000.0])
    if not z_up:
        flip = np.diag([1.0, -1.0, -1.0])
        rotation, centre = rotation @ flip, flip @ centre
    rows = tuple(tuple(row) for row in rotation.tolist())
    k = ((1100.0, 0.0, 800.0), (0.0, 1100.0, 500.0), (0.0, 0.0, 1.0))
    return Pose(rotation=rows, translation_mm=tuple((-rotation @ centre).tolist()), intrinsic=k)


def in_picture(camera: Pose, x: float, y: float, z: float = 0.0) -> XY:
    """Return where a point of the site (m) is seen, as ratios of the frame."""
    u, v, depth = np.array(camera.intrinsic) @ (
        np.array(camera.rotation) @ [1000 * x, 1000 * y, 1000 * z] + camera.translation_mm
    )
    return float(u / depth / FRAME[0]), float(v / depth / FRAME[1])


def box_of(camera: Pose, at: XY, z_up: bool) -> tuple[float, float, float, float]:
    """Return the box of somebody who stands at a point: the middle of its lower edge is the foot."""
    x, y = in_picture(camera, *at)
    _, top = in_picture(camera, *at, HEIGHT_M if z_up else -HEIGHT_M)
    half = (y - top) * FRAME[1] / FRAME[0] * WIDTH_M / HEIGHT_M / 2
    return x - half, top, x + half, y


def mirrored(points: tuple[XY, ...], z_up: bool) -> tuple[XY, ...]:
    """Return the same points of the floor in axes whose z points down, if it does."""
    return points if z_up else tuple((x, -y) for x, y in points)


def settings(z_up: bool) -> SiteSettings:
    """A zone and a wire in metres, and the same wire as it is seen."""
    camera = pose(z_up)
    line = mirrored(WIRE, z_up)
    seen = tuple(in_picture(camera, *p) for p in line)
    return SiteSettings(
        version=1,
        site="s",
        cameras=(
            Camera(
                id=CAMERA,
                pose=camera,
                zones=(Zone(id="ell", plane="ground", polygon=mirrored(L_SHAPE, z_up), band_m=0.2, gap_s=1.0),),
                tripwires=(
                    Tripwire(id="metres", plane="ground", points=line, band_m=0.15),
                    Tripwire(id="picture", points=seen, band_ratio=0.005),
                ),
            ),
        ),
    )


Path = Callable[[float], XY]
"""Where somebody is, in metres, after so many seconds."""


def across(t: float) -> XY:
    """Walk through the foot of the L from left to right, 1.2 m/s."""
    return -5.0 + 1.2 * t, 8.9


def along(t: float) -> XY:
    """Walk away from the camera through both arms, turn and come back, 1 m/s."""
    return -1.0, 6.5 + t if t < 7 else 20.5 - t


def corner(t: float) -> XY:
    """Pass the notch of the L, never inside."""
    return 1.0, 14.5 - 0.5 * t if t < 6 else 11.5 + 0.3 * (t - 6)


PATHS: dict[str, Path] = {"across": across, "along": along, "corner": corner}
DURATION_S = 13.0


class Stay(NamedTuple):
    """A true visit, in seconds from the start."""

    enter_s: float
    exit_s: float


def true_stays(path: Path, band_m: float) -> list[Stay]:
    """Return visits to the L in steps of 5 ms: into the polygon, out of it by more than the band."""
    found: list[Stay] = []
    inside, begun, last = False, 0.0, 0.0
    for n in range(int(DURATION_S * 200)):
        t = n / 200
        here = path(t)
        inside = in_ell(here) or (inside and outside_by(here) <= band_m)
        if inside:
            begun = begun if found and found[-1].enter_s == begun and t - last < 0.01 else t
            if found and found[-1].enter_s == begun:
                found[-1] = Stay(begun, t)
            else:
                found.append(Stay(begun, t))
            last = t
    return found


def in_ell(p: XY) -> bool:
    return (-2 <= p[0] < 2 and 8 <= p[1] < 10) or (-2 <= p[0] < 0 and 10 <= p[1] < 12)


def outside_by(p: XY) -> float:
    """Return the distance from the L, which is two rectangles."""
    return min(
        math.hypot(max(x0 - p[0], 0, p[0] - x1), max(y0 - p[1], 0, p[1] - y1))
        for x0, y0, x1, y1 in ((-2, 8, 2, 10), (-2, 8, 0, 12))
    )


@functools.cache
def stage(z_up: bool) -> CameraStage:
    return open_stage(settings(z_up))


@functools.cache
def records(z_up: bool, fps: float) -> tuple[Input, ...]:
    """Return all three paths as frames."""
    camera, out = pose(z_up), []
    for n in range(int(DURATION_S * fps)):
        t = n / fps
        boxes = [box_of(camera, mirrored((path(t),), z_up)[0], z_up) for path in PATHS.values()]
        boxes = [tuple(min(max(c, 0.0), 1.0) for c in box) for box in boxes if box[0] > 0.02 and box[2] < 0.98]  # type: ignore[misc]
        out.append(to_input(make_frame(n, START_US + round(t * 1e6), boxes), n))
    return tuple(out)


def outcome(z_up: bool, fps: float) -> list[Event]:
    logic = stage(z_up).logic(CAMERA)
    return events_of([*feed(logic, records(z_up, fps)), *logic.on_silence()])


@pytest.mark.parametrize("z_up", [True, False])
@pytest.mark.parametrize("fps", [5.0, 12.5, 30.0])
def test_visits_on_the_ground_are_those_of_the_true_paths_at_any_frame_rate(z_up: bool, fps: float) -> None:
    """To within a frame, at which people are looked at; the smoothed position of a steady walker adds a few ms."""
    true = sorted(stay for path in PATHS.values() for stay in true_stays(path, 0.2))
    got = sorted(
        Stay((e.at_us - START_US) * 1e-6 - e.dwell_s, (e.at_us - START_US) * 1e-6)
        for e in outcome(z_up, fps)
        if e.kind == "exit"
    )
    assert len(true) == 3 and len(got) == len(true)
    for a, b in zip(got, true, strict=True):
        assert abs(a.enter_s - b.enter_s) <= 1 / fps + 0.01 and abs(a.exit_s - b.exit_s) <= 1 / fps + 0.01


@pytest.mark.parametrize("z_up", [True, False])
@pytest.mark.parametrize("fps", [2.0, 5.0, 12.5, 30.0])
def test_crossings_on_the_ground_have_the_sides_of_those_in_the_picture(z_up: bool, fps: float) -> None:
    """Walking the wire towards +x with the camera behind, away from the camera is to the left."""
    crossings = [
        (e.tripwire, e.direction, (e.at_us - START_US) * 1e-6) for e in outcome(z_up, fps) if e.kind == "crossing"
    ]
    for wire in ("metres", "picture"):
        # away: from y = 6.5 the wire at x = −1 is 2.875 m off; back again it is passed at 20.5 − 9.375 s
        (first, away_s), (second, back_s) = [(d, s) for w, d, s in crossings if w == wire]
        assert (first, second) == ("left", "right")
        assert abs(away_s - 2.875) <= 0.02 and abs(back_s - 11.125) <= 0.02


@bounded(12)
@given(st.integers(1, 120), st.booleans())
def test_restored_at_any_frame_the_bytes_are_the_same(cut: int, z_up: bool) -> None:
    through, again = stage(z_up).logic(CAMERA), stage(z_up).logic(CAMERA)
    frames = records(z_up, 12.5)
    feed(through, frames[:cut])
    state = through.snapshot()
    assert state is not None
    again.restore(state)
    for record in frames[cut:]:
        assert through.on_record(record) == again.on_record(record)
        assert through.snapshot() == again.snapshot()
