"""A span of a topic, read as any client would: where it begins and ends, and its records in order, partition by partition."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas import topics
from sightflow.errors import CheckFailed, SightflowError
from sightflow.replay.records import Span
from sightflow.replay.times import ms_of
from sightflow.track.wire_file import Recorded

QUIET_S = 20.0
"""A broker that gives nothing for so long, not even the end of a partition, is taken for unreachable."""
_BATCH = 1000
SCHEMES = ("kafka:", "topic:")


@dataclass(frozen=True)
class TopicSpan:
    """What is to be read. `bootstrap` is empty where the input names no Kafka."""

    bootstrap: str
    topic: str
    span: Span


def is_topic(text: str) -> bool:
    """Whether an input names a topic."""
    return text.startswith(SCHEMES)


def parse(text: str, since: str | None, until: str | None) -> TopicSpan:
    """Read `kafka://HOST:PORT[,HOST:PORT]/TOPIC[?from=TIME&to=TIME]`, or `topic:TOPIC`.

    Args:
        since: `--from`, which the address must not name too.
        until: `--to`, likewise.

    Raises:
        CheckFailed: it is none.
    """
    wanted = "kafka://HOST:PORT/TOPIC?from=TIME&to=TIME, or topic:TOPIC"
    given: dict[str, str | None] = {"from": since, "to": until}
    try:
        parts = urlsplit(text)
        bootstrap, topic = (parts.netloc, parts.path.strip("/")) if parts.scheme == "kafka" else ("", parts.path)
    except ValueError:
        raise CheckFailed(f"--input: expected {wanted}, got {text!r}") from None
    if not topic or "/" in topic or (parts.scheme == "kafka" and not bootstrap):
        raise CheckFailed(f"--input: expected {wanted}, got {text!r}")
    for pair in filter(None, parts.query.split("&")):
        name, _, value = pair.partition("=")
        if name not in given:
            raise CheckFailed(f"--input: expected from=TIME or to=TIME after the '?', got {pair!r}")
        if given[name] is not None:
            raise CheckFailed(f"--input: {name} is given twice, also by --{name}")
        given[name] = unquote(value)
    return TopicSpan(bootstrap, topic, span_of(given["from"], given["to"]))


def span_of(since: str | None, until: str | None) -> Span:
    """Return a span of capture times. Raises CheckFailed where one is no time, or the second not after the first."""
    from_ms = None if since is None else ms_of("--from", since)
    to_ms = None if until is None else ms_of("--to", until)
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise CheckFailed(f"--to: expected a time after --from {since}, got {until}")
    return Span(from_ms, to_ms)


class TopicReader:
    """Reads what a topic holds at the time of the call.

    Args:
        properties: librdkafka's, `bootstrap.servers` among them.
    """

    def __init__(self, properties: dict[str, str]) -> None:
        self._properties = properties

    def read(self, wanted: TopicSpan) -> Iterator[Recorded]:
        """Yield the records of a span, each partition's in its order.

        The span is one of record timestamps, which are capture times. What a spool sent late lies far behind in the topic, so
        partitions are read to their ends.

        Raises:
            SightflowError: there is no such topic, or Kafka does not answer.
        """
        consumer = Consumer(
            {
                "group.id": "sightflow-replay",
                **self._properties,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        try:
            begins = self._begins(consumer, wanted)
            ends = {p.partition: self._end(consumer, p) for p in begins}
            consumer.assign([p for p in begins if ends[p.partition]])
            yield from self._records(consumer, wanted, {p: end for p, end in ends.items() if end})
        except KafkaException as error:
            raise self._unreachable(error) from error
        finally:
            consumer.close()

    def _begins(self, consumer: Any, wanted: TopicSpan) -> list[Any]:
        found = consumer.list_topics(wanted.topic, timeout=QUIET_S).topics[wanted.topic]
        if found.error is not None:
            raise SightflowError(
                f"there is no topic {wanted.topic!r} at {self._properties['bootstrap.servers']}: {found.error}",
                f"detections lie on the topic {topics.DETECTIONS!r} (docs/wire.md)",
            )
        if wanted.span.from_ms is None:
            return [TopicPartition(wanted.topic, p, OFFSET_BEGINNING) for p in sorted(found.partitions)]
        asked = [TopicPartition(wanted.topic, p, wanted.span.from_ms) for p in sorted(found.partitions)]
        return list(consumer.offsets_for_times(asked, timeout=QUIET_S))

    def _end(self, consumer: Any, begin: Any) -> int:
        """Return the offset behind a partition's last record now; 0: it holds none."""
        low, high = consumer.get_watermark_offsets(TopicPartition(begin.topic, begin.partition), timeout=QUIET_S)
        return int(high) if high > low else 0

    def _records(self, consumer: Any, wanted: TopicSpan, ends: dict[int, int]) -> Iterator[Recorded]:
        heard_s = time.monotonic()
        while ends:
            messages = consumer.consume(_BATCH, 0.5)
            if messages:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > QUIET_S:
                raise self._unreachable(f"nothing from {wanted.topic!r} for {QUIET_S:.0f} s")
            for m in messages:
                partition = m.partition()
                if m.error() is not None:
                    if m.error().code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(m.error())
                    ends.pop(partition, None)
                    continue
                if partition not in ends or m.offset() >= ends[partition]:
                    ends.pop(partition, None)
                    continue
                at_ms = m.timestamp()[1]
                if wanted.span.has(at_ms):
                    yield Recorded(m.key(), at_ms, partition, m.offset(), m.value())
                if m.offset() + 1 >= ends[partition]:
                    del ends[partition]

    def _unreachable(self, error: object) -> SightflowError:
        return SightflowError(
            f"Kafka at {self._properties['bootstrap.servers']} does not answer: {error}",
            "is it up? sightflow status; is it another one? kafka://HOST:PORT/TOPIC",
        )
