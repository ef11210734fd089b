"""Zones against a slow model over the whole history."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from operators.anchors import pack_lines
from operators.zones import Zones
from operators.zones.kernel import inside_polygon
from schemas.settings import Zone
from tests.unit.operators.scenes import bounded
from tests.unit.operators.walkers import Walker, frame_times, points, table, walkers

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


def winding_inside(polygon: tuple[XY, ...], point: XY) -> bool:
    """Winding number in exact fractions: another algorithm, for points that lie on no edge."""
    px, py = map(Fraction, point)
    winding = 0
    for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        fax, fay, fbx, fby = map(Fraction, (ax, ay, bx, by))
        turn = (fbx - fax) * (py - fay) - (fby - fay) * (px - fax)
        if fay <= py < fby and turn > 0:
            winding += 1
        elif fby <= py < fay and turn < 0:
            winding -= 1
    return winding != 0


def kernel_inside(polygon: tuple[XY, ...], point: XY) -> bool:
    corners, starts = pack_lines([polygon])
    return bool(inside_polygon(corners, starts[0], starts[1], *point))


@bounded(200)
@given(star_polygons(), points())
def test_a_point_is_inside_a_polygon_as_its_winding_number_says(polygon: tuple[XY, ...], point: XY) -> None:
    distances = [_distance(point, a, b) for a, b in zip(polygon, (*polygon[1:], polygon[0]), strict=True)]
    assume(min(distances) > 1e-9)
    assert kernel_inside(polygon, point) == winding_inside(polygon, point)


def _distance(p: XY, a: XY, b: XY) -> float:
    ux, uy = b[0] - a[0], b[1] - a[1]
    s = min(1.0, max(0.0, ((p[0] - a[0]) * ux + (p[1] - a[1]) * uy) / (ux * ux + uy * uy)))
    return math.hypot(p[0] - a[0] - s * ux, p[1] - a[1] - s * uy)


def test_of_two_polygons_that_share_an_edge_a_point_on_it_is_in_exactly_one() -> None:
    left = ((0.25, 0.25), (0.5, 0.25), (0.5, 0.75), (0.25, 0.75))
    right = ((0.5, 0.25), (0.75, 0.25), (0.75, 0.75), (0.5, 0.75))
    for y in (0.25, 0.3, 0.5, 0.74):
        assert [kernel_inside(left, (0.5, y)), kernel_inside(right, (0.5, y))] == [False, True]


def model(zone: Zone, w: Walker, slot: int, times: list[int], since_s: float) -> list[tuple[object, ...]]:
    """Return what happens to one object's visits: (kind, enter, at, label, born_inside), in order of frames.

    Plain lists over the object's whole life; labels 0 and 1 are 'person' and 'car'.
    """
    out: list[tuple[object, ...]] = []
    inside_at: list[int] = []  # of the visit under way
    state = {"reported": False, "reached": False, "label": 0, "born": False}
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
        reported = bool(inside_at) and state["reported"]
        wanted = not zone.classes or ("person", "car")[look.label] in zone.classes
        if look.point is None or not (wanted or reported) or not kernel_inside(zone.polygon, look.point):
            continue
        if not inside_at:
            state = {"reported": False, "reached": False, "label": 0, "born": k == 0}
        inside_at.append(now)
        lasted = now - inside_at[0]
        if k < w.confirmed:
            continue
        if not state["reported"] and lasted >= zone.min_inside_s * 1e6:
            state["reported"], state["label"] = True, look.label
            out.append((Zones.ENTER, inside_at[0], inside_at[0], look.label, state["born"]))
        if state["reported"] and not state["reached"] and lasted >= since_s * 1e6:
            state["reached"] = True
            out.append((Zones.REACHED, inside_at[0], now, state["label"], state["born"]))
    return out


@bounded(150)
@given(
    st.lists(walkers(), min_size=1, max_size=4),
    star_polygons(),
    STEPS,
    st.sampled_from([0.05, 0.5, 2.0, 5.0]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.sampled_from([(), ("person",)]),
    st.sets(st.integers(0, 44), max_size=4),
)
def test_visits_equal_a_slow_model_and_survive_restarts(
    crowd: list[Walker],
    polygon: tuple[XY, ...],
    steps: list[int],
    gap_s: float,
    min_inside_s: float,
    since_s: float,
    classes: tuple[str, ...],
    restarts: set[int],
) -> None:
    zone = Zone(id="z", polygon=polygon, anchor="center", gap_s=gap_s, min_inside_s=min_inside_s, classes=classes)

    def make() -> Zones:
        zones = Zones([zone], [(0, since_s)], 16)
        zones.set_labels(["person", "car"])
        return zones

    times, zones = frame_times(steps), make()
    got: dict[int, list[tuple[object, ...]]] = {slot: [] for slot in range(len(crowd))}
    for n, now in enumerate(times):
        visits = zones.step(table(crowd, n, times), len(crowd), now)
        for v in visits:
            assert v.ordinal == v.slot  # an object without a number is never reported
            got[v.slot].append((v.kind, v.enter_us, v.at_us, v.label, bool(v.born_inside)))
        if n in restarts:
            rows, zones = zones.snapshot(len(crowd)), make()
            zones.restore(rows, ["z"], [0])
            assert zones.snapshot(len(crowd)) == rows
    for slot, w in enumerate(crowd):
        assert got[slot] == model(zone, w, slot, times, since_s)


def test_after_new_settings_visits_follow_their_zone_and_thresholds_their_rule() -> None:
    square = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
    a, b = Zone(id="a", polygon=square, anchor="center"), Zone(id="b", polygon=square, anchor="center")
    from tests.unit.operators.walkers import Look

    crowd = [Walker(0, 0, tuple(Look((0.5, 0.5)) for _ in range(30)))]
    times = frame_times([100] * 40)
    old = Zones([a, b], [(0, 0.2), (1, 0.2)], 4)
    old.set_labels(["person"])
    for n in range(5):
        old.step(table(crowd, n, times), 1, times[n])
    new = Zones([b], [(0, 0.1), (0, 0.2)], 4)  # zone a is gone; a rule of its own zone comes before the known one
    new.set_labels(["person"])
    new.restore(old.snapshot(1), ["a", "b"], [-1, 1])
    happened = new.step(table(crowd, 5, times), 1, times[5])
    assert [(v.kind, v.rule, v.enter_us) for v in happened] == [(Zones.REACHED, 0, times[0])]


def test_a_gap_that_is_no_whole_float_is_met_exactly() -> None:
    assert int(0.57 * 1e6) != 570_000 or int(2.01 * 1e6) != 2_010_000  # what rounding is for
    from tests.unit.operators.walkers import Look

    square = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
    zones = Zones([Zone(id="a", polygon=square, anchor="center", gap_s=2.01)], [], 4)
    zones.set_labels(["person"])
    crowd = [Walker(0, 0, tuple(Look((0.5, 0.5)) for _ in range(3)))]
    times = frame_times([2010, 2010, 100])
    kinds = [v.kind for n in range(3) for v in zones.step(table(crowd, n, times), 1, times[n])]
    assert kinds == [Zones.ENTER]


def test_more_dwell_rules_than_bits_are_refused() -> None:
    square = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))
    with pytest.raises(ValueError, match="at most 64"):
        Zones([Zone(id="a", polygon=square)], [(0, 1.0)] * 65, 4)
