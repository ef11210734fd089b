"""Whatever dies or lies: the database and the topics end up as if nothing had happened."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass

import msgspec

from schemas import topics
from schemas.wire import AlertTransition, DeadLetter, TrackFrame, decode
from sightflow.stack import INFLUXD, TASKMANAGER
from simulator.layout import SPARE_CAMERA
from simulator.poison import KINDS, WATERMARK_KINDS, PoisonRecord, poison_messages
from simulator.records import Record, with_poison
from tests.integration.outcome import Message, Outcome, Points, difference, points_difference, read_topic
from tests.integration.pipeline import Pipeline
from tests.integration.scenes import two_sites

FEED_S = 600.0  # pace of all frames until the last fault is over; the rest follows at once
OUTAGE_FEED_S = 25.0  # faster than the job can hold without its database
POISON_COUNT = 1500


# ---- kill -9 of the TaskManager --------------------------------------------------------------------------------


def test_a_taskmanager_killed_twice_in_mid_run_leaves_no_trace_in_the_results(
    pipeline: Pipeline, undisturbed: Outcome
) -> None:
    """Once with checkpoints behind it, once as soon as the job has recovered from the first."""
    scene = two_sites()
    records = scene.records()
    exact = ["--exactly-once-topics", "events,alerts,dead-letters"]
    job = pipeline.submit("suite", scene.sites, exact, checkpoint_interval_s=4)
    feed = pipeline.start_feed(records, FEED_S)

    pipeline.until(
        "two checkpoints and some tracks", lambda: pipeline.checkpoints(job) >= 2 and tracked(pipeline) > 100
    )
    first_s = kill_and_recover(pipeline, job)
    assert feed.is_alive(), "the feed ended before the second kill: nothing was in mid-run"
    second_s = kill_and_recover(pipeline, job)
    feed.hurry()
    feed.join_or_raise()
    pipeline.await_silence(scene.cameras)
    pipeline.until("Flink counts two restarts", lambda: pipeline.restarts(job) >= 2)
    pipeline.stop()
    outcome = pipeline.collect()

    assert points_difference(outcome.points, undisturbed.points) == ""
    for topic in (topics.EVENTS, topics.ALERTS, topics.DEAD_LETTERS):
        assert difference(outcome.values(topic), undisturbed.values(topic)) == "", topic
    # At least once: repeats, and nothing but repeats.
    assert difference(set(outcome.values(topics.TRACKS)), undisturbed.values(topics.TRACKS)) == ""
    repeats = len(outcome.values(topics.TRACKS)) - len(undisturbed.values(topics.TRACKS))
    assert repeats > 0, "no frame was tracked twice: no kill hit a running job"
    written = read_topic(pipeline.stack.kafka_bootstrap, topics.EVENTS, committed=False)
    aborted = len(written) - len(outcome.values(topics.EVENTS))
    print(f"recovered in {first_s:.1f} s and {second_s:.1f} s; {repeats} tracks repeated, {aborted} events aborted")


def tracked(pipeline: Pipeline) -> int:
    """How many track frames there are, repeats included."""
    return pipeline.output_count(topics.TRACKS)


def kill_and_recover(pipeline: Pipeline, job: str) -> float:
    """kill -9 the TaskManager; return the seconds until the job's next output."""
    killed_ms, begun_s = time.time_ns() // 1_000_000, time.monotonic()
    pipeline.stack.kill(TASKMANAGER)
    before = tracked(pipeline)
    pipeline.await_recovery(job, killed_ms)
    pipeline.until("tracks after the recovery", lambda: tracked(pipeline) > before, poll_s=0.05)
    return time.monotonic() - begun_s


# ---- poison ----------------------------------------------------------------------------------------------------


@dataclass
class Poisoned:
    """A stream with poison in it, and what should become of that."""

    records: list[Record]
    poison: list[PoisonRecord]

    def expected(self, what: str) -> list[PoisonRecord]:
        """Return the poison that should end as `what`."""
        return [p for p in self.poison if p.expect == what]


def poisoned_scene() -> Poisoned:
    """The scene with every kind of poison strewn in, dated to one of its frames."""
    good = next(f for f in two_sites().frames() if f.camera == "north-1" and f.classes)
    poison = list(poison_messages(3, POISON_COUNT, good, kinds=(*KINDS, *WATERMARK_KINDS)))
    records = two_sites().records()
    return Poisoned(list(with_poison(records, poison, 3, POISON_COUNT / len(records))), poison)


def test_poison_becomes_dead_letters_and_disturbs_nothing(pipeline: Pipeline, undisturbed: Outcome) -> None:
    poisoned = poisoned_scene()
    letters_expected = poisoned.expected("dead_letter")
    assert len(letters_expected) >= 1000
    scene = two_sites()
    job = pipeline.submit("suite", scene.sites)
    pipeline.feed(poisoned.records)
    pipeline.await_silence([*scene.cameras, SPARE_CAMERA])
    pipeline.stop()
    outcome = pipeline.collect([topics.DETECTIONS])

    assert pipeline.stack.job_exceptions(job) == []
    assert pipeline.restarts(job) == 0
    check_letters(outcome, letters_expected)
    check_spare_camera(outcome, poisoned)
    check_good_results(outcome, undisturbed)


