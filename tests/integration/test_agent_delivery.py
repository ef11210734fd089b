"""The agent on a real RTSP server and a real broker: whatever dies, each frame it took arrives once and in order."""

from __future__ import annotations

import bisect
import json
import shutil
import signal
import socket
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from edge_agent.spool import Spool
from schemas.topics import DETECTIONS, HEALTH
from schemas.wire import DetectionFrame, Health, check_detections, decode, decode_detections, unpack_boxes
from sightflow.places import REPO_ROOT, Local
from sightflow.stack import KAFKA, Ports, Program, Stack

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]
SITE = "agent-test"
OUTAGE_S = 20.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(what: str, is_true: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for `is_true`; the limit is for broken programs, not a measure."""
    deadline_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.1)


@dataclass
class Rig:
    """One camera and one agent on the module's stack."""

    stack: Stack
    folder: Path
    camera: str
    metrics_port: int = field(default_factory=free_port)
    rtsp_port: int = field(default_factory=free_port)

    @property
    def camera_program(self) -> str:
        return f"camera-{self.camera}"

    @property
    def agent_program(self) -> str:
        return f"agent-{self.camera}"

    def start(self) -> None:
        """Start the RTSP server, then the agent."""
        self.folder.mkdir()
        settings = self.folder / "site.yaml"
        source = (
            f"{{url: 'rtsp://127.0.0.1:{self.rtsp_port}/{self.camera}', stall_timeout_s: 2, connect_timeout_s: 10}}"
        )
        settings.write_text(
            f"version: 1\nsite: {SITE}\nuplink: {{bootstrap_servers: '{self.stack.kafka_bootstrap}'}}\n"
            f"cameras:\n  - id: {self.camera}\n    source: {source}\n"
        )
        python, local = str(self.stack.local.venv_agent / "bin" / "python"), self.stack.local
        self.stack.add_program(
            Program(
                self.camera_program,
                (python, "-m", "simulator.rtsp_camera", "--port", str(self.rtsp_port),
                 "--mount", f"{self.camera}={local.footage}", "--log", str(self.folder / "pushes.jsonl")),
                directory=REPO_ROOT,
            ),
            lambda: bool(socket.create_connection(("127.0.0.1", self.rtsp_port), 1.0).close() is None),
        )  # fmt: skip
        self.stack.add_program(
            Program(
                self.agent_program,
                (python, "-m", "edge_agent", "run", "--settings", str(settings), "--models-dir", str(local.models),
                 "--state-dir", str(self.folder / "state"), "--metrics-port", str(self.metrics_port),
                 "--agent-id", self.agent_program, "--log-format", "json"),
                directory=REPO_ROOT,
            ),
            lambda: bool(self.metrics()),
            60.0,
        )  # fmt: skip
        self.stack.start(self.camera_program)
        self.stack.start(self.agent_program)

    def metrics(self) -> dict[str, float]:
        """The agent's metrics by name (labels left out; of several values the sum); empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        found: dict[str, float] = {}
        for line in lines:
            if line.startswith("sightflow_agent_"):
                name = line.partition(" ")[0].partition("{")[0].removeprefix("sightflow_agent_")
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
        return found

    def delivered_count(self) -> float:
        return self.metrics().get("delivered_total", 0.0)

    def await_delivered(self, more_count: int) -> None:
        """Wait until `more_count` more frames of the running agent are acknowledged."""
        goal = self.delivered_count() + more_count
        until(f"{more_count} more frames delivered", lambda: self.delivered_count() >= goal)

    def stored_frames(self) -> list[DetectionFrame]:
        """What lies in the spool of a dead agent, unacknowledged."""
        copy = self.folder / "copy"
        shutil.copytree(self.folder / "state" / "spool", copy)
        spool = Spool(copy, 1 << 30)
        frames: list[DetectionFrame] = []
        position = spool.acked
        while True:
            records, _, position = spool.read(position, 100)
            if not records:
                break
            frames += [decode_detections(record.value) for record in records]
        spool.close()
        shutil.rmtree(copy)
        return frames

    def stop_agent(self) -> dict[str, int]:
        """End the agent by SIGTERM and return what it said it stored and delivered since its start."""
        self.stack.stop(self.agent_program)
        lines = self.stack.log(self.agent_program).read_text().splitlines()
        texts = [json.loads(line)["text"] for line in lines if line.startswith("{")]
        words = next(text for text in reversed(texts) if "messages stored" in text).split()
        return {"stored": int(words[2]), "delivered": int(words[5])}

    def push_times_us(self) -> list[int]:
        return sorted(
            json.loads(line)["capture_us"] for line in (self.folder / "pushes.jsonl").read_text().splitlines()
        )


def read_topic(stack: Stack, topic: str, key: str) -> list[tuple[bytes, int]]:
    """All (value, record time stamp ms) of a topic with this key, in order."""
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": "reader", "enable.auto.commit": False})
    ends: dict[int, int] = {}
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        ends[number] = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    found: list[tuple[bytes, int]] = []
    while any(ends.values()):
        message = consumer.poll(10)
        assert message is not None and message.error() is None, "the topic cannot be read to its end"
        if message.key() == key.encode():
            found.append((message.value(), message.timestamp()[1]))
        if message.offset() + 1 >= ends[message.partition()]:
            ends[message.partition()] = 0
    consumer.close()
    return found


def once_in_order(stack: Stack, camera: str) -> list[DetectionFrame]:
    """The camera's frames in topic order, later copies of a (boot, seq) left out, as intake does it."""
    seen: set[tuple[int, int]] = set()
    frames: list[DetectionFrame] = []
    for value, timestamp_ms in read_topic(stack, DETECTIONS, camera):
        frame = decode_detections(value)
        assert timestamp_ms == frame.capture_us // 1000
        if (frame.boot, frame.seq) not in seen:
            seen.add((frame.boot, frame.seq))
            frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    local = Local.find()
    with Stack(tmp_path_factory.mktemp("stack"), Ports.free(), local=local) as running:
        running.up([KAFKA])
        running.create_topics()
        yield running


@pytest.fixture
def rig(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(stack, tmp_path / "rig", request.param)
    yield made
    for name in (made.agent_program, made.camera_program):
        stack.stop(name)


@pytest.mark.parametrize("rig", ["faults"], indirect=True)
def test_every_frame_taken_arrives_once_and_in_order_whatever_dies(stack: Stack, rig: Rig) -> None:
    rig.start()
    rig.await_delivered(25)

    stack.kill(rig.camera_program)  # the supervisor starts it again
    until("the agent reconnects", lambda: rig.metrics().get("reconnect_total", 0) >= 1)
    rig.await_delivered(15)

    stack.kill(rig.agent_program, signal.SIGKILL, restart=False)  # in mid-flight
    taken_first = rig.stored_frames()
    stack.start(rig.agent_program)
    rig.await_delivered(10)

    began_s = time.monotonic()
    stack.kill(KAFKA, signal.SIGKILL, restart=False)
    until("frames are stored", lambda: rig.metrics().get("spool_records", 0) > 20)
    stack.kill(rig.agent_program, signal.SIGKILL, restart=False)  # in the outage
    taken_second = rig.stored_frames()
    assert len(taken_second) > 20
    stack.start(rig.agent_program)
    until("frames are stored again", lambda: rig.metrics().get("spool_records", 0) > len(taken_second) + 20)
    time.sleep(max(0.0, began_s + OUTAGE_S - time.monotonic()))
    stack.start(KAFKA)
    until("the spool is empty", lambda: rig.metrics().get("spool_records", 1) == 0)
    rig.await_delivered(10)
    said = rig.stop_agent()

    frames = once_in_order(stack, rig.camera)
    boots = sorted({f.boot for f in frames})
    assert len(boots) == 3
    order = [(f.boot, f.seq) for f in frames]
    assert order == sorted(order)
    for boot in boots:
        assert [seq for b, seq in order if b == boot] == list(range(sum(b == boot for b, _ in order)))
    # What each agent had taken when it died is there; the last one says how many it took.
    assert {(f.boot, f.seq) for f in taken_first + taken_second} <= set(order)
    assert sum(b == boots[-1] for b, _ in order) == said["stored"]
    captures = [f.capture_us for f in frames]
    assert captures == sorted(set(captures))
    _check_contents(frames)
    _check_capture_times(frames, rig.push_times_us())


def _check_contents(frames: list[DetectionFrame]) -> None:
    """Real detections of people, in messages that the jobs accept."""
    import numpy as np

    for frame in frames:
        scores, classes = np.frombuffer(frame.scores, "<f4"), np.frombuffer(frame.classes, np.uint8)
        assert check_detections(unpack_boxes(frame), scores, classes, len(frame.labels)) == ""
        assert (frame.width_px, frame.height_px) == (768, 576)
        assert frame.model and len(frame.model_sha) == 16
    assert sum("person" in frame.labels for frame in frames) > len(frames) / 2


def _check_capture_times(frames: list[DetectionFrame], pushes_us: list[int]) -> None:
    """Capture times are the camera's, by its sender reports, and say when it pushed the frame."""
    reported = [f for f in frames if f.clock == "rtcp_sr"]
    assert len(reported) > 0.7 * len(frames)
    off_us = []
    for frame in reported:
        i = bisect.bisect(pushes_us, frame.capture_us)
        off_us.append(min(abs(frame.capture_us - at_us) for at_us in pushes_us[max(0, i - 1) : i + 1]))
    assert statistics.median(off_us) < 10_000  # a frame's distance is 100,000


@pytest.mark.parametrize("rig", ["frozen"], indirect=True)
def test_a_frozen_camera_is_noticed_and_comes_back(stack: Stack, rig: Rig) -> None:
    rig.start()
    rig.await_delivered(10)
    reconnects = rig.metrics()["reconnect_total"]
    stack.kill(rig.camera_program, signal.SIGSTOP)
    until("the watchdog gives up on the stream", lambda: rig.metrics().get("reconnect_total", 0) > reconnects)
    assert rig.metrics()["streaming"] == 0
    stack.kill(rig.camera_program, signal.SIGCONT)
    until("the camera streams again", lambda: rig.metrics().get("streaming", 0) == 1)
    rig.await_delivered(10)
    said = rig.stop_agent()
    frames = once_in_order(stack, rig.camera)
    assert [f.seq for f in frames] == list(range(said["stored"]))
    heartbeats = [decode(value, Health) for value, _ in read_topic(stack, HEALTH, rig.agent_program)]
    states = [beat.cameras[0].state for beat in heartbeats]
    assert states.index("streaming") < len(states) - 1 and {"backoff", "connecting"} & set(states)
    assert any("stall" in beat.cameras[0].last_error for beat in heartbeats)
    assert heartbeats[-1].cameras[0].delivered_count == said["delivered"] == said["stored"]
