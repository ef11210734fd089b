"""Settings are changed while frames flow and a TaskManager is killed: what comes out is what the same stage makes of the same
frames in one process that knows every version from the start."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.alert_orders import AnyOrder, decode_order, is_order, order_key
from schemas.live_settings import SettingsAck, SettingsMessage, new_version, stamp_of, version_key
from schemas.settings import SiteSettings, fingerprint
from schemas.wire import AlertTransition, DeadLetter, Event, Figures, TrackFrame, decode, encode
from sightflow import cli
from sightflow.stack import TASKMANAGER
from simulator.layout import SPARE_CAMERA, settings_yaml
from simulator.records import Record
from tests.integration.outcome import Outcome, PointKey, Points, difference, points_difference, read_topic
from tests.integration.pipeline import Pipeline
from tests.integration.scenes import two_sites

CHANGE_S, BACK_S = 35.0, 70.0
"""When versions 2 and 3 hold, from the scene's start: in the middle of visits, between two frames."""
EARLY_S = 3.0
"""So much before a version's time the feed waits for it."""
KILL_FEED_S = 40.0
WAIT_S = 8.0
SILENCE_S = 45.0
"""Longer than a command or a recovery takes: nothing may fall silent before the end."""


def patient(site: SiteSettings) -> SiteSettings:
    """The site with cameras that are not soon given up."""
    cameras = tuple(msgspec.structs.replace(camera, silence_s=SILENCE_S) for camera in site.cameras)
    return msgspec.structs.replace(site, cameras=cameras)


def changed(site: SiteSettings) -> SiteSettings:
    """The site without one camera, and without a zone, a tripwire and the rules of another."""
    views = {camera.id: camera for camera in site.cameras}
    one = views["north-1"]
    bare = msgspec.structs.replace(one, zones=one.zones[1:], tripwires=one.tripwires[1:], rules=())
    return msgspec.structs.replace(site, cameras=(bare, views[SPARE_CAMERA]))


def versions(site: SiteSettings, begun_us: int) -> list[SettingsMessage]:
    """The versions that the test makes by command."""
    times = (0.0, CHANGE_S, BACK_S)
    contents = (site, changed(site), site)
    return [
        new_version(content, i + 1, begun_us + round(at_s * 1e6), begun_us, "", "")
        for i, (content, at_s) in enumerate(zip(contents, times, strict=True))
    ]


def in_one_process(
    sites: Sequence[SiteSettings],
    known: Iterable[SettingsMessage],
    records: list[Record],
    orders: Iterable[AnyOrder] = (),
) -> list[Output]:
    """What the stage makes of the records, one camera after the other, and of the silence after them."""
    stage = LiveCameraStage(sites)
    stage.open()
    for i, m in enumerate(known):
        stage.on_settings(version_key(m.site, m.version, m.fingerprint), Input(encode(m), 0, i, 0))
    for order in orders:
        stage.on_settings(order_key(order), Input(encode(order), 0, 0, 0))
    out: list[Output] = []
    for camera in sorted({record.key for record in records}):
        logic = stage.logic((camera or b"").decode())
        for record in records:
            if record.key == camera:
                out += logic.on_record(Input(record.value, -1, -1, record.timestamp_ms))
        out += logic.on_silence()
    return out


def values(outputs: Iterable[Output], topic: str) -> list[bytes]:
    """The values for a topic."""
    return [o.value for o in outputs if o.topic == topic]


def points(outputs: Iterable[Output]) -> Points:
    """What InfluxDB should hold."""
    found: Points = {}
    for value in values(outputs, topics.FIGURES):
        for p in decode(value, Figures).points:
            found[PointKey(p.measurement, tuple(sorted((k, v) for k, v in p.tags.items() if v)), p.at_ns)] = dict(
                p.fields
            )
    return found


def unplaced(alerts: Iterable[bytes]) -> list[bytes]:
    """Alerts without the place of their cause in Kafka."""
    return [
        encode(msgspec.structs.replace(decode(a, AlertTransition), input_partition=0, input_offset=0)) for a in alerts
    ]


def refused(letters: Iterable[bytes]) -> list[tuple[str, str, str]]:
    """What of dead letters does not depend on partitions."""
    found = [decode(x, DeadLetter) for x in letters]
    return [(x.reason, x.key, x.raw_sha256) for x in found if x.topic == topics.DETECTIONS]


