"""Track tables written by hand: objects of fixed slots that are seen at points, so that anchors are exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from operators.tracking import CONFIRMED, ENDED, FREE, TENTATIVE, TRACK

HALF = 2.0**-10  # of a box's size: the anchor `center` is then the point itself, exactly
GRID = 64  # points lie on multiples of 1/64: exact in float32


@dataclass(frozen=True)
class Look:
    """One object in one frame: at a point, or unseen. `grounded`: its place on the ground is known."""

    point: tuple[float, float] | None
    label: int = 0
    grounded: bool = True

    def place(self, on_ground: bool) -> tuple[float, float] | None:
        """Return where the object is observed, on the ground or in the picture."""
        return None if on_ground and not self.grounded else self.point


@dataclass(frozen=True)
class Walker:
    """One object: born with `frames[first]`, confirmed from the `confirmed`-th of its frames on, ended after its last."""

    first: int
    confirmed: int
    looks: tuple[Look, ...]


def points() -> st.SearchStrategy[tuple[float, float]]:
    """Return points of the grid, edges of the frame left out."""
    return st.tuples(st.integers(2, GRID - 2), st.integers(2, GRID - 2)).map(lambda p: (p[0] / GRID, p[1] / GRID))


@st.composite
def walkers(draw: st.DrawFn, labels: int = 2) -> Walker:
    """Draw an object that is seen at its first frame, and mostly afterwards."""
    looks = draw(
        st.lists(
            st.builds(
                Look,
                st.one_of(points(), points(), points(), st.none()),
                st.integers(0, labels - 1),
                st.sampled_from([True, True, True, False]),
            ),
            max_size=25,
        )
    )
    first = Look(draw(points()), draw(st.integers(0, labels - 1)))
    return Walker(draw(st.integers(0, 5)), draw(st.integers(0, 6)), (first, *looks))


def table(crowd: list[Walker], frame: int, times: list[int], on_ground: bool = False) -> np.ndarray:  # type: ignore[type-arg]
    """Return the track table after frame `frame`; slot i is object i. `on_ground`: points are metres, boxes lie elsewhere."""
    tracks = np.zeros(len(crowd), TRACK)
    for slot, w in enumerate(crowd):
        k, t = frame - w.first, tracks[slot]
        t["born_us"], t["ordinal"] = times[w.first], -1
        if k < 0 or k > len(w.looks):
            t["status"], t["born_us"] = FREE, 0
            continue
        seen_confirmed = k >= w.confirmed
        if seen_confirmed:
            t["ordinal"] = slot
        if k == len(w.looks):
            t["status"] = ENDED if len(w.looks) - 1 >= w.confirmed else FREE
            continue
        look = w.looks[k]
        t["status"], t["label"] = CONFIRMED if seen_confirmed else TENTATIVE, look.label
        if look.point is not None:
            x, y = look.point
            t["seen"], t["box"] = 1, (x - HALF, y - HALF, x + HALF, y + HALF)
            if on_ground:
                t["box"], t["has_ground"], t["ground"][:2] = (0.0, 0.0, 1.0, 1.0), look.grounded, (x, y)
    return tracks


def frame_times(steps: list[int]) -> list[int]:
    """Return times in µs from steps in ms."""
    times = [1_700_000_000_000_000]
    for step in steps:
        times.append(times[-1] + step * 1000)
    return times
