"""What goes by on the topics while the demo runs, counted live. The figures at the end are read anew, committed ones only."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from schemas import topics, wire
from schemas.settings import Camera, SiteSettings
from schemas.wire import AlertTransition, DetectionFrame, Event, Health, TrackFrame
from sightflow.report.drawing import clock
from sightflow.report.outcome import SOURCE_LOST

_BATCH = 500


def _consumer(bootstrap: str, isolation: str, names: list[str]) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": "sightflow-demo", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "isolation.level": isolation, "log_level": 0, "fetch.wait.max.ms": 50,
        }
    )  # fmt: skip
    known = consumer.list_topics(timeout=20).topics
    consumer.assign([TopicPartition(name, p, 0) for name in names for p in known[name].partitions])
    return consumer


class Watch:
    """Counts one camera's records as they come. A context manager; not for two threads."""

    def __init__(self, bootstrap: str, site: SiteSettings, camera: Camera) -> None:
        self._timezone, self._camera = site.timezone, camera.id
        # Events are written in transactions; to show them as they happen we look before the commit.
        names = [topics.DETECTIONS, topics.TRACKS, topics.EVENTS, topics.ALERTS, topics.HEALTH]
        self._live = _consumer(bootstrap, "read_uncommitted", names)
        self._committed = _consumer(bootstrap, "read_committed", [topics.EVENTS])
        self.source_lost = False
        self.events_committed = False  # the event that silence makes, and so all before it, can be read
        self._sent: set[tuple[int, int]] = set()
        self._tracked: set[tuple[int, int]] = set()
        self._objects: set[tuple[int, int]] = set()
        self._inside: dict[str, int] = {}
        self._crossed = {"left": 0, "right": 0}
        self._opened = 0
        self._agent_sent_count = 0

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.close()
        self._committed.close()

    @property
    def sent_count(self) -> int:
        """Frames on `detections`."""
        return len(self._sent)

    @property
    def tracked_count(self) -> int:
        """Frames on `tracks`."""
        return len(self._tracked)

    def all_tracked(self) -> bool:
        """Whether all that the agent said it sent has arrived, and every frame that arrived is on `tracks`."""
        return len(self._sent) >= self._agent_sent_count and self._sent <= self._tracked

    def poll(self, timeout_s: float) -> list[str]:
        """Take what has come, for `timeout_s` at most; return lines worth telling at once."""
        told: list[str] = []
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            for message in self._live.consume(_BATCH, timeout=left_s):
                if message.error() is None and message.value() is not None:
                    told += self._take(message.topic(), message.value())
            for message in self._committed.consume(_BATCH, timeout=0):
                if message.error() is None:
                    self.events_committed |= wire.decode(message.value(), Event).kind == SOURCE_LOST
        return told

    def line(self) -> str:
        """Return the state in one line."""
        inside = ", ".join(f"{n} in {zone}" for zone, n in self._inside.items()) or "zones empty"
        crossed = f"{self._crossed['left']}←|→{self._crossed['right']}"
        return (
            f"{len(self._sent)} frames sent, {len(self._tracked)} tracked, {len(self._objects)} objects, {inside},"
            f" crossings {crossed}, {self._opened} alerts"
        )

    def _take(self, topic: str, value: bytes) -> list[str]:
        if topic == topics.ALERTS:
            return self._alert(wire.decode(value, AlertTransition))
        if topic == topics.DETECTIONS:
            frame = wire.decode(value, DetectionFrame)
            self._sent.add((frame.boot, frame.seq))
        elif topic == topics.TRACKS:
            self._tracks(wire.decode(value, TrackFrame))
        elif topic == topics.EVENTS:
            self._event(wire.decode(value, Event))
        elif topic == topics.HEALTH:
            health = wire.decode(value, Health)
            self._agent_sent_count = sum(c.sent_count for c in health.cameras if c.camera == self._camera)
        return []

    def _tracks(self, frame: TrackFrame) -> None:
        self._tracked.add((frame.boot, frame.seq))
        born: Any = np.frombuffer(frame.born_us, "<i8").tolist()
        self._objects.update(zip(born, np.frombuffer(frame.ordinals, "<u4").tolist(), strict=True))

    def _event(self, event: Event) -> None:
        if event.kind in ("enter", "exit"):
            by = 1 if event.kind == "enter" else -1
            self._inside[event.zone] = self._inside.get(event.zone, 0) + by
        elif event.kind == "crossing":
            self._crossed[event.direction] += 1

    def _alert(self, alert: AlertTransition) -> list[str]:
        if alert.rule_type == SOURCE_LOST:
            self.source_lost |= alert.transition == "open"
            return []
        self._opened += alert.transition == "open"
        if alert.transition == "update":
            return []
        return [f"alert {clock(alert.at_us, self._timezone)} {alert.rule} {alert.transition}: {alert.reason}"]
