"""What does a frame cost in the tracker, beside the ByteTrack of `supervision` and of `trackers`?

    python -m bench.tracking [--detections 10 50 200 500] [--frames 900] [--passes 5] [--without-peers]

The same detections for all, in turns in the same run, one thread, no GPU. Objects walk at random through a frame that holds
all of them with room to spare; edges blur by 2 % of the box, 1 in 20 is missed, as many false ones flash up. The peers come
from PyPI by `requirements/peers.lock` into `.local/bench-venv`, made at the first run. Microseconds of CPU per frame, tracker alone:
median of the passes (lowest to highest); then how many times longer the peer takes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import machine
from bench.figures import median, spread_text
from sightflow.bootstrap.graph import is_done, run_steps
from sightflow.bootstrap.steps import peers_step
from sightflow.places import REPO_ROOT, Local
from sightflow.progress import Progress

FPS = 30.0
SIZE_PX = (3840, 2160)
SEED = 20
_HEIGHT_PX, _ASPECT = (70.0, 110.0), 0.4
_SPEED_PX_S = 120.0
_BLUR_RATIO, _MISSED_RATIO = 0.02, 0.05
SLOW_US = 100_000.0
"""A tracker that takes this long for a frame is measured in one pass only."""

_WORKER = Path(__file__).with_name("tracking_worker.py")
_OURS = ("compiled", "plain")
_PEERS = ("supervision", "trackers")
_TITLES = {
    "compiled": "sightflow, numba", "plain": "sightflow, no numba", "supervision": "supervision ByteTrack",
    "trackers": "trackers ByteTrack",
}  # fmt: skip
TARGET_US = {("compiled", 10): 8.0, ("compiled", 50): 60.0, ("plain", 10): 200.0, ("plain", 50): 400.0}


@dataclass(frozen=True)
class Frames:
    """Detections of a scene: frame i is rows `offsets[i]` to `offsets[i + 1]`."""

    boxes: npt.NDArray[np.float32]  # N×4: x1 y1 x2 y2, ratios of the frame
    scores: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]


def walk(count: int, frame_count: int, seed: int = SEED) -> Frames:
    """Return the detections of `count` objects that walk straight on and turn back at the borders."""
    rng = np.random.default_rng([seed, count])
    size = np.array(SIZE_PX, float)
    height = rng.uniform(*_HEIGHT_PX, count)
    half = np.column_stack([_ASPECT * height, height]) / 2
    place, heading = rng.uniform(half, size - half), rng.uniform(0, 2 * math.pi, count)
    velocity = _SPEED_PX_S / FPS * np.column_stack([np.cos(heading), np.sin(heading)])
    boxes, scores, counts = [], [], []
    for _ in range(frame_count):
        place += velocity
        out = (place < half) | (place > size - half)
        velocity[out] *= -1
        place = np.clip(place, half, size - half)
        seen = rng.random(count) >= _MISSED_RATIO
        false = rng.binomial(count, _MISSED_RATIO)
        wrong = rng.uniform(half[:false], size - half[:false])
        centres = np.concatenate([place[seen], wrong])
        extents = np.concatenate([half[seen], half[:false]])
        blur = rng.normal(0, _BLUR_RATIO, (len(centres), 4)) * np.tile(extents, 2)
        boxes.append(np.column_stack([centres - extents, centres + extents]) + blur)
        scores.append(np.concatenate([rng.uniform(0.45, 0.95, int(seen.sum())), rng.uniform(0.2, 0.6, false)]))
        counts.append(len(centres))
    ratios = (np.concatenate(boxes) / np.tile(size, 2)).astype(np.float32)
    return Frames(ratios, np.concatenate(scores).astype(np.float32), np.concatenate([[0], np.cumsum(counts)]))


class Worker:
    """A tracker in its own process."""

    def __init__(self, name: str, python: Path) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = {"PYTHONPATH": str(REPO_ROOT)} if name in _OURS else {"PYTHONPATH": ""}
        self._name = name
        self._process = subprocess.Popen(
            [str(python), str(_WORKER), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **one_thread, **path},
        )  # fmt: skip

    def measure(self, scene: Path, budget_s: float) -> dict[str, float]:
        """Return what the worker answers.

        Raises:
            RuntimeError: it ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps({"scene": str(scene), "budget_s": budget_s}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{_TITLES[self._name]}: the process ended with status {self._process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def growth(cost_us: dict[int, float]) -> list[tuple[int, int, float, float]]:
    """Return (from, to, how many times dearer, how many times n·log n is) for each pair of neighbouring counts."""
    counts = sorted(cost_us)
    return [(a, b, cost_us[b] / cost_us[a], b * math.log(b) / (a * math.log(a))) for a, b in itertools.pairwise(counts)]


def _peer_python() -> Path:
    local = Local.find()
    step = peers_step(local)
    if not is_done(step, local):
        with Progress(sys.stderr) as progress:
            run_steps([step], local, progress)
    return local.bench_venv / "bin" / "python"


def _print_count(count: int, found: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{count} objects")
    ours = median(answer["us"] for answer in found["compiled"])
    for name, answers in found.items():
        times = [answer["us"] for answer in answers]
        ratio = "" if name == "compiled" else f"  {median(times) / ours:8.1f} ×"
        target = TARGET_US.get((name, count))
        verdict = "" if target is None else f"  target {target:g}: {'met' if median(times) <= target else 'missed'}"
        tracks = median(answer["tracks"] for answer in answers)
        print(f"  {_TITLES[name]:<24}{spread_text(times, 1):>34} µs{ratio}  {tracks:.0f} tracks{verdict}", flush=True)


def _measure_all(a: argparse.Namespace, workers: dict[str, Worker], folder: Path) -> dict[str, dict[int, float]]:
    costs: dict[str, dict[int, float]] = {name: {} for name in workers}
    for count in a.detections:
        frames, scene = walk(count, a.frames), folder / f"{count}.npz"
        np.savez(scene, **vars(frames), size=np.array(SIZE_PX), fps=np.array(FPS))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for n in range(a.passes + 1):
            for name, worker in workers.items():
                if found[name] and found[name][0]["us"] > SLOW_US:
                    continue
                answer = worker.measure(scene, a.budget_s)
                if n:  # the first pass loads and compiles
                    found[name].append(answer)
        _print_count(count, found)
        for name, answers in found.items():
            costs[name][count] = median(answer["us"] for answer in answers)
    return costs


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    a = _parser().parse_args(argv)
    print("\n".join(machine.as_lines(machine.describe())), flush=True)
    python: dict[str, Any] = dict.fromkeys(_OURS, Path(sys.executable))
    if not a.without_peers:
        python |= dict.fromkeys(_PEERS, _peer_python())
    workers = {name: Worker(name, path) for name, path in python.items()}
    try:
        with tempfile.TemporaryDirectory(prefix="sightflow-bench-") as folder:
            costs = _measure_all(a, workers, Path(folder))
    finally:
        for worker in workers.values():
            worker.close()
    print("\ngrowth of our tracker (and of n·log n)")
    for begin, end, dearer, allowed in growth(costs["compiled"]):
        print(f"  {begin} to {end}: {dearer:.1f} × ({allowed:.1f} ×)")
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="bench.tracking", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("--detections", type=int, nargs="+", default=[10, 50, 200, 500])
    p.add_argument("--frames", type=int, default=900, help="per pass (default: %(default)s)")
    p.add_argument("--passes", type=int, default=5)
    p.add_argument("--budget-s", type=float, default=2.0, help="time of one tracker in one pass (default: %(default)s)")
    p.add_argument("--without-peers", action="store_true", help="our tracker alone: nothing is installed")
    return p


if __name__ == "__main__":
    raise SystemExit(main())
