"""How many frames a second does one slot take, and what does a frame cost, beside Flink's floor and the naive design?

    python -m bench.throughput [--detections 10 50] [--passes 3] [--settings full] [--out FOLDER]     (or: make bench)

One run, one machine, three jobs in turn, each on a fresh TaskManager (one slot, RocksDB, checkpoint each 5 s), from a real
Kafka to a real Kafka (and InfluxDB), over topics that are full before the job starts, so that no producer competes:

    suite   jobs/suite.py with everything on: intake, tracking, a zone, a tripwire, windows per class, crowding and loitering,
            events and dead letters in transactions, alerts, tracks, points to InfluxDB
    floor   the same job with --empty-stage: the same graph, keys, state write and sinks, a camera stage that does nothing
    naive   bench/naive_job.py: one JSON message per detection, keyed per object, process mode; fewer frames, since it is slow

The jobs alternate (A B C A B C …), because other work on the machine comes and goes. A frame's CPU time is the user + system
time of the TaskManager process (with its Python workers, where it has any) over the steady part; that of the broker and
InfluxDB stands apart. The scene is in bench/scene.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import machine, scene
from bench.drain import MACHINE, Drain, Drained, Topics, bench_stack, drain, topic
from bench.figures import median, spread_text
from schemas import topics as names
from schemas.topics import Topic
from sightflow.progress import Progress
from sightflow.stack import Stack
from sightflow.stack.services import INFLUXD, KAFKA, TASKMANAGER
from simulator.layout import settings_yaml
from simulator.producer import send_records
from simulator.records import Record

SUITE, FLOOR, NAIVE = "suite", "floor", "naive"
FRAMES = {10: 600_000, 50: 240_000}
NAIVE_FRAMES = {10: 12_000, 50: 1_500}
NAIVE_LIMIT_S = 75.0
NAIVE_RAMP_S = 20.0
NAIVE_IN, NAIVE_OUT = Topic("naive-detections"), Topic("naive-results")
OUTPUTS = (names.TRACKS, names.EVENTS, names.ALERTS, names.DEAD_LETTERS)
TARGETS = {"rate_hz": 20_000.0, "cpu_ratio": 1.8, "naive_ratio": 100.0}
"""At 10 detections; from the issue that asked for the suite."""


@dataclass(frozen=True)
class Pass:
    """One job, once."""

    job: str
    detections: int
    rate_hz: float
    cpu_us: float
    broker_us: float
    influxd_us: float
    other_cores: float  # kept busy by everything else on the machine meanwhile
    frames: int
    restarts: int
    checkpoints: int
    memory_mib: float
    outputs: dict[str, int]


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write throughput.json and throughput.md."""
    a = _arguments(argv)
    facts = machine.describe()
    print("\n".join(machine.as_lines(facts)), flush=True)
    passes: list[Pass] = []
    with Progress(sys.stdout) as progress, bench_stack(progress) as stack, tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "bench.yaml"
        site.write_text(settings_yaml(scene.SETTINGS[a.settings]()))
        topics = Topics(stack.kafka_bootstrap)
        for detections in a.detections:
            _fill(stack, topics, detections, a, progress)
            for number in range(a.passes):
                for job in a.jobs:
                    if job == NAIVE and number >= a.naive_passes:
                        continue
                    p = _run(stack, topics, job, detections, number, site, a, progress)
                    passes.append(p)
                    progress.say(_line(p))
    text = report(facts, passes)
    print("\n" + text)
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        result = {"machine": facts, "passes": [asdict(p) for p in passes]}
        (a.out / "throughput.json").write_text(json.dumps(result, indent=1) + "\n")
        (a.out / "throughput.md").write_text(text)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog="bench.throughput", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("--detections", type=int, nargs="+", default=[10, 50], choices=sorted(FRAMES))
    p.add_argument("--passes", type=int, default=3)
    p.add_argument("--naive-passes", type=int, default=2)
    p.add_argument("--jobs", nargs="+", default=[SUITE, FLOOR, NAIVE], choices=[SUITE, FLOOR, NAIVE])
    p.add_argument(
        "--settings", choices=sorted(scene.SETTINGS), default="usual", help="bench/scene.py (default: %(default)s)"
    )
    p.add_argument(
        "--fps", type=float, default=scene.FPS,
        help="frames per second of event time of each camera: the more, the fewer events a frame (default: %(default)s)",
    )  # fmt: skip
    p.add_argument("--scale", type=float, default=1.0, help="of the number of frames: below 1 for a quick look")
    p.add_argument("--out", type=Path, help="folder for throughput.json and throughput.md")
    return p.parse_args(argv)


def _fill(stack: Stack, topics: Topics, detections: int, a: argparse.Namespace, progress: Progress) -> None:
    topics.renew([topic(names.DETECTIONS)])
    if {SUITE, FLOOR} & set(a.jobs):
        count = int(FRAMES[detections] * a.scale)
        with progress.step(f"fill the topic with {count:,} frames of {detections} detections"):
            send_records(scene.Street(detections, fps=a.fps).records(count), stack.kafka_bootstrap, progress=None)
    if NAIVE in a.jobs:
        topics.renew([NAIVE_IN])
        count = int(NAIVE_FRAMES[detections] * a.scale)
        with progress.step(f"fill a topic with one JSON message per detection, {count:,} frames"):
            send_records(_json_records(detections, count), stack.kafka_bootstrap, topic=NAIVE_IN.name, progress=None)


