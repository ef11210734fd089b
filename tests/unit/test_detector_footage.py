"""The default detector on the demo footage, held to loose bounds below what was measured (CARD.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.detector import DetectorOptions, open_detector
from models import evaluate

ROOT = Path(__file__).resolve().parents[2]
LOCAL = Path(os.environ.get("SIGHTFLOW_LOCAL", ROOT / ".local"))
FOOTAGE = LOCAL / "footage" / "vtest.mp4"
LABELS = ROOT / "models" / "labels" / "vtest.jsonl"
MODEL = "centernet-mobilenetv3"


@pytest.fixture(scope="module")
def material():
    for path in (FOOTAGE, LOCAL / "models" / MODEL / "manifest.json"):
        if not path.is_file():
            pytest.skip(f"{path} is absent: make setup fetches it")
    labels = evaluate.read_labels(LABELS)
    return labels, evaluate.read_frames(FOOTAGE, [label.frame for label in labels])


@pytest.mark.parametrize("threads_count", [1, 2])
def test_people_on_the_demo_footage_are_found(material, threads_count):
    labels, frames = material
    detector = open_detector(MODEL, LOCAL / "models", DetectorOptions(threads_count=threads_count))
    results = evaluate.run_detector(detector, frames, labels, "person")
    measured = evaluate.quality(results, detector.manifest.thresholds.score)
    assert measured.precision >= 0.93
    assert measured.recall >= 0.87


def test_the_same_frame_gives_the_same_boxes(material):
    _, frames = material
    frame = next(iter(frames.values()))
    detector = open_detector(MODEL, LOCAL / "models")
    first, second = detector.detect(frame), detector.detect(frame)
    assert first.boxes.tobytes() == second.boxes.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()


def test_the_committed_labels_are_whole_and_inside_the_frame():
    labels = evaluate.read_labels(LABELS)
    assert len(labels) == len({label.frame for label in labels}) == 25
    assert sum(len(label.people_px) for label in labels) == 148
    for label in labels:
        for x1, y1, x2, y2 in [*label.people_px, *label.ignore_px]:
            assert 0 <= x1 < x2 <= 768
            assert 0 <= y1 < y2 <= 576
