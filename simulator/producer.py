"""Sends records to Kafka as an agent does: idempotent, key = camera, record timestamp = capture time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from schemas.topics import DETECTIONS, MAX_MESSAGE_BYTES
from schemas.wire import DetectionFrame
from simulator.records import Record

PROGRESS_S = 1.5
FLUSH_S = 60.0
_POLL_EVERY = 1024
Progress = Callable[[str], None]


class SendError(RuntimeError):
    """Kafka did not take all records."""


@dataclass(frozen=True)
class SendReport:
    """What became of a stream of records."""

    sent_count: int
    sent_bytes: int
    elapsed_s: float

    @property
    def rate_hz(self) -> float:
        """Records per second."""
        return self.sent_count / self.elapsed_s if self.elapsed_s > 0 else 0.0


def print_progress(line: str) -> None:
    """Write one line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


class RecordProducer:
    """An idempotent Kafka producer for Records. A context manager: leaving it flushes.

    properties: librdkafka's, over the defaults here. Raises SendError on leaving, or while sending, where the broker
    refuses a record or cannot be reached for `delivery.timeout.ms`.
    """

    def __init__(
        self, bootstrap_servers: str, *, topic: str = DETECTIONS, properties: dict[str, str] | None = None
    ) -> None:
        from confluent_kafka import Producer  # here, so that scenes and truth need no Kafka library

        self.topic = topic
        self._failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 2,
                "compression.type": "none",
                "message.max.bytes": 2 * MAX_MESSAGE_BYTES,  # the poison corpus holds messages over the bound
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 512 * 1024,
                "delivery.timeout.ms": 60_000,
                "on_delivery": self._on_delivery,
                **(properties or {}),
            }
        )

    def __enter__(self) -> RecordProducer:
        return self

    def __exit__(self, *raised: object) -> None:
        left = self._producer.flush(FLUSH_S)
        if raised[0] is None and left:
            raise SendError(f"{left} records were not acknowledged within {FLUSH_S} s")
        if raised[0] is None:
            self._check()

    def send(self, record: Record) -> None:
        """Hand over one record; waits while the producer's bounded queue is full."""
        while True:
            try:
                self._producer.produce(self.topic, record.value, record.key, timestamp=record.timestamp_ms)
                return
            except BufferError:
                self._producer.poll(0.05)
                self._check()

    def poll(self) -> None:
        """Serve delivery reports. Raises SendError."""
        self._producer.poll(0)
        self._check()

    def _on_delivery(self, error: object, _message: object) -> None:
        if error is not None and len(self._failures) < 10:
            self._failures.append(str(error))

    def _check(self) -> None:
        if self._failures:
            raise SendError(f"Kafka refused records on {self.topic!r}: {'; '.join(self._failures)}")


def send_records(
    records: Iterable[Record],
    bootstrap_servers: str,
    *,
    topic: str = DETECTIONS,
    properties: dict[str, str] | None = None,
    rate_hz: float | None = None,
    total_count: int | None = None,
    progress: Progress | None = print_progress,
) -> SendReport:
    """Send all records, as fast as Kafka takes them or at `rate_hz` evenly. Returns once all are acknowledged.

    Raises SendError. `total_count` is only for the progress lines.
    """
    begun_s = shown_s = time.monotonic()
    count = sent_bytes = 0
    with RecordProducer(bootstrap_servers, topic=topic, properties=properties) as producer:
        for record in records:
            if rate_hz:
                _wait_until(begun_s + count / rate_hz, producer)
            producer.send(record)
            count += 1
            sent_bytes += len(record.value or b"")
            if count % _POLL_EVERY == 0:
                producer.poll()
            if progress and (rate_hz or count % _POLL_EVERY == 0) and time.monotonic() - shown_s >= PROGRESS_S:
                shown_s = time.monotonic()
                progress(_progress_line(count, total_count, shown_s - begun_s))
    return SendReport(count, sent_bytes, time.monotonic() - begun_s)


def _progress_line(count: int, total_count: int | None, elapsed_s: float) -> str:
    of = f" of {total_count:,} ({count / total_count:.0%})" if total_count else ""
    return f"sent {count:,}{of} records, {count / elapsed_s:,.0f}/s"


def _wait_until(due_s: float, producer: RecordProducer) -> None:
    while (left_s := due_s - time.monotonic()) > 0:
        producer.poll()
        time.sleep(min(left_s, 0.05))


def pace(frames: Iterable[DetectionFrame], speed: float = 1.0, *, redate: bool = False) -> Iterator[DetectionFrame]:
    """Yield each frame when its capture time has come, `speed` times real time, and stamp `sent_us` with the clock.

    redate: move boot, capture and receive times so that the first frame is captured now and (at speed 1) each is
    captured when it is sent: what live cameras look like.
    """
    begun_s, first_us, shift_us = time.monotonic(), None, 0
    for frame in frames:
        if first_us is None:
            first_us = frame.capture_us
            shift_us = time.time_ns() // 1000 - first_us if redate else 0
        due_s = begun_s + (frame.capture_us - first_us) / 1e6 / speed
        while (left_s := due_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.5))
        yield msgspec.structs.replace(
            frame,
            boot=frame.boot + shift_us,
            capture_us=frame.capture_us + shift_us,
            recv_us=frame.recv_us + shift_us,
            sent_us=time.time_ns() // 1000,
        )
