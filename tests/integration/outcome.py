"""What came out of a run, as read back from Kafka and InfluxDB, and how two of them differ."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from msgspec import Struct

from schemas.wire import decode
from sightflow.stack import InfluxTarget

READ_TIMEOUT_S = 60.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

M = TypeVar("M", bound=Struct)
T = TypeVar("T", bound=Hashable)


class Message(NamedTuple):
    """One record as Kafka holds it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


class PointKey(NamedTuple):
    """What makes a point one point."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    at_ns: int

    def tag(self, name: str) -> str:
        """Return a tag's value, '' where there is none."""
        return dict(self.tags).get(name, "")


Points = dict[PointKey, dict[str, Any]]


@dataclass
class Outcome:
    """Topics (as a `read_committed` reader sees them), the bucket, and what a test wants to remember of the run."""

    topics: dict[str, list[Message]]
    points: Points
    notes: dict[str, Any] = field(default_factory=dict)

    def values(self, topic: str) -> list[bytes]:
        """Return a topic's values."""
        return [m.value or b"" for m in self.topics[topic]]

    def decoded(self, topic: str, kind: type[M]) -> list[M]:
        """Return a topic's values, decoded."""
        return [decode(value, kind) for value in self.values(topic)]

    def measured(self, measurement: str) -> Points:
        """Return the points of one measurement."""
        return {key: fields for key, fields in self.points.items() if key.measurement == measurement}


# ---- Kafka --------------------------------------------------------------------------------------------------------


def read_topic(bootstrap: str, topic: str, *, committed: bool = True) -> list[Message]:
    """Return all that a topic holds now, by partition and offset.

    committed: as a `read_committed` reader sees it, that is without transactions that are open or were aborted.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "sightflow-tests-read",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
        }
    )
    try:
        partitions = list(consumer.list_topics(topic, timeout=READ_TIMEOUT_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        return sorted(_read_to_ends(consumer, topic, set(partitions)), key=lambda m: (m.partition, m.offset))
    finally:
        consumer.close()


def _read_to_ends(consumer: Consumer, topic: str, open_partitions: set[int]) -> Iterable[Message]:
    while open_partitions:
        m = consumer.poll(READ_TIMEOUT_S)  # not consume(): that waits until it has as many as asked for
        if m is None:
            raise TimeoutError(f"nothing from {topic!r} for {READ_TIMEOUT_S} s; open: {sorted(open_partitions)}")
        if m.error() is None:
            yield Message(m.partition(), m.offset(), m.key(), m.value(), m.timestamp()[1])
        elif m.error().code() == KafkaError._PARTITION_EOF:
            open_partitions.discard(m.partition())
        else:
            raise KafkaException(m.error())


def end_offset(bootstrap: str, topic: str) -> int:
    """Return the sum of a topic's end offsets: how much was ever written to it."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "sightflow-tests-read"})
    try:
        partitions = consumer.list_topics(topic, timeout=READ_TIMEOUT_S).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=READ_TIMEOUT_S)[1] for p in partitions]
        return sum(ends)
    finally:
        consumer.close()


# ---- InfluxDB -----------------------------------------------------------------------------------------------------

_CONVERT: dict[str, Callable[[str], Any]] = {
    "long": int,
    "double": float,
    "boolean": lambda text: text == "true",
    "string": str,
}
_NOT_TAGS = {"", "result", "table", "_start", "_stop", "_time", "_value", "_field", "_measurement"}


def read_points(target: InfluxTarget, bucket: str) -> Points:
    """Return every point of a bucket with all its fields, times in ns, values in the type that InfluxDB has."""
    flux = f'from(bucket: "{bucket}") |> range(start: 0) |> map(fn: (r) => ({{r with _time: int(v: r._time)}}))'
    points: Points = {}
    for kinds, header, rows in _tables(_query(target, flux)):
        value_kind = _CONVERT[kinds[header.index("_value")]]
        for cells in rows:
            row = dict(zip(header, cells, strict=True))
            tags = tuple(sorted((k, v) for k, v in row.items() if k not in _NOT_TAGS))
            key = PointKey(row["_measurement"], tags, int(row["_time"]))
            points.setdefault(key, {})[row["_field"]] = value_kind(row["_value"])
    return points


def _query(target: InfluxTarget, flux: str) -> str:
    body = {"query": flux, "type": "flux", "dialect": {"annotations": ["datatype"], "header": True}}
    request = urllib.request.Request(
        f"{target.url}/api/v2/query?org={target.org}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Token {target.token()}", "Content-Type": "application/json"},
    )
    with _DIRECT.open(request, timeout=READ_TIMEOUT_S) as answer:
        return str(answer.read().decode())


def _tables(text: str) -> Iterable[tuple[list[str], list[str], list[list[str]]]]:
    """Split annotated CSV into (datatypes, header, rows); tables of one shape share a header."""
    kinds: list[str] = []
    header: list[str] = []
    rows: list[list[str]] = []
    for cells in csv.reader(io.StringIO(text)):
        if not any(cells):
            continue
        if cells[0] == "#datatype":
            if rows:
                yield kinds, header, rows
            kinds, header, rows = cells, [], []
        elif not header:
            header = cells
        else:
            rows.append(cells)
    if rows:
        yield kinds, header, rows


# ---- differences --------------------------------------------------------------------------------------------------


def difference(got: Iterable[T], expected: Iterable[T], show: Callable[[T], object] = lambda x: x) -> str:
    """Return '' where both hold the same, each as often; else what is missing and what is too much, in words."""
    have, want = Counter(got), Counter(expected)
    return _words(list((want - have).elements()), list((have - want).elements()), show)


def points_difference(got: Points, expected: Points) -> str:
    """Return '' where both hold the same points with the same fields; else the first differences."""
    missing = [k for k in expected if k not in got]
    extra = [k for k in got if k not in expected]
    changed = [
        f"{k}:\n    {got[k]}\n    instead of {expected[k]}" for k in got if k in expected and got[k] != expected[k]
    ]
    words = _words(missing, extra, lambda k: (k, expected.get(k, got.get(k))))
    return "\n".join([*([words] if words else []), *([f"{len(changed)} differ:"] if changed else []), *changed[:5]])


def _words(missing: list[T], extra: list[T], show: Callable[[T], object]) -> str:
    lines = []
    for name, found in (("missing", missing), ("too many", extra)):
        if found:
            lines.append(f"{len(found)} {name}:")
            lines += [f"    {show(item)}" for item in found[:5]]
    return "\n".join(lines)
