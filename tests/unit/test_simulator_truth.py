"""The truth, against cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.rules import Crowding, Loitering
from schemas.settings import Camera, SiteSettings, Tripwire, Zone
from simulator.geometry import is_inside, side_of
from simulator.layout import scene_settings
from simulator.objects import SceneObject, Shape, Waypoint
from simulator.scenario import TAIL_S, build_robust_scene, build_scene
from simulator.scene import DEFAULT_START_US, CameraScene, FrameClock, Scene
from simulator.truth import (
    ALL_LABELS,
    Alert,
    Steps,
    WireFigures,
    ZoneFigures,
    fragile_decisions,
    sampled_truth,
    scene_truth,
)

START = DEFAULT_START_US
SHAPE = Shape(height=0.1, aspect=0.4)
SQUARE = Zone(id="square", polygon=((0.4, 0.2), (0.6, 0.2), (0.6, 0.8), (0.4, 0.8)), gap_s=2.0)
WIRE = Tripwire(id="wire", points=((0.5, 0.9), (0.5, 0.1)))  # walked up the picture: right is +x


def at(seconds: float) -> int:
    return START + round(seconds * 1e6)


def walker(name: str, *points: tuple[float, float], y: float = 0.5, label: str = "person", **more) -> SceneObject:
    """An object at (seconds, x) points, all at one height."""
    return SceneObject(name, label, tuple(Waypoint(t, x, y) for t, x in points), SHAPE, **more)


def scene_of(*objects: SceneObject, rules=(), zone: Zone = SQUARE, wire: Tripwire = WIRE, fps: float = 10.0) -> Scene:
    camera = Camera(id="cam", zones=(zone,), tripwires=(wire,), rules=rules)
    settings = SiteSettings(version=1, site="s", cameras=(camera,))
    return Scene(settings, (CameraScene("cam", objects, FrameClock(fps)),), 40.0)


def test_walking_up_the_picture_right_is_to_the_right():
    bottom, top = (0.5, 0.9), (0.5, 0.1)
    assert side_of(bottom, top, (0.7, 0.5)) > 0 > side_of(bottom, top, (0.3, 0.5))
    assert side_of(top, bottom, (0.7, 0.5)) < 0  # walking down towards the viewer, +x is the left hand


def test_a_walk_through_gives_one_visit_and_one_crossing_at_the_exact_times():
    truth = scene_truth(scene_of(walker("a", (1.0, 0.2), (7.0, 0.8))))  # 0.1 per second
    (visit,) = truth.visits
    assert (visit.enter_us, visit.exit_us, visit.born_inside) == (at(3.0), at(5.0), False)
    (crossing,) = truth.crossings
    assert (crossing.at_us, crossing.direction) == (at(4.0), "right")


def test_the_way_back_crosses_to_the_left():
    truth = scene_truth(scene_of(walker("a", (0.0, 0.2), (4.0, 0.7), (8.0, 0.2))))
    assert [c.direction for c in truth.crossings] == ["right", "left"]


def test_who_passes_beyond_the_end_of_a_tripwire_does_not_cross_it():
    short = Tripwire(id="wire", points=((0.5, 0.9), (0.5, 0.6)))
    assert scene_truth(scene_of(walker("a", (0.0, 0.2), (6.0, 0.8)), wire=short)).crossings == ()


def test_an_absence_shorter_than_the_gap_belongs_to_the_visit_and_a_longer_one_ends_it():
    short = walker("a", (0.0, 0.5), (2.0, 0.65), (4.0, 0.5))  # outside for 4/3 s
    long = walker("a", (0.0, 0.5), (4.0, 0.8), (8.0, 0.5))  # outside for 16/3 s
    assert [v.dwell_s for v in scene_truth(scene_of(short)).visits] == [4.0]
    first, second = scene_truth(scene_of(long)).visits
    assert (first.born_inside, second.born_inside) == (True, False)
    assert second.enter_us - first.exit_us == pytest.approx(16e6 / 3, abs=2)


def test_an_object_unseen_for_longer_than_the_gap_leaves_and_comes_back():
    truth = scene_truth(scene_of(walker("a", (0.0, 0.5), (20.0, 0.51), hidden=((5.0, 8.0),))))
    assert [(v.enter_us, v.exit_us) for v in truth.visits] == [(at(0), at(5)), (at(8), at(20))]


def test_born_inside_counts_for_dwell_and_exit_but_not_as_entry():
    truth = scene_truth(scene_of(walker("a", (1.0, 0.5), (3.0, 0.7))))
    figures = truth.zone_figures()["cam", "square", ALL_LABELS, START]
    assert figures == ZoneFigures(0, 1, 0, 0.1, 1, (1.0,))


def test_figures_are_weighted_by_time_and_split_by_window_and_label():
    truth = scene_truth(
        scene_of(
            walker("a", (5.0, 0.2), (8.0, 0.5), (13.0, 0.5), (16.0, 0.8)),  # inside 7 to 14 s
            walker("b", (7.0, 0.8), (10.0, 0.5), (13.0, 0.2), y=0.3, label="car"),  # inside 9 to 11 s
        )
    )
    figures = truth.zone_figures()
    assert figures["cam", "square", ALL_LABELS, START] == ZoneFigures(2, 0, 0, 0.4, 2)
    assert figures["cam", "square", "car", START] == ZoneFigures(1, 0, 0, 0.1, 1)
    both = figures["cam", "square", ALL_LABELS, at(10)]
    assert (both.exit_count, both.occupancy_mean, both.occupancy_max, both.dwells_s) == (2, 0.5, 2, (2.0, 7.0))
    wires = truth.wire_figures()
    assert wires["cam", "wire", "car", at(10)] == WireFigures(1, 0)
    assert truth.distinct_counts()["cam", ALL_LABELS, START] == 2
    assert truth.distinct_counts()["cam", ALL_LABELS, at(20)] == 0


def test_crowding_opens_when_held_and_ends_with_its_last_moment():
    rule = Crowding(id="crowd", zone="square", count=2, hold_s=3.0, gap_s=1.0)
    inside = [walker("a", (0.0, 0.2), (3.0, 0.5), (12.0, 0.5), (15.0, 0.8)),  # inside 2 to 13
              walker("b", (2.0, 0.2), (5.0, 0.5), (9.0, 0.5), (12.0, 0.8), y=0.3)]  # inside 4 to 10  # fmt: skip
    (alert,) = scene_truth(scene_of(*inside, rules=(rule,))).alerts
    assert alert == Alert("cam", "crowd", at(4), at(7), at(10), "square", "crowding", "", 2.0)


def test_a_crowd_that_does_not_last_is_no_alert():
    rule = Crowding(id="crowd", zone="square", count=2, hold_s=7.0)
    inside = [walker("a", (0.0, 0.5), (12.0, 0.5)), walker("b", (2.0, 0.5), (8.0, 0.5), y=0.3)]
    assert scene_truth(scene_of(*inside, rules=(rule,))).alerts == ()


def test_loitering_opens_after_its_time_and_ends_with_the_visit():
    rule = Loitering(id="loiter", zone="square", since_s=4.0)
    (alert,) = scene_truth(scene_of(walker("a", (1.0, 0.5), (9.0, 0.5)), rules=(rule,))).alerts
    assert (alert.start_us, alert.open_us, alert.end_us, alert.object) == (at(1), at(5), at(9), "a")


def test_anchors_are_points_of_the_box():
    assert SHAPE.anchor(0.5, 0.5, "bottom_center") == (0.5, 0.5)
    assert SHAPE.anchor(0.5, 0.5, "top_left") == pytest.approx((0.48, 0.4))
    assert SHAPE.anchor(0.5, 0.5, "center") == pytest.approx((0.5, 0.45))
    assert SHAPE.anchor(0.5, 0.5, "center_right") == pytest.approx((0.52, 0.45))


def test_another_anchor_enters_at_another_time():
    truth = scene_truth(scene_of(walker("a", (1.0, 0.2), (7.0, 0.8)), zone=replace_zone(anchor="bottom_right")))
    assert truth.visits[0].enter_us == at(2.8)  # its right foot is 0.02 ahead


def replace_zone(**changes) -> Zone:
    import msgspec

    return msgspec.structs.replace(SQUARE, **changes)


def test_a_perfect_observer_sees_the_same_within_one_frame():
    for seed in range(5):
        scene, truth = build_robust_scene(seed, duration_s=60, clock=FrameClock(10.0, jitter_ratio=0.5))
        sampled = sampled_truth(scene)
        assert len(truth.visits) >= 5
        assert [(v.object, v.zone, v.born_inside) for v in sorted_visits(truth)] == [
            (v.object, v.zone, v.born_inside) for v in sorted_visits(sampled)
        ]
        for exact, seen in zip(sorted_visits(truth), sorted_visits(sampled), strict=True):
            assert 0 <= seen.enter_us - exact.enter_us < 200_000
            assert 0 <= exact.exit_us - seen.exit_us < 200_000
        assert sorted((c.object, c.direction) for c in truth.crossings) == sorted(
            (c.object, c.direction) for c in sampled.crossings
        )
        assert sorted((a.rule, a.object) for a in truth.alerts) == sorted((a.rule, a.object) for a in sampled.alerts)


def sorted_visits(truth):
    return sorted(truth.visits, key=lambda v: (v.object, v.zone, v.enter_us))


def test_the_sampled_truth_is_what_looking_at_every_message_gives():
    """An independent replay: feed the messages' boxes through the definition of a visit, frame by frame."""
    scene = build_scene(3, duration_s=60, settings=scene_settings(1, rich=False))
    zone = scene.settings.cameras[0].zones[0]
    expected = {(v.enter_us, v.exit_us) for v in sampled_truth(scene).visits}
    found: set[tuple[int, int]] = set()
    for obj in scene.cameras[0].objects:  # one object at a time, so that no tracker is needed
        alone = replace(scene, cameras=(replace(scene.cameras[0], objects=(obj,)),))
        inside = [
            f.capture_us
            for f in alone.frames()
            for i in range(len(f.classes))
            if is_inside(foot_of(f.boxes, i), zone.polygon)
        ]
        start = last = None
        for t in inside:
            if last is not None and t - last > zone.gap_s * 1e6:
                found.add((start, last))
                start = None
            start, last = start if start is not None else t, t
        if last is not None:
            found.add((start, last))
    assert found == expected


