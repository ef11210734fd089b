"""The agent's heartbeat: what it is doing, once a second, on the topic `health`. Never stored, never waited for."""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import confluent_kafka
from confluent_kafka import KafkaException, Producer

from edge_agent.agent_clock import AgentClock
from edge_agent.capture import CameraCapture
from edge_agent.counts import CameraCounts
from edge_agent.delivery import DEFAULT_PROPERTIES, Delivery
from edge_agent.spool import Spool
from schemas.topics import HEALTH
from schemas.wire import SCHEMA_VERSION, CameraHealth, Health, encode

RATE_OVER_S = 5.0
_THERMAL = Path("/sys/class/thermal")
_log = logging.getLogger(__name__)


class Rate:
    """Events a second over the last RATE_OVER_S, from totals looked at once a second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=64)

    def at(self, now_s: float, total: int) -> float:
        """Note `total` at `now_s` and return the rate."""
        self._seen.append((now_s, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - RATE_OVER_S:
            self._seen.popleft()
        since_s, before = self._seen[0]
        return max(0.0, (total - before) / (now_s - since_s)) if now_s > since_s else 0.0


class CameraGauge:
    """Turns one camera's state into its part of the heartbeat."""

    def __init__(self, capture: CameraCapture, counts: CameraCounts) -> None:
        self.capture, self.counts = capture, counts
        self._captured, self._sent = Rate(), Rate()
        self.capture_fps = self.sent_fps = 0.0

    def read(self, now_s: float) -> CameraHealth:
        """Return the camera's health now."""
        capture, totals = self.capture, self.counts.snapshot()
        self.capture_fps = self._captured.at(now_s, totals["captured_count"])
        self.sent_fps = self._sent.at(now_s, totals["sent_count"])
        return CameraHealth(
            camera=capture.plan.camera, state=capture.state, clock=capture.clock, capture_fps=self.capture_fps,
            sent_fps=self.sent_fps, captured_count=totals["captured_count"], sent_count=totals["sent_count"],
            delivered_count=totals["delivered_count"], skipped_count=totals["skipped_count"] + totals["quiet_count"],
            dropped=self.counts.drops(), reconnect_count=totals["reconnect_count"],
            clock_offset_s=capture.clock_offset_s, last_error=capture.last_error,
        )  # fmt: skip


def temperatures_c() -> dict[str, float]:
    """Return the machine's thermal zones, °C by name (at most 32)."""
    found: dict[str, float] = {}
    for zone in sorted(_THERMAL.glob("thermal_zone*"))[:32]:
        with contextlib.suppress(OSError, ValueError):
            found[(zone / "type").read_text().strip()] = int((zone / "temp").read_text()) / 1000.0
    return found


def versions() -> dict[str, str]:
    """Return what runs here, for the one who looks from afar."""
    from importlib.metadata import PackageNotFoundError, version

    found = {
        "python": platform.python_version(), "machine": platform.machine(), "schema": str(SCHEMA_VERSION),
        "librdkafka": confluent_kafka.libversion()[0],
    }  # fmt: skip
    for package in ("sightflow", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


class HealthReporter:
    """Makes heartbeats and sends them with a small producer of its own, which drops what cannot be sent at once."""

    def __init__(
        self, site: str, agent: str, boot: int, clock: AgentClock, gauges: Mapping[str, CameraGauge], spool: Spool,
        delivery: Delivery, models: tuple[str, str, str], bootstrap_servers: str, properties: Mapping[str, str],
    ) -> None:  # fmt: skip
        """`models` is (model, fingerprint, backend)."""
        self._site, self._agent, self._boot, self._clock = site, agent, boot, clock
        self._gauges, self._spool, self._delivery, self._models = gauges, spool, delivery, models
        self._versions = versions()
        self._seq = 0
        self._producer = Producer(
            {
                **DEFAULT_PROPERTIES, **properties, "bootstrap.servers": bootstrap_servers,
                "client.id": f"{agent}-health", "acks": "1", "message.timeout.ms": 5_000,
                "queue.buffering.max.kbytes": 1_024, "queue.buffering.max.messages": 100,
                "logger": logging.getLogger("edge_agent.librdkafka.health"), "error_cb": lambda error: None,
            }
        )  # fmt: skip

    def make(self) -> Health:
        """Return the heartbeat of now."""
        now_s = time.monotonic()
        self._seq += 1
        return Health(
            site=self._site, agent=self._agent, boot=self._boot, seq=self._seq - 1, at_us=self._clock.now_us(),
            cameras=tuple(gauge.read(now_s) for gauge in self._gauges.values()), spool_count=self._spool.depth_count,
            spool_bytes=self._spool.stored_bytes, spool_dropped_count=self._delivery.lost_count,
            queue_count=self._delivery.in_flight_count, temperatures_c=temperatures_c(), versions=self._versions,
            model=self._models[0], model_sha=self._models[1], backend=self._models[2],
            uplink_error=self._delivery.last_error,
        )  # fmt: skip

    def beat(self) -> Health:
        """Send one heartbeat and return it."""
        health = self.make()
        with contextlib.suppress(BufferError, KafkaException):
            self._producer.produce(
                HEALTH, value=encode(health), key=self._agent.encode(), timestamp=health.at_us // 1000
            )
        self._producer.poll(0)
        return health

    def close(self) -> None:
        """Send what is waiting, for a second at most."""
        self._producer.flush(1.0)
        with contextlib.suppress(KafkaException):
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
