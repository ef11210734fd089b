"""The measuring itself, on cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluate import FrameResult, LabelledFrame, bootstrap, match, quality


def result(pairs, people_count) -> FrameResult:
    scores = np.array([p[0] for p in pairs], np.float32)
    return FrameResult(scores, np.array([p[1] for p in pairs], bool), people_count)


def test_each_person_is_matched_once_by_the_best_scored_box():
    label = LabelledFrame(0, [(0, 0, 10, 10), (20, 0, 30, 10)])
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [20, 0, 30, 4]], np.float32)
    matched = match(boxes, np.array([0.5, 0.9, 0.8], np.float32), label)
    assert matched.scores.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert matched.is_right.tolist() == [True, False, False]
    assert matched.people_count == 2


def test_a_box_in_an_ignore_region_counts_neither_for_nor_against():
    label = LabelledFrame(0, [], [(100, 100, 200, 200)])
    boxes = np.array([[110, 110, 120, 120], [190, 190, 230, 230]], np.float32)
    matched = match(boxes, np.array([0.9, 0.8], np.float32), label)
    assert matched.scores.tolist() == pytest.approx([0.8])


def test_precision_recall_and_average_precision_by_hand():
    results = [result([(0.9, True), (0.6, False)], 2), result([(0.7, True), (0.3, True)], 2)]
    measured = quality(results, 0.5)
    assert measured.precision == pytest.approx(2 / 3)
    assert measured.recall == pytest.approx(2 / 4)
    # Ranked right, right, wrong, right of 4 people: 1/4 + 1/4 + 3/4 * 1/4.
    assert measured.average_precision == pytest.approx((1 + 1 + 0.75) / 4)


def test_nothing_detected_is_full_precision_and_no_recall():
    measured = quality([result([], 3)], 0.5)
    assert (measured.precision, measured.recall, measured.average_precision) == (1.0, 0.0, 0.0)


def test_the_interval_holds_the_estimate_and_repeats():
    random = np.random.default_rng(3)
    results = [result([(s, random.random() < 0.8) for s in random.random(6)], 6) for _ in range(20)]
    low, high = bootstrap(results, 0.3)
    estimate = quality(results, 0.3)
    assert low.precision <= estimate.precision <= high.precision
    assert low.recall <= estimate.recall <= high.recall
    assert bootstrap(results, 0.3) == (low, high)
