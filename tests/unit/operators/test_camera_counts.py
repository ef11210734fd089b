"""What the tracker has no room for and what is refused before it shows in the camera's figures."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.stage import Input, Output
from operators.tracking import TrackerConfig
from schemas.settings import Camera, SiteSettings
from schemas.wire import TrackFrame, decode
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    letters_of,
    make_frame,
    open_stage,
    points_of,
    stored,
    to_input,
)

WINDOW_US = 10_000_000
STEP_US = 500_000
CAPACITY = TrackerConfig().capacity
COLUMNS, ROWS = 30, 20  # of a crowd that stands in a grid
SURPLUS = COLUMNS * ROWS - CAPACITY


def stage() -> CameraStage:
    return open_stage(SiteSettings(version=1, site="s", cameras=(Camera(id=CAMERA),)))


def logic_of(made: CameraStage) -> CameraLogic:
    logic = made.logic(CAMERA)
    assert isinstance(logic, CameraLogic)
    return logic


def crowd(count: int) -> list[tuple[float, float, float, float]]:
    places = [((i % COLUMNS + 0.5) / COLUMNS, (i // COLUMNS + 0.5) / ROWS) for i in range(count)]
    return [(x - 0.008, y - 0.02, x + 0.008, y + 0.02) for x, y in places]


def records(counts: Sequence[int]) -> list[Input]:
    """Two frames a second of crowds of those sizes, and a last one so much later that all windows are closed by it."""
    at_us = [START_US + STEP_US * i for i in range(len(counts))]
    frames = [make_frame(i, at, crowd(n)) for i, (at, n) in enumerate(zip(at_us, counts, strict=True))]
    return [to_input(f, i) for i, f in enumerate([*frames, make_frame(len(frames), at_us[-1] + 60_000_000)])]


def camera_windows(outputs: Sequence[Output]) -> dict[int, dict[str, bool | int | float | str]]:
    """Return the fields of the camera's windows by their number from the first."""
    points = {k: v for k, v in stored(points_of(outputs)).items() if k[0] == "camera_window"}
    first_us = START_US - START_US % WINDOW_US
    return {(k[2] // 1000 - first_us) // WINDOW_US: v for k, v in points.items() if isinstance(k[2], int)}


def test_more_objects_than_the_tracker_holds_are_counted_in_the_window_of_each_frame() -> None:
    counts = [COLUMNS * ROWS] * 30 + [CAPACITY] * 20 + [COLUMNS * ROWS] * 5
    logic = logic_of(stage())
    out = [o for r in records(counts) for o in logic.on_record(r)]

    expected: dict[int, int] = {}
    for i, n in enumerate(counts):
        window = (START_US % WINDOW_US + STEP_US * i) // WINDOW_US
        expected[window] = expected.get(window, 0) + max(0, n - CAPACITY)
    found = camera_windows(out)
    assert {k: v["untracked_count"] for k, v in found.items() if k in expected} == expected
    assert all(v["untracked_count"] == 0 for k, v in found.items() if k not in expected)
    assert logic.untracked_count == SURPLUS * counts.count(COLUMNS * ROWS)
    tracked = decode(next(o.value for o in reversed(out[:-20]) if o.topic == "tracks"), TrackFrame)
    assert len(tracked.ordinals) // 4 == CAPACITY


def test_what_was_not_tracked_is_counted_once_over_snapshots_and_silences() -> None:
    counts = [COLUMNS * ROWS] * 12
    whole, parts, made = logic_of(stage()), logic_of(stage()), stage()
    for i, record in enumerate(records(counts)):
        expected, got = whole.on_record(record), parts.on_record(record)
        if i == 8:
            expected += whole.on_silence()
            got += parts.on_silence()
            (window,) = camera_windows(got).values()
            assert (window["untracked_count"], window["complete"]) == (9 * SURPLUS, False)
        assert got == expected
        state = parts.snapshot()
        assert state == whole.snapshot()
        parts = logic_of(made)
        parts.restore(state)
    assert parts.untracked_count == 12 * SURPLUS
    assert sum(int(w["untracked_count"]) for w in camera_windows(got).values()) == 12 * SURPLUS


def test_frames_with_bad_or_too_many_detections_are_refused_whole_and_counted_and_the_tracker_never_sees_them() -> None:
    logic = logic_of(stage())
    good = [make_frame(i, START_US + STEP_US * i, crowd(3)) for i in range(12)]
    bad = {
        3: msgspec.structs.replace(good[3], boxes=np.array([(0.1, 0.1, np.nan, 0.3)] * 3, "<f4").tobytes()),
        5: msgspec.structs.replace(good[5], scores=np.array([0.5, 2.0, 0.5], "<f4").tobytes()),
        7: make_frame(7, good[7].capture_us, crowd(1) * 1001),
    }
    outputs = [o for i, f in enumerate(good) for o in logic.on_record(to_input(bad.get(i, f), i))]
    outputs += logic.on_silence()
    assert sorted(x.reason for x in letters_of(outputs)) == ["array_length", "bad_detection", "bad_detection"]
    assert sum(int(w["refused_count"]) for w in camera_windows(outputs).values()) == 3
    assert sum(int(w["untracked_count"]) for w in camera_windows(outputs).values()) == 0
    tracker = logic._tracker
    assert (tracker.bad_count, tracker.surplus_count, tracker.refused_frame_count) == (0, 0, 0)
