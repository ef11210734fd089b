"""One tracker in a process of its own: reads a request per line, times the scene that it names, answers with a line.

    python tracking_worker.py compiled | plain | supervision | trackers

It runs in the environment of the project or in that of the peers, so it imports nothing before it knows its tracker.
Making each tracker's own input type is not timed; neither is the first third of the frames.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Step = Callable[[int], int]
"""Takes the number of a frame, from 0 and rising; returns how many tracks came out."""

WARM_MIN_FRAMES, TIMED_MIN_FRAMES = 4, 3


class Scene:
    """Frames of detections as the benchmark wrote them."""

    def __init__(self, path: str) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            boxes, scores = arrays["boxes"], arrays["scores"]  # read once: each look into the file makes a copy of all
            spans = list(itertools.pairwise(arrays["offsets"]))
            self.boxes = [boxes[a:b] for a, b in spans]  # float32 N×4: x1 y1 x2 y2, ratios
            self.scores = [scores[a:b] for a, b in spans]
            self.width_px, self.height_px = (int(v) for v in arrays["size"])
            self.fps = float(arrays["fps"])

    def pixels(self) -> Iterator[Any]:
        """Yield each frame's boxes in pixels."""
        size = np.array([self.width_px, self.height_px] * 2, np.float32)
        return (boxes * size for boxes in self.boxes)


def ours(scene: Scene) -> Step:
    """Our tracker as the camera stage calls it: a step, then the tracks as packed arrays."""
    from operators.tracking import Scratch, Tracker, TrackerConfig

    config = TrackerConfig()
    tracker, out = Tracker(config), Scratch(config.capacity)
    aspect, label_of = scene.width_px / scene.height_px, np.zeros(256, np.uint8)
    classes = [np.zeros(len(scores), np.uint8) for scores in scene.scores]
    period_us = round(1e6 / scene.fps)

    def step(n: int) -> int:
        now_us = 1_700_000_000_000_000 + n * period_us
        tracker.step(scene.boxes[n], scene.scores[n], classes[n], label_of, now_us, aspect)
        return tracker.publish(out, aspect)[0]

    return step


def plain(scene: Scene) -> Step:
    """The same without numba."""
    sys.modules["numba"] = None  # type: ignore[assignment]
    return ours(scene)


def _detections(scene: Scene) -> list[Any]:
    import supervision as sv

    return [
        sv.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(scores), int))
        for boxes, scores in zip(scene.pixels(), scene.scores, strict=True)
    ]


def supervision(scene: Scene) -> Step:
    """ByteTrack of `supervision`."""
    import supervision as sv

    tracker, frames = sv.ByteTrack(frame_rate=round(scene.fps)), _detections(scene)
    return lambda n: len(tracker.update_with_detections(frames[n]))


def trackers(scene: Scene) -> Step:
    """ByteTrack of `trackers`."""
    from trackers import ByteTrackTracker

    tracker, frames = ByteTrackTracker(frame_rate=scene.fps), _detections(scene)
    return lambda n: len(tracker.update(frames[n]))


TRACKERS = {"compiled": ours, "plain": plain, "supervision": supervision, "trackers": trackers}


def measure(step: Step, frame_count: int, budget_s: float) -> dict[str, float]:
    """Return µs per frame behind the first third, the frames that were timed, and tracks per frame.

    It is CPU time, which others on the machine disturb least. A slow tracker is cut off by the budget, of which a third is for
    the first third; a few frames are always timed.
    """
    clock = time.process_time_ns
    n, begun = 0, clock()
    while n < frame_count // 3 and (n < WARM_MIN_FRAMES or clock() - begun < budget_s * 1e9 / 3):
        step(n)
        n += 1
    first, seen, begun = n, 0, clock()
    while n < frame_count and (n < first + TIMED_MIN_FRAMES or clock() - begun < budget_s * 1e9 * 2 / 3):
        seen += step(n)
        n += 1
    return {"us": (clock() - begun) / 1000 / (n - first), "frames": n - first, "tracks": seen / (n - first)}


def main(name: str) -> None:
    """Answer requests until the input ends."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        request = json.loads(line)
        scene = Scene(request["scene"])
        answer = measure(TRACKERS[name](scene), len(scene.scores), request["budget_s"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
