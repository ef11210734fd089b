"""Speed, heading, distance, standing still and the path, beside what is true and beside plain oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from operators.motion import Motion, Trajectory, kernel
from operators.motion.kernel import MOTION
from operators.tracking import CONFIRMED, TENTATIVE, TRACK
from tests.unit.operators.strollers import (
    START_US,
    STILL_M,
    STILL_RATIO,
    Course,
    Seen,
    circle,
    legs,
    length,
    line,
    stroll,
)

RATES = (5.0, 12.5, 30.0)
CORNERS = legs(
    [(0, -4, 9), (4, 1, 9), (6, 1, 9), (10, 1, 14), (15, 1, 14), (20, -4, 14)]
)  # two stops among them: 2 s, 5 s


def walked(
    course: Course, seconds: float, fps: float, noise: float, seed: int = 0, **more: Any
) -> tuple[Trajectory, list[Seen]]:
    """Return the trajectory at the end, and every frame."""
    seen = list(stroll(course, seconds, fps, noise, seed, **more))
    last = seen[-1]
    return last.motion.trajectory(int(last.track["seen_us"]), 0, more.get("on_ground", True)), seen


# ---- against what is true ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize(
    ("course", "seconds"),
    [(line(1.4), 8.0), (line(1.4, math.pi / 2, 0.0, 8.0), 8.0), (circle(1.4, 2.0), 20.0), (CORNERS, 22.0)],
)
def test_the_distance_walked_is_within_five_percent_at_every_rate(
    course: Course, seconds: float, noise: float, fps: float
) -> None:
    t, seen = walked(course, seconds, fps, noise)
    true = length(course, seen[-1].at_s) - length(course, seen[0].at_s)
    assert t.distance_m == pytest.approx(true, rel=0.05)
    assert t.speed_mean_mps == pytest.approx(true / (seen[-1].at_s - seen[0].at_s), rel=0.05)


@pytest.mark.parametrize("fps", RATES)
def test_who_stands_walks_no_distance_however_its_box_jitters(fps: float) -> None:
    t, seen = walked(lambda _: (1.0, 12.0), 60.0, fps, 0.02)
    assert t.distance_m is not None and t.distance_m < 0.3
    assert t.speed_max_mps is not None and t.speed_max_mps < 0.05
    assert t.stopped_s == pytest.approx(seen[-1].at_s - seen[0].at_s, abs=0.01)
    assert seen[-1].row["still_us"] == seen[0].now_us and len(t.path) == 2


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_stops_begin_and_last_as_they_do_in_truth(noise: float, fps: float) -> None:
    t, seen = walked(CORNERS, 15.0, fps, noise)
    # Who comes to a stop was inside the radius up to 2·still_m before it.
    slack_s = 2.0 * STILL_M / 1.25 + 1.0 / fps
    assert 10.0 - slack_s <= (seen[-1].row["still_us"] - START_US) * 1e-6 <= 10.0 + 2.0 / fps
    assert t.stopped_s == pytest.approx(5.0, abs=slack_s)


@pytest.mark.parametrize("fps", RATES)
def test_the_fastest_stretch_is_no_outlier(fps: float) -> None:
    sprint = legs([(0, -7, 10), (2, -4.5, 10), (5, 4.5, 10), (7, 7, 10)])  # 1.25, 3, 1.25 m/s
    for seed in range(3):
        t, _ = walked(sprint, 7.0, fps, 0.02, seed)
        assert t.speed_max_mps is not None and 0.8 * 3.0 < t.speed_max_mps < 1.1 * 3.0
        steady, _ = walked(line(1.4), 8.0, fps, 0.02, seed)
        assert steady.speed_max_mps == pytest.approx(1.4, rel=0.05)


def test_the_uncertainty_of_speed_is_a_standard_deviation_for_who_moves_as_the_filter_expects() -> None:
    """Accelerations are white, 1 m/s^1.5, and boxes err by 3 % of their height, as `TrackerConfig` says: 68 % lie within one."""
    inside, count, beyond = 0, 0, 0
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        dt, seconds = 0.01, 10.0
        v = np.array([1.0, 0.5]) + np.cumsum(rng.normal(0, math.sqrt(dt), (int(seconds / dt), 2)), axis=0)
        xy = np.array([0.0, 14.0]) + np.cumsum(v * dt, axis=0)
        at = np.arange(len(xy)) * dt

        def course(s: float, xy: Any = xy, at: Any = at) -> tuple[float, float]:
            return float(np.interp(s, at, xy[:, 0])), float(np.interp(s, at, xy[:, 1]))

        for s in stroll(course, seconds, 10.0, 0.03, seed):
            if not (abs(s.x) < 12.0 and 6.0 < s.y < 40.0):
                break
            if s.at_s < 1.0:
                continue
            true = math.hypot(*v[min(int(s.at_s / dt), len(v) - 1)])
            z = abs(s.row["speed_mps"] - true) / s.row["speed_sd_mps"]
            inside, beyond, count = inside + (z < 1.0), beyond + (z > 2.0), count + 1
    assert count > 500
    assert 0.60 < inside / count < 0.85  # boxes err less sideways, where two edges are averaged
    assert beyond / count < 0.10


def test_the_uncertainty_of_a_steady_walker_is_on_the_safe_side() -> None:
    z = [
        (s.row["speed_mps"] - 1.4) / s.row["speed_sd_mps"]
        for seed in range(6) for s in stroll(line(1.4), 8.0, 12.5, 0.03, seed) if s.at_s > 1.0
    ]  # fmt: skip
    assert np.mean(np.abs(z) < 1.0) > 0.85


def test_the_heading_points_the_way_and_is_not_known_of_who_stands() -> None:
    for angle in (0.0, 2.0, -2.0):
        _, seen = walked(line(1.4, angle, 0.0, 14.0), 5.0, 12.5, 0.01)
        rows = [s.row for s in seen if s.at_s > 2.0]
        off = [math.acos(min(1.0, r["heading_x"] * math.cos(angle) + r["heading_y"] * math.sin(angle))) for r in rows]
        assert max(off) < math.radians(25.0)
    _, seen = walked(lambda _: (0.0, 12.0), 10.0, 12.5, 0.01)
    assert np.mean([np.isnan(s.row["heading_x"]) for s in seen]) > 0.95


def test_without_the_ground_nothing_is_said_in_metres_and_stillness_is_measured_in_heights() -> None:
    t, seen = walked(CORNERS, 15.0, 12.5, 0.02, on_ground=False)
    for s in seen:
        assert all(
            np.isnan(s.row[name]) for name in ("speed_mps", "speed_sd_mps", "heading_x", "x_m", "y_m", "distance_m")
        )
    assert t.distance_m is None and t.speed_mean_mps is None and t.speed_max_mps is None
    assert 8.0 < (seen[-1].row["still_us"] - START_US) * 1e-6 < 10.2  # depth is foreshortened
    assert all(0 <= x <= 16 / 9 and 0 <= y <= 1 for _, x, y in t.path)


# ---- the path ----------------------------------------------------------------------------------------------------------


def follow(points: list[tuple[int, float, float]], tolerance: float, on_ground: bool) -> Trajectory:
    """Return what becomes of places at times (ms)."""
    motion = Motion(STILL_M, STILL_RATIO, 1)
    m = motion.motions.view(np.recarray)[0]
    m.leeway = -1.0
    for ms, x, y in points:
        kernel.extend(m, x, y, ms, tolerance, on_ground)
        m.last_ms = ms
    return motion.trajectory(0, 0, on_ground)


@pytest.mark.parametrize("seed", range(40))
def test_every_observation_lies_within_the_stated_error_of_the_path(seed: int) -> None:
    rng = np.random.default_rng(seed)
    on_ground = seed % 2 == 0
    scale = 1.0 if on_ground else 0.05
    n = int(rng.integers(2, 400))
    ms = np.cumsum(rng.integers(1, 300, n)) - 1
    turns = np.cumsum(rng.normal(0, 0.3, n))
    steps = rng.choice([0.0, 0.1, 0.1, 1.5 if seed % 3 == 0 else 0.2], n) * scale
    x, y = np.cumsum(steps * np.cos(turns)), np.cumsum(steps * np.sin(turns))
    x, y = x + rng.normal(0, 0.02 * scale, n), y + rng.normal(0, 0.02 * scale, n)
    t = follow(list(zip(ms.tolist(), x.tolist(), y.tolist(), strict=True)), 0.3 * scale, on_ground)
    at, px, py = (np.array(c) for c in zip(*t.path, strict=True))
    assert len(t.path) <= kernel.MAX_VERTICES + 1
    assert at[0] == ms[0] and at[-1] == ms[-1] and (np.diff(at) > 0).all()
    off = np.hypot(np.interp(ms, at, px) - x, np.interp(ms, at, py) - y)
    assert off.max() <= t.error * (1 + 1e-5) + 1e-5


def test_a_path_beyond_what_the_numbers_reach_says_so() -> None:
    t = follow([(i * 100, float(i * i), 0.0) for i in range(60)], 0.3, True)
    assert t.error > 59 * 59 - 656


def test_a_straight_steady_walk_is_two_points() -> None:
    t = follow([(i * 40, 0.05 * i, 0.02 * i) for i in range(2000)], 0.25, True)
    assert len(t.path) == 2 and t.error < 0.3
    assert t.path[-1] == pytest.approx((1999 * 40, 0.05 * 1999, 0.02 * 1999), abs=0.3)


@pytest.mark.parametrize("step", [kernel.STEP_M, kernel.STEP_RATIO])
def test_coded_errors_are_never_smaller_than_what_they_stand_for(step: float) -> None:
    for error in np.geomspace(1e-4, 1e6, 300):
        code = kernel.coded_error(float(error), step, 0)
        assert kernel.decoded_error(code, step) >= error * (1 - 1e-12)
        assert code == 0 or kernel.decoded_error(code - 1, step) < error


# ---- standing still, beside an oracle ----------------------------------------------------------------------------------


def still_oracle(places: list[tuple[int, float, float]], radius: float) -> list[int]:
    """Return since when, for each of (µs, x, y): all means are taken anew, in steps of time, over all that belongs together."""
    begin, out = 0, []
    for now in range(len(places)):
        if now > begin:
            weights = np.diff([p[0] for p in places[begin:now]], prepend=0.0).astype(float)
            mean = np.zeros(2)
            for k, p in enumerate(places[begin:now]):
                step = 0.0 if k == 0 else weights[k]
                elapsed = p[0] - places[begin][0]
                share = 1.0 if k == 0 else step / (elapsed + step)
                mean = mean + share * (np.array(p[1:]) - mean)
            if math.dist(mean, places[now][1:]) > radius:
                begin = now
        out.append(places[begin][0])
    return out


@pytest.mark.parametrize("seed", range(10))
def test_stillness_is_what_the_oracle_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    motion = Motion(STILL_M, STILL_RATIO, 1)
    tracks = np.zeros(1, TRACK)
    t = tracks[0]
    now_us, x, y, born_us = START_US, 0.5, 0.5, START_US + 1000
    places = []
    for n in range(150):
        now_us = now_us + int(rng.integers(30, 900)) * 1000 if n else born_us
        moves = rng.random() < 0.2
        x, y = x + moves * rng.normal(0, 0.05), y + moves * rng.normal(0, 0.05)
        seen = n == 0 or rng.random() < 0.8
        t["status"], t["born_us"], t["seen"] = (CONFIRMED if n > 2 else TENTATIVE), born_us, seen
        if seen:
            t["kalman"][[0, 5, 15]] = x, y, 0.2
            kalman = t["kalman"].astype(float)
            places.append((now_us, kalman[0], kalman[5] + kalman[15] / 2))
        motion.step(tracks, 1, False, now_us)
        if seen:
            assert motion.motions["still_us"][0] == still_oracle(places, STILL_RATIO * float(np.float32(0.2)))[-1]


# ---- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_ground", [True, False])
def test_a_row_restored_from_what_is_kept_goes_on_the_same(on_ground: bool) -> None:
    frames = list(stroll(CORNERS, 12.0, 12.5, 0.03, 7, on_ground))
    for s in frames[::5]:
        tracks = np.array([s.track], TRACK)
        kept = np.array([s.row], MOTION)
        kept.view(np.uint8)[kernel.KEPT_BYTES :] = 0
        restored = Motion(STILL_M, STILL_RATIO, 1)
        restored.restore(kept.tobytes(), tracks, 1, on_ground)
        assert restored.motions.tobytes() == np.array([s.row], MOTION).tobytes()
        seen_us = int(s.track["seen_us"])
        assert restored.trajectory(seen_us, 0, on_ground) == Motion.trajectory(_holding(s.row), seen_us, 0, on_ground)


def _holding(r: Any) -> Motion:
    motion = Motion(STILL_M, STILL_RATIO, 1)
    motion.motions[0] = r
    return motion


def test_a_slot_s_next_owner_finds_nothing_of_the_last() -> None:
    frames = list(stroll(CORNERS, 12.0, 12.5, 0.03, 7))
    used, fresh = _holding(frames[-1].row), Motion(STILL_M, STILL_RATIO, 1)
    first = np.array([frames[0].track], TRACK)
    for motion in (used, fresh):
        motion.step(first, 1, True, frames[0].now_us)
    assert used.motions.tobytes() == fresh.motions.tobytes()
