"""The camera stage over the simulator's scene for each rule, against the alerts, visits and crossings of the true paths.

Tolerances are `bench.rules.tolerance_s`: two frames, 0.2 s until an empty frame says that nothing is there, and 0.15 to 0.6 s by
the rule (who stands still came to within half a metre of the place before it stopped; speed comes from a filter).
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from msgspec import structs

from bench.rules import Found, Score, Watched, judge, scored, tolerance_s, watch
from simulator.rule_scenes import RULE_SCENES, rules_scene
from simulator.rule_truth import RuleAlert, rule_alerts
from simulator.scene import NOISY_DETECTOR, DetectorModel, FrameClock
from simulator.truth import scene_truth

EXACT = DetectorModel()
RATES = (5.0, 12.5, 30.0)
NOISY_SEEDS = range(3)
NOISY_FPS = 10.0
HAIR_S = 0.003  # who creeps takes as long for what a box's float32 cannot tell


@functools.cache
def watched(name: str, fps: float) -> Watched:
    """Return what the stage makes of a scene with a perfect detector."""
    return watch(rules_scene([name], clock=FrameClock(fps)), name)


def about(wrong: list[RuleAlert], more: list[Found]) -> str:
    """Say what is missing and what is too much."""
    return f"missed {wrong}; wrong {more}"


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("name", RULE_SCENES)
def test_without_noise_every_alert_is_raised_and_no_other_at_any_frame_rate(name: str, fps: float) -> None:
    scene, rule = rules_scene([name], clock=FrameClock(fps)), RULE_SCENES[name]().rule
    score, missed, wrong = judge(rule_alerts(scene), watched(name, fps).alerts, tolerance_s(rule, fps))
    assert (score.precision, score.recall) == (1.0, 1.0), about(missed, wrong)


@pytest.mark.parametrize("name", RULE_SCENES)
def test_so_it_is_with_other_paths(name: str) -> None:
    for seed in (1, 2):
        score, missed, wrong = scored(name, seed, 10.0, EXACT)
        assert (score.precision, score.recall) == (1.0, 1.0), f"seed {seed}: {about(missed, wrong)}"


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("name", RULE_SCENES)
def test_alerts_end_when_what_they_are_about_ends(name: str, fps: float) -> None:
    scene, rule = rules_scene([name], clock=FrameClock(fps)), RULE_SCENES[name]().rule
    within_s = tolerance_s(rule, fps)
    for alert in rule_alerts(scene):
        closes = [f.close_s for f in watched(name, fps).alerts if abs(f.open_s - alert.open_s) <= within_s]
        assert any(abs(close_s - alert.end_s) <= within_s for close_s in closes), (alert, closes)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("name", RULE_SCENES)
def test_visits_and_crossings_are_those_of_the_paths_at_any_frame_rate(name: str, fps: float) -> None:
    scene = rules_scene([name], clock=FrameClock(fps))
    truth, start_us = scene_truth(scene), scene.start_us
    found = watched(name, fps)
    frame_s = 1 / fps
    visits = sorted(
        (v.zone, v.object, (v.enter_us - start_us) / 1e6, (v.exit_us - start_us) / 1e6) for v in truth.visits
    )
    assert [v[:2] for v in found.visits] == [v[:2] for v in visits]
    for got, want in zip(found.visits, visits, strict=True):
        for late_s in (got[2] - want[2], want[3] - got[3]):
            assert -HAIR_S <= late_s <= frame_s + HAIR_S, (got, want)
    crossings = sorted((c.tripwire, c.object, c.direction, (c.at_us - start_us) / 1e6) for c in truth.crossings)
    assert [c[:3] for c in found.crossings] == [c[:3] for c in crossings]
    assert all(abs(got[3] - want[3]) < 0.01 for got, want in zip(found.crossings, crossings, strict=True))


@pytest.mark.parametrize(("name", "radius"), [("stopped", {"still_m": 0.7}), ("stopped-image", {"still_ratio": 0.6})])
def test_a_larger_radius_takes_who_creeps_for_standing_still(name: str, radius: dict[str, float]) -> None:
    """0.2 m/s for the rule's time is less than twice the radius then (docs/rules.md, stopped)."""
    scene = rules_scene([name])
    (camera,) = scene.settings.cameras
    site = structs.replace(scene.settings, cameras=(structs.replace(camera, **radius),))
    before, after = ({f.subjects for f in watch(s, name).alerts} for s in (scene, replace(scene, settings=site)))
    assert after == before | {("creeps",)} and ("creeps",) not in before


@pytest.mark.parametrize("name", RULE_SCENES)
def test_every_object_is_one_track_at_any_frame_rate(name: str) -> None:
    for fps in RATES:
        assert set(watched(name, fps).track_counts.values()) == {1}, fps


LEAST = 0.8
"""Precision and recall that a detector that errs must leave. Measured over ten seeds (`python -m bench rules`, bench/README.md):
0.95 or more for each rule, 1.00 for most."""


@pytest.mark.parametrize("name", RULE_SCENES)
def test_with_a_detector_that_errs_most_alerts_are_right(name: str) -> None:
    total = Score()
    for seed in NOISY_SEEDS:
        total.add(scored(name, seed, NOISY_FPS, NOISY_DETECTOR)[0])
    assert total.precision >= LEAST and total.recall >= LEAST, total
