"""Does anything grow? Many cameras through a simulated day in one process, with everything on.

    python -m bench.day [--cameras 1000] [--hours 24] [--fps 0.1] [--detections 10] [--settings full] [--cluster]

The frames are those of `bench.scene` at a low rate, the cameras in turn; time goes by as their capture times do, so a day takes
minutes. Each simulated hour prints the memory of the process, the largest and mean state of a camera, and CPU per frame. A day
passes the bench when the last quarter needs no more than the second (the first is warm-up: tables and code come alive).

At such rates objects are not followed from frame to frame: they are born and end, which is the harder case for what must be bounded.
"""

from __future__ import annotations

import argparse
import time

from bench import day_cluster, machine, processes
from bench.scene import SETTINGS, Street
from operators.stages.camera_stage import CameraStage
from operators.stages.stage import Input

TOLERANCE = 1.02
"""Of memory and of the mean state, last quarter to second."""


def main(argv: list[str] | None = None) -> int:
    """Run the day, print an hour a line; return 1 where something grew."""
    a = _arguments(argv)
    print("\n".join(machine.as_lines(machine.describe())), flush=True)
    if a.cluster:
        return _verdict(day_cluster.run(a.cameras, a.hours, a.fps, a.detections, a.loop, a.settings))
    return _verdict(_in_process(a))


def _in_process(a: argparse.Namespace) -> list[tuple[float, float]]:
    """Print an hour a line; return (memory in MiB, mean bytes of a camera's state) of each."""
    made = SETTINGS[a.settings](a.cameras)
    stage = CameraStage([made])
    stage.open()
    load = Street(a.detections, a.cameras, fps=a.fps, loop_frames=a.loop)
    logics = {key.decode(): stage.logic(key.decode()) for key in load.keys}
    per_hour = round(3600 * a.fps) * a.cameras
    print(
        f"{'hour':>4} {'frames':>12} {'memory MiB':>11} {'state mean':>11} {'state max':>10} {'CPU µs/frame':>13}",
        flush=True,
    )
    hours: list[tuple[float, float]] = []
    for hour in range(a.hours):
        begun = time.process_time()
        sizes: dict[str, int] = {}
        for n, r in enumerate(load.records(per_hour, first=hour * per_hour)):
            key = (r.key or b"").decode()
            logics[key].on_record(Input(r.value, 0, hour * per_hour + n, r.timestamp_ms))
            sizes[key] = len(logics[key].snapshot() or b"")
        spent_us = (time.process_time() - begun) / per_hour * 1e6
        memory_mib, mean = processes.memory_mib(), sum(sizes.values()) / len(sizes)
        hours.append((memory_mib, mean))
        row = f"{hour + 1:>4} {(hour + 1) * per_hour:>12,} {memory_mib:>11,.0f} {mean:>11,.0f}"
        print(f"{row} {max(sizes.values()):>10,} {spent_us:>13.1f}", flush=True)
    return hours


def _verdict(hours: list[tuple[float, float]]) -> int:
    quarter = len(hours) // 4
    if not quarter:
        print("too short for a verdict: at least four hours")
        return 0
    grown = 0
    # A checkpoint of RocksDB also holds what its compaction has not dropped yet: the lowest is nearest to the state itself.
    for i, (name, word, pick) in enumerate((("memory", "at most", max), ("state", "at least", min))):
        before = pick(h[i] for h in hours[quarter : 2 * quarter])
        after = pick(h[i] for h in hours[-quarter:])
        grown |= after > before * TOLERANCE
        print(f"{name}: second quarter {word} {before:,.0f}, last {word} {after:,.0f}: × {after / before:.3f}")
    return int(grown)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="bench.day", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--cameras", type=int, default=1000)
    p.add_argument("--hours", type=int, default=24)
    p.add_argument("--fps", type=float, default=0.1, help="frames per second and camera (default: %(default)s)")
    p.add_argument("--detections", type=int, default=10)
    p.add_argument(
        "--loop", type=int, default=60, help="encoded frames per camera before they repeat (default: %(default)s)"
    )
    p.add_argument("--settings", choices=sorted(SETTINGS), default="full")
    p.add_argument("--cluster", action="store_true", help="on one slot of a real cluster, from Kafka to InfluxDB")
    return p.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
