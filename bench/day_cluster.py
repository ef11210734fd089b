"""The day of `bench.day` on one slot of a real cluster: Kafka, RocksDB, checkpoints, InfluxDB.

The topic holds the whole day before the job starts. With each simulated hour that is worked through: memory of the TaskManager, and
the size of the last checkpoint.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import msgspec

from bench import processes
from bench.drain import Topics, bench_stack, topic
from bench.scene import SETTINGS, Street
from schemas import topics as names
from schemas.settings import SiteSettings
from schemas.wire import DetectionFrame
from sightflow.progress import Progress
from sightflow.stack.services import TASKMANAGER
from simulator.layout import settings_yaml
from simulator.producer import send_records

SAMPLE_S = 2.0
STALL_S = 180.0
SITE_CAMERAS = 250
"""A site's settings are one file, of at most 1 MiB."""


class _Streets(Street):
    """The scene, its cameras on several sites."""

    def _frame(self, camera: int, k: int) -> DetectionFrame:
        return msgspec.structs.replace(super()._frame(camera, k), site=_site_name(self.plan.site, camera))


def _site_name(site: str, camera: int) -> str:
    return f"{site}-{camera // SITE_CAMERAS}"


def _site_files(folder: Path, made: SiteSettings) -> list[Path]:
    files = []
    for i in range(0, len(made.cameras), SITE_CAMERAS):
        name = _site_name(made.site, i)
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(
            settings_yaml(msgspec.structs.replace(made, site=name, cameras=made.cameras[i : i + SITE_CAMERAS]))
        )
    return files


def run(cameras: int, hours: int, fps: float, detections: int, loop: int, settings: str) -> list[tuple[float, float]]:
    """Print an hour a line; return (memory in MiB, bytes of the last checkpoint) of each. Raises RuntimeError on a stall."""
    per_hour = round(3600 * fps) * cameras
    found: list[tuple[float, float]] = []
    with Progress(sys.stdout) as progress, bench_stack(progress) as stack, tempfile.TemporaryDirectory() as folder:
        sites = _site_files(Path(folder), SETTINGS[settings](cameras))
        topics = Topics(stack.kafka_bootstrap)
        topics.renew([topic(names.DETECTIONS)])
        with progress.step(f"fill the topic with {hours * per_hour:,} frames"):
            load = _Streets(detections, cameras, fps=fps, loop_frames=loop)
            send_records(load.records(hours * per_hour), stack.kafka_bootstrap, progress=None)
        job = stack.submit("suite", settings=sites, extra_args=["--group-id", "day"], flink_args=(), progress=progress)
        pid = stack.pid(TASKMANAGER)
        progress.say(f"{'hour':>4} {'frames':>12} {'memory MiB':>11} {'checkpoint kB':>14} {'CPU µs/frame':>13}")
        before, spent_s, moved_s = 0, 0.0, time.monotonic()
        while len(found) < hours:
            time.sleep(SAMPLE_S)
            count = topics.count(topic(names.TRACKS))
            if count > before:
                before, moved_s = count, time.monotonic()
            elif time.monotonic() - moved_s > STALL_S:
                raise RuntimeError(f"no results for {STALL_S:.0f} s after {count:,} of {hours * per_hour:,} frames")
            while len(found) < min(hours, count // per_hour):
                cpu_s = processes.cpu_s(pid)
                found.append((processes.memory_mib(pid), stack.flink.last_checkpoint_bytes(job)))
                memory_mib, size = found[-1]
                hour = len(found)
                per_frame_us = (cpu_s - spent_s) / per_hour * 1e6
                progress.say(
                    f"{hour:>4} {hour * per_hour:>12,} {memory_mib:>11,.0f} {size / 1000:>14,.0f} {per_frame_us:>13.1f}"
                )
                spent_s = cpu_s
        progress.say(f"{stack.num_restarts(job)} restarts, {stack.flink.completed_checkpoints(job)} checkpoints")
        stack.cancel(job)
    return found
