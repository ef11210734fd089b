"""The camera stage over people who walk on a floor that it knows: track frames in metres, and what a track's end says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from operators.stages.camera_stage import CameraLogic
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.homography import image_to_ground
from schemas.settings import Camera, GroundPoint, SiteSettings, Zone
from schemas.wire import Event, TrackFrame, decode
from tests.unit.operators.scenes import CAMERA, START_US, events_of, feed, make_frame, open_stage, to_input
from tests.unit.operators.strollers import ASPECT, HEIGHT_PX, Course, box, legs, length, line, pixel, pose

PLACES = ((-5.0, 7.0), (5.0, 7.0), (6.0, 18.0), (-6.0, 18.0))
POINTS = tuple(GroundPoint(image=pixel(x, y, 0.0), ground_m=(x, y)) for x, y in PLACES)
WEST, EAST = (
    Zone(id=name, polygon=tuple(pixel(x, y, 0.0) for x, y in corners), gap_s=1.0)
    for name, corners in (("west", ((-6, 7), (0, 7), (0, 16), (-6, 16))), ("east", ((0, 7), (6, 7), (6, 16), (0, 16))))
)
COURSES: tuple[Course, ...] = (
    line(1.4, 0.0, -4.0, 9.0),
    legs([(0, 3, 13), (3, -1, 13), (9, -1, 13), (14, 3, 13), (20, 3, 13)]),  # east, west, stands there, and back east
    lambda s: (-3.0 + 1.5 * math.cos(s / 1.5), 12.0 + 1.5 * math.sin(s / 1.5)),  # goes round
)


def site(**more: Any) -> SiteSettings:
    """Return a site of one camera with two zones."""
    return SiteSettings(version=1, site="s", cameras=(Camera(id=CAMERA, zones=(WEST, EAST), **more),))


def records(fps: float = 10.0, seconds: float = 16.0, noise: float = 0.01, gone_after_s: float = 12.0) -> list[Input]:
    """Return frames in which everybody walks, and empty ones at the end."""
    rng = np.random.default_rng(1)
    out = []
    for seq in range(int(seconds * fps)):
        at_s = seq / fps
        boxes = []
        for course in COURSES if at_s <= gone_after_s else ():
            exact = np.array(box(*course(at_s)))
            high = exact[3] - exact[1]
            boxes.append(tuple(exact + rng.normal(0, noise, 4) * high / (ASPECT, 1, ASPECT, 1)))
        frame = make_frame(
            seq, START_US + round(at_s * 1e6), boxes, width_px=round(HEIGHT_PX * ASPECT), height_px=round(HEIGHT_PX)
        )
        out.append(to_input(frame, seq))
    return out


def ends(out: list[Output]) -> list[Event]:
    """Return the ends of tracks, by who walked."""
    return sorted((e for e in events_of(out) if e.kind == "track_end"), key=lambda e: int(e.subject.rsplit("/", 1)[1]))


def frames(out: list[Output]) -> list[TrackFrame]:
    return [decode(o.value, TrackFrame) for o in out if o.topic == topics.TRACKS]


@pytest.mark.parametrize("how", [{"pose": pose()}, {"ground_points": POINTS}])
@pytest.mark.parametrize("fps", [5.0, 12.5, 30.0])
def test_tracks_and_their_ends_are_in_metres(how: dict[str, Any], fps: float) -> None:
    out = feed(open_stage(site(**how)).logic(CAMERA), records(fps))
    late = [f for f in frames(out) if 2.0 < (f.capture_us - START_US) * 1e-6 < 11.9]
    assert late
    for f in late:
        at_s = (f.capture_us - START_US) * 1e-6
        n = len(f.states)
        places = np.frombuffer(f.ground, "<f4").reshape(n, 2)
        velocities = np.frombuffer(f.ground_velocities, "<f4").reshape(n, 2)
        sds = np.frombuffer(f.speed_sds, "<f4")
        assert n == 3 and sds.shape == (3,) and (sds > 0).all()
        order = np.argsort(np.frombuffer(f.ordinals, "<u4"))
        for i, course in zip(order, COURSES, strict=True):
            assert math.dist(places[i], course(at_s)) < 0.5
        assert math.hypot(*velocities[order[0]]) == pytest.approx(1.4, abs=0.5)
    for e, course in zip(ends(out), COURSES, strict=True):
        assert e.first_us == START_US and e.path_plane == "ground"
        true = length(course, (e.at_us - e.first_us) * 1e-6)
        assert e.distance_m == pytest.approx(true, rel=0.06)
        assert e.speed_mean_mps == pytest.approx(true / e.dwell_s, rel=0.06)
        assert e.path[0][0] == 0 and e.path[-1][0] == pytest.approx(e.dwell_s * 1e3, abs=1)
        for ms, x, y in e.path:
            assert math.dist((x, y), course(ms * 1e-3)) < e.path_error
    walker, stander, rounder = ends(out)
    assert walker.speed_max_mps == pytest.approx(1.4, abs=0.1)
    assert walker.stopped_s == 0 and rounder.stopped_s == 0
    assert stander.stopped_s == pytest.approx(6.0, abs=1.2)
    # In the zones, by when x was 0, and 6 at the end of the eastern one.
    assert walker.zone_times == pytest.approx({"west": 4.0 / 1.4, "east": 6.0 / 1.4}, abs=0.5)
    assert stander.zone_times == pytest.approx({"west": 10.25 - 2.25, "east": 2.25 + 12.0 - 10.25}, abs=0.6)
    assert rounder.zone_times == pytest.approx({"west": 12.0}, abs=0.3)


def test_without_the_ground_track_frames_have_no_metres_and_ends_speak_of_the_image() -> None:
    out = feed(open_stage(site()).logic(CAMERA), records())
    assert all(f.ground == b"" and f.ground_velocities == b"" and f.speed_sds == b"" for f in frames(out))
    for e, course in zip(ends(out), COURSES, strict=True):
        assert e.path_plane == "image" and e.distance_m is None and e.speed_mean_mps is None and e.speed_max_mps is None
        for ms, x, y in e.path:
            u, v = pixel(*course(ms * 1e-3), 0.0)
            assert math.dist((x * ASPECT, y), (u * ASPECT, v)) < e.path_error


@pytest.mark.parametrize("how", [{}, {"ground_points": POINTS}])
def test_a_snapshot_at_any_frame_goes_on_the_same(how: dict[str, Any]) -> None:
    stage, all_records = open_stage(site(**how)), records(fps=5.0)
    straight = stage.logic(CAMERA)
    expected = [(straight.on_record(r), straight.snapshot()) for r in all_records]
    for at in range(0, len(all_records), 7):
        logic = stage.logic(CAMERA)
        snapshot = expected[at][1]
        assert snapshot is not None
        logic.restore(snapshot)
        assert logic.snapshot() == snapshot
        for r, (out, after) in zip(all_records[at + 1 : at + 15], expected[at + 1 : at + 15], strict=False):
            assert logic.on_record(r) == out and logic.snapshot() == after
    silenced, restored = stage.logic(CAMERA), stage.logic(CAMERA)
    feed(silenced, all_records[:50])
    restored.restore(silenced.snapshot() or b"")
    said = silenced.on_silence()
    assert restored.on_silence() == said and len(ends(said)) == 3


def test_other_ground_points_end_the_tracks() -> None:
    before, after = site(ground_points=POINTS), site(ground_points=POINTS[::-1])
    logic = open_stage(before).logic(CAMERA)
    assert isinstance(logic, CameraLogic)
    feed(logic, records()[:60])
    out: list[Output] = []
    logic.take_settings(after, after.cameras[0], "other", out)
    assert [e.reason for e in ends(out)] == ["settings"] * 3
    assert [set(e.zone_times) for e in ends(out)] == [{"east", "west"}, {"east", "west"}, {"west"}]


def test_a_zone_that_is_gone_is_left_out_of_the_times() -> None:
    before, after = site(), SiteSettings(version=1, site="s", cameras=(Camera(id=CAMERA, zones=(EAST,)),))
    logic = open_stage(before).logic(CAMERA)
    assert isinstance(logic, CameraLogic)
    some = records()
    out = feed(logic, some[:70])
    logic.take_settings(after, after.cameras[0], "other", out)
    out += feed(logic, some[70:])
    walker, stander, rounder = ends(out)
    assert set(walker.zone_times) == {"east"} and rounder.zone_times == {}
    assert stander.zone_times == pytest.approx({"east": 2.25 + 12.0 - 10.25}, abs=0.6)


def test_the_state_of_an_object_grows_by_no_more_than_is_said() -> None:
    stage, some = open_stage(site(ground_points=POINTS)), records()
    empty, full = stage.logic(CAMERA), stage.logic(CAMERA)
    feed(empty, some[-2:])
    feed(full, some[:100])
    a, b = empty.snapshot(), full.snapshot()
    assert a is not None and b is not None
    per_object = (len(b) - len(a)) / 3
    assert per_object < 520  # 224 of the tracker, 64 + 8 per vertex of the motion, two zones' visits


def test_the_points_used_here_are_good() -> None:
    image_to_ground(POINTS)