class Typed(threading.Thread):
    """A command typed while frames flow; its status and what it said."""

    def __init__(self, pipeline: Pipeline, *words: str) -> None:
        super().__init__(daemon=True)
        self._words = ["settings", words[0], "--run-dir", run_dir(pipeline), *words[1:]]
        self.status = -1

    def run(self) -> None:
        """Type it."""
        self.status = cli.main(self._words)


def acks(pipeline: Pipeline, version: int, stage: str) -> list[SettingsAck]:
    """What the job has said to a version so far."""
    found = [
        decode(m.value or b"", SettingsAck) for m in read_topic(pipeline.stack.kafka_bootstrap, topics.SETTINGS_ACKS)
    ]
    return [a for a in found if a.version == version and a.stage == stage]


def give_orders(pipeline: Pipeline, without: Iterable[Output], begun_us: int) -> list[AnyOrder]:
    """By command, acknowledge an alert one second after it has opened, and mute a rule elsewhere; return the orders.

    Args:
        without: what there would be without them.
    """
    said = [decode(value, AlertTransition) for value in values(without, topics.ALERTS)]
    repeated = next(t for t in said if t.transition == "update" and t.site == "north")
    muted = next(t for t in said if t.camera == "south-1" and t.rule_type != "source_lost")
    opened = next(t for t in said if (t.alert_id, t.transition) == (repeated.alert_id, "open"))
    author = ["--author", "ann", "--comment", "on the way", "--run-dir", run_dir(pipeline)]
    ack = ["ack", opened.alert_id, "--from", iso(opened.at_us + 1_000_000)]
    mute = [
        "mute",
        "--site",
        "south",
        "--camera",
        "south-1",
        "--rule",
        muted.rule,
        "--from",
        iso(begun_us),
        "--for",
        "1h",
    ]
    for words in (ack, mute):
        assert cli.main(["alerts", *words, *author]) == 0
    records = read_topic(pipeline.stack.kafka_bootstrap, topics.SETTINGS)
    found = [(m.key.decode(errors="replace") if m.key else "", m.value or b"") for m in records]
    orders = [decode_order(key, value) for key, value in found if is_order(key)]
    assert [type(o).__name__ for o in orders] == ["Acknowledgement", "Mute"]
    return orders


def poison(bootstrap: str, good: SettingsMessage) -> int:
    """Send what is no version of anything to the topic of settings; return how many dead letters it should make."""
    key = version_key(good.site, good.version, good.fingerprint)
    letters = [
        ("", b""),
        (key, b"\xff\x00garbage"),
        ("north/9/0123456789ab", encode(good)),
        (key, encode(good) + bytes(1 << 20)),
    ]
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 4 << 20})
    for name, value in letters:
        producer.produce(topics.SETTINGS, value, name.encode())
    producer.produce(topics.SETTINGS, None, key.encode())
    assert producer.flush(30) == 0
    return len(letters)


