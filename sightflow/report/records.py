"""What Kafka holds of one camera in one span of time, read back as any consumer would read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from schemas import topics, wire
from schemas.wire import AlertTransition, DeadLetter, DetectionFrame, Event, Health, TrackFrame
from sightflow.errors import SightflowError

MAX_RECORDS = 500_000
"""Most records that are held in memory: 13 hours of one camera at 10 frames/s, about 300 MB."""

_QUIET_S = 20.0
"""A broker that gives nothing for so long, not even the end of a partition, is taken for unreachable."""

M = TypeVar("M", bound=Struct)


@dataclass(frozen=True)
class Span:
    """Event time from `since_us` to `until_us`, UTC, the end left out."""

    since_us: int
    until_us: int

    def holds(self, at_us: int) -> bool:
        """Whether `at_us` lies inside."""
        return self.since_us <= at_us < self.until_us


@dataclass(frozen=True)
class Stamped(Generic[M]):
    """A message and its record's timestamp: capture time on `detections`, time of writing on the others; in µs."""

    message: M
    record_us: int


@dataclass
class Records:
    """All records of one camera in a span, in the order of each partition; repeats are not yet folded."""

    detections: list[Stamped[DetectionFrame]] = field(default_factory=list)
    tracks: list[Stamped[TrackFrame]] = field(default_factory=list)
    events: list[Stamped[Event]] = field(default_factory=list)
    alerts: list[Stamped[AlertTransition]] = field(default_factory=list)
    health: list[Stamped[Health]] = field(default_factory=list)
    dead_letters: list[Stamped[DeadLetter]] = field(default_factory=list)


def read_records(bootstrap: str, camera: str, span: Span) -> Records:
    """Read everything about `camera` that was committed by now.

    Raises:
        SightflowError: the broker does not answer, or the span holds more than MAX_RECORDS.
    """
    found = Records()
    sorts: dict[str, Callable[[Message], None]] = {
        topics.DETECTIONS: _sort(found.detections, DetectionFrame, lambda m: m.camera == camera, _captured, span),
        topics.TRACKS: _sort(found.tracks, TrackFrame, lambda m: m.camera == camera, _captured, span),
        topics.EVENTS: _sort(found.events, Event, lambda m: m.camera == camera, lambda m: m.at_us, span),
        topics.ALERTS: _sort(found.alerts, AlertTransition, lambda m: m.camera == camera, lambda m: m.at_us, span),
        topics.HEALTH: _sort(found.health, Health, lambda m: _names(m, camera), lambda m: m.at_us, span),
    }
    messages = _read_all(bootstrap, [*sorts, topics.DEAD_LETTERS], span.since_us // 1000)
    for count, message in enumerate(messages, 1):
        if message.topic() == topics.DEAD_LETTERS:
            _sort_dead_letter(found.dead_letters, message, camera, span)
        else:
            sorts[message.topic()](message)
        if count > MAX_RECORDS:
            raise SightflowError(
                f"more than {MAX_RECORDS} records in this span", "choose a shorter one with --since and --until"
            )
    return found


def _captured(message: Any) -> int:
    return int(message.capture_us)


def _names(health: Health, camera: str) -> bool:
    return any(c.camera == camera for c in health.cameras)


def _sort(
    into: list[Stamped[M]], kind: type[M], wanted: Callable[[M], bool], time_of: Callable[[M], int], span: Span
) -> Callable[[Message], None]:
    def put(message: Message) -> None:
        value = message.value()
        if value is None:
            return
        try:
            decoded = wire.decode(value, kind)
        except wire.BadMessage:  # the job has put it among the dead letters, which are counted
            return
        if wanted(decoded) and span.holds(time_of(decoded)):
            into.append(Stamped(decoded, message.timestamp()[1] * 1000))

    return put


def _sort_dead_letter(into: list[Stamped[DeadLetter]], message: Message, camera: str, span: Span) -> None:
    """A dead letter may have no readable time, so the time at which it was written decides."""
    written_us = message.timestamp()[1] * 1000
    letter = wire.decode(message.value(), DeadLetter)
    if letter.key == camera and written_us >= span.since_us:
        into.append(Stamped(letter, written_us))


def _read_all(bootstrap: str, names: Sequence[str], since_ms: int) -> Any:
    """Yield every committed record of these topics with a timestamp from `since_ms` on (nothing is written earlier
    than it was captured)."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "sightflow-report",  # asked for by the client; nothing is committed
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        yield from _until_ends(consumer, _starts(consumer, names, since_ms))
    except KafkaException as error:
        raise SightflowError(
            f"Kafka at {bootstrap}: {error.args[0].str()}", "is the stack up? sightflow status"
        ) from error
    finally:
        consumer.close()


def _starts(consumer: Consumer, names: Sequence[str], since_ms: int) -> list[TopicPartition]:
    known = consumer.list_topics(timeout=_QUIET_S).topics
    wanted = [TopicPartition(name, p, since_ms) for name in names if name in known for p in known[name].partitions]
    # A partition without such a record answers with its end.
    starts: list[TopicPartition] = consumer.offsets_for_times(wanted, timeout=_QUIET_S)
    return starts


def _until_ends(consumer: Consumer, starts: list[TopicPartition]) -> Any:
    consumer.assign(starts)
    open_ends = {(p.topic, p.partition) for p in starts}
    heard_s = time.monotonic()
    while open_ends:
        messages = consumer.consume(1000, timeout=0.2)
        if messages:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > _QUIET_S:
            raise SightflowError(
                f"Kafka gave nothing for {_QUIET_S:.0f} s while {len(open_ends)} partitions were being read",
                "look at the broker: sightflow logs kafka",
            )
        for message in messages:
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_ends.discard((message.topic(), message.partition()))
            else:
                raise KafkaException(message.error())
