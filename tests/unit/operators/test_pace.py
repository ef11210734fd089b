"""Speeds of visits: against a plain model of the tables, and of people who walk by a known course, at several frame rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.motion.kernel import MOTION
from operators.pace import Paces, kernel
from operators.stages.stage import Input, KeyLogic, Output
from operators.tracking.table import CONFIRMED, TRACK
from operators.zones.kernel import VISIT
from schemas.settings import Camera, HeatMap, SiteSettings, Zone
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    bounded,
    events_of,
    feed,
    make_frame,
    open_stage,
    points_of,
    store,
    stored,
    take_up,
    to_input,
)
from tests.unit.operators.strollers import HEIGHT_PX, box, legs, pose

ZONE = Zone(id="z", plane="ground", polygon=((-3.0, 8.0), (3.0, 8.0), (3.0, 12.0), (-3.0, 12.0)))
SITE = SiteSettings(
    version=1,
    site="s",
    cameras=(
        Camera(
            id=CAMERA,
            pose=pose(),
            zones=(ZONE,),
            heat_map=HeatMap(plane="ground", columns=14, rows=8, from_m=(-7.0, 6.0), to_m=(7.0, 14.0)),
        ),
    ),
)
THERE_AND_BACK = legs([(0, -6, 10), (1, -6, 10), (9, 6, 10), (11, 6, 10), (17, -6, 10), (18, -6, 10)])
"""Through the zone at 1.5 m/s, and back at 2 m/s."""


def records(fps: float, noise: float = 0.0) -> list[Input]:
    rng = np.random.default_rng(5)
    frames = []
    for n in range(int(18 * fps)):
        x, y = THERE_AND_BACK(n / fps)
        x1, y1, x2, y2 = np.array(box(x, y)) + rng.normal(0, noise, 4)
        frames.append(
            make_frame(
                n, START_US + round(n / fps * 1e6), [(x1, y1, x2, y2)], height_px=int(HEIGHT_PX), width_px=1920
            )
        )
    frames.append(make_frame(len(frames), frames[-1].capture_us + 60_000_000, height_px=int(HEIGHT_PX), width_px=1920))
    return [to_input(f, n) for n, f in enumerate(frames)]


def fresh() -> KeyLogic:
    return open_stage(SITE).logic(CAMERA)


def speeds(out: list[Output]) -> list[tuple[int, float]]:
    found = [f for (name, _, _), f in stored(points_of(out)).items() if name == "zone_window" and f["visit_count"]]
    return [(int(f["speed_count"]), float(f["speed_mean_mps"])) for f in found]


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_speeds_of_visits_are_those_of_the_course_at_any_frame_rate(noise: float) -> None:
    for fps in (5.0, 12.5, 30.0):
        out = feed(fresh(), records(fps, noise))
        assert len([e for e in events_of(out) if e.kind == "exit"]) == 2
        (one, first), (two, second) = speeds(out)
        assert (one, two) == (1, 1)
        assert first == pytest.approx(1.5, rel=0.08) and second == pytest.approx(2.0, rel=0.08)


def test_restored_after_each_record_speeds_and_cells_are_the_same() -> None:
    logic, expected = fresh(), []
    for record in records(5.0):
        expected.append((logic.on_record(record), store(logic)))
    state = None
    for record, (out, want) in zip(records(5.0), expected, strict=True):
        logic = fresh()
        if state is not None:
            take_up(logic, state)
        assert logic.on_record(record) == out
        state = store(logic)
        assert state == want


def test_a_heat_map_on_the_ground_lies_along_the_course() -> None:
    out = feed(fresh(), records(12.5))
    cells: dict[tuple[int, int], float] = {}
    for (name, _, _), f in stored(points_of(out)).items():
        if name == "heat_map":
            cell = int(f["row"]), int(f["column"])
            cells[cell] = cells.get(cell, 0.0) + float(f["seconds"])
    assert {row for row, _ in cells} <= {3, 4}  # y = 10 m is the edge between them
    assert sum(cells.values()) == pytest.approx(18.0, abs=1.5)
    inner = [sum(s for (_, c), s in cells.items() if c == column) for column in range(3, 11)]
    assert all(s == pytest.approx(1 / 1.5 + 1 / 2.0, abs=0.3) for s in inner)


@bounded(60)
@given(st.data())
def test_the_way_of_a_visit_is_from_its_first_moment_inside_to_its_last(data: st.DataObject) -> None:
    """Visits begin, go on, are interrupted and end as drawn; the model keeps what was walked at each moment inside."""
    paces, visits = Paces(2, True, 2), np.zeros((2, 2), VISIT)
    tracks, motions = np.zeros(2, TRACK), np.zeros(2, MOTION)
    tracks["status"] = CONFIRMED
    inside: dict[tuple[int, int], list[float]] = {}
    walked = [0.0, 0.0]
    for now_us in range(1_000_000, 30_000_000, 1_000_000):
        ended: list[tuple[int, int, list[float], bool]] = []
        for slot in range(2):
            walked[slot] += data.draw(st.sampled_from([0.0, 0.5, 2.0]))
            motions[slot]["distance_m"] = walked[slot]
            for zone in range(2):
                v: Any = visits[slot, zone]
                is_inside, is_over = data.draw(st.booleans()), data.draw(st.sampled_from([False, False, True]))
                v["inside"] = is_inside
                if v["open"] and is_over:
                    ended.append((slot, zone, inside.pop((slot, zone)), is_inside))
                    v["open"] = 0
                if is_inside:
                    if not v["open"]:
                        v["open"], v["enter_us"] = 2, now_us
                    inside.setdefault((slot, zone), []).append(walked[slot])
        kernel.step(tracks, 2, motions, visits, paces.paces, now_us)
        for slot, zone, ways, begun_again in ended:
            found = paces.speed_mps(slot, zone, 1_000_000, begun_again)
            assert found == pytest.approx(ways[-1] - ways[0])
        if data.draw(st.integers(0, 5)) == 0:
            other = Paces(2, True, 2)
            other.restore(paces.paces.tobytes(), (0, 1))
            paces = other


def test_where_the_way_is_not_known_or_the_visit_is_short_there_is_no_speed() -> None:
    paces = Paces(1, True, 1)
    paces.paces["from_m"] = math.nan
    assert paces.speed_mps(0, 0, 5_000_000, False) is None
    paces.paces["from_m"] = 0.0
    paces.paces["to_m"] = 3.0
    assert paces.speed_mps(0, 0, 499_999, False) is None
    assert paces.speed_mps(0, 0, 2_000_000, False) == 1.5
    assert Paces(1, False, 1).speed_mps(0, 0, 5_000_000, False) is None
    paces.restore(b"", (0,))
    paces.paces["to_m"] = 3.0
    assert paces.speed_mps(0, 0, 2_000_000, False) is None
