"""Messages as Kafka records, and what a network does to them: repeats, local disorder, poison in between."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from schemas.wire import DetectionFrame, encode
from simulator.poison import PoisonRecord


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the `detections` topic."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int


def to_records(frames: Iterable[DetectionFrame]) -> Iterator[Record]:
    """Encode frames: key = camera, timestamp = capture time."""
    for frame in frames:
        yield Record(frame.camera.encode(), encode(frame), frame.capture_us // 1000)


def length_prefixed(frames: Iterable[DetectionFrame]) -> Iterator[bytes]:
    """Encode frames as a file holds them: each message after its length (4 bytes, unsigned, little-endian)."""
    for frame in frames:
        message = encode(frame)
        yield len(message).to_bytes(4, "little") + message


def with_duplicates(records: Iterable[Record], ratio: float, seed: int, *, delay_count: int = 40) -> Iterator[Record]:
    """Send a share of the records again, up to `delay_count` records later (as a producer's retry does)."""
    rng = np.random.default_rng([seed, 11])
    pending: list[tuple[int, int, Record]] = []
    n = 0
    for n, record in enumerate(records):
        yield record
        if rng.random() < ratio:
            heapq.heappush(pending, (n + int(rng.integers(0, delay_count + 1)), n, record))
        while pending and pending[0][0] <= n:
            yield heapq.heappop(pending)[2]
    while pending:
        yield heapq.heappop(pending)[2]


def with_disorder(records: Iterable[Record], ratio: float, seed: int, *, distance_count: int = 3) -> Iterator[Record]:
    """Hold a share of the records back until up to `distance_count` later ones of the same key have passed."""
    rng = np.random.default_rng([seed, 12])
    held: dict[bytes | None, tuple[int, Record]] = {}
    for record in records:
        waiting = held.pop(record.key, None)
        if waiting is None and rng.random() < ratio:
            held[record.key] = (int(rng.integers(1, distance_count + 1)), record)
            continue
        yield record
        if waiting is not None and waiting[0] > 1:
            held[record.key] = (waiting[0] - 1, waiting[1])
        elif waiting is not None:
            yield waiting[1]
    for _, record in held.values():
        yield record


def with_poison(records: Iterable[Record], poison: Iterable[PoisonRecord], seed: int, ratio: float) -> Iterator[Record]:
    """Strew poison between records, `ratio` of it per record on average; what is left over comes at the end."""
    rng = np.random.default_rng([seed, 13])
    bad = iter(poison)
    for record in records:
        yield record
        for _ in range(int(rng.poisson(ratio))):
            yield from _next(bad)
    for rest in bad:
        yield Record(rest.key, rest.value, rest.timestamp_ms)


def _next(bad: Iterator[PoisonRecord]) -> Iterator[Record]:
    for found in bad:
        yield Record(found.key, found.value, found.timestamp_ms)
        return
