"""The tracker's accuracy on simulated crowds: a change that costs it fails here, long before anybody runs TrackEval."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from operators.tracking import SORT, Scratch, Tracker, TrackerConfig
from operators.tracking.kernel import assign
from simulator.crowd import CrowdScene
from simulator.scene import FrameClock

LABELS = np.arange(256, dtype=np.uint8)
CONFIG = TrackerConfig()
MIN_IOU = 0.5

SEEDS = range(31, 37)
CLEARLY = 0.15
"""By how much the baseline is to be beaten in each kind of scene; it is by 0.2 to 0.45."""

SCENES = {
    "street": CrowdScene(0, "yolox", 22, duration_s=10, clock=FrameClock(15.0)),
    "poor detector": CrowdScene(0, "mobilenet", 12, 4, 14, FrameClock(10.0), camera_height_m=4),
    "road, moving camera": CrowdScene(0, "pointrcnn", 0, 8, 14, FrameClock(10.0), 1.7, 2, motion="driving", extent_m=40),
    "shaking camera": CrowdScene(0, "yolox", 14, duration_s=10, clock=FrameClock(12.0), motion="shaking"),
    "few frames": CrowdScene(0, "faster-rcnn", 18, duration_s=16, clock=FrameClock(5.0), camera_height_m=4),
}  # fmt: skip


class Score(NamedTuple):
    """Ratios, 0 to 1."""

    hota: float  # at one overlap, MIN_IOU: root of detection × association (Luiten et al., IJCV 2021)
    idf1: float  # (Ristani et al., 2016)


def best_pairs(gains: Any) -> list[tuple[int, int]]:
    """Return the pairs of rows and columns of positive gain whose sum is the greatest."""
    most = float(gains.max(initial=0.0))
    rows, columns = (gains > 0).nonzero()
    column_of, row_of = np.full(gains.shape[0], -1, np.int64), np.full(gains.shape[1], -1, np.int64)
    starts = np.searchsorted(rows, np.arange(gains.shape[0] + 1)).astype(np.int64)
    assign(starts, columns.astype(np.int64), most - gains[rows, columns], most, column_of, row_of)
    return [(i, j) for i, j in enumerate(column_of.tolist()) if j >= 0]


def overlaps(a: Any, b: Any) -> Any:
    """Return the IoU of each of N boxes with each of M."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return both / (area_a[:, None] + area_b - both)


def score(scene: CrowdScene, config: TrackerConfig) -> Score:
    """Run the tracker over a scene and compare what it publishes as seen with the truth."""
    tracker, out, aspect = Tracker(config), Scratch(config.capacity), scene.width_px / scene.height_px
    together: dict[tuple[int, int], int] = {}  # frames in which an object and an id overlapped
    matched: dict[tuple[int, int], int] = {}  # … and were each other's match
    truth_frames: dict[int, int] = {}
    id_frames: dict[int, int] = {}
    for f in scene.frames():
        tracker.step(f.boxes, f.scores, f.classes, LABELS, f.capture_us, aspect)
        n, _, _ = tracker.publish(out, aspect)
        seen = out.states[:n] == 0
        ids, objects = out.ordinals[:n][seen].tolist(), f.truth_ids.tolist()
        iou = overlaps(f.truth_boxes, out.boxes[:n][seen].astype(np.float64))
        for i, j in np.argwhere(iou >= MIN_IOU).tolist():
            together[objects[i], ids[j]] = together.get((objects[i], ids[j]), 0) + 1
        for i, j in best_pairs(np.where(iou >= MIN_IOU, iou, 0.0)):
            matched[objects[i], ids[j]] = matched.get((objects[i], ids[j]), 0) + 1
        for name in objects:
            truth_frames[name] = truth_frames.get(name, 0) + 1
        for name in ids:
            id_frames[name] = id_frames.get(name, 0) + 1
    return Score(_hota(matched, truth_frames, id_frames), _idf1(together, truth_frames, id_frames))


def _hota(matched: dict[tuple[int, int], int], truth: dict[int, int], found: dict[int, int]) -> float:
    hits = sum(matched.values())
    detection = hits / (sum(truth.values()) + sum(found.values()) - hits)
    association = sum(n * n / (truth[i] + found[j] - n) for (i, j), n in matched.items()) / max(hits, 1)
    return math.sqrt(detection * association)


def _idf1(together: dict[tuple[int, int], int], truth: dict[int, int], found: dict[int, int]) -> float:
    rows, columns = sorted(truth), sorted(found)
    gains = np.zeros((len(rows), len(columns)))
    for (i, j), n in together.items():
        gains[rows.index(i), columns.index(j)] = n
    right = sum(gains[i, j] for i, j in best_pairs(gains))
    return float(2 * right / (sum(truth.values()) + sum(found.values())))


def mean_score(scene: CrowdScene, config: TrackerConfig) -> Score:
    """Return the mean over SEEDS."""
    runs = [score(dataclasses.replace(scene, seed=seed), config) for seed in SEEDS]
    return Score(float(np.mean([r.hota for r in runs])), float(np.mean([r.idf1 for r in runs])))


LEAST = {
    "street": Score(0.885, 0.915),
    "poor detector": Score(0.71, 0.80),
    "road, moving camera": Score(0.81, 0.85),
    "shaking camera": Score(0.835, 0.84),
    "few frames": Score(0.71, 0.80),
}
"""What the tracker reached when this was written, less 0.015 to 0.02. To be raised with it; lowered only with ADR 7's table."""


@pytest.mark.parametrize("name", SCENES)
def test_crowds_are_followed_as_well_as_ever_and_clearly_better_than_by_the_baseline(name: str) -> None:
    got, least, baseline = mean_score(SCENES[name], CONFIG), LEAST[name], mean_score(SCENES[name], SORT)
    assert got.hota >= least.hota and got.idf1 >= least.idf1, f"expected at least {least}, got {got}"
    assert got.hota >= baseline.hota + CLEARLY and got.idf1 >= baseline.idf1 + CLEARLY, f"{got}, baseline {baseline}"


def test_the_scores_are_those_of_the_papers_in_a_case_counted_by_hand() -> None:
    """One object for ten frames, as one id for six and another for three; a false box for two."""
    matched, truth, found = {(1, 7): 6, (1, 8): 3}, {1: 10}, {7: 6, 8: 3, 9: 2}
    association = (6 * 6 / 10 + 3 * 3 / 10) / 9
    assert _hota(matched, truth, found) == pytest.approx(math.sqrt(9 / 12 * association))
    assert _idf1(matched, truth, found) == pytest.approx(2 * 6 / (10 + 11))
