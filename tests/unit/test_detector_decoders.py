"""Decoders and suppression against slow, literal versions of the same rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.detector.decoders import check_outputs, decode
from edge_agent.detector.manifest import ModelError, Thresholds
from edge_agent.detector.suppression import overlaps, suppress

#: Few distinct values, so that ties and plateaus happen.
LEVELS = st.sampled_from([-9.0, -2.0, -0.5, 0.0, 0.5, 1.0, 3.0])


def plain_iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def plain_suppress(boxes, classes, iou) -> list[int]:
    kept: list[int] = []
    for i in range(len(boxes)):
        if all(classes[i] != classes[j] or plain_iou(boxes[i], boxes[j]) <= iou for j in kept):
            kept.append(i)
    return kept


@st.composite
def box_sets(draw):
    count = draw(st.integers(0, 12))
    corners = draw(hnp.arrays(np.int64, (count, 4), elements=st.integers(0, 12)))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    classes = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))
    return boxes.astype(np.float32), classes


@given(box_sets(), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_suppression_keeps_exactly_what_the_greedy_loop_keeps(boxes_and_classes, iou):
    boxes, classes = boxes_and_classes
    assert suppress(boxes, classes, iou).tolist() == plain_suppress(boxes.tolist(), classes, iou)


@given(box_sets())
def test_overlap_of_each_pair_is_the_textbook_ratio(boxes_and_classes):
    boxes, _ = boxes_and_classes
    expected = [[plain_iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    np.testing.assert_allclose(overlaps(boxes), np.array(expected).reshape(len(boxes), len(boxes)), atol=1e-6)


def plain_centernet(logits, sides, stride, limits: Thresholds):
    """Every pixel of every class, one at a time."""
    found = []
    classes, height, width = logits.shape
    for c in range(classes):
        for y in range(height):
            for x in range(width):
                value = float(logits[c, y, x])
                around = logits[c, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                score = 1 / (1 + math.exp(-value))
                if value < around.max() or score < limits.score:
                    continue
                left, top, right, bottom = sides[:, y, x].tolist()
                box = (x * stride - left, y * stride - top, x * stride + right, y * stride + bottom)
                found.append((score, box, c))
    found.sort(key=lambda f: -f[0])
    kept = plain_suppress([f[1] for f in found], [f[2] for f in found], limits.iou)
    return [found[i] for i in kept][: limits.max_detections_count]


@settings(max_examples=60)
@given(
    hnp.arrays(np.float32, (2, 5, 6), elements=LEVELS),
    hnp.arrays(np.float32, (4, 5, 6), elements=st.sampled_from([1.0, 2.0, 5.0, 9.0])),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_centernet_finds_the_peaks_that_a_pixel_by_pixel_search_finds(logits, sides, iou):
    limits = Thresholds(score=0.35, iou=iou)
    boxes, scores, classes = decode("centernet", [logits[None], sides[None]], (20, 24), limits)
    expected = plain_centernet(logits, sides, 4, limits)
    assert len(boxes) == len(expected)
    np.testing.assert_allclose(scores, [e[0] for e in expected], rtol=1e-5)
    np.testing.assert_allclose(boxes, np.array([e[1] for e in expected]).reshape(-1, 4), rtol=1e-5)
    assert classes.tolist() == [e[2] for e in expected]


def test_centernet_output_is_bounded_when_every_pixel_is_a_peak():
    logits = np.full((1, 80, 96, 128), 5.0, np.float32)
    sides = np.full((1, 4, 96, 128), 1.0, np.float32)
    limits = Thresholds(score=0.4, max_candidates_count=50, max_detections_count=20)
    boxes, scores, classes = decode("centernet", [logits, sides], (384, 512), limits)
    assert len(boxes) == len(scores) == len(classes) == 20


def test_the_strongest_peak_survives_the_candidate_cap():
    logits = np.random.default_rng(0).normal(3, 1, (1, 10, 64, 64)).astype(np.float32)
    logits[0, 7, 30, 40] = 20.0
    sides = np.ones((1, 4, 64, 64), np.float32)
    limits = Thresholds(score=0.3, max_candidates_count=10)
    boxes, _, classes = decode("centernet", [logits, sides], (256, 256), limits)
    assert classes[0] == 7
    np.testing.assert_allclose(boxes[0], [159, 119, 161, 121])


def anchors(seed: int, count: int, classes: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    boxes = random.uniform(20, 300, (count, 4))
    return np.concatenate([boxes, random.uniform(0, 1, (count, classes))], axis=1).astype(np.float32)


@given(st.integers(0, 1000), st.integers(0, 40), st.integers(1, 5))
def test_yolo_layouts_of_the_same_boxes_decode_to_the_same_detections(seed, count, classes):
    rows = anchors(seed, count, classes)
    limits = Thresholds(score=0.5, iou=0.4, max_candidates_count=20)
    certain = np.insert(rows, 4, 1.0, axis=1)  # v5 has an objectness column
    v8 = decode("yolov8", [rows.T[None]], (320, 320), limits)
    v5 = decode("yolov5", [certain[None]], (320, 320), limits)
    for a, b in zip(v8, v5, strict=True):
        np.testing.assert_array_equal(a, b)

    scores = rows[:, 4:].max(axis=1)
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= 0.5][:20]
    corners = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in rows[order, :4].tolist()]
    names = rows[order, 4:].argmax(axis=1)
    kept = plain_suppress(corners, names, 0.4)
    assert v8[2].tolist() == names[kept].tolist()
    np.testing.assert_allclose(v8[0], np.array(corners).reshape(-1, 4)[kept], rtol=1e-4, atol=1e-3)


def test_end_to_end_rows_pass_as_they_are_best_first_without_suppression():
    rows = np.array([[1, 2, 3, 4, 0.2, 0], [5, 6, 7, 8, 0.6, 2], [5, 6, 7, 8, 0.9, 2]], np.float32)
    boxes, scores, classes = decode("end-to-end", [rows[None]], (64, 64), Thresholds(score=0.5))
    assert scores.tolist() == pytest.approx([0.9, 0.6])
    assert classes.tolist() == [2, 2]
    assert boxes.tolist() == [[5, 6, 7, 8], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("decoder", "shapes"),
    [
        ("centernet", [(1, 80, 96, 128)]),
        ("centernet", [(1, 79, 96, 128), (1, 4, 96, 128)]),
        ("centernet", [(1, 80, 96, 128), (1, 4, 96, 64)]),
        ("yolov8", [(1, 8400, 84)]),
        ("yolov5", [(1, 84, 8400)]),
        ("end-to-end", [(1, 300, 7)]),
        ("yolov8", [(2, 84, 8400)]),
    ],
)
def test_outputs_that_do_not_fit_the_decoder_are_refused(decoder, shapes):
    with pytest.raises(ModelError, match="expects"):
        check_outputs(decoder, shapes, 80)
