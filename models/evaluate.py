"""Measure a detector on hand-labelled frames: quality with its uncertainty, and time per frame.

`python -m models.evaluate --model centernet-mobilenetv3 --models-dir .local/models
--footage .local/footage/vtest.mp4 --labels models/labels/vtest.jsonl [--sizes 288x384,384x512]`

A label line is `{"frame": index, "people_px": [[x1, y1, x2, y2], …], "ignore_px": [...]}` in pixels of
the footage. A detection that covers no labelled person but lies in an ignore region (people under
40 px, or more than half hidden) counts neither for nor against.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.detector import Detector, DetectorOptions, ModelError, open_detector
from edge_agent.detector.suppression import overlaps

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

IOU_MIN = 0.5
#: Share of a detection's area that must lie in an ignore region for it to be left out.
IGNORED_SHARE_MIN = 0.5
#: Detections below are not looked at, also not for AP.
SCORE_FLOOR = 0.05
_RESAMPLES_COUNT = 2000
_TIMED_FRAMES_COUNT = 60


class LabelledFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the label file."""

    frame: Annotated[int, msgspec.Meta(ge=0)]
    people_px: list[Box]
    ignore_px: list[Box] = []


@dataclass(frozen=True)
class FrameResult:
    """Matching of one frame: per counted detection its score and whether it is right."""

    scores: Floats
    is_right: npt.NDArray[np.bool_]
    people_count: int


@dataclass(frozen=True)
class Quality:
    """Precision and recall at one score threshold, and AP over all thresholds; IoU 0.5."""

    precision: float
    recall: float
    average_precision: float


