"""Scenes for rules: their floor, and their true alerts against cases worked out by hand and against what they are meant for."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    Proximity,
    QueueLength,
    Removed,
    Speeding,
    Stopped,
    Tailgating,
    WrongWay,
)
from schemas.settings import Tripwire, Zone
from schemas.wire import DetectionFrame, decode
from simulator.__main__ import main
from simulator.floor import Floor, FloorPath, View
from simulator.rule_scenes import MEMORY_S, RULE_SCENES, SIZES_M, VIEW, RuleScene, Walk, film, rules_scene
from simulator.rule_truth import RuleAlert, rule_alerts
from simulator.truth import scene_truth

SEEDS = range(4)
SQUARE = Zone(id="square", polygon=((-2, 6), (2, 6), (2, 10), (-2, 10)), plane="ground")
WIRE = Tripwire(id="wire", points=((0, 4), (0, 12)), plane="ground")


def alerts(rule: AnyRule, *walks: Walk, duration_s: float = 40.0, **more) -> list[RuleAlert]:
    scene = RuleScene(rule, walks, (), duration_s, zones=(SQUARE,), wires=(WIRE,), **more)
    return list(rule_alerts(film({"cam": scene})))


def times(rule: AnyRule, *walks: Walk, **more) -> list[tuple[float, float, float]]:
    return [(a.start_s, a.open_s, a.end_s) for a in alerts(rule, *walks, **more)]


def walk(name: str, start_s: float, *legs, label: str = "person", hidden=()) -> Walk:
    return Walk(name, label, start_s, legs, hidden)


def close(*expected: tuple[float, ...], within: float = 0.02):
    return [pytest.approx(e, abs=within) for e in expected]


# ---- the floor ----------------------------------------------------------------------------------------------------


def test_what_the_camera_looks_at_is_in_the_middle_and_as_large_as_its_distance_makes_it():
    view = View(height_m=8.0, tilt_deg=45.0)  # it looks at the floor eight metres ahead, 8·√2 m away
    floor = Floor.of_pose(view.pose, view.width_px, view.height_px)
    assert floor.to_image((0.0, 8.0)) == pytest.approx((0.5, 0.5))
    width, height = view.shape(1.0, 2.0).size(0.5)
    metre = view.focal_px / (8 * math.sqrt(2))
    assert (width * view.width_px, height * view.height_px) == pytest.approx((metre, 2 * math.cos(math.pi / 4) * metre))
    assert floor.to_image((1.0, 8.0))[0] == pytest.approx(0.5 + metre / view.width_px)


def test_an_object_looks_as_large_as_its_distance_makes_it_everywhere():
    floor = Floor.of_pose(VIEW.pose, VIEW.width_px, VIEW.height_px)
    for x, y in ((-4.0, 5.0), (0.0, 8.0), (3.0, 14.0)):
        depth = (y + VIEW.height_m) / math.sqrt(2)
        (u, v), (u2, _) = floor.to_image((x, y)), floor.to_image((x + 1.0, y))
        assert VIEW.shape(1.0, 1.0).size(v)[0] == pytest.approx(u2 - u)
        assert VIEW.shape(1.0, 1.0).size(v)[1] == pytest.approx(VIEW.focal_px / depth / VIEW.height_px / math.sqrt(2))


def test_a_pose_and_points_of_the_floor_say_the_same():
    posed = Floor.of_pose(VIEW.pose, VIEW.width_px, VIEW.height_px)
    places = ((-4.0, 5.0), (4.0, 5.0), (-5.0, 13.0), (5.0, 13.0), (0.0, 9.0))
    fitted = Floor.of_points(VIEW.ground_points(places))
    for p in ((1.0, 6.0), (-3.0, 12.0)):
        assert fitted.to_image(p) == pytest.approx(posed.to_image(p), abs=1e-9)
        assert fitted.to_ground(np.array([posed.to_image(p)]))[0] == pytest.approx(p, abs=1e-6)
    with pytest.raises(ValueError, match="before the camera"):
        posed.to_image((0.0, -9.0))


def test_who_turns_does_so_smoothly_and_keeps_to_the_way_elsewhere():
    path = FloorPath(((0.0, 0.0, 0.0), (4.0, 4.0, 0.0), (8.0, 4.0, 4.0)), blend_s=0.5)
    at = path.at(np.array([2.0, 4.0, 6.0]))
    assert at == pytest.approx(np.array([[2.0, 0.0], [3.875, 0.125], [4.0, 2.0]]))  # 1 m/s: ¼·v·blend from the corner
    t = np.arange(-1.0, 9.0, 0.001)
    accelerations = np.diff(path.at(t), 2, axis=0) / 0.001**2
    assert np.abs(accelerations).max() < 1.001 / (2 * 0.5)


# ---- true alerts, by hand -----------------------------------------------------------------------------------------


def test_a_crossing_is_dated_to_the_moment_and_named_by_the_side_walked_to():
    there = walk("a", 1.0, (-3, 8), (3, 8, 1.0))
    back = walk("b", 2.0, (3, 9), (-3, 9, 1.0))
    (alert,) = alerts(LineCrossing(id="r", tripwire="wire", direction="right"), there, back)
    assert alert.subjects == ("a",)
    assert times(LineCrossing(id="r", tripwire="wire", direction="left"), there, back) == close((5.0, 5.0, 5.0))
    assert len(times(LineCrossing(id="r", tripwire="wire"), there, back)) == 2
    assert times(LineCrossing(id="r", tripwire="wire"), walk("c", 1.0, (-3, 13), (3, 13, 1.0))) == []


def test_the_second_of_two_in_one_direction_tailgates():
    walks = [walk(n, t, (-3, 8), (3, 8, 1.0)) for n, t in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
    (alert,) = alerts(Tailgating(id="r", tripwire="wire", within_s=1.5), *walks)
    assert (alert.subjects, alert.open_s) == (("b", "a"), pytest.approx(5.0, abs=0.02))


def test_an_intruder_is_one_from_edge_to_edge_and_absences_within_the_gap_do_not_end_it():
    through = walk("a", 0.0, (-4, 8), (4, 8, 1.0))
    assert times(Intrusion(id="r", zone="square"), through) == close((2.0, 2.0, 6.0))
    assert times(Intrusion(id="r", zone="square", hold_s=3.0), through) == close((2.0, 5.0, 6.0))
    assert times(Intrusion(id="r", zone="square", hold_s=4.1), through) == []
    dip = walk("a", 0.0, (-4, 8), (3, 8, 1.0), (-4, 8, 1.0))  # outside from 6 to 8
    assert times(Intrusion(id="r", zone="square", gap_s=2.5), dip) == close((2.0, 2.0, 12.0))
    assert times(Intrusion(id="r", zone="square", gap_s=1.5), dip) == close((2.0, 2.0, 6.0), (8.0, 8.0, 12.0))
    assert times(Intrusion(id="r", zone="square", classes=("car",)), through) == []


def test_a_loiterer_counts_from_the_visit_and_only_while_inside():
    stays = walk("a", 0.0, (-4, 8), (0, 8, 1.0), 6.0, (-4, 8, 1.0))  # inside from 2 to 12
    assert times(Loitering(id="r", zone="square", since_s=8.0), stays) == close((2.0, 10.0, 12.0))
    assert times(Loitering(id="r", zone="square", since_s=10.5), stays) == []


def test_crowds_queues_and_emptiness_are_counts_over_time():
    a = walk("a", 0.0, (-4, 7), (0, 7, 1.0), 6.0, (-4, 7, 1.0))  # inside from 2 to 12
    b = walk("b", 2.0, (-4, 9), (0, 9, 1.0), 2.0, (-4, 9, 1.0))  # inside from 4 to 10
    assert times(Crowding(id="r", zone="square", count=2, hold_s=5.0), a, b) == close((4.0, 9.0, 10.0))
    assert times(Crowding(id="r", zone="square", count=2, hold_s=6.5), a, b) == []
    queue = QueueLength(id="r", zone="square", count=2, settled_s=3.0, hold_s=1.0)
    assert times(queue, a, b) == close((7.0, 8.0, 10.0))
    empty = Empty(id="r", zone="square", since_s=7.0)
    assert times(empty, a, b) == close((14.0, 21.0, 40.0))  # the last one left at 12


def test_who_stands_still_has_done_so_since_coming_within_the_radius():
    stands = walk("a", 0.0, (-3, 8), (0, 8, 1.0), 8.0, (3, 8, 1.0))  # from 3 to 11, ± half a metre
    assert times(Stopped(id="r", since_s=5.0), stands) == close((2.5, 7.5, 11.5), within=0.05)
    assert times(Stopped(id="r", since_s=9.5), stands) == []
    assert times(Stopped(id="r", since_s=5.0, zone="square", classes=("car",)), stands) == []
    paces = walk("a", 0.0, *((0.6 * (-1) ** i, 8, 1.0) for i in range(20)))
    assert times(Stopped(id="r", since_s=3.0), paces) == []


def test_speed_and_direction_are_those_of_the_path():
    runs = walk("a", 0.0, (-6, 8), (0, 8, 3.0), (5, 8, 1.0))
    assert times(Speeding(id="r", limit_mps=2.0), runs) == close((0.0, 0.5, 2.0), within=0.15)
    assert times(Speeding(id="r", limit_mps=3.2), runs) == []
    east = ((0.0, 0.0), (1.0, 0.0))
    west = WrongWay(id="r", allowed=((1.0, 0.0), (0.0, 0.0)), plane="ground")
    assert len(times(west, runs)) == 1
    assert times(WrongWay(id="r", allowed=east, plane="ground"), runs) == []
    assert times(WrongWay(id="r", allowed=((0.0, 1.0), (0.0, 0.0)), plane="ground", tolerance_deg=80.0), runs) == []
    assert times(WrongWay(id="r", allowed=((1.0, 0.0), (0.0, 0.0)), plane="ground", slowest_mps=3.5), runs) == []


def test_luggage_is_abandoned_since_its_owner_went_beyond_the_distance():
    bag = walk("bag", 0.0, (0, 8), 30.0, label="suitcase")
    owner = walk("owner", 0.0, (-1, 8), 4.0, (-6, 8, 1.0))  # two metres further, two seconds later: at 6
    assert times(Abandoned(id="r", since_s=10.0), bag, owner) == close((6.0, 16.0, 30.0), within=0.05)
    returns = walk("other", 12.0, (-6, 9), (-1, 9, 1.0), (-6, 9, 1.0))
    assert times(Abandoned(id="r", since_s=10.0), bag, owner, returns)[0][1] > 28
    assert times(Abandoned(id="r", since_s=10.0, owner_m=8.0), bag, owner) == close((9.0, 19.0, 30.0), within=0.05)


def test_what_stood_still_and_is_gone_or_moves_is_removed():
    gone = walk("a", 0.0, (0, 8), 15.0, label="box")
    assert times(Removed(id="r", since_s=10.0), gone) == close((15.0, 15.0 + MEMORY_S, 15.0))
    assert times(Removed(id="r", since_s=16.0), gone) == []
    moves = walk("a", 0.0, (0, 8), 15.0, (3, 8, 1.0), label="box")
    assert times(Removed(id="r", since_s=10.0), moves) == close((15.5, 15.5, 15.5), within=0.05)
    hidden = walk("a", 0.0, (0, 8), 50.0, label="box", hidden=((20.0, 21.0),))
    assert times(Removed(id="r", since_s=10.0), hidden) == []


def test_nearness_is_measured_on_the_floor():
    truck = walk("t", 0.0, (0, 8), 20.0, label="truck")
    comes = walk("p", 0.0, (-5, 8), (-1, 8, 1.0), 6.0, (-5, 8, 1.0))  # nearer than 2 m from 3 to 11
    rule = Proximity(id="r", distance_m=2.0, hold_s=5.0, classes=("person",), other_classes=("truck",))
    (alert,) = alerts(rule, truck, comes)
    assert alert.subjects == ("t", "p")
    assert (alert.start_s, alert.open_s, alert.end_s) == close((3.0, 8.0, 11.0))[0]
    assert alerts(Proximity(id="r", distance_m=2.0, classes=("truck",), other_classes=("truck",)), truck, comes) == []


# ---- the scenes ---------------------------------------------------------------------------------------------------


def test_there_is_a_scene_for_every_rule():
    assert {type(make().rule) for make in RULE_SCENES.values()} == set(get_args(AnyRule))


@pytest.mark.parametrize("name", RULE_SCENES)
def test_the_true_alerts_are_those_that_the_scene_is_meant_to_raise(name: str):
    for seed in SEEDS:
        found = rule_alerts(rules_scene([name], seed))
        meant = RULE_SCENES[name]().meant
        assert sorted(a.subjects for a in found) == sorted(meant), f"seed {seed}"
        assert len(found) >= 2


@pytest.mark.parametrize("name", RULE_SCENES)
def test_everybody_is_in_the_picture_and_everything_ends_before_the_scene(name: str):
    (view,) = rules_scene([name], 1).cameras
    duration_s = RULE_SCENES[name]().duration_s
    for o in view.objects:
        for t in np.arange(o.start_s + 0.5, min(o.end_s, duration_s) - 0.5, 0.5):
            x1, y1, x2, y2 = o.box(float(t))
            assert min(x1, y1) > -0.05 and max(x2, y2) < 1.05, f"{o.name} at {t}"
    assert all(a.end_s < duration_s - 1.0 for a in rule_alerts(rules_scene([name], 1)))


def test_places_on_the_ground_are_visited_where_they_are_seen():
    scene = rules_scene(["intrusion"])
    inside = {(v.object, round(v.enter_us - scene.start_us, -5)) for v in scene_truth(scene).visits if v.zone == "bay"}
    assert {(a.subjects[0], round(round(a.start_s * 1e6), -5)) for a in rule_alerts(scene)} <= inside


def test_a_seed_moves_everybody_a_little():
    first, second = (rules_scene(["stopped"], seed).cameras[0].objects[0] for seed in (1, 2))
    assert 0 < abs(first.start_s - second.start_s) < 0.6
    assert first != second and rules_scene(["stopped"], 1).cameras[0].objects[0] == first
    assert SIZES_M["person"][1] > SIZES_M["suitcase"][1]


def test_the_command_writes_frames_settings_and_true_alerts_of_scenes_by_name(tmp_path, capsys):
    settings, truth, frames = tmp_path / "site.yaml", tmp_path / "truth.json", tmp_path / "frames.wire"
    options = ["--rule", "speeding", "--rule", "empty", "--settings-out", str(settings), "--truth-out", str(truth)]
    assert main(["files", *options, "--frames-out", str(frames)]) == 0
    data, written = frames.read_bytes(), []
    while data:
        n = int.from_bytes(data[:4], "little")
        written.append(decode(data[4 : 4 + n], DetectionFrame))
        data = data[4 + n :]
    assert written == list(rules_scene(["speeding", "empty"]).frames())
    assert "5 alerts" in capsys.readouterr().out
    assert truth.read_text().count('"open_s"') == 5
    assert "id: speeding" in settings.read_text() and "id: empty" in settings.read_text()
    assert main(["files", "--rule", "empty", "--settings", str(settings)]) == 1
    with pytest.raises(SystemExit):
        main(["files", "--rule", "none"])
