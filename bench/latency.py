"""How long from a detection being sent to its alert being there to read?

    python -m bench.latency [--seconds 90] [--out FOLDER]

The whole suite on a real cluster, checkpoints on, 1,000 frames/s of live-dated frames from 100 cameras at 10 detections,
sent as an agent sends them. An open alert is repeated each second of event time, so that there are enough for percentiles.
A process of its own sends, with `sent_us` stamped when the frame is handed to the producer; this process reads.
Two clocks are read, both on this machine, both against `detection_sent_us` of the frame that caused the alert:

    written   the alert record's timestamp in Kafka: when the job handed it to its producer
    received  when a consumer of the topic had it in hand
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench import machine, scene
from bench.drain import bench_stack, topic
from bench.figures import Spread
from schemas import topics as names
from schemas.wire import AlertTransition, TrackFrame, decode
from sightflow.progress import Progress
from simulator.layout import settings_yaml
from simulator.producer import RecordProducer

RATE_HZ = 1000.0
WARM_S = 60.0  # after the first frame: the JVM compiles, what piled up meanwhile is worked off, and alerts begin
TARGET_MS = 50.0


def send(bootstrap_servers: str, seconds: float) -> None:
    """Send the street live for `seconds`, each frame at its own due time."""
    frames = int(seconds * RATE_HZ)
    street = scene.Street(10, start_us=time.time_ns() // 1000 + 1_000_000)
    begun_us = street.plan.start_us
    with RecordProducer(bootstrap_servers) as producer:
        for n, record in enumerate(street.records(frames)):
            due_s = begun_us / 1e6 + n / RATE_HZ
            while (left_s := due_s - time.time()) > 0:
                producer.poll()
                time.sleep(min(left_s, 0.02))
            producer.send(scene.restamp_sent(record, time.time_ns() // 1000))


class Idler(threading.Thread):
    """Does nothing but sleep for 5 ms at a time, and notes by how much it is late: what the machine itself holds up."""

    def __init__(self) -> None:
        super().__init__(name="idler", daemon=True)
        self.late_ms: list[float] = []

    def run(self) -> None:
        """Sleep."""
        while True:
            begun_s = time.monotonic()
            time.sleep(0.005)
            self.late_ms.append((time.monotonic() - begun_s) * 1000 - 5.0)


class Reader:
    """Reads two topics to the end of the run and notes latencies in ms, by what was read and by whose clock."""

    def __init__(self, bootstrap_servers: str, from_us: int) -> None:
        self.ms: dict[str, list[float]] = {}
        self.worst_ms: dict[int, float] = {}  # by second since from_us
        self._from_us = from_us
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": "bench-latency", "fetch.wait.max.ms": 5}
        )
        parts = [(t, p) for t in (names.ALERTS, names.TRACKS) for p in range(topic(t).partitions)]
        self._consumer.assign([TopicPartition(t, p, 0) for t, p in parts])

    def read(self, until_s: float) -> None:
        """Read until a moment of the clock."""
        while time.time() < until_s:
            for message in self._consumer.consume(500, 0.01):
                if message.error() is None:
                    self._note(message.topic(), message.value(), message.timestamp()[1], time.time_ns() // 1000)

    def _note(self, name: str, value: bytes, written_ms: int, now_us: int) -> None:
        if name == names.ALERTS:
            alert = decode(value, AlertTransition)
            sent_us, what = alert.detection_sent_us, "alert"
        else:
            sent_us, what = decode(value, TrackFrame).sent_us, "tracks"
        if sent_us < self._from_us:
            return
        self.ms.setdefault(f"{what} written", []).append(written_ms - sent_us / 1000)
        self.ms.setdefault(f"{what} received", []).append((now_us - sent_us) / 1000)
        second = (sent_us - self._from_us) // 1_000_000
        self.worst_ms[second] = max(self.worst_ms.get(second, 0.0), (now_us - sent_us) / 1000)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write latency.json and latency.md."""
    p = argparse.ArgumentParser(
        prog="bench.latency", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("--seconds", type=float, default=90.0, help="measured, after the warm-up (default: %(default)s)")
    p.add_argument("--out", type=Path, help="folder for latency.json and latency.md")
    a = p.parse_args(argv)
    facts = machine.describe()
    print("\n".join(machine.as_lines(facts)), flush=True)
    with Progress(sys.stdout) as progress, bench_stack(progress) as stack, tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "bench.yaml"
        site.write_text(settings_yaml(scene.settings(update_s=1.0, crowd_count=3)))
        job = stack.submit("suite", settings=[site], progress=progress)
        sender = multiprocessing.get_context("spawn").Process(
            target=send, args=(stack.kafka_bootstrap, WARM_S + a.seconds), daemon=True
        )
        sender.start()
        reader = Reader(stack.kafka_bootstrap, time.time_ns() // 1000 + int(WARM_S * 1e6))
        idler = Idler()
        idler.start()
        with progress.step(f"{RATE_HZ:,.0f} frames/s for {WARM_S:.0f} + {a.seconds:.0f} s"):
            reader.read(time.time() + WARM_S + a.seconds + 5.0)
        sender.join(30.0)
        checkpoints, restarts = stack.flink.completed_checkpoints(job), stack.num_restarts(job)
    spreads = {name: Spread.of(values) for name, values in sorted(reader.ms.items())}
    spreads["a loop that only sleeps is late by"] = Spread.of(idler.late_ms)
    text = report(facts, spreads, reader.worst_ms, checkpoints, restarts)
    print("\n" + text)
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        result = {"machine": facts, "ms": {n: asdict(s) for n, s in spreads.items()}, "checkpoints": checkpoints}
        (a.out / "latency.json").write_text(json.dumps(result, indent=1) + "\n")
        (a.out / "latency.md").write_text(text)
    return 0


def report(
    facts: dict[str, str], spreads: dict[str, Spread], worst_ms: dict[int, float], checkpoints: int, restarts: int
) -> str:
    """Return the result as Markdown."""
    out = [f"# Latency at {RATE_HZ:,.0f} frames/s", "", "From `sent_us` of the frame, in ms.", ""]
    out += ["| what | count | p50 | p90 | p99 | p99.9 | max |", "|---|---|---|---|---|---|---|"]
    for name, s in spreads.items():
        cells = " | ".join(f"{v:.1f}" for v in (s.p50, s.p90, s.p99, s.p999, s.max))
        out.append(f"| {name} | {s.count:,} | {cells} |")
    out += ["", f"{checkpoints} checkpoints, {restarts} restarts. Asked for: alert p99 under {TARGET_MS:.0f} ms."]
    slow = {second: ms for second, ms in sorted(worst_ms.items()) if ms > TARGET_MS}
    said = ", ".join(f"{ms:.0f} ms in second {second}" for second, ms in list(slow.items())[:20])
    out += [
        "",
        f"Seconds with a frame or alert that took longer: {len(slow)} of {len(worst_ms)}{': ' + said if said else ''}.",
    ]
    return "\n".join([*out, "", "```", *machine.as_lines(facts), "```", ""])


if __name__ == "__main__":
    raise SystemExit(main())