def check_letters(outcome: Outcome, expected: list[PoisonRecord]) -> None:
    """Each malformed record is one dead letter that names its origin and holds its bytes."""
    letters = outcome.decoded(topics.DEAD_LETTERS, DeadLetter)
    sent = {(m.partition, m.offset): m for m in outcome.topics[topics.DETECTIONS]}
    assert difference([x.raw for x in letters], [p.value or b"" for p in expected], lambda raw: raw[:80]) == ""
    assert len({(x.partition, x.offset) for x in letters}) == len(letters)
    for message, letter in zip(outcome.topics[topics.DEAD_LETTERS], letters, strict=True):
        origin = sent[letter.partition, letter.offset]
        assert (letter.topic, letter.raw) == (topics.DETECTIONS, origin.value or b"")
        assert letter.key == text(origin.key) == text(message.key)
        assert letter.reason and letter.detail and letter.stage == "camera" and not letter.truncated
        assert letter.raw_sha256 == hashlib.sha256(letter.raw).hexdigest()
    kinds = {(p.value or b""): p.kind for p in expected}
    reasons = Counter((kinds[x.raw], x.reason) for x in letters)
    assert len({reason for _, reason in reasons}) >= 10, reasons


def text(key: bytes | None) -> str:
    """A record's key as the job sees it."""
    return (key or b"").decode("utf-8", "replace")


def check_spare_camera(outcome: Outcome, poisoned: Poisoned) -> None:
    """What is odd but legal is taken; repeats are left out and counted."""
    frames = [t for t in outcome.decoded(topics.TRACKS, TrackFrame) if t.camera == SPARE_CAMERA]
    assert len(frames) == len(poisoned.expected("accepted"))
    windows = [f for k, f in outcome.measured("camera_window").items() if k.tag("camera") == SPARE_CAMERA]
    assert sum(f["frame_count"] for f in windows) == len(frames)
    counted = sum(f["duplicate_count"] for f in windows)
    assert counted == len(poisoned.expected("dropped"))


def check_good_results(outcome: Outcome, undisturbed: Outcome) -> None:
    """All other cameras' results are those of the run without poison, save that windows count what they refused."""
    assert points_difference(without_poison(outcome.points), without_poison(undisturbed.points)) == ""
    for topic in (topics.EVENTS, topics.TRACKS):
        assert difference(of_good_cameras(outcome.topics[topic]), undisturbed.values(topic)) == "", topic
    assert difference(unplaced_alerts(outcome), unplaced_alerts(undisturbed)) == ""


def without_poison(points: Points) -> Points:
    """Leave out the spare camera and the count of refused records."""
    return {
        key: {name: value for name, value in fields.items() if name != "refused_count"}
        for key, fields in points.items()
        if key.tag("camera") != SPARE_CAMERA
    }


def of_good_cameras(messages: list[Message]) -> list[bytes]:
    """Values of all cameras but the spare one."""
    values = [m.value or b"" for m in messages]
    return [v for v in values if msgspec.msgpack.decode(v)["camera"] != SPARE_CAMERA]


def unplaced_alerts(outcome: Outcome) -> list[bytes]:
    """Alerts of good cameras without the offset of their cause: poison in between moves offsets."""
    values = of_good_cameras(outcome.topics[topics.ALERTS])
    return [msgspec.msgpack.encode(msgspec.structs.replace(decode(v, AlertTransition), input_offset=0)) for v in values]


# ---- InfluxDB away ---------------------------------------------------------------------------------------------


def test_an_influxdb_that_is_killed_and_stays_away_loses_no_point(pipeline: Pipeline, undisturbed: Outcome) -> None:
    scene = two_sites()
    records = scene.records()
    job = pipeline.submit("suite", scene.sites)
    feed = pipeline.start_feed(records, 3 * OUTAGE_FEED_S)
    pipeline.until("some points", lambda: len(pipeline.points()) > 50)
    assert feed.is_alive()
    pipeline.stack.kill(INFLUXD, restart=False)
    feed.pace(OUTAGE_FEED_S)
    time.sleep(20.0)
    feed.hurry()
    assert pipeline.restarts(job) == 0
    pipeline.stack.start(INFLUXD)
    feed.join_or_raise()
    pipeline.await_silence(scene.cameras)
    pipeline.stop()
    outcome = pipeline.collect()

    # A server that takes longer to start than the writer's patience costs a restart, and nothing else.
    failures = pipeline.stack.job_exceptions(job)
    assert [e for e in failures if "Unavailable" not in e["stacktrace"]] == []
    assert outcome.values(topics.DEAD_LETTERS) == []
    assert points_difference(outcome.points, undisturbed.points) == ""
    once = set if failures else list  # at least once: a restart repeats
    assert difference(outcome.values(topics.EVENTS), undisturbed.values(topics.EVENTS)) == ""
    for topic in (topics.ALERTS, topics.TRACKS):
        assert difference(once(outcome.values(topic)), undisturbed.values(topic)) == "", topic
