"""The small parts of the benchmarks: arithmetic, /proc, the scene. No clock is asked."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import processes, rules, scene, tracking
from bench.figures import Sample, Spread, percentile, steady_part
from schemas.wire import check_detections, decode_detections
from simulator.rule_truth import RuleAlert


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (0.0, 0.5, 0.99, 0.999, 1.0)] == [1.0, 50.0, 99.0, 100.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="ratio from 0 to 1"):
        percentile([1.0], 1.5)


def test_a_spread_does_not_depend_on_the_order() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread.of([1.0, 2.0, 3.0]) == Spread(3, 2.0, 3.0, 3.0, 3.0, 3.0)


def test_the_steady_part_leaves_out_start_and_tail() -> None:
    counts = [0, 10, 100, 200, 300, 310]
    samples = [Sample(float(i), n, {"job": 0.5 * i}) for i, n in enumerate(counts)]
    steady = steady_part(samples, 50, 300)
    assert (steady.count, steady.elapsed_s, steady.rate_hz) == (200, 2.0, 100.0)
    assert steady.cpu_us("job") == pytest.approx(5000.0)
    assert steady.cores("job") == pytest.approx(0.5)


def test_a_run_too_short_to_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="between the counts"):
        steady_part([Sample(0.0, 0, {}), Sample(1.0, 1000, {})], 100, 900)


def test_cpu_time_is_read_behind_the_last_parenthesis_of_a_command() -> None:
    stat = "42 (odd) name) (x) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 1 0 100 1 1"
    assert processes.parse_stat_cpu_s(stat, ticks_hz=100) == 2.0
    assert processes.parse_stat_parent(stat) == 7


def test_every_frame_of_the_street_is_a_legal_message_in_order() -> None:
    street = scene.Street(10, camera_count=2)
    seqs: dict[str, list[int]] = {}
    sizes = []
    for record in street.records(2 * street.plan.loop_count + 20):
        frame = decode_detections(record.value)
        assert record.key == frame.camera.encode() and record.timestamp_ms == frame.capture_us // 1000
        seqs.setdefault(frame.camera, []).append(frame.seq)
        sizes.append(len(frame.classes))
    assert all(numbers == list(range(len(numbers))) for numbers in seqs.values())
    assert 9.0 < sum(sizes) / len(sizes) < 10.5


def test_objects_of_the_street_move_without_jumps_until_they_leave() -> None:
    for i in range(10):
        places = [dict(scene.street(10, k / 300, 0)).get(i) for k in range(300)]
        for a, b in itertools.pairwise(places):
            if a and b and 0.1 < (a[0][0] + a[0][2]) / 2 < 0.9:
                assert abs(a[0][0] - b[0][0]) < 0.02


def test_only_sent_us_is_changed_when_a_frame_is_sent_later() -> None:
    record = next(iter(scene.Street(10, camera_count=1).records(1)))
    before = decode_detections(record.value)
    after = decode_detections(scene.restamp_sent(record, before.sent_us + 12_345).value)
    assert after.sent_us == before.sent_us + 12_345
    assert (after.seq, after.capture_us, after.boxes) == (before.seq, before.capture_us, before.boxes)


def test_the_naive_design_sends_one_message_per_object_and_frame() -> None:
    messages = list(scene.naive_messages(10, 200, camera_count=100))
    assert 9 * 200 <= len(messages) <= 10 * 200
    assert len({m["object"] for m in messages}) <= 1000


def test_the_walkers_of_the_tracking_benchmark_are_legal_detections_and_the_same_in_each_run() -> None:
    frames = tracking.walk(50, 40)
    again = tracking.walk(50, 40)
    assert np.array_equal(frames.boxes, again.boxes) and np.array_equal(frames.offsets, again.offsets)
    assert len(frames.offsets) == 41 and frames.offsets[-1] == len(frames.boxes) == len(frames.scores)
    assert 45 < frames.offsets[-1] / 40 < 55
    assert check_detections(frames.boxes, frames.scores, np.zeros(len(frames.boxes), np.uint8), 1) == ""


def test_growth_is_measured_against_n_log_n() -> None:
    (begin, end, dearer, allowed), *_ = tracking.growth({10: 5.0, 100: 100.0})
    assert (begin, end, dearer) == (10, 100, 20.0)
    assert allowed == pytest.approx(20.0)


def test_the_tracking_benchmark_follows_every_walker_with_and_without_numba(tmp_path: Path) -> None:
    frames = tracking.walk(10, 60)
    np.savez(tmp_path / "s.npz", **vars(frames), size=np.array(tracking.SIZE_PX), fps=np.array(tracking.FPS))
    for name in ("compiled", "plain"):
        worker = tracking.Worker(name, Path(sys.executable))
        try:
            answer = worker.measure(tmp_path / "s.npz", 5.0)
        finally:
            worker.close()
        assert answer["us"] > 0
        assert 8 <= answer["tracks"] <= 13


def found(open_s: float, *subjects: str, rule: str = "r") -> rules.Found:
    return rules.Found(rule, open_s, open_s, open_s, subjects)


def test_alerts_are_matched_with_the_nearest_true_one_about_the_same_objects() -> None:
    truth = [RuleAlert("cam", "r", 0.0, at, 99.0, ("a",)) for at in (1.0, 2.0)]
    score, missed, wrong = rules.judge(truth, [found(1.9, "a"), found(1.4, "a"), found(2.0, "b")], 0.5)
    assert (score.right, score.wrong, score.missed, score.error_s) == (2, 1, 0, pytest.approx(0.4))
    assert (missed, wrong) == ([], [found(2.0, "b")])
    assert (score.precision, score.recall) == (2 / 3, 1.0)


def test_an_alert_of_another_rule_another_object_or_at_another_time_is_wrong() -> None:
    truth = [RuleAlert("cam", "r", 0.0, 1.0, 99.0, ("a", "b"))]
    for other in (found(1.0, "a", "b", rule="s"), found(1.0, "a"), found(2.0, "a", "b")):
        score, missed, _ = rules.judge(truth, [other], 0.5)
        assert (score.right, score.wrong, score.missed, missed) == (0, 1, 1, truth)
    assert rules.judge(truth, [found(1.2, "b", "a")], 0.5)[0].right == 1
    place = [RuleAlert("cam", "r", 0.0, 1.0, 99.0)]
    assert rules.judge(place, [found(1.2, "who", "ever")], 0.5)[0].right == 1


def test_no_alerts_where_there_should_be_none_is_right() -> None:
    score, _, _ = rules.judge([], [], 0.5)
    assert (score.precision, score.recall) == (1.0, 1.0)