def _json_records(detections: int, frames: int) -> Iterator[Record]:
    for message in scene.naive_messages(detections, frames):
        value = json.dumps(message).encode()
        yield Record(message["object"].encode(), value, message["capture_us"] // 1000)


def _run(
    stack: Stack, topics: Topics, job: str, detections: int, number: int, site: Path, a: argparse.Namespace,
    progress: Progress,
) -> Pass:  # fmt: skip
    group = f"{job}-{detections}-{number}"
    if job == NAIVE:
        topics.renew([NAIVE_OUT])
        frames = int(NAIVE_FRAMES[detections] * a.scale)
        d = Drain(
            Path(__file__).with_name("naive_job.py"), (),
            ["--bootstrap-servers", stack.kafka_bootstrap, "--from-topic", NAIVE_IN.name, "--to-topic", NAIVE_OUT.name,
             "--group-id", group],
            ["-Dpython.execution-mode=process", "-Dpipeline.auto-generate-uids=true"],
            NAIVE_OUT, topics.count(NAIVE_IN) / frames, frames, time_limit_s=NAIVE_LIMIT_S, ramp_limit_s=NAIVE_RAMP_S,
        )  # fmt: skip
        return _pass(job, detections, drain(stack, topics, d, progress), {})
    topics.renew(topic(name) for name in OUTPUTS)
    extra = ["--group-id", group, *(["--empty-stage"] if job == FLOOR else [])]
    d = Drain("suite", [site], extra, (), topic(names.TRACKS), 1.0, int(FRAMES[detections] * a.scale))
    drained = drain(stack, topics, d, progress)
    return _pass(job, detections, drained, {name: topics.count(topic(name)) for name in OUTPUTS})


def _pass(job: str, detections: int, drained: Drained, outputs: dict[str, int]) -> Pass:
    s = drained.steady
    ours = sum(s.cores(name) for name in (TASKMANAGER, KAFKA, INFLUXD))
    return Pass(
        job, detections, s.rate_hz, s.cpu_us(TASKMANAGER), s.cpu_us(KAFKA), s.cpu_us(INFLUXD),
        s.cores(MACHINE) - ours, s.count, drained.restarts, drained.checkpoints, drained.memory_mib, outputs,
    )  # fmt: skip


def _line(p: Pass) -> str:
    return (
        f"  {p.job:<6} {p.detections} detections: {p.rate_hz:,.0f} frames/s, {p.cpu_us:,.1f} µs of TaskManager CPU a frame "
        f"(broker {p.broker_us:,.1f}, InfluxDB {p.influxd_us:,.1f}; other work on the machine {p.other_cores:.2f} cores; "
        f"{p.frames:,} frames, {p.checkpoints} checkpoints, {p.restarts} restarts, {p.memory_mib:,.0f} MiB) {p.outputs}"
    )


def report(facts: dict[str, str], passes: list[Pass]) -> str:
    """Return the result as Markdown: medians (lowest to highest), and the ratios of medians."""
    out = [
        "# Throughput of one slot",
        "",
        "Median of the passes (lowest to highest). CPU is that of the TaskManager.",
        "",
    ]
    out += ["| detections | job | frames/s | CPU µs/frame | broker µs | InfluxDB µs | passes | other work, cores |"]
    out += ["|---|---|---|---|---|---|---|---|"]
    counts = sorted({p.detections for p in passes})
    for detections in counts:
        for job in (SUITE, FLOOR, NAIVE):
            mine = [p for p in passes if p.job == job and p.detections == detections]
            if mine:
                out.append(_row(detections, job, mine))
    for detections in counts:
        out += ["", *_ratios(detections, [p for p in passes if p.detections == detections])]
    return "\n".join([*out, "", "```", *machine.as_lines(facts), "```", ""])


def _row(detections: int, job: str, mine: list[Pass]) -> str:
    digits = 0 if job != NAIVE else 1
    cells = [
        str(detections), job, spread_text([p.rate_hz for p in mine], digits), spread_text([p.cpu_us for p in mine], 1),
        f"{median(p.broker_us for p in mine):,.1f}", f"{median(p.influxd_us for p in mine):,.1f}", str(len(mine)),
        f"{median(p.other_cores for p in mine):.2f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _ratios(detections: int, passes: list[Pass]) -> list[str]:
    rate = {j: median(p.rate_hz for p in passes if p.job == j) for j in {p.job for p in passes}}
    cpu = {j: median(p.cpu_us for p in passes if p.job == j) for j in rate}
    lines = [f"At {detections} detections per frame:"]
    if {SUITE, FLOOR} <= set(rate):
        lines.append(
            f"- {cpu[SUITE] / cpu[FLOOR]:.2f} × the floor's CPU per frame (+ {cpu[SUITE] - cpu[FLOOR]:.1f} µs),"
            f" {rate[SUITE] / rate[FLOOR]:.0%} of its frames/s"
        )
    if {SUITE, NAIVE} <= set(rate):
        lines.append(
            f"- {rate[SUITE] / rate[NAIVE]:,.0f} × the naive design's frames/s, "
            f"1/{cpu[NAIVE] / cpu[SUITE]:,.0f} of its CPU per frame"
        )
    if detections == 10:
        lines.append(
            f"- asked for: ≥ {TARGETS['rate_hz']:,.0f} frames/s, ≤ {TARGETS['cpu_ratio']} × the floor's CPU, "
            f"≥ {TARGETS['naive_ratio']:.0f} × the naive design"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
