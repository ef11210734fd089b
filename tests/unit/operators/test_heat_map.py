"""The heat map against a plain count of seconds, and the same walk at other frame rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.heat_map import HeatMap, kernel
from operators.heat_map.kernel import MAX_GAP_US
from operators.motion.kernel import MOTION
from operators.tracking.table import CONFIRMED, ENDED, FREE, TENTATIVE, TRACK
from schemas import settings
from schemas.wire import Point
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    bounded,
    feed,
    make_frame,
    open_stage,
    points_of,
    stored,
    to_input,
)

LABELS = ("person", "car")
RATIO = st.integers(0, 64).map(lambda n: n / 64)


@st.composite
def rows(draw: st.DrawFn, now_us: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Draw tables of tracks and motions as they may stand after a step."""
    tracks = np.zeros(draw(st.integers(1, 5)), TRACK)
    motions = np.zeros(len(tracks), MOTION)
    for t, m in zip(tracks, motions, strict=True):
        t["status"] = draw(st.sampled_from([FREE, TENTATIVE, CONFIRMED, CONFIRMED, CONFIRMED, ENDED]))
        t["seen"], t["label"] = draw(st.booleans()), draw(st.integers(0, 1))
        t["born_now"] = draw(st.booleans())
        t["born_us"] = now_us - draw(st.integers(0, 2 * MAX_GAP_US))
        metres = st.one_of(st.just(math.nan), st.floats(-6, 6, width=32))
        m["x_m"], m["y_m"] = draw(metres), draw(metres)
        x, y = draw(RATIO), draw(RATIO)
        t["box"] = x / 2, y / 2, 0.5 + x / 2, y
    return tracks, motions


GROUND = settings.HeatMap(plane="ground", columns=5, rows=7, from_m=(-4.0, -3.0), to_m=(2.0, 5.0), classes=("person",))


@bounded(60)
@pytest.mark.parametrize("grid", [settings.HeatMap(columns=4, rows=3), GROUND])
@given(st.data())
def test_each_cell_has_the_seconds_that_objects_were_seen_in_it(grid: settings.HeatMap, data: st.DataObject) -> None:
    heat = HeatMap(grid)
    heat.set_labels(LABELS)
    want: dict[int, int] = {}
    last_us = now_us = 1_000_000_000
    for _ in range(data.draw(st.integers(1, 6))):
        now_us += data.draw(st.integers(0, 2 * MAX_GAP_US))
        tracks, motions = data.draw(rows(now_us))
        kernel.step(tracks, len(tracks), motions, heat.cells_us, heat.grid, heat.wanted, last_us, now_us)
        for t, m in zip(tracks, motions, strict=True):
            if t["status"] != CONFIRMED or not t["seen"] or (grid.classes and LABELS[t["label"]] not in grid.classes):
                continue
            us = min(now_us - (int(t["born_us"]) if t["born_now"] else last_us), MAX_GAP_US)
            if grid.plane == "image":
                cell = place(
                    grid, (0.0, 0.0), (1.0, 1.0), (float(t["box"][0]) + float(t["box"][2])) / 2, float(t["box"][3])
                )
            else:
                cell = place(grid, grid.from_m, grid.to_m, float(m["x_m"]), float(m["y_m"]))
            if cell is not None and us > 0:
                want[cell] = want.get(cell, 0) + us
        last_us = now_us
    again = HeatMap(grid)
    again.put({k: v for k, v in enumerate(heat.cells_us.tolist()) if v})
    assert heat.take() == want == again.take()
    assert heat.take() == {}


def place(
    grid: settings.HeatMap, low: tuple[float, float], high: tuple[float, float], x: float, y: float
) -> int | None:
    """Find the cell by looking at each."""
    for row in range(grid.rows):
        for column in range(grid.columns):
            edges = [
                low[i] + (high[i] - low[i]) * n / m for i, n, m in ((0, column, grid.columns), (1, row, grid.rows))
            ]
            ends = [
                low[i] + (high[i] - low[i]) * (n + 1) / m
                for i, n, m in ((0, column, grid.columns), (1, row, grid.rows))
            ]
            last = grid.plane == "image"
            inside_x = edges[0] <= x < ends[0] or (last and column == grid.columns - 1 and x == high[0])
            inside_y = edges[1] <= y < ends[1] or (last and row == grid.rows - 1 and y == high[1])
            if inside_x and inside_y:
                return row * grid.columns + column
    return None


def heat_points(fps: float) -> list[Point]:
    """Somebody walks once round a square and stands for ten seconds, at a frame rate."""
    camera = settings.Camera(id=CAMERA, heat_map=settings.HeatMap(columns=8, rows=8))
    site = settings.SiteSettings(version=1, site="s", cameras=(camera,))
    logic, frames = open_stage(site).logic(CAMERA), []
    for n in range(int(40 * fps)):
        t = n / fps
        turn = min(t, 30.0) / 30.0 * 2 * math.pi
        x, y = 0.5 + 0.3 * math.cos(turn), 0.6 + 0.3 * math.sin(turn)
        frames.append(make_frame(n, START_US + round(t * 1e6), [(x - 0.04, y - 0.2, x + 0.04, y)]))
    last_us = frames[-1].capture_us + 500_000
    frames.append(make_frame(len(frames), last_us))
    frames.append(make_frame(len(frames), last_us + 60_000_000))
    out = points_of(feed(logic, [to_input(f, n) for n, f in enumerate(frames)]))
    return [p for p in out if p.measurement == "heat_map"]


def total(points: list[Point]) -> dict[tuple[int, int], float]:
    cells: dict[tuple[int, int], float] = {}
    for (_, _, at_ns), f in stored(points).items():
        assert at_ns % 1000 == int(f["row"]) * 8 + int(f["column"])  # type: ignore[operator]
        cell = int(f["row"]), int(f["column"])
        cells[cell] = cells.get(cell, 0.0) + float(f["seconds"])
    return cells


def test_the_same_walk_gives_the_same_seconds_at_any_frame_rate() -> None:
    found = {fps: total(heat_points(fps)) for fps in (5.0, 12.5, 30.0)}
    for fps, cells in found.items():
        assert sum(cells.values()) == pytest.approx(40.0, abs=1.1 / fps)
        for cell in set(cells) | set(found[30.0]):
            # Two ways into a cell and two out of it, each up to one frame early or late.
            assert cells.get(cell, 0.0) == pytest.approx(found[30.0].get(cell, 0.0), abs=2.2 / fps)
    assert max(found[5.0].values()) > 10


def test_seconds_of_a_window_are_those_until_its_last_frame() -> None:
    points = heat_points(10.0)
    starts = {p.at_ns // 1_000_000_000 for p in points}
    for start in starts:
        mine = [p for p in points if p.at_ns // 1_000_000_000 == start]
        assert sum(float(f["seconds"]) for f in stored(mine).values()) <= 10.0 + 1e-6
        assert all(f["complete"] is True for f in stored(mine).values())
    assert len(starts) == 4
