"""Zones against a slow model over the whole history."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from operators.anchors import pack_lines
from operators.zones import Zones
from operators.zones.kernel import inside_polygon
from schemas.fields import ANCHORS, Anchor, Plane
from schemas.settings import Zone
from tests.unit.operators.scenes import bounded
from tests.unit.operators.walkers import Look, Walker, frame_times, points, table, walkers

XY = tuple[float, float]
STEPS = st.lists(st.sampled_from([40, 100, 400, 1000, 3000]), min_size=45, max_size=45)


@st.composite
def star_polygons(draw: st.DrawFn) -> tuple[XY, ...]:
    """Draw a polygon without crossings: corners at rising angles about a point."""
    count = draw(st.integers(3, 9))
    radii = draw(st.lists(st.floats(0.05, 0.45), min_size=count, max_size=count))
    return tuple(
        (0.5 + r * math.cos(2 * math.pi * k / count), 0.5 + r * math.sin(2 * math.pi * k / count))
        for k, r in enumerate(radii)
    )


def winding(polygon: tuple[XY, ...], point: tuple[float | Fraction, float | Fraction]) -> int:
    """Winding number in exact fractions: another algorithm, for points that lie on no edge."""
    px, py = map(Fraction, point)
    times = 0
    for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        fax, fay, fbx, fby = map(Fraction, (ax, ay, bx, by))
        turn = (fbx - fax) * (py - fay) - (fby - fay) * (px - fax)
        if fay <= py < fby and turn > 0:
            times += 1
        elif fby <= py < fay and turn < 0:
            times -= 1
    return times


def kernel_inside(polygon: tuple[XY, ...], point: XY) -> bool:
    corners, starts = pack_lines([polygon])
    return bool(inside_polygon(corners, starts[0], starts[1], *point))


@bounded(200)
@given(star_polygons(), points())
def test_a_point_is_inside_a_polygon_as_its_winding_number_says(polygon: tuple[XY, ...], point: XY) -> None:
    distances = [_distance(point, a, b) for a, b in zip(polygon, (*polygon[1:], polygon[0]), strict=True)]
    assume(min(distances) > 1e-9)
    assert kernel_inside(polygon, point) == (winding(polygon, point) != 0)


def _distance(p: XY, a: XY, b: XY) -> float:
    ux, uy = b[0] - a[0], b[1] - a[1]
    s = min(1.0, max(0.0, ((p[0] - a[0]) * ux + (p[1] - a[1]) * uy) / (ux * ux + uy * uy)))
    return math.hypot(p[0] - a[0] - s * ux, p[1] - a[1] - s * uy)


def test_of_two_polygons_that_share_an_edge_a_point_on_it_is_in_exactly_one() -> None:
    left = ((0.25, 0.25), (0.5, 0.25), (0.5, 0.75), (0.25, 0.75))
    right = ((0.5, 0.25), (0.75, 0.25), (0.75, 0.75), (0.5, 0.75))
    for y in (0.25, 0.3, 0.5, 0.74):
        assert [kernel_inside(left, (0.5, y)), kernel_inside(right, (0.5, y))] == [False, True]


GRID_POINTS = st.tuples(st.integers(0, 16), st.integers(0, 16)).map(lambda p: (p[0] / 16, p[1] / 16))


@bounded(300)
@given(st.lists(GRID_POINTS, min_size=3, max_size=9), GRID_POINTS)
def test_points_on_edges_and_corners_belong_as_if_they_lay_a_hair_further_right_and_down(
    polygon: list[XY], point: XY
) -> None:
    hair = (Fraction(point[0]) + Fraction(1, 2**40), Fraction(point[1]) + Fraction(1, 2**80))
    assert kernel_inside(tuple(polygon), point) == bool(winding(tuple(polygon), hair) % 2)


@bounded(200)
@given(GRID_POINTS, GRID_POINTS)
def test_of_zones_that_touch_a_point_is_in_exactly_one(middle: XY, point: XY) -> None:
    square = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    fan = [(square[k], square[(k + 1) % 4], middle) for k in range(4)]
    assert sum(kernel_inside(zone, point) for zone in fan) == (point[0] < 1 and point[1] < 1)


def test_of_zones_that_share_a_slanted_edge_a_point_on_it_is_in_exactly_one_however_it_rounds() -> None:
    a, b, up, down = (0.1, 0.1), (0.83, 0.77), (0.9, 0.05), (0.05, 0.9)
    for k in range(1, 1000):
        point = (0.1 + 0.73 * k / 1000, 0.1 + 0.67 * k / 1000)
        assert kernel_inside((a, b, up), point) != kernel_inside((b, a, down), point)


def test_the_arms_of_a_spiral_are_inside_and_the_corridor_between_them_is_not() -> None:
    arm = [(k / 40 * math.cos(k), k / 40 * math.sin(k)) for k in range(4, 20)]
    spiral = (*arm, *((0.8 * x, 0.8 * y) for x, y in reversed(arm)))
    middles = [(0.9 * x, 0.9 * y) for x, y in arm[1:-1]]
    assert all(kernel_inside(spiral, p) == (winding(spiral, p) % 2 == 1) for p in middles)
    assert not kernel_inside(spiral, (0.0, 0.0))


class Settled:
    """Whether an object counts as inside a zone, from one look to the next: in exact polygons, and a band outside."""

    def __init__(self, zone: Zone, aspect: float) -> None:
        self.polygon, self.on_ground = zone.polygon, zone.plane == "ground"
        self.band, self.scale = (zone.band_m, 1.0) if self.on_ground else (zone.band_ratio, aspect)
        self.inside = False

    def look(self, point: XY, on_visit: bool) -> bool:
        polygon = [(x * self.scale, y) for x, y in self.polygon]
        here = (point[0] * self.scale, point[1])
        distance = min(_distance(here, a, b) for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True))
        assume(abs(distance - self.band) > 1e-9)
        self.inside = kernel_inside(self.polygon, point) or (self.inside and on_visit and distance < self.band)
        return self.inside


def model(zone: Zone, w: Walker, times: list[int], aspect: float = 1.0) -> list[tuple[object, ...]]:
    """Return what happens to one object's visits: (kind, enter, at, label, born_inside), in order of frames.

    Plain lists over the object's whole life; labels 0 and 1 are 'person' and 'car'.
    """
    out: list[tuple[object, ...]] = []
    inside_at: list[int] = []  # of the visit under way
    state = {"reported": False, "label": 0, "born": False}
    settled = Settled(zone, aspect)
    for k in range(len(w.looks) + 1):
        now = times[w.first + k]
        over = k == len(w.looks)
        if inside_at and (over or now - inside_at[-1] > zone.gap_s * 1e6):
            if state["reported"]:
                out.append((Zones.EXIT, inside_at[0], inside_at[-1], state["label"], state["born"]))
            inside_at = []
        if over:
            break
        look = w.looks[k]
        point = look.place(settled.on_ground)
        reported = bool(inside_at) and state["reported"]
        wanted = not zone.classes or ("person", "car")[look.label] in zone.classes
        if point is None or not (wanted or reported) or not settled.look(point, bool(inside_at)):
            continue
        if not inside_at:
            state = {"reported": False, "label": 0, "born": k == 0}
        inside_at.append(now)
        lasted = now - inside_at[0]
        if k < w.confirmed:
            continue
        if not state["reported"] and lasted >= zone.min_inside_s * 1e6:
            state["reported"], state["label"] = True, look.label
            out.append((Zones.ENTER, inside_at[0], inside_at[0], look.label, state["born"]))
    return out


@bounded(250)
@given(
    st.lists(walkers(), min_size=1, max_size=4),
    star_polygons(),
    STEPS,
    st.sampled_from([0.05, 0.5, 2.0, 5.0]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([(), ("person",)]),
    st.sets(st.integers(0, 44), max_size=4),
    st.sampled_from(["image", "ground"]),
    st.sampled_from([0.0, 0.03, 0.2]),
    st.sampled_from([1.0, 1.6]),
)
def test_visits_equal_a_slow_model_and_survive_restarts(
    crowd: list[Walker],
    polygon: tuple[XY, ...],
    steps: list[int],
    gap_s: float,
    min_inside_s: float,
    classes: tuple[str, ...],
    restarts: set[int],
    plane: Plane,
    band: float,
    aspect: float,
) -> None:
    zone = Zone(
        id="z", polygon=polygon, plane=plane, anchor="center", gap_s=gap_s, min_inside_s=min_inside_s, classes=classes,
        band_ratio=band if plane == "image" else 0.25, band_m=band if plane == "ground" else 10.0,
    )  # fmt: skip

    def make() -> Zones:
        zones = Zones([zone], 16)
        zones.set_labels(["person", "car"])
        return zones

    times, zones = frame_times(steps), make()
    got: dict[int, list[tuple[object, ...]]] = {slot: [] for slot in range(len(crowd))}
    for n, now in enumerate(times):
        visits = zones.step(table(crowd, n, times, plane == "ground"), len(crowd), now, aspect)
        for v in visits:
            assert v.ordinal == v.slot  # an object without a number is never reported
            got[v.slot].append((v.kind, v.enter_us, v.at_us, v.label, bool(v.born_inside)))
        if n in restarts:
            rows, zones = zones.visits[: len(crowd)].tobytes(), make()
            zones.restore(rows, [zone.place])
            assert zones.visits[: len(crowd)].tobytes() == rows
    for slot, w in enumerate(crowd):
        assert got[slot] == model(zone, w, times, aspect)


SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))


def inside_at(zone: Zone, xs: list[float | None], aspect: float = 1.0, frame_ms: int = 100) -> list[bool]:
    """Return for each frame whether an object counts as inside that is seen at (x, 0.5), or not seen."""
    zones = Zones([zone], 4)
    zones.set_labels(["person"])
    crowd = [Walker(0, 0, tuple(Look(None if x is None else (x, 0.5)) for x in xs))]
    times, got = frame_times([frame_ms] * len(xs)), []
    for n in range(len(xs)):
        zones.step(table(crowd, n, times, zone.plane == "ground"), 1, times[n], aspect)
        got.append(bool(zones.visits["inside"][0, 0]))
    return got


@pytest.mark.parametrize("plane", ["image", "ground"])
def test_in_the_band_counts_as_inside_for_who_comes_out_and_as_outside_for_who_comes_in(plane: Plane) -> None:
    zone = Zone(id="z", polygon=SQUARE, plane=plane, anchor="center", band_ratio=0.0625, band_m=0.0625, gap_s=10.0)
    out_and_back = [0.5, 0.78125, 0.8125, 0.8125 + 2.0**-10, 0.78125, 0.5, 0.78125]
    assert inside_at(zone, out_and_back) == [True, True, True, False, False, True, True]


@pytest.mark.parametrize(
    ("anchor", "point"),
    [
        ("top_left", (0.25, 0.5)), ("top_center", (0.375, 0.5)), ("top_right", (0.5, 0.5)),
        ("center_left", (0.25, 0.625)), ("center", (0.375, 0.625)), ("center_right", (0.5, 0.625)),
        ("bottom_left", (0.25, 0.75)), ("bottom_center", (0.375, 0.75)), ("bottom_right", (0.5, 0.75)),
    ],
)  # fmt: skip
def test_each_of_nine_points_of_a_box_can_stand_for_the_object(anchor: Anchor, point: XY) -> None:
    """The box lies from (0.25, 0.5) to (0.5, 0.75); the zone is a speck about the point that is asked for."""
    x, y = point
    speck = ((x - 0.01, y - 0.01), (x + 0.01, y - 0.01), (x + 0.01, y + 0.01), (x - 0.01, y + 0.01))
    others = [name for name in ANCHORS if name != anchor]
    zones = Zones([Zone(id=a, polygon=speck, anchor=a) for a in (anchor, *others)], 4)  # type: ignore[arg-type]
    zones.set_labels(["person"])
    times = frame_times([100])
    tracks = table([Walker(0, 0, (Look((0.5, 0.5)),))], 0, times)
    tracks[0]["box"] = 0.25, 0.5, 0.5, 0.75
    zones.step(tracks, 1, times[0])
    assert zones.visits["inside"][0].tolist() == [1] + [0] * 8


def test_the_bands_width_is_in_frame_heights_on_both_axes() -> None:
    zone = Zone(id="z", polygon=SQUARE, anchor="center", band_ratio=0.125, gap_s=10.0)
    assert inside_at(zone, [0.5, 0.8125], aspect=2.0) == [True, True]
    assert inside_at(zone, [0.5, 0.8125 + 2.0**-10], aspect=2.0) == [True, False]


def test_who_was_out_of_sight_in_the_band_is_still_inside_while_the_visit_lasts() -> None:
    zone = Zone(id="z", polygon=SQUARE, anchor="center", band_ratio=0.0625, gap_s=0.45)
    assert inside_at(zone, [0.5, None, None, 0.78125]) == [True, False, False, True]
    assert inside_at(zone, [0.5, None, None, None, None, 0.78125]) == [True, False, False, False, False, False]


def test_trembling_on_the_edge_is_one_visit_with_a_band_and_many_without() -> None:
    def enters(band: float) -> int:
        zones = Zones([Zone(id="z", polygon=SQUARE, anchor="center", band_ratio=band, gap_s=0.15)], 4)
        zones.set_labels(["person"])
        looks = (Look((0.5, 0.5)), *(Look((0.75 + (-1 if n % 3 == 2 else 1) / 64, 0.5)) for n in range(9)))
        crowd, times = [Walker(0, 0, looks)], frame_times([100] * 12)
        return sum(v.kind == Zones.ENTER for n in range(10) for v in zones.step(table(crowd, n, times), 1, times[n]))

    assert enters(0.03) == 1 and enters(0.0) == 4


def broken_path(rng: random.Random) -> Callable[[float], XY]:
    """Return where an object is after so many seconds: straight pieces of two seconds each, LEGS of them."""
    corners = [(rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95)) for _ in range(LEGS + 1)]

    def at(t_s: float) -> XY:
        leg = min(int(t_s / 2), LEGS - 1)
        (ax, ay), (bx, by) = corners[leg], corners[leg + 1]
        return ax + (t_s / 2 - leg) * (bx - ax), ay + (t_s / 2 - leg) * (by - ay)

    return at


LEGS = 8


def stays(zone: Zone, at: Callable[[float], XY], fps: float) -> list[tuple[float, float]]:
    """Return (enter, exit) of each visit, in seconds from the first frame."""
    count = int(2 * LEGS * fps) + 1
    crowd = [Walker(0, 0, tuple(Look(at(n / fps)) for n in range(count)))]
    times = [1_700_000_000_000_000 + round(n * 1e6 / fps) for n in range(count + 1)]
    zones = Zones([zone], 4)
    zones.set_labels(["person"])
    happened = [
        v for n in range(count + 1) for v in zones.step(table(crowd, n, times, zone.plane == "ground"), 1, times[n])
    ]
    return [((v.enter_us - times[0]) * 1e-6, (v.at_us - times[0]) * 1e-6) for v in happened if v.kind == Zones.EXIT]


@pytest.mark.parametrize("plane", ["image", "ground"])
def test_visits_are_the_same_at_any_frame_rate_to_within_one_frame(plane: Plane) -> None:
    """Compared with 250 frames/s: entered at most one frame late, left at most one frame early, none more or fewer.

    Left out are paths with a stay in the polygon, or a time outside, that is shorter than a frame, and those where a time
    outside is within two frames of the tolerated gap: these a rate cannot tell.
    """
    compared = 0
    for seed in range(12):
        at = broken_path(random.Random(seed))
        zone = Zone(id="z", polygon=SQUARE, plane=plane, anchor="center", band_ratio=0.04, band_m=0.04, gap_s=0.4)
        bare = msgspec.structs.replace(zone, gap_s=0.0041, band_ratio=0.0, band_m=0.0)
        pieces, true = stays(msgspec.structs.replace(zone, gap_s=0.0041), at, 250.0), stays(zone, at, 250.0)
        pieces_proper = stays(bare, at, 250.0)  # in the polygon itself
        outside = [b[0] - a[1] for a, b in itertools.pairwise(pieces)]
        for fps in (5.0, 12.5, 30.0):
            frame_s = 1 / fps + 0.005
            if any(left - entered < frame_s for entered, left in pieces_proper) or any(
                s < frame_s or abs(s - zone.gap_s) < 2 * frame_s for s in outside
            ):
                continue
            got = stays(zone, at, fps)
            assert len(got) == len(true)
            for (enter_s, exit_s), (true_enter_s, true_exit_s) in zip(got, true, strict=True):
                assert -0.005 <= enter_s - true_enter_s <= frame_s
                assert -0.005 <= true_exit_s - exit_s <= frame_s
            compared += 1
    assert compared >= 18


def test_visits_do_not_follow_a_zone_to_the_other_plane() -> None:
    image, ground = (Zone(id="z", polygon=SQUARE, plane=plane, anchor="center") for plane in ("image", "ground"))
    crowd, times = [Walker(0, 0, (Look((0.5, 0.5)),) * 5)], frame_times([100] * 5)
    old = Zones([image], 4)
    old.set_labels(["person"])
    old.step(table(crowd, 0, times), 1, times[0])
    for zone, open_visits in ((image, 1), (ground, 0)):
        new = Zones([zone], 4)
        new.restore(old.visits[:1].tobytes(), [image.place])
        assert np.count_nonzero(new.visits["open"]) == open_visits


def test_after_new_settings_visits_follow_their_zone() -> None:
    a, b = (
        Zone(id="a", polygon=SQUARE, anchor="center", gap_s=9.0),
        Zone(id="b", polygon=SQUARE, anchor="center", gap_s=9.0),
    )
    crowd, times = [Walker(0, 0, (Look((0.5, 0.5)),) * 5)], frame_times([100] * 6)
    old = Zones([a, b], 4)
    old.set_labels(["person"])
    for n in range(4):
        old.step(table(crowd, n, times), 1, times[n])
    old.visits["enter_us"][0] = times[1], times[2]
    new = Zones([b], 4)  # zone a is gone
    new.set_labels(["person"])
    new.restore(old.visits[:1].tobytes(), [a.place, b.place])
    happened = [v for n in (4, 5) for v in new.step(table(crowd, n, times), 1, times[n])]
    assert [(v.kind, v.enter_us, v.at_us) for v in happened] == [(Zones.EXIT, times[2], times[4])]


def test_a_gap_that_is_no_whole_float_is_met_exactly() -> None:
    assert int(0.57 * 1e6) != 570_000 or int(2.01 * 1e6) != 2_010_000  # what rounding is for
    square = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
    zones = Zones([Zone(id="a", polygon=square, anchor="center", gap_s=2.01)], 4)
    zones.set_labels(["person"])
    crowd = [Walker(0, 0, tuple(Look((0.5, 0.5)) for _ in range(3)))]
    times = frame_times([2010, 2010, 100])
    kinds = [v.kind for n in range(3) for v in zones.step(table(crowd, n, times), 1, times[n])]
    assert kinds == [Zones.ENTER]
