"""Tripwires against exact geometry on random polylines and paths."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from operators.tracking.ground import image_to_ground
from operators.tripwires import Tripwires
from operators.tripwires.kernel import ground_sense
from schemas.fields import Plane
from schemas.settings import Pose, Tripwire
from tests.unit.operators.scenes import bounded
from tests.unit.operators.walkers import Look, Walker, frame_times, table, walkers

XY = tuple[float, float]
F64 = npt.NDArray[np.float64]
ASPECT = 1.6


@st.composite
def rising_lines(draw: st.DrawFn) -> tuple[XY, ...]:
    """Draw a polyline from left to right: it does not cross itself."""
    xs = sorted(draw(st.sets(st.integers(4, 60), min_size=2, max_size=5)))
    return tuple((x / 64, draw(st.integers(12, 52)) / 64) for x in xs)


def turn(a: XY, b: XY, p: XY) -> Fraction:
    ax, ay, bx, by, px, py = map(Fraction, (*a, *b, *p))
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


def meets(a: XY, b: XY, p: XY, q: XY) -> bool:
    return (turn(a, b, p) > 0) != (turn(a, b, q) > 0) and (turn(p, q, a) > 0) != (turn(p, q, b) > 0)


def side_and_distance(line: tuple[XY, ...], p: XY, aspect: float) -> tuple[int, float, float]:
    """Return the side of the nearest segment, the distance, and how clear it is which segment decides."""
    found = []
    for a, b in itertools.pairwise(line):
        (ax, ay), (bx, by), (px, py) = ((x * aspect, y) for x, y in (a, b, p))
        ux, uy = bx - ax, by - ay
        s = min(1.0, max(0.0, ((px - ax) * ux + (py - ay) * uy) / (ux * ux + uy * uy)))
        distance = math.hypot(px - ax - s * ux, py - ay - s * uy)
        lean = (ux * (py - ay) - uy * (px - ax)) / math.hypot(ux, uy)
        found.append((distance, -abs(lean), 1 if lean > 0 else -1))
    found.sort()
    near = [f for f in found if f[0] - found[0][0] < 1e-9]
    best = min(near, key=lambda f: f[1])
    others = [f[0] - found[0][0] for f in found if f not in near]
    clear = min([*others, abs(best[1])])
    return best[2], best[0], clear


def model(
    line: tuple[XY, ...],
    band: float,
    w: Walker,
    wanted: tuple[bool, ...],
    aspect: float,
    mirrored: bool,
    on_ground: bool,
) -> list[tuple[int, int]]:
    """Return (frame, side) of each reported crossing."""
    out, side, odd, last, pending = [], 0, 0, None, 0
    for k, look in enumerate(w.looks):
        point = look.place(on_ground)
        if point is not None:
            if last is not None:
                odd = (odd + sum(meets(a, b, last, point) for a, b in itertools.pairwise(line))) % 2
            last = point
            now_side, distance, clear = side_and_distance(line, point, aspect)
            now_side = -now_side if mirrored else now_side
            assume(abs(distance - band) > 1e-9 and (distance < band or clear > 1e-7))
            if distance > band:
                if side == -now_side and odd and wanted[look.label]:
                    pending = now_side if pending != -now_side else 0
                side, odd = now_side, 0
        if pending and k >= w.confirmed:
            out.append((w.first + k, pending))
            pending = 0
    return out


FLAT = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
"""A camera that looks straight down at a floor whose y axis points down in the picture."""
Y_UP = FLAT * [1, 1, 1, 1, -1, 1, 1, 1, 1]
"""The same where the floor's y axis points up in the picture."""


@bounded(300)
@given(
    st.lists(walkers(), min_size=1, max_size=3),
    rising_lines(),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.sampled_from([(), ("person",)]),
    st.sets(st.integers(0, 40), max_size=4),
    st.sampled_from([("image", FLAT), ("image", Y_UP), ("ground", FLAT), ("ground", Y_UP)]),
)
def test_crossings_equal_exact_geometry_and_survive_restarts(
    crowd: list[Walker],
    line: tuple[XY, ...],
    band: float,
    classes: tuple[str, ...],
    restarts: set[int],
    plane_and_floor: tuple[Plane, F64],
) -> None:
    plane, floor = plane_and_floor
    on_ground = plane == "ground"
    wire = Tripwire(
        id="w", points=line, plane=plane, anchor="center", classes=classes,
        band_ratio=0.5 if on_ground else band, band_m=band if on_ground else 10.0,
    )  # fmt: skip

    def make() -> Tripwires:
        wires = Tripwires([wire], 16)
        wires.set_labels(["person", "car"])
        return wires

    times, wires = frame_times([100] * 40), make()
    got: dict[int, list[tuple[int, int]]] = {slot: [] for slot in range(len(crowd))}
    for n, now in enumerate(times):
        for c in wires.step(table(crowd, n, times, on_ground), len(crowd), ASPECT, now, floor):
            assert c.ordinal == c.slot
            assert c.born_us <= c.at_us <= now
            got[c.slot].append((n, c.side))
        if n in restarts:
            rows, wires = wires.approaches[: len(crowd)].tobytes(), make()
            wires.restore(rows, [wire.place])
            assert wires.approaches[: len(crowd)].tobytes() == rows
    mirrored, aspect = on_ground and floor is Y_UP, 1.0 if on_ground else ASPECT
    for slot, w in enumerate(crowd):
        assert got[slot] == model(line, band, w, (True, not classes), aspect, mirrored, on_ground)


