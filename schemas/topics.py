"""Kafka topics: names, partitions, bounds. The key of each is fixed by `docs/wire.md`."""

from __future__ import annotations

from dataclasses import dataclass

DETECTIONS = "detections"
TRACKS = "tracks"
EVENTS = "events"
ALERTS = "alerts"
FIGURES = "figures"
IDENTITIES = "identities"
HEALTH = "health"
SETTINGS = "settings"
SETTINGS_ACKS = "settings-acks"
DEAD_LETTERS = "dead-letters"

MAX_MESSAGE_BYTES = 1 << 20
"""Largest value that a job accepts on any topic; larger ones become dead letters."""

_HOUR_MS = 3_600_000
_GIB = 1 << 30


@dataclass(frozen=True)
class Topic:
    """One topic as it is created. `retention_bytes` bounds each partition; there is no bound by age.

    Record timestamps are capture times, and Kafka deletes by record timestamp: a bound by age would delete
    a replayed recording at once.
    """

    name: str
    partitions: int = 4
    compacted: bool = False
    retention_bytes: int = _GIB
    max_message_bytes: int = 2 * MAX_MESSAGE_BYTES

    def config(self) -> dict[str, str]:
        """Return the topic's Kafka configuration."""
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": "-1",
            "retention.bytes": str(self.retention_bytes),
            "segment.bytes": str(max(1 << 20, min(256 << 20, self.retention_bytes // 4))),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "CreateTime",
            # A recording of any age may be replayed, but a clock that runs ahead must not drag watermarks along.
            "message.timestamp.before.max.ms": str((1 << 63) - 1),
            "message.timestamp.after.max.ms": str(_HOUR_MS),
        }


TOPICS: tuple[Topic, ...] = (
    Topic(DETECTIONS),
    Topic(TRACKS),
    Topic(EVENTS),
    Topic(ALERTS),
    Topic(FIGURES),
    Topic(IDENTITIES),
    Topic(HEALTH, partitions=1, retention_bytes=_GIB // 8),
    Topic(SETTINGS, partitions=1, compacted=True, retention_bytes=_GIB // 8),
    Topic(SETTINGS_ACKS, partitions=1, retention_bytes=_GIB // 8),
    # A dead letter carries the bytes it is about, so its bound lies above theirs.
    Topic(DEAD_LETTERS, retention_bytes=_GIB, max_message_bytes=4 * MAX_MESSAGE_BYTES),
)