def foot_of(boxes: bytes, i: int) -> tuple[float, float]:
    import numpy as np

    x1, _, x2, y2 = np.frombuffer(boxes, "<f4").reshape(-1, 4)[i].astype(float)
    return (x1 + x2) / 2, y2


def test_robust_scenes_have_nothing_on_a_hair_and_the_same_counts_at_any_frame_rate():
    scene, truth = build_robust_scene(7, duration_s=60)
    assert fragile_decisions(scene, 0.3) == []
    for fps in (5.0, 12.0, 30.0):
        slower = replace(scene, cameras=(replace(scene.cameras[0], clock=FrameClock(fps)),))
        sampled = sampled_truth(slower)
        assert len(sampled.visits) == len(truth.visits)
        assert len(sampled.crossings) == len(truth.crossings)
        assert len(sampled.alerts) == len(truth.alerts)


def test_everything_has_ended_before_the_scene_does():
    scene = build_scene(2, duration_s=60)
    truth = scene_truth(scene)
    latest = max(v.exit_us for v in truth.visits)
    assert latest < scene.end_us - (TAIL_S - 1) * 1e6


def test_steps_count_spans_by_brute_force():
    steps = Steps(((0, 10), (5, 7), (7, 20)))
    assert steps.changes() == [(0, 1), (5, 2), (7, 2), (10, 1), (20, 0)]
    assert steps.min_mean_max(0, 20) == (1, (10 + 2 + 13) / 20, 2)
    assert steps.at(7) == 3  # both ends of a span belong to it …
    assert steps.spells(2) == [(5, 10)]
    assert steps.spells(3) == [(7, 7)]  # … so for one moment all three are there