def walk(line: tuple[XY, ...], path: list[XY], band: float = 0.01, frame_us: int = 100_000) -> list[tuple[int, int]]:
    """Return (side, ms) of each crossing, in the picture; on the ground they must be the same."""
    times = [START_US + n * frame_us for n in range(len(path) + 1)]
    crowd = [Walker(0, 0, tuple(Look(p) for p in path))]
    found = []
    for plane, aspect in (("image", ASPECT), ("image", 1.0), ("ground", ASPECT)):
        wire = Tripwire(id="w", points=line, plane=plane, anchor="center", band_ratio=band, band_m=band)  # type: ignore[arg-type]
        wires = Tripwires([wire], 4)
        wires.set_labels(["person"])
        found.append(
            [
                (c.side, (c.at_us - times[0]) // 1000)
                for n in range(len(path))
                for c in wires.step(table(crowd, n, times, plane == "ground"), 1, aspect, times[n], FLAT)
            ]
        )
    assert found[1] == found[2]
    return found[0]


START_US = 1_700_000_000_000_000
UP = ((0.5, 0.75), (0.5, 0.25))  # walked upwards: right is +x


def test_two_observations_are_enough_and_the_date_lies_where_the_path_met_the_wire() -> None:
    assert walk(UP, [(0.25, 0.5), (0.75, 0.5)]) == [(1, 50)]


def test_a_return_counts_again_in_the_other_direction() -> None:
    path = [(0.25, 0.5), (0.75, 0.5), (0.25, 0.5), (0.75, 0.5)]
    assert [side for side, _ in walk(UP, path)] == [1, -1, 1]


def test_walking_round_the_end_is_no_crossing() -> None:
    assert walk(UP, [(0.25, 0.5), (0.25, 0.875), (0.75, 0.875), (0.75, 0.5)]) == []


def test_trembling_on_the_wire_is_no_crossing_until_the_band_is_left_on_the_other_side() -> None:
    tremble = [(0.5 + (-1) ** n / 256, 0.5) for n in range(9)]
    assert walk(UP, [(0.25, 0.5), *tremble, (0.25, 0.5)]) == []
    assert [side for side, _ in walk(UP, [(0.25, 0.5), *tremble, (0.75, 0.5)])] == [1]


def test_stepping_exactly_onto_the_wire_and_on_counts_once() -> None:
    assert [side for side, _ in walk(UP, [(0.25, 0.5), (0.5, 0.5), (0.75, 0.5)])] == [1]
    assert [side for side, _ in walk(UP, [(0.75, 0.5), (0.5, 0.5), (0.25, 0.5)])] == [-1]


def test_a_path_through_a_bend_of_the_wire_counts_once() -> None:
    bent = ((0.5, 0.75), (0.5, 0.5), (0.5625, 0.25))
    assert [side for side, _ in walk(bent, [(0.25, 0.5), (0.75, 0.5)])] == [1]


def test_each_turn_of_a_spiral_is_crossed_once_on_the_way_out() -> None:
    spiral = tuple((0.5 + 0.02 * k * math.cos(k / 2), 0.5 + 0.02 * k * math.sin(k / 2)) for k in range(24))  # outwards
    out = [(0.5, 0.5 + 0.4 * n / 12) for n in range(13)]
    turns = sum(meets(a, b, out[0], out[-1]) for a, b in itertools.pairwise(spiral))
    crossings = [side for side, _ in walk(spiral, out, 0.004)]
    assert turns == 2 and crossings == [-1] * turns  # walked clockwise in the picture, so its outside is on the left
    assert [side for side, _ in walk(spiral, out[::-1], 0.004)] == [1] * turns


def test_a_path_into_a_sharp_bend_and_back_out_is_no_crossing_and_one_through_both_legs_is_two_or_none() -> None:
    hook = ((0.25, 0.25), (0.75, 0.5), (0.25, 0.75))
    assert walk(hook, [(0.25, 0.5), (0.65, 0.5), (0.25, 0.5)]) == []
    assert [side for side, _ in walk(hook, [(0.4, 0.2), (0.4, 0.5), (0.4, 0.8)])] == [1, -1]
    assert (
        walk(hook, [(0.4, 0.2), (0.4, 0.8)]) == []
    )  # seen outside of the hook only: round its end, for all that is known


@pytest.mark.parametrize("seed", range(10))
def test_crossings_are_the_same_at_any_frame_rate_and_dated_within_one_frame(seed: int) -> None:
    """Legs of two seconds between points that are clear of the wire: each leg crosses it or does not, at any rate."""
    rng = random.Random(seed)
    wire = ((0.5, 0.0), (0.45, 0.4), (0.55, 0.6), (0.5, 1.0))
    corners = [
        (rng.choice([rng.uniform(0.05, 0.35), rng.uniform(0.65, 0.95)]), rng.uniform(0.05, 0.95)) for _ in range(9)
    ]
    legs = list(itertools.pairwise(corners))
    true = []  # (side, ms): where a leg meets the wire, found in steps of 1 ms
    for k, ((ax, ay), (bx, by)) in enumerate(legs):
        places = [(ax + (bx - ax) * m / 2000, ay + (by - ay) * m / 2000) for m in range(2001)]
        sides = [side_and_distance(wire, p, 1.0)[0] for p in places]
        true += [(sides[m], 2000 * k + m) for m in range(1, 2001) if sides[m] != sides[m - 1]]
    for fps in (2.0, 5.0, 12.5, 30.0):
        count = int(2 * len(legs) * fps) + 1
        path = []
        for n in range(count):
            leg = min(int(n / fps / 2), len(legs) - 1)
            (ax, ay), (bx, by) = legs[leg]
            share = n / fps / 2 - leg
            path.append((ax + share * (bx - ax), ay + share * (by - ay)))
        got = walk(wire, path, frame_us=round(1e6 / fps))
        assert [side for side, _ in got] == [side for side, _ in true]
        # A leg is straight between two looks, so the date is exact but for a millisecond and a bend of the wire.
        assert all(abs(a - b) <= 1000 / fps for (_, a), (_, b) in zip(got, true, strict=True))


def pose(z_up: bool, yaw: float, pitch: float, height_m: float) -> Pose:
    """Return a camera above the floor that looks down at it by `pitch`; the site's z axis points up, or down."""
    forward = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)])
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])  # rows: right, down, forward, with z up
    centre = np.array([0.0, 0.0, height_m * 1000])
    if not z_up:  # the same camera, in axes turned about x: y and z point the other way
        flip = np.diag([1.0, -1.0, -1.0])
        rotation, centre = rotation @ flip, flip @ centre
    return Pose(
        rotation=tuple(map(tuple, rotation.tolist())),
        translation_mm=tuple((-rotation @ centre).tolist()),
        intrinsic=((1000.0, 0.0, 800.0), (0.0, 1000.0, 500.0), (0.0, 0.0, 1.0)),
    )


