"""What does a frame cost in the camera stage itself, part by part, without Flink and Kafka?

    python -m bench.stage [--detections 10 50] [--frames 18000] [--passes 5] [--settings full]

One thread. Each part is timed on the frames of `bench.scene` where it stands in the stage; the whole is timed on its own,
without the timers. CPU microseconds per frame: median of the passes (lowest to highest).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import linear_regression
from typing import Any

from bench import machine
from bench.figures import median, spread_text
from bench.scene import SETTINGS, Street
from operators.stages import camera_kernel, camera_stage, packed_state
from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.stage import Input
from schemas.settings import SiteSettings

CAMERAS = 20
PASSES = 5


def inputs(detection_count: int, frame_count: int) -> list[tuple[str, Input]]:
    """Return (camera, record) of the scene."""
    load = Street(detection_count, CAMERAS)
    return [
        (r.key.decode(), Input(r.value, 0, n, r.timestamp_ms)) for n, r in enumerate(load.records(frame_count)) if r.key
    ]


def per_object(sizes: list[tuple[float, float]]) -> tuple[float, float]:
    """Return, of (objects, bytes of state), the bytes that each object adds, and those that a camera takes without any."""
    slope, constant = linear_regression([objects for objects, _ in sizes], [size for _, size in sizes])
    return slope, constant


def run_whole(
    records: list[tuple[str, Input]], site: SiteSettings
) -> tuple[float, float, dict[str, float], tuple[float, float]]:
    """Return CPU µs per frame of (on_record, snapshot), the outputs per topic, and means of (live objects, bytes of a snapshot)."""
    stage = CameraStage([site])
    stage.open()
    logics = {f"cam-{i:03d}": stage.logic(f"cam-{i:03d}") for i in range(CAMERAS)}
    warm = len(records) // 3
    outputs: dict[str, int] = {}
    for key, record in records[:warm]:
        logics[key].on_record(record)
        logics[key].snapshot()
    took = stored = 0.0
    size = objects = 0
    clock = time.perf_counter_ns
    for key, record in records[warm:]:
        logic = logics[key]
        begun = clock()
        out = logic.on_record(record)
        middle = clock()
        snapshot = logic.snapshot()
        stored += clock() - middle
        took += middle - begun
        size += len(snapshot or b"")
        assert isinstance(logic, CameraLogic)
        tracker = logic._tracker
        objects += int((tracker.tracks["status"][: tracker.slots] > 0).sum())
        for o in out:
            outputs[o.topic] = outputs.get(o.topic, 0) + 1
    n = len(records) - warm
    return took / n / 1000, stored / n / 1000, {t: round(c / n, 4) for t, c in outputs.items()}, (objects / n, size / n)


class _Timer:
    """Replaces functions by ones that add up the time spent in them."""

    def __init__(self) -> None:
        self.spent_ns: dict[str, int] = {}

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        clock, spent = time.perf_counter_ns, self.spent_ns
        spent.setdefault(name, 0)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += clock() - begun

        return timed


@contextmanager
def _timed_parts(timer: _Timer) -> Iterator[None]:
    """Time the parts of every CameraLogic made meanwhile."""
    from operators.alerts import Alerts
    from operators.stages.camera_memory import CameraScratch
    from operators.windows import Windows

    parts: list[tuple[Any, str, str]] = [
        (camera_stage, "read_usual", "decode"),
        (CameraScratch, "load", "load"),
        (camera_kernel, "advance", "kernels"),
        (CameraScratch, "message", "copy tracks"),
        (CameraLogic, "_react", "what was found"),
        (CameraLogic, "_note_tracks", "  of it: tracks"),
        (CameraLogic, "_note_visits", "  of it: visits"),
        (CameraLogic, "_note_crossings", "  of it: crossings"),
        (CameraLogic, "_apply_rules", "  of it: rules"),
        (CameraLogic, "_frame", "unusual frames"),
        (CameraLogic, "_figures", "window reports"),
        (CameraLogic, "_points", "encode figures"),
        (CameraLogic, "snapshot", "snapshot"),
        (packed_state, "pack", "  of it: kernel"),
        (Windows, "snapshot", "  of it: windows"),
        (Alerts, "snapshot", "  of it: alerts"),
    ]
    old = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
    try:
        for owner, name, label in parts:
            setattr(owner, name, timer.wrap(label, getattr(owner, name)))
        yield
    finally:
        for owner, name, function in old:
            setattr(owner, name, function)


def run_parts(records: list[tuple[str, Input]], site: SiteSettings) -> dict[str, float]:
    """Return CPU µs per frame of each part; the timers themselves are calibrated away."""
    timer = _Timer()
    with _timed_parts(timer):
        stage = CameraStage([site])
        stage.open()
        logics = {f"cam-{i:03d}": stage.logic(f"cam-{i:03d}") for i in range(CAMERAS)}
        warm = len(records) // 3
        for n, (key, record) in enumerate(records):
            if n == warm:
                timer.spent_ns.update(dict.fromkeys(timer.spent_ns, 0))
            logics[key].on_record(record)
            logics[key].snapshot()
    return {name: spent / (len(records) - warm) / 1000 for name, spent in timer.spent_ns.items()}


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(prog="bench.stage", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--detections", type=int, nargs="+", default=[10, 50])
    p.add_argument("--frames", type=int, default=18_000, help="per pass (default: %(default)s)")
    p.add_argument("--passes", type=int, default=PASSES)
    p.add_argument(
        "--settings", choices=sorted(SETTINGS), default="usual", help="bench/scene.py (default: %(default)s)"
    )
    a = p.parse_args(argv)
    site = SETTINGS[a.settings](CAMERAS)
    print("\n".join(machine.as_lines(machine.describe())), flush=True)
    sizes = []
    for count in a.detections:
        records = inputs(count, a.frames)
        wholes = [run_whole(records, site) for _ in range(a.passes)]
        parts = [run_parts(records, site) for _ in range(a.passes)]
        print(
            f"\n{count} detections per frame, {len(records):,} frames of {CAMERAS} cameras, {a.settings} settings, {a.passes} passes"
        )
        print(f"  {'on_record':<20} {spread_text([w[0] for w in wholes], 1)} µs")
        print(f"  {'snapshot':<20} {spread_text([w[1] for w in wholes], 1)} µs, {wholes[0][3][1]:,.0f} bytes")
        print(f"  outputs per frame: {wholes[0][2]}")
        for name in parts[0]:
            print(f"    {name:<18} {median(p[name] for p in parts):6.2f} µs")
        sizes.append(wholes[0][3])
    if len(sizes) > 1:
        slope, constant = per_object(sizes)
        print(f"\nstate: {slope:.0f} bytes per live object and {constant:,.0f} per camera")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
