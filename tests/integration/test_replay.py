"""`sightflow replay`: the same frames replayed by a bounded job on Flink, and in one process from a recording, give the same files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from schemas import topics
from schemas.live_settings import new_version, version_key
from schemas.settings import SiteSettings
from schemas.wire import AlertTransition, DeadLetter, Event, encode
from sightflow import cli
from simulator.layout import settings_yaml
from simulator.poison import poison_messages
from simulator.records import with_disorder, with_duplicates, with_poison
from tests.integration.outcome import end_offset
from tests.integration.pipeline import Pipeline
from tests.integration.scenes import two_sites

LIVE = (topics.TRACKS, topics.EVENTS, topics.ALERTS, topics.FIGURES, topics.SETTINGS_ACKS, topics.DEAD_LETTERS)
FILES = ("events", "alerts", "windows", "dead-letters")


@pytest.fixture(autouse=True)
def own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_end_on_terminate", lambda: None)


def changed(site: SiteSettings) -> SiteSettings:
    """The site with lower thresholds and without one zone."""
    cameras = []
    for camera in site.cameras:
        rules = [
            msgspec.structs.replace(rule, **({"count": 2} if hasattr(rule, "count") else {"since_s": 5.0}))
            for rule in camera.rules
        ]
        cameras.append(msgspec.structs.replace(camera, rules=tuple(rules), zones=camera.zones[:1]))
    return msgspec.structs.replace(site, cameras=tuple(cameras))


def written(folder: Path, name: str, sites: Sequence[SiteSettings]) -> list[str]:
    """Site files; their names."""
    paths = []
    for site in sites:
        path = folder / f"{site.site}-{name}.yaml"
        path.write_text(settings_yaml(site), encoding="utf-8")
        paths.append(str(path))
    return paths


def bytes_of(out: Path) -> dict[str, bytes]:
    """Every file of a replay."""
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def lines(path: Path, kind: type[msgspec.Struct]) -> list[msgspec.Struct]:
    """The records of a file."""
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


def iso(at_us: int) -> str:
    """A time as one types it."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()


def test_a_job_over_the_topic_and_a_process_over_its_recording_write_the_same_files(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    scene = two_sites()
    poison = poison_messages(7, 120, next(f for f in scene.frames() if f.camera == "north-1" and f.classes))
    disturbed = with_duplicates(with_disorder(scene.records(), 0.02, 5), 0.02, 6)
    pipeline.feed(with_poison(disturbed, poison, 8, 0.02))
    new = written(tmp_path, "new", [changed(site) for site in scene.sites])
    old = written(tmp_path, "old", scene.sites)
    stack = ["--run-dir", str(pipeline.stack.run_dir)]
    settings = ["--settings", *new, "--compare", *old]
    wire = tmp_path / "all.wire.gz"

    assert cli.main(["record", "--input", "topic:detections", "--out", str(wire), *stack]) == 0
    job, file = tmp_path / "job", tmp_path / "file"
    assert cli.main(["replay", "--input", "topic:detections", *settings, "--out", str(job), *stack]) == 0
    assert cli.main(["replay", "--input", str(wire), *settings, "--out", str(file)]) == 0
    compare(bytes_of(job), bytes_of(file))
    for name in FILES:
        assert (job / f"{name}.jsonl").stat().st_size, name
    assert {e.kind for e in lines(job / "events.jsonl", Event)} >= {"enter", "exit", "crossing", "source_lost"}
    placed = [a for a in lines(job / "alerts.jsonl", AlertTransition) if a.input_offset >= 0]
    assert placed and all(a.input_partition >= 0 for a in placed), "the place of their cause on the topic"
    assert len({x.reason for x in lines(job / "dead-letters.jsonl", DeadLetter)}) >= 5
    assert {topic: end_offset(pipeline.stack.kafka_bootstrap, topic) for topic in LIVE} == dict.fromkeys(LIVE, 0)
    assert pipeline.points() == {}

    begun_us = min(f.capture_us for f in scene.frames())
    span = ["--from", iso(begun_us + 30_000_000), "--to", iso(begun_us + 60_000_000), "--camera", "north-1", "south-2"]
    part_job, part_file, part_topic = tmp_path / "part-job", tmp_path / "part-file", tmp_path / "part-topic"
    address = f"kafka://{pipeline.stack.kafka_bootstrap}/detections"
    assert cli.main(["replay", "--input", address, *settings, *span, "--out", str(part_job), *stack]) == 0
    assert cli.main(["replay", "--input", str(wire), *settings, *span, "--out", str(part_file)]) == 0
    assert cli.main(["replay", "--input", address, "--in-process", *settings, *span, "--out", str(part_topic)]) == 0
    compare(bytes_of(part_job), bytes_of(part_file))
    compare(bytes_of(part_job), bytes_of(part_topic))
    assert {e.camera for e in lines(part_job / "events.jsonl", Event)} == {"north-1", "south-2"}


def test_without_settings_each_frame_is_replayed_under_the_version_that_was_in_force(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    scene = two_sites()
    north = scene.sites[0]
    records = [r for r in scene.records() if (r.key or b"").startswith(b"north")]
    pipeline.feed(records)
    begun_us = min(r.timestamp_ms for r in records) * 1000
    versions = [
        new_version(north, 1, begun_us - 1_000_000, begun_us, "", ""),
        new_version(changed(north), 2, begun_us + 50_000_000, begun_us, "", ""),
    ]
    producer = Producer({"bootstrap.servers": pipeline.stack.kafka_bootstrap})
    for m in versions:
        producer.produce(topics.SETTINGS, encode(m), version_key(m.site, m.version, m.fingerprint).encode())
    assert producer.flush(30) == 0
    stack = ["--run-dir", str(pipeline.stack.run_dir), "--input", "topic:detections"]
    job, here = tmp_path / "job", tmp_path / "here"
    assert cli.main(["replay", *stack, "--out", str(job)]) == 0
    assert cli.main(["replay", *stack, "--in-process", "--out", str(here)]) == 0
    compare(bytes_of(job), bytes_of(here))
    found = lines(job / "events.jsonl", Event)
    stamps = [f"{m.fingerprint}@{m.version}" for m in versions]
    assert {e.settings for e in found if e.at_us < versions[1].from_us} == {stamps[0]}
    assert {e.settings for e in found if e.kind == "enter" and e.at_us >= versions[1].from_us + 5_000_000} == {
        stamps[1]
    }


def compare(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """See that two replays wrote the same; of summary and page, all but the name of the input."""
    assert one.keys() == other.keys()
    for name in one:
        if name == "summary.json":
            left, right = json.loads(one[name]), json.loads(other[name])
            assert left | {"input": ""} == right | {"input": ""}
        elif name != "timeline.html":
            assert one[name] == other[name], name