@bounded(200)
@given(
    st.booleans(), st.floats(-3.1, 3.1), st.floats(0.2, 1.3), st.floats(2.0, 8.0), st.tuples(*[st.floats(-1, 1)] * 6)
)
def test_right_on_the_ground_is_right_in_the_picture_and_for_who_walks_along_the_wire(
    z_up: bool, yaw: float, pitch: float, height_m: float, shape: tuple[float, ...]
) -> None:
    """Three ways to say it: the picture's, the ground kernel's, and the cross product with the vertical."""
    camera = pose(z_up, yaw, pitch, height_m)
    away = height_m / math.tan(pitch)
    middle = np.array([away * math.cos(yaw), away * math.sin(yaw) * (1 if z_up else -1)])  # what the camera looks at
    a, b, p = (middle + 0.2 * height_m * np.array(shape[k : k + 2]) for k in (0, 2, 4))
    up = np.array([0.0, 0.0, 1.0 if z_up else -1.0])
    to_the_right = np.cross(np.append(b - a, 0.0), up) @ np.append(p - a, 0.0)
    assume(abs(to_the_right) > 1e-3 and np.linalg.norm(b - a) > 0.05)

    def seen(point: F64) -> XY:
        x, y, depth = np.array(camera.intrinsic) @ (
            np.array(camera.rotation) @ [*(1000 * point), 0.0] + camera.translation_mm
        )
        assume(depth > 100)
        return x / depth, y / depth

    (ax, ay), (bx, by), (px, py) = map(seen, (a, b, p))
    in_picture = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    on_floor = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    assert (to_the_right > 0) == (in_picture > 0) == (on_floor * ground_sense(image_to_ground(camera, 1000.0)) > 0)


def test_an_approach_does_not_follow_a_wire_to_the_other_plane() -> None:
    image, ground = (Tripwire(id="w", points=UP, plane=plane, anchor="center") for plane in ("image", "ground"))
    crowd, times = [Walker(0, 0, (Look((0.25, 0.5)),) * 3)], frame_times([100] * 3)
    old = Tripwires([image], 4)
    old.set_labels(["person"])
    old.step(table(crowd, 0, times), 1, ASPECT, times[0])
    for wire, known in ((image, 1), (ground, 0)):
        new = Tripwires([wire], 4)
        new.restore(old.approaches[:1].tobytes(), [image.place])
        assert np.count_nonzero(new.approaches["known"]) == known
