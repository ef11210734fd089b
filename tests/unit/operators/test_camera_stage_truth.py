"""The camera stage on exact scenes against the simulator's truth, at any frame rate."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from operators.stages.stage import Output
from schemas.wire import AlertTransition
from simulator.scenario import build_robust_scene
from simulator.scene import FrameClock, Scene
from simulator.truth import Truth, sampled_truth, scene_truth
from tests.unit.operators.scenes import (
    CAMERA,
    alerts_of,
    events_of,
    feed,
    open_stage,
    points_of,
    scene_inputs,
    stored,
)

SEEDS = range(3)
RATES = (5.0, 12.5, 30.0)


@functools.cache
def outcome(seed: int, fps: float) -> tuple[Scene, list[Output]]:
    scene, _ = build_robust_scene(seed, duration_s=40.0, clock=FrameClock(fps), tolerance_s=0.5)
    return scene, feed(open_stage(scene.settings).logic(CAMERA), scene_inputs(scene))


def looked_at(seed: int, fps: float) -> tuple[Truth, list[Output]]:
    scene, outputs = outcome(seed, fps)
    return sampled_truth(scene), outputs


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_visits_equal_those_of_a_perfect_observer(seed: int, fps: float) -> None:
    truth, outputs = looked_at(seed, fps)
    events = events_of(outputs)
    exits = [(e.zone, e.label, e.at_us, round(e.dwell_s * 1e6), e.born_inside) for e in events if e.kind == "exit"]
    enters = [(e.zone, e.label, e.at_us, e.born_inside) for e in events if e.kind == "enter"]
    assert Counter(exits) == Counter(
        (v.zone, v.label, v.exit_us, v.exit_us - v.enter_us, v.born_inside) for v in truth.visits
    )
    assert Counter(enters) == Counter((v.zone, v.label, v.enter_us, v.born_inside) for v in truth.visits)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_crossings_equal_those_of_a_perfect_observer(seed: int, fps: float) -> None:
    truth, outputs = looked_at(seed, fps)
    got = sorted((e.tripwire, e.label, e.direction, e.at_us) for e in events_of(outputs) if e.kind == "crossing")
    expected = sorted((c.tripwire, c.label, c.direction, c.at_us) for c in truth.crossings)
    assert [g[:3] for g in got] == [e[:3] for e in expected]
    assert all(abs(g[3] - e[3]) <= 1 for g, e in zip(got, expected, strict=True))


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_alerts_open_and_close_as_the_scene_has_them(seed: int, fps: float) -> None:
    scene, outputs = outcome(seed, fps)
    truth = scene_truth(scene)
    transitions = alerts_of(outputs)
    opens = sorted((a for a in transitions if a.transition == "open" and a.zone), key=lambda a: (a.rule, a.at_us))
    closes = {a.alert_id: a for a in transitions if a.transition == "close"}
    expected = sorted(truth.alerts, key=lambda a: (a.rule, a.open_us))
    assert [a.rule for a in opens] == [a.rule for a in expected]
    slack_us = round(2e6 / fps) + 200_000  # a frame at either end, and the probation of who comes last
    for got, want in zip(opens, expected, strict=True):
        assert abs(got.start_us - want.start_us) <= slack_us
        assert abs(got.at_us - want.open_us) <= slack_us
        assert abs(closes[got.alert_id].at_us - want.end_us) <= slack_us
    assert _ids_are_distinct(transitions)


def _ids_are_distinct(transitions: list[AlertTransition]) -> bool:
    return len({a.id for a in transitions}) == len(transitions)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_window_figures_equal_those_of_a_perfect_observer(seed: int, fps: float) -> None:
    truth, outputs = looked_at(seed, fps)
    points = stored(points_of(outputs))
    zones = truth.zone_figures()
    wires = truth.wire_figures()
    compared = 0
    for (measurement, tags_key, at_ns), fields in points.items():
        tags = dict(tags_key)  # type: ignore[call-overload]
        start_us = at_ns // 1000  # type: ignore[operator]
        if measurement == "zone_window" and (CAMERA, tags["zone"], tags["class"], start_us) in zones:
            want = zones[CAMERA, tags["zone"], tags["class"], start_us]
            assert fields["enter_count"] == want.enter_count
            assert fields["exit_count"] == want.exit_count
            assert (fields["occupancy_min"], fields["occupancy_max"]) == (want.occupancy_min, want.occupancy_max)
            assert fields["occupancy_mean"] == pytest.approx(want.occupancy_mean, abs=2e-6)
            assert fields["dwell_sum_s"] == pytest.approx(sum(want.dwells_s), abs=2e-6)
            compared += 1
        if measurement == "tripwire_window" and (CAMERA, tags["tripwire"], tags["class"], start_us) in wires:
            want_wire = wires[CAMERA, tags["tripwire"], tags["class"], start_us]
            assert (fields["left_count"], fields["right_count"]) == (want_wire.left_count, want_wire.right_count)
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_walks_give_the_same_visits_crossings_and_alerts_at_any_frame_rate(seed: int) -> None:
    found = []
    for fps in RATES:
        _, outputs = outcome(seed, fps)
        events = Counter((e.kind, e.zone, e.tripwire, e.label, e.direction) for e in events_of(outputs))
        alerts = Counter((a.rule, a.transition) for a in alerts_of(outputs) if a.transition != "update" and a.zone)
        found.append((events, alerts))
    assert found[0] == found[1] == found[2]


def test_every_field_has_one_type_over_all_points() -> None:
    types: dict[tuple[str, str], set[type]] = {}
    for seed in SEEDS:
        for p in points_of(outcome(seed, 12.5)[1]):
            for name, value in p.fields.items():
                types.setdefault((p.measurement, name), set()).add(type(value))
    assert {k: v for k, v in types.items() if len(v) > 1} == {}


def test_no_two_points_or_events_share_their_place() -> None:
    for seed in SEEDS:
        _, outputs = outcome(seed, 12.5)
        ids = [e.id for e in events_of(outputs)]
        assert len(set(ids)) == len(ids)
        places = Counter((p.measurement, tuple(sorted(p.tags.items())), p.at_ns, p.fields.get("revision"))
                         for p in points_of(outputs))  # fmt: skip
        assert max(places.values()) == 1
