"""Delivery from a real spool to a real broker: order, bounds, and records or topics that Kafka does not take."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from edge_agent.delivery import Delivery
from edge_agent.spool import MIN_SEGMENT_BYTES, Record, Spool
from schemas.topics import DETECTIONS
from schemas.wire import decode_detections
from sightflow.places import REPO_ROOT, Local
from sightflow.stack import KAFKA, Ports, Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), Ports.free()) as running:
        running.up([KAFKA])
        running.create_topics()
        yield running


def make_topic(stack: Stack, name: str, **config: str) -> str:
    """Make a topic of three partitions."""
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    properties = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, 3, 1, config=properties)])[name].result(20)
    return name


def read_topic(stack: Stack, topic: str) -> list[tuple[bytes, bytes]]:
    """All (key, value), each key's in order."""
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": "reader", "enable.auto.commit": False})
    ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in range(3)}
    consumer.assign([TopicPartition(topic, n, 0) for n in ends])
    found: list[tuple[bytes, bytes]] = []
    while any(ends.values()):
        message = consumer.poll(10)
        assert message is not None and message.error() is None
        found.append((message.key(), message.value()))
        if message.offset() + 1 >= ends[message.partition()]:
            ends[message.partition()] = 0
    consumer.close()
    return found


def make_record(topic: str, number: int, size: int = 60) -> Record:
    return Record(topic, f"cam-{number % 4}".encode(), NOW_MS + number, f"{number}:".encode().ljust(size, b"x"))


def numbers_by_key(messages: list[tuple[bytes, bytes]]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for key, value in messages:
        found.setdefault(key, []).append(int(value.partition(b":")[0]))
    return found


Deliver = Callable[[Spool], Delivery]


@pytest.fixture
def deliver(stack: Stack) -> Iterator[Deliver]:
    """Start a delivery in a thread; ends it."""
    running: list[tuple[Delivery, threading.Thread]] = []

    def start(spool: Spool) -> Delivery:
        delivery = Delivery(spool, stack.kafka_bootstrap, {}, "test")
        thread = threading.Thread(target=delivery.run)
        thread.start()
        running.append((delivery, thread))
        return delivery

    yield start
    for delivery, thread in running:
        delivery.stop(2.0)
        thread.join(20)
        assert not thread.is_alive()


def until(what: str, is_true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.05)


def is_empty(spool: Spool) -> Callable[[], bool]:
    return lambda: spool.depth_count == 0


def test_a_record_that_kafka_refuses_is_passed_over_and_counted_and_the_others_arrive_in_order(
    stack: Stack, deliver: Deliver, tmp_path: Path
) -> None:
    topic = make_topic(stack, "narrow", max_message_bytes="20000")
    spool = Spool(tmp_path, 16 << 20)
    for number in range(300):
        spool.append(make_record(topic, number, 50_000 if number in (100, 101, 205) else 60))
    delivery = deliver(spool)
    until("the spool is empty", is_empty(spool))
    assert dict(delivery.refused) == {"MSG_SIZE_TOO_LARGE": 3}
    assert delivery.lost_count == 0
    found = numbers_by_key(read_topic(stack, topic))
    for key, numbers in found.items():
        assert sorted(set(numbers)) == [
            n for n in range(300) if f"cam-{n % 4}".encode() == key and n not in (100, 101, 205)
        ]
        firsts = list(dict.fromkeys(numbers))  # what was sent twice is removed at intake
        assert firsts == sorted(firsts)


def test_a_topic_that_is_made_later_gets_everything_in_order(stack: Stack, deliver: Deliver, tmp_path: Path) -> None:
    spool = Spool(tmp_path, 16 << 20)
    for number in range(50):
        spool.append(make_record("later", number))
    deliver(spool)
    time.sleep(2.0)
    assert spool.depth_count == 50
    make_topic(stack, "later")
    until("the spool is empty", is_empty(spool))
    for numbers in numbers_by_key(read_topic(stack, "later")).values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)


def test_a_silent_network_shows_as_age_and_passes(stack: Stack, deliver: Deliver, tmp_path: Path) -> None:
    topic = make_topic(stack, "silent")
    spool = Spool(tmp_path, 16 << 20)
    delivery = deliver(spool)
    spool.append(make_record(topic, 0))
    until("the first is delivered", is_empty(spool))
    stack.kill(KAFKA, signal.SIGSTOP)
    try:
        for number in range(1, 200):
            spool.append(make_record(topic, number))
        until("the age shows", lambda: delivery.unacked_age_s > 3)
        assert delivery.in_flight_count > 0
    finally:
        stack.kill(KAFKA, signal.SIGCONT)
    until("the spool is empty", is_empty(spool))
    found = numbers_by_key(read_topic(stack, topic))
    assert sorted(n for numbers in found.values() for n in set(numbers)) == list(range(200))
    assert delivery.unacked_age_s == 0


def test_what_the_bound_costs_is_counted_exactly(stack: Stack, deliver: Deliver, tmp_path: Path) -> None:
    topic = make_topic(stack, "bounded")
    spool = Spool(tmp_path, 4 * MIN_SEGMENT_BYTES, MIN_SEGMENT_BYTES)
    for number in range(10_000):
        spool.append(make_record(topic, number))
    delivery = deliver(spool)
    until("the spool is empty", is_empty(spool))
    found = [n for numbers in numbers_by_key(read_topic(stack, topic)).values() for n in numbers]
    assert delivery.lost_count > 0
    assert len(found) + delivery.lost_count == 10_000
    assert sorted(found) == list(range(delivery.lost_count, 10_000))  # the oldest went


def test_a_file_is_played_fast_and_whole_and_the_agent_ends_by_itself(stack: Stack, tmp_path: Path) -> None:
    local = Local.find()
    command = [
        str(local.venv_agent / "bin" / "python"), "-m", "edge_agent", "run", "--camera", f"file://{local.footage}",
        "--file-pace", "fast", "--fps", "2", "--bootstrap-servers", stack.kafka_bootstrap, "--models-dir",
        str(local.models), "--state-dir", str(tmp_path / "state"), "--metrics-port", "0",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPO_ROOT, timeout=100, env=dict(os.environ))
    assert done.returncode == 0
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(DETECTIONS, n, 0) for n in range(4)])
    frames = []
    while (message := consumer.poll(5.0 if not frames else 1.0)) is not None:
        frames.append(decode_detections(message.value()))
    consumer.close()
    assert [f.seq for f in frames] == list(range(160))  # 795 frames at 10/s, two a second, and the first
    assert {f.clock for f in frames} == {"file"}
    assert all(b.capture_us - a.capture_us == 500_000 for a, b in pairwise(frames[1:]))
    assert all(f.capture_us <= f.recv_us for f in frames)
