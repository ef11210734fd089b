"""Tripwires against exact geometry on random polylines and paths."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from hypothesis import assume, given
from hypothesis import strategies as st

from operators.tripwires import Tripwires
from schemas.settings import Tripwire
from tests.unit.operators.scenes import bounded
from tests.unit.operators.walkers import Look, Walker, frame_times, table, walkers

XY = tuple[float, float]
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


def scaled(p: XY) -> XY:
    return p[0] * ASPECT, p[1]


def side_and_distance(line: tuple[XY, ...], p: XY) -> tuple[int, float, float]:
    """Return the side of the nearest segment, the distance, and how clear it is which segment decides."""
    found = []
    for a, b in itertools.pairwise(line):
        (ax, ay), (bx, by), (px, py) = scaled(a), scaled(b), scaled(p)
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


def model(line: tuple[XY, ...], band: float, w: Walker, wanted: tuple[bool, ...]) -> list[tuple[int, int]]:
    """Return (frame, side) of each reported crossing."""
    out, side, odd, last, pending = [], 0, 0, None, 0
    for k, look in enumerate(w.looks):
        if look.point is not None:
            if last is not None:
                odd = (odd + sum(meets(a, b, last, look.point) for a, b in itertools.pairwise(line))) % 2
            last = look.point
            now_side, distance, clear = side_and_distance(line, look.point)
            assume(abs(distance - band) > 1e-9 and (distance < band or clear > 1e-7))
            if distance > band:
                if side == -now_side and odd and wanted[look.label]:
                    pending = now_side if pending != -now_side else 0
                side, odd = now_side, 0
        if pending and k >= w.confirmed:
            out.append((w.first + k, pending))
            pending = 0
    return out


@bounded(200)
@given(
    st.lists(walkers(), min_size=1, max_size=3),
    rising_lines(),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.sampled_from([(), ("person",)]),
    st.sets(st.integers(0, 40), max_size=4),
)
def test_crossings_equal_exact_geometry_and_survive_restarts(
    crowd: list[Walker], line: tuple[XY, ...], band: float, classes: tuple[str, ...], restarts: set[int]
) -> None:
    wire = Tripwire(id="w", points=line, anchor="center", band_ratio=band, classes=classes)

    def make() -> Tripwires:
        wires = Tripwires([wire], 16)
        wires.set_labels(["person", "car"])
        return wires

    times, wires = frame_times([100] * 40), make()
    got: dict[int, list[tuple[int, int]]] = {slot: [] for slot in range(len(crowd))}
    for n, now in enumerate(times):
        for c in wires.step(table(crowd, n, times), len(crowd), ASPECT, now):
            assert c.ordinal == c.slot
            assert c.born_us <= c.at_us <= now
            got[c.slot].append((n, c.side))
        if n in restarts:
            rows, wires = wires.snapshot(len(crowd)), make()
            wires.restore(rows, ["w"])
            assert wires.snapshot(len(crowd)) == rows
    for slot, w in enumerate(crowd):
        assert got[slot] == model(line, band, w, (True, not classes))


def walk(line: tuple[XY, ...], path: list[XY], band: float = 0.01) -> list[tuple[int, int]]:
    wires = Tripwires([Tripwire(id="w", points=line, anchor="center", band_ratio=band)], 4)
    wires.set_labels(["person"])
    crowd = [Walker(0, 0, tuple(Look(p) for p in path))]
    times = frame_times([100] * len(path))
    return [
        (c.side, (c.at_us - times[0]) // 1000)
        for n in range(len(path))
        for c in wires.step(table(crowd, n, times), 1, ASPECT, times[n])
    ]


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
