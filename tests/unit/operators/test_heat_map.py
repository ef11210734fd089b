"""The heat map against a plain count of seconds, and the same walk at other frame rates."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.heat_map import HeatMap, HeatReport, Period, kernel
from operators.heat_map.kernel import MAX_GAP_US
from operators.motion.kernel import MOTION
from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.stage import Output
from operators.tracking.table import CONFIRMED, ENDED, FREE, TENTATIVE, TRACK
from schemas import settings
from schemas.wire import Point
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    bounded,
    feed,
    make_frame,
    noisy_scene,
    open_stage,
    points_of,
    store,
    stored,
    take_up,
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
    again.restore(heat.period, want, now_us)
    assert heat.report_open().cells_us == want == again.report_open().cells_us


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
    camera = settings.Camera(id=CAMERA, heat_map=settings.HeatMap(columns=8, rows=8, report_s=10.0))
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


def test_seconds_of_a_period_are_those_until_its_last_frame() -> None:
    points = heat_points(10.0)
    starts = {p.at_ns // 1_000_000_000 for p in points}
    for start in starts:
        mine = [p for p in points if p.at_ns // 1_000_000_000 == start]
        assert sum(float(f["seconds"]) for f in stored(mine).values()) <= 10.0 + 1e-6
        assert all(f["complete"] is True for f in stored(mine).values())
    assert len(starts) == 4


# ---- periods -----------------------------------------------------------------------------------------------------------

SECOND_US = 1_000_000
GRIDS = tuple(settings.HeatMap(columns=columns, rows=2, report_s=s) for columns in (2, 3) for s in (5.0, 7.0, 60.0))


def restarted(heat: HeatMap, to: settings.HeatMap, last_us: int) -> HeatMap:
    """Return another object that has taken up the state, as the stage makes it: after a restart, or other settings."""
    assert heat.settings
    new = HeatMap(to)
    period = msgspec.msgpack.decode(msgspec.msgpack.encode(heat.period), type=Period)
    if to.cells == heat.settings.cells:
        new.restore(period, {k: v for k, v in enumerate(heat.cells_us.tolist()) if v}, last_us)
    else:
        new.begin_after(max(last_us, period.start_us))
    return new


@bounded(200)
@given(st.data())
def test_a_period_holds_what_was_counted_at_its_frames_whatever_happens_in_between(data: st.DataObject) -> None:
    """Frames, silences, restarts and other settings as drawn; the model keeps what each frame brought."""
    heat, last_us = HeatMap(data.draw(st.sampled_from(GRIDS))), 0
    now_us = 1_700_000_000 * SECOND_US + data.draw(st.integers(0, 60 * SECOND_US))
    brought: list[tuple[int, int, int]] = []  # time, cell, µs: since the cells are what they are
    final: list[HeatReport] = []
    said: dict[int, int] = {}  # how often each period has been reported
    counted: Counter[int] = Counter()

    def check(report: HeatReport | None, until_us: int) -> None:
        if report is None or not report.cells_us:
            return
        assert report.revision == said.get(report.start_us, 0)
        said[report.start_us] = report.revision + 1
        want: Counter[int] = Counter()
        for at_us, cell, us in brought:
            if report.start_us <= at_us < until_us:
                want[cell] += us
        assert report.cells_us == dict(want)
        assert heat.settings and report.columns == heat.settings.columns
        if report.complete:
            final.append(report)

    for _ in range(data.draw(st.integers(1, 25))):
        length_us = heat._length_us
        begun = heat.period
        ended = heat.turn(now_us)
        check(ended, now_us)
        assert (ended is not None) == (now_us >= begun.end_us)
        assert begun.start_us == heat.period.start_us or ended is not None
        assert heat.period.start_us <= now_us < heat.due_us() <= now_us - now_us % length_us + length_us
        assert heat.period.start_us >= begun.end_us or ended is None
        cell, us = data.draw(st.integers(0, 3)), data.draw(st.integers(1, SECOND_US))
        heat.cells_us[cell] += us
        counted[cell] += us
        brought.append((now_us, cell, us))
        last_us = now_us
        now_us += data.draw(st.sampled_from([1, 1000, SECOND_US, 5 * SECOND_US, 31 * SECOND_US, 200 * SECOND_US]))
        what = data.draw(st.sampled_from(["", "", "silence", "restart", "settings"]))
        assert heat.settings
        if what == "silence":
            check(heat.report_open(), now_us)
        elif what == "restart":
            heat = restarted(heat, heat.settings, last_us)
        elif what == "settings":
            other = data.draw(st.sampled_from(GRIDS))
            if other.cells != heat.settings.cells:  # the stage reports what the next settings cannot
                check(heat.report_open(), now_us)
                final += [HeatReport(0, 0, True, 0, dict(_sum(brought, heat.period.start_us)))]
                brought.clear()
            heat = restarted(heat, other, last_us)
    check(heat.turn(heat.due_us()), now_us)
    total: Counter[int] = Counter()
    for report in final:
        total.update(report.cells_us)
    assert total == counted  # nothing is lost, nothing counted twice
    starts = [report.start_us for report in final if report.start_us]
    assert len(set(starts)) == len(starts)


def _sum(brought: list[tuple[int, int, int]], from_us: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for at_us, cell, us in brought:
        if at_us >= from_us:
            found[cell] += us
    return found


def reporting(report_s: float, seed: int) -> CameraStage:
    """Return the stage of a noisy scene with its heat map reported that often."""
    (camera,) = (c for c in noisy_scene(seed, 40.0).stage.sites[0].cameras if c.id == CAMERA)
    assert camera.heat_map
    grid = msgspec.structs.replace(camera.heat_map, report_s=report_s)
    site = noisy_scene(seed, 40.0).stage.sites[0]
    return open_stage(msgspec.structs.replace(site, cameras=(msgspec.structs.replace(camera, heat_map=grid),)))


def cells_of(outputs: list[Output]) -> dict[tuple[int, int, int], float]:
    """Return what a database holds of the heat map at last: seconds by (start in µs, row, column)."""
    held = {k: f for k, f in stored(points_of(outputs)).items() if k[0] == "heat_map"}
    assert all(f["complete"] is True for f in held.values())
    return {(at // 1000, int(f["row"]), int(f["column"])): float(f["seconds"]) for (_, _, at), f in held.items()}


@bounded(25)
@given(st.integers(0, 3), st.sampled_from([4.0, 7.0, 10.0, 60.0]), st.data())
def test_long_periods_hold_what_short_ones_hold_after_any_restart_and_silence(
    seed: int, report_s: float, data: st.DataObject
) -> None:
    records = noisy_scene(seed, 40.0).records
    fine = cells_of(feed(reporting(1.0, seed).logic(CAMERA), records))
    stage, out = reporting(report_s, seed), []
    logic = stage.logic(CAMERA)
    steps = st.sets(st.integers(1, len(records) - 1), max_size=3)
    restarts, silences = data.draw(steps), data.draw(steps)
    for n, record in enumerate(records):
        if n in silences:
            out += logic.on_silence()
        if n in restarts:
            state, logic = store(logic), stage.logic(CAMERA)
            take_up(logic, state)
        out += logic.on_record(record)
    length_us, want = round(report_s * 1e6), Counter[tuple[int, int, int]]()
    for (start_us, row, column), seconds in fine.items():
        want[start_us - start_us % length_us, row, column] += round(seconds * 1e6)
    found = {k: round(seconds * 1e6) for k, seconds in cells_of(out).items()}
    if silences:  # who is new after a silence is on probation first
        assert set(found) <= set(want) and sum(found.values()) <= sum(want.values())
    else:
        assert found == dict(want) and found


def test_windows_of_any_length_change_nothing_in_the_heat_map() -> None:
    site = reporting(7.0, 1).sites[0]
    found = []
    for length_s in (1.0, 10.0, 3600.0):
        windows = settings.Windows(length_s=length_s)
        logic = open_stage(msgspec.structs.replace(site, windows=windows)).logic(CAMERA)
        found.append(cells_of(feed(logic, noisy_scene(1, 40.0).records)))
    assert found[0] == found[1] == found[2] != {}


def test_a_silence_reports_the_period_as_it_stands_and_its_end_once_more() -> None:
    records = [to_input(make_frame(n, START_US + n * 100_000, [(0.4, 0.3, 0.5, 0.6)]), n) for n in range(200)]
    camera = settings.Camera(id=CAMERA, heat_map=settings.HeatMap(columns=4, rows=4))
    stage = open_stage(settings.SiteSettings(version=1, site="s", cameras=(camera,)))

    def said(out: list[Output]) -> list[tuple[object, object, object]]:
        points = [p for p in points_of(out) if p.measurement == "heat_map"]
        assert {p.at_ns - p.at_ns % 1000 for p in points} <= {START_US // 60_000_000 * 60_000_000_000}
        return [(p.fields["revision"], p.fields["complete"], p.fields["seconds"]) for p in points]

    logic = stage.logic(CAMERA)
    assert said(feed(logic, records[:100])) == []
    assert said(logic.on_silence()) == [(0, False, 9.9)]
    state, logic = store(logic), stage.logic(CAMERA)
    take_up(logic, state)
    assert said(logic.on_silence()) == []
    later = to_input(make_frame(100, START_US + 25_000_000), 100)  # within the period
    assert said(feed(logic, [later])) == []
    after = to_input(make_frame(101, START_US + 70_000_000), 101)  # a hole that is a silence, and the period's end
    assert said(feed(logic, [after])) == [(2, True, 9.9)]


def test_another_interval_loses_no_second_and_counts_none_twice() -> None:
    records = noisy_scene(1, 40.0).records
    whole = Counter[tuple[int, int]]()
    for (_, row, column), seconds in cells_of(feed(reporting(60.0, 1).logic(CAMERA), records)).items():
        whole[row, column] += round(seconds * 1e6)
    sites = [reporting(s, 1).sites[0] for s in (60.0, 4.0, 7.0, 30.0)]
    for cuts in ((50, 100, 150), (101, 102, 300), (1, 20, 21)):
        logic, out, begin = open_stage(sites[0]).logic(CAMERA), [], 0
        assert isinstance(logic, CameraLogic)
        for site, cut in zip(sites[1:], cuts, strict=True):
            out += feed(logic, records[begin:cut])
            logic.take_settings(site, site.cameras[0], f"s{cut}", out)
            begin = cut
        out += feed(logic, records[begin:])
        found = Counter[tuple[int, int]]()
        for (_, row, column), seconds in cells_of(out).items():
            found[row, column] += round(seconds * 1e6)
        assert found == whole