def read_labels(path: Path) -> list[LabelledFrame]:
    """Lines of the label file, checked; in order of frame."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    labels = [msgspec.json.decode(line, type=LabelledFrame) for line in lines]
    return sorted(labels, key=lambda label: label.frame)


def read_frames(path: Path, indices: Sequence[int]) -> dict[int, npt.NDArray[np.uint8]]:
    """The frames at `indices` (0-based) of a video, read in order.

    Raises:
        ModelError: the video does not open or ends before the last index.
    """
    video = cv2.VideoCapture(str(path))
    wanted = set(indices)
    frames: dict[int, npt.NDArray[np.uint8]] = {}
    for index in range(max(wanted) + 1):
        ok, frame = video.read()
        if not ok:
            raise ModelError(f"{path}: no frame {index}; is it the footage of these labels?")
        if index in wanted:
            frames[index] = frame
    video.release()
    return frames


def match(boxes_px: Floats, scores: Floats, label: LabelledFrame) -> FrameResult:
    """Give each person the best-scored detection that overlaps by IoU >= 0.5, greedily."""
    people = np.array(label.people_px, np.float32).reshape(-1, 4)
    order = np.argsort(-scores, kind="stable")
    boxes_px, scores = boxes_px[order], scores[order]
    iou = overlaps(np.concatenate([boxes_px, people]))[: len(boxes_px), len(boxes_px) :]
    free = np.ones(len(people), bool)
    right = np.zeros(len(boxes_px), bool)
    for i, row in enumerate(iou):
        candidates = np.where(free, row, 0.0)
        if len(people) and candidates.max() >= IOU_MIN:
            right[i] = True
            free[candidates.argmax()] = False
    counted = right | ~_in_ignore_region(boxes_px, label)
    return FrameResult(scores[counted], right[counted], len(people))


def _in_ignore_region(boxes_px: Floats, label: LabelledFrame) -> npt.NDArray[np.bool_]:
    ignored = np.zeros(len(boxes_px), bool)
    area = np.prod(boxes_px[:, 2:] - boxes_px[:, :2], axis=1)
    for region in np.array(label.ignore_px, np.float32).reshape(-1, 4):
        low = np.maximum(boxes_px[:, :2], region[:2])
        high = np.minimum(boxes_px[:, 2:], region[2:])
        inside = np.prod(np.maximum(high - low, 0.0), axis=1)
        ignored |= inside >= IGNORED_SHARE_MIN * area
    return ignored


def quality(results: Sequence[FrameResult], score_min: float) -> Quality:
    """Pooled over frames. Precision is 1 when nothing is detected."""
    scores = np.concatenate([r.scores for r in results])
    right = np.concatenate([r.is_right for r in results])[np.argsort(-scores, kind="stable")]
    people_count = sum(r.people_count for r in results)
    above = int((scores >= score_min).sum())
    hits = np.cumsum(right)
    precision = float(hits[above - 1] / above) if above else 1.0
    recall = float(hits[above - 1] / people_count) if above else 0.0
    # Area under the curve whose precision never rises with recall (as in VOC 2010 and COCO).
    curve = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(curve[::-1])[::-1]
    return Quality(precision, recall, float((envelope * right).sum() / people_count))


def bootstrap(results: Sequence[FrameResult], score_min: float) -> tuple[Quality, Quality]:
    """95 % interval (low, high) by drawing frames with replacement, 2,000 times, seed fixed."""
    random = np.random.default_rng(1)
    draws = [
        quality([results[i] for i in random.integers(0, len(results), len(results))], score_min)
        for _ in range(_RESAMPLES_COUNT)
    ]
    table = np.array([(q.precision, q.recall, q.average_precision) for q in draws])
    low, high = np.quantile(table, [0.025, 0.975], axis=0)
    return Quality(*low.tolist()), Quality(*high.tolist())


def run_detector(
    detector: Detector, frames: dict[int, npt.NDArray[np.uint8]], labels: Sequence[LabelledFrame], name: str
) -> list[FrameResult]:
    """Detect and match on every labelled frame, for the class `name`."""
    class_index = detector.labels.index(name)
    results = []
    for label in labels:
        frame = frames[label.frame]
        found = detector.detect(frame)
        wanted = found.classes == class_index
        size = np.array([frame.shape[1], frame.shape[0]] * 2, np.float32)
        results.append(match(found.boxes[wanted] * size, found.scores[wanted], label))
    return results


def time_per_frame_ms(detector: Detector, frames: Sequence[npt.NDArray[np.uint8]]) -> tuple[float, float]:
    """Median wall and CPU milliseconds of `detect`, everything from frame to boxes included."""
    wall, cpu = [], []
    for i in range(_TIMED_FRAMES_COUNT):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        detector.detect(frames[i % len(frames)])
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return float(np.median(wall)) * 1e3, float(np.median(cpu)) * 1e3


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        labels = read_labels(options.labels)
        frames = read_frames(options.footage, [label.frame for label in labels])
        people_count = sum(len(label.people_px) for label in labels)
        print(f"{platform.machine()} {platform.processor()}, {len(labels)} frames, {people_count} people")
        print("input     ms wall  ms cpu  score  precision [95 %]     recall [95 %]        AP [95 %]")
        for size in options.sizes or [None]:
            _report(options, size, frames, labels)
    except (ModelError, OSError, msgspec.MsgspecError, ValueError) as error:
        print(f"models.evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _report(
    options: argparse.Namespace,
    size_px: tuple[int, int] | None,
    frames: dict[int, npt.NDArray[np.uint8]],
    labels: Sequence[LabelledFrame],
) -> None:
    chosen = DetectorOptions(input_size_px=size_px)
    as_shipped = open_detector(options.model, options.models_dir, chosen)
    low = replace(chosen, score_min=SCORE_FLOOR)
    results = run_detector(open_detector(options.model, options.models_dir, low), frames, labels, options.label)
    wall_ms, cpu_ms = time_per_frame_ms(as_shipped, list(frames.values()))
    spec = as_shipped.manifest.input
    for score in options.scores or [as_shipped.manifest.thresholds.score]:
        q, (worst, best) = quality(results, score), bootstrap(results, score)
        cells = [
            f"{getattr(q, f):.3f} [{getattr(worst, f):.3f}, {getattr(best, f):.3f}]"
            for f in ("precision", "recall", "average_precision")
        ]
        print(f"{spec.height_px}x{spec.width_px}  {wall_ms:7.1f} {cpu_ms:7.1f}  {score:5.2f}  " + "  ".join(cells))


def _size(text: str) -> tuple[int, int]:
    height, width = text.lower().split("x")
    return int(height), int(width)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("--model", required=True, help="as the site file names it")
    parser.add_argument("--models-dir", type=Path, default=Path(".local/models"))
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--label", default="person", help="class that the labels are of")
    parser.add_argument("--sizes", type=lambda t: [_size(s) for s in t.split(",")], help="288x384,384x512")
    parser.add_argument("--scores", type=lambda t: [float(s) for s in t.split(",")], help="0.3,0.35")
    return parser


if __name__ == "__main__":
    sys.exit(main())