def test_settings_change_while_frames_flow_and_a_kill_leaves_no_trace(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_end_on_terminate", lambda: None)  # signals are the main thread's
    scene = two_sites()
    sites = [patient(site) for site in scene.sites]
    north = next(s for s in sites if s.site == "north")
    records = scene.records()
    begun_us = min(f.capture_us for f in scene.frames())
    first, second, third = versions(north, begun_us)
    limits_ms = [m.from_us // 1000 - round(EARLY_S * 1000) for m in (second, third)]
    parts = [
        [r for r in records if (r.timestamp_ms >= low) and (r.timestamp_ms < high)]
        for low, high in zip([0, *limits_ms], [*limits_ms, 1 << 62], strict=True)
    ]
    assert sum(map(len, parts)) == len(records) and all(parts)

    exact = ["--exactly-once-topics", "events,alerts,dead-letters"]
    job = pipeline.submit("suite", sites, exact)
    letters = poison(pipeline.stack.kafka_bootstrap, first)
    apply(pipeline, tmp_path, north, first)
    without = in_one_process(sites, (first, second, third), records)
    orders = give_orders(pipeline, without, begun_us)
    pipeline.feed(parts[0])
    apply(pipeline, tmp_path, changed(north), second)
    feed = pipeline.start_feed(parts[1], KILL_FEED_S)
    pipeline.until("version 2 is in force", lambda: acks(pipeline, 2, "in_force"))
    pipeline.until(
        "event time goes on in the camera stage while the topic of settings is silent",
        lambda: pipeline.stack.flink.watermark_ms(job, "camera") > second.from_us // 1000,
    )
    checkpoints = pipeline.checkpoints(job)
    pipeline.until("a checkpoint with it", lambda: pipeline.checkpoints(job) > checkpoints)
    pipeline.stack.kill(TASKMANAGER)
    feed.hurry()
    feed.join_or_raise()
    back = Typed(pipeline, "rollback", "1", "--site", "north", "--from", iso(third.from_us), "--wait", "90")
    back.start()  # typed while the job is being restarted: it waits for the answer
    pipeline.until("the answer to the rollback", lambda: acks(pipeline, 3, "taken"))
    pipeline.feed(parts[2])
    pipeline.await_silence(scene.cameras)
    back.join(120)
    assert back.status == 0
    pipeline.stop()
    outcome = pipeline.collect([topics.SETTINGS_ACKS])
    print(capsys.readouterr().out)

    assert pipeline.stack.job_exceptions(job), "the kill hit no running job"
    expected = in_one_process(sites, (first, second, third), records, orders)
    compare(outcome, expected)
    alerts = [decode(value, AlertTransition) for value in values(expected, topics.ALERTS)]
    assert {t.acknowledged_by for t in alerts} == {"", "ann"}
    assert len(alerts) < len(values(without, topics.ALERTS))
    poisoned = [x for x in outcome.decoded(topics.DEAD_LETTERS, DeadLetter) if x.topic == topics.SETTINGS]
    assert len(poisoned) == letters
    for m in (first, second, third):
        told = {
            (a.stage, a.status) for a in outcome.decoded(topics.SETTINGS_ACKS, SettingsAck) if a.version == m.version
        }
        assert told == {("taken", "success"), ("in_force", "success")}, m.version
    stamped(outcome, sites, first, second, third)

    assert cli.main(["settings", "history", "--run-dir", run_dir(pipeline)]) == 0
    assert [line[:4] for line in capsys.readouterr().out.splitlines() if line[3:4].isdigit()] == [
        "   1",
        "   2",
        "   3",
    ]


def run_dir(pipeline: Pipeline) -> str:
    """The folder of the stack."""
    return str(pipeline.stack.run_dir)


def iso(at_us: int) -> str:
    """A time as one types it."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()


def apply(pipeline: Pipeline, folder: Path, settings: SiteSettings, version: SettingsMessage) -> None:
    """Apply a site file by command."""
    path = folder / f"{version.version}.yaml"
    path.write_text(settings_yaml(settings), encoding="utf-8")
    words = ["settings", "apply", str(path), "--run-dir", run_dir(pipeline), "--from", iso(version.from_us)]
    assert cli.main([*words, "--wait", str(WAIT_S)]) == 0


def compare(outcome: Outcome, expected: list[Output]) -> None:
    """See that the run came to what was expected."""
    assert points_difference(outcome.points, points(expected)) == ""
    assert difference(outcome.values(topics.EVENTS), values(expected, topics.EVENTS)) == ""
    alerts = unplaced(outcome.values(topics.ALERTS))
    assert difference(alerts, unplaced(values(expected, topics.ALERTS))) == ""
    letters = refused(outcome.values(topics.DEAD_LETTERS))
    assert difference(letters, refused(values(expected, topics.DEAD_LETTERS))) == ""
    # At least once: repeats, and nothing but repeats; one version is stamped on each frame, whatever was done again.
    assert difference(set(outcome.values(topics.TRACKS)), values(expected, topics.TRACKS)) == ""


def stamped(outcome: Outcome, sites: list[SiteSettings], *known: SettingsMessage) -> None:
    """See that each frame carries the version whose time it was captured in."""
    for t in outcome.decoded(topics.TRACKS, TrackFrame):
        if t.site == "north":
            m = [m for m in known if m.from_us <= t.capture_us][-1]
            assert t.settings == stamp_of(m.version, m.fingerprint)
        else:
            assert t.settings == fingerprint(next(s for s in sites if s.site == t.site))
    ended = [e for e in outcome.decoded(topics.EVENTS, Event) if e.reason == "settings"]
    assert {e.kind for e in ended} == {"exit", "track_end"}
    assert {e.camera for e in ended} == {"north-1", "north-2"}
    assert all(e.at_us < known[1].from_us for e in ended)
