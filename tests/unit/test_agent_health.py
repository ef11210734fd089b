"""The heartbeat says what is wrong with the uplink, in words that give no secret away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack

from edge_agent.agent_clock import AgentClock
from edge_agent.delivery import Delivery
from edge_agent.health import HealthReporter
from edge_agent.spool import Record, Spool
from schemas.topics import DETECTIONS
from schemas.wire import Health, decode, encode

NOBODY = "127.0.0.1:1"
NOW_MS = 1_700_000_000_000
SECRET = {
    "sasl.password": "s3cret",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "agent",
    "security.protocol": "SASL_PLAINTEXT",
}


@contextmanager
def reporting(folder: Path) -> Iterator[tuple[HealthReporter, Delivery]]:
    """An agent's delivery with one record to send, to a broker that is not there."""
    spool = Spool(folder, 1 << 20)
    spool.append(Record(topic=DETECTIONS, key=b"gate", value=b"frame", timestamp_ms=NOW_MS))
    delivery = Delivery(spool, NOBODY, dict(SECRET), "test")
    reporter = HealthReporter(
        "yard", "agent-1", 1, AgentClock(), {}, spool, delivery, ("model", "sha", "cpu"), NOBODY, SECRET
    )
    thread = threading.Thread(target=delivery.run)
    thread.start()
    try:
        yield reporter, delivery
    finally:
        delivery.stop(0.0)
        thread.join(30)
        reporter.close()
        spool.close()


def test_an_uplink_that_fails_is_told_in_the_heartbeat(tmp_path: Path) -> None:
    with reporting(tmp_path) as (reporter, _):
        deadline_s = time.monotonic() + 30
        while not (said := reporter.make()).uplink_error:
            assert time.monotonic() < deadline_s, "librdkafka's error did not reach the heartbeat"
            time.sleep(0.05)
    assert "Kafka" in said.uplink_error
    assert "s3cret" not in said.uplink_error
    assert (said.spool_count, said.queue_count) == (1, 1)


def test_nothing_wrong_is_an_empty_text(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    delivery = Delivery(spool, NOBODY, {}, "test")  # never run: it has met no error
    reporter = HealthReporter("yard", "agent-1", 1, AgentClock(), {}, spool, delivery, ("", "", ""), NOBODY, {})
    assert reporter.make().uplink_error == ""
    reporter.close()
    spool.close()


def test_heartbeats_of_agents_before_the_field_are_read() -> None:
    new = Health(site="yard", agent="agent-1", boot=1, seq=0, at_us=NOW_MS * 1000, uplink_error="Kafka: away")
    assert decode(encode(new), Health) == new
    old = msgpack.unpackb(encode(new))
    del old["uplink_error"]
    assert decode(msgpack.packb(old), Health).uplink_error == ""
