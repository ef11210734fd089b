"""Reads a topic to its end, on the worker, before anything else is taken: with the Kafka client of Flink's own connector,
so with the same properties, by way of the bridge between Python and the JVM."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from operators.stages.stage import Input

READ_TIMEOUT_S = 60.0
_KAFKA = "org.apache.flink.kafka.shaded.org.apache.kafka"
_POLL_MS = 200


class LogUnreadable(RuntimeError):
    """The topic could not be read to its end; the job restarts and tries again."""


def read_to_end(bootstrap_servers: str, topic: str, properties: dict[str, str]) -> Iterator[tuple[str, Input]]:
    """Yield (key, record) of all that the topic holds now, in its order; keys that are not text are shown with marks.

    Raises LogUnreadable where its end is not reached in time; Kafka's client raises errors of its own.
    """
    java = _java()
    consumer = java(f"{_KAFKA}.clients.consumer.KafkaConsumer")(
        {
            **properties,
            "bootstrap.servers": bootstrap_servers,
            "key.deserializer": f"{_KAFKA}.common.serialization.ByteArrayDeserializer",
            "value.deserializer": f"{_KAFKA}.common.serialization.ByteArrayDeserializer",
            "enable.auto.commit": "false",
            "allow.auto.create.topics": "false",
        }
    )
    try:
        partition_of = java(f"{_KAFKA}.common.TopicPartition")
        partitions = [partition_of(topic, p.partition()) for p in consumer.partitionsFor(topic) or ()]
        if not partitions:
            raise LogUnreadable(f"there is no topic {topic!r} at {bootstrap_servers}: create it (docs/wire.md)")
        consumer.assign(partitions)
        consumer.seekToBeginning(partitions)
        yield from _records(consumer, list(consumer.endOffsets(partitions).items()), java("java.time.Duration"), topic)
    finally:
        consumer.close()


def _records(consumer: Any, ends: list[tuple[Any, int]], duration: Any, topic: str) -> Iterator[tuple[str, Input]]:
    deadline_s = time.monotonic() + READ_TIMEOUT_S
    while any(consumer.position(partition) < end for partition, end in ends):
        if time.monotonic() > deadline_s:
            raise LogUnreadable(f"the end of {topic!r} was not reached within {READ_TIMEOUT_S:.0f} s")
        records = consumer.poll(duration.ofMillis(_POLL_MS)).iterator()
        while records.hasNext():
            r = records.next()
            yield (r.key() or b"").decode(errors="replace"), Input(r.value(), r.partition(), r.offset(), r.timestamp())


def _java() -> Any:
    try:
        from pemja import findClass  # type: ignore[import-untyped]
    except ImportError as e:
        raise LogUnreadable("expected to run inside a TaskManager, where Python has pemja's findClass") from e
    return findClass
