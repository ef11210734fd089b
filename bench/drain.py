"""Runs a job on a real TaskManager over topics that are full already, and watches it drain them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from bench import processes
from bench.figures import Sample, Steady, steady_part
from schemas.topics import TOPICS, Topic
from sightflow.places import Local
from sightflow.progress import Progress
from sightflow.stack import Ports, Stack
from sightflow.stack.services import INFLUXD, KAFKA, TASKMANAGER

SAMPLE_S = 0.5
STALL_S = 120.0
_ADMIN_S = 30.0
_UNKNOWN_TOPIC = 3
_TOPIC_EXISTS = 36

MACHINE = "machine"
"""Name under which samples hold the CPU seconds of all processes together."""


@contextmanager
def bench_stack(progress: Progress, flink_options: dict[str, str] | None = None) -> Iterator[Stack]:
    """Start a stack of its own on free ports, in a folder of its own that is empty before and gone after."""
    run_dir = Local.find().root / "bench"
    left_over = Stack(run_dir)
    left_over.down(wipe=True)
    with Stack(run_dir, Ports.free(), flink_options=flink_options or {}) as stack:
        stack.up(progress=progress)
        stack.create_topics()
        yield stack
    shutil.rmtree(run_dir, ignore_errors=True)


class Topics:
    """Makes, empties and counts topics of one broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    def renew(self, wanted: Iterable[Topic]) -> None:
        """Delete these topics and make them anew, empty."""
        topics = list(wanted)
        for future in self._admin.delete_topics([t.name for t in topics], operation_timeout=_ADMIN_S).values():
            try:
                future.result(_ADMIN_S)
            except KafkaException as e:
                if e.args[0].code() != _UNKNOWN_TOPIC:
                    raise
        for topic in topics:
            self._make(topic)

    def _make(self, topic: Topic) -> None:
        give_up_s = time.monotonic() + _ADMIN_S
        while True:  # a deleted topic's name is free only some moments later
            made = self._admin.create_topics([NewTopic(topic.name, topic.partitions, 1, config=topic.config())])
            try:
                made[topic.name].result(_ADMIN_S)
                return
            except KafkaException as e:
                if e.args[0].code() != _TOPIC_EXISTS or time.monotonic() > give_up_s:
                    raise
            time.sleep(0.1)

    def count(self, topic: Topic) -> int:
        """Return the records that were ever written to a topic (transaction markers are counted too)."""
        asked = {TopicPartition(topic.name, p): OffsetSpec.latest() for p in range(topic.partitions)}
        return sum(f.result(_ADMIN_S).offset for f in self._admin.list_offsets(asked).values())


def topic(name: str) -> Topic:
    """Return the topic of the product that has this name."""
    return next(t for t in TOPICS if t.name == name)


@dataclass(frozen=True)
class Drain:
    """One job over full topics.

    `results` is the topic with `results_per_frame` records for each frame; the steady part lies between `from_ratio` and
    `to_ratio` of the frames.
    """

    job: str | Path
    settings: Sequence[Path]
    extra_args: Sequence[str]
    flink_args: Sequence[str]
    results: Topic
    results_per_frame: float
    frame_count: int
    from_ratio: float = 0.4
    to_ratio: float = 0.97
    time_limit_s: float = 300.0
    ramp_limit_s: float = 1e9  # when the limit ends a run, the steady part begins this long after the first result


@dataclass(frozen=True)
class Drained:
    """What a drain came to. Counts in `steady` are frames."""

    steady: Steady
    restarts: int
    checkpoints: int
    memory_mib: float


def drain(stack: Stack, topics: Topics, d: Drain, progress: Progress) -> Drained:
    """Submit the job, wait until the topic is drained or the time is over, cancel it.

    Raises ValueError where the run was too short to be measured, RuntimeError where nothing comes out.
    """
    job = stack.submit(d.job, settings=d.settings, extra_args=d.extra_args, flink_args=d.flink_args, progress=progress)
    try:
        samples = _watch(stack, topics, d, progress)
        restarts, checkpoints = stack.num_restarts(job), stack.flink.completed_checkpoints(job)
        memory_mib = processes.tree_memory_mib(stack.pid(TASKMANAGER))
    finally:
        stack.cancel(job)
    last = samples[-1].count
    if last >= d.frame_count * d.to_ratio:
        steady = steady_part(samples, int(d.frame_count * d.from_ratio), int(d.frame_count * d.to_ratio))
    else:  # out of time: a slow job, whose start-up is left out by the clock
        begun_s = next(s.at_s for s in samples if s.count) + d.ramp_limit_s
        first = next((s for s in samples if s.at_s >= begun_s), samples[-1])
        steady = steady_part(samples, first.count, last)
    return Drained(steady, restarts, checkpoints, memory_mib)


def _watch(stack: Stack, topics: Topics, d: Drain, progress: Progress) -> list[Sample]:
    pids = {name: stack.pid(name) for name in (TASKMANAGER, KAFKA, INFLUXD)}
    samples: list[Sample] = []
    begun_s = moved_s = time.monotonic()
    step = f"drain {d.frame_count:,} frames"
    with progress.step(step):
        while True:
            now_s = time.monotonic()
            samples.append(_sample(topics, d, pids, now_s))
            count = samples[-1].count
            if len(samples) > 1 and count > samples[-2].count:
                moved_s = now_s
                progress.detail(
                    step, f"{count:,} frames, {(count - samples[-2].count) / (now_s - samples[-2].at_s):,.0f}/s"
                )
            if count >= d.frame_count or (samples[0].count < count and now_s - begun_s > d.time_limit_s):
                return samples
            if now_s - moved_s > STALL_S:
                raise RuntimeError(f"no results for {STALL_S:.0f} s after {count:,} of {d.frame_count:,} frames")
            time.sleep(max(0.0, SAMPLE_S - (time.monotonic() - now_s)))


def _sample(topics: Topics, d: Drain, pids: dict[str, int], now_s: float) -> Sample:
    cpu_s = {name: processes.tree_cpu_s(pid) for name, pid in pids.items()}
    return Sample(now_s, int(topics.count(d.results) / d.results_per_frame), {**cpu_s, MACHINE: processes.busy_s()})
