"""The agent's figures for Prometheus. Names of cameras are labels; nothing of a URL ever is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.delivery import Delivery
from edge_agent.detection import DetectionLoop
from edge_agent.health import CameraGauge, temperatures_c
from edge_agent.spool import Spool

_log = logging.getLogger(__name__)
_TOTALS = {
    "captured_count": "Frames decoded", "skipped_count": "Frames left out by sampling",
    "quiet_count": "Empty frames left out while nothing is seen", "sent_count": "Messages handed to the spool",
    "delivered_count": "Messages acknowledged by Kafka", "reconnect_count": "Attempts to reach the camera again",
}  # fmt: skip


class AgentCollector(Collector):
    """Reads the agent's figures when Prometheus asks."""

    def __init__(
        self, gauges: dict[str, CameraGauge], spool: Spool, delivery: Delivery, detection: DetectionLoop,
        clock_ahead_s: Callable[[], float],
    ) -> None:  # fmt: skip
        self._gauges, self._spool, self._delivery, self._detection = gauges, spool, delivery, detection
        self._clock_ahead_s = clock_ahead_s

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        yield from self._cameras()
        yield from self._uplink()
        seconds = CounterMetricFamily("sightflow_agent_detect_seconds", "Seconds spent in the detector")
        seconds.add_metric([], self._detection.detect_s)
        yield seconds
        yield _counter("sightflow_agent_detected", "Frames the detector looked at", self._detection.detect_count)
        yield _gauge("sightflow_agent_clock_ahead_seconds", "Time line ahead of the wall clock", self._clock_ahead_s())
        temperature = GaugeMetricFamily("sightflow_agent_temperature_celsius", "Thermal zones", labels=["zone"])
        for zone, value_c in temperatures_c().items():
            temperature.add_metric([zone], value_c)
        yield temperature

    def _cameras(self) -> Iterator[Metric]:
        for name, text in _TOTALS.items():
            family = CounterMetricFamily(f"sightflow_agent_{name.removesuffix('_count')}", text, labels=["camera"])
            for camera, gauge in self._gauges.items():
                family.add_metric([camera], gauge.counts.snapshot()[name])
            yield family
        dropped = CounterMetricFamily("sightflow_agent_dropped", "Frames lost, by reason", labels=["camera", "reason"])
        streaming = GaugeMetricFamily("sightflow_agent_streaming", "1 while the camera streams", labels=["camera"])
        offset = GaugeMetricFamily("sightflow_agent_clock_offset_seconds", "Camera clock - arrival", labels=["camera"])
        fps = GaugeMetricFamily("sightflow_agent_capture_fps", "Frames decoded a second", labels=["camera"])
        for camera, gauge in self._gauges.items():
            for reason, count in gauge.counts.drops().items():
                dropped.add_metric([camera, reason], count)
            streaming.add_metric([camera], float(gauge.capture.state == "streaming"))
            offset.add_metric([camera], gauge.capture.clock_offset_s)
            fps.add_metric([camera], gauge.capture_fps)
        yield from (dropped, streaming, offset, fps)

    def _uplink(self) -> Iterator[Metric]:
        delivery, spool = self._delivery, self._spool
        yield _gauge("sightflow_agent_spool_records", "Messages not acknowledged", spool.depth_count)
        yield _gauge("sightflow_agent_spool_bytes", "Bytes of messages not acknowledged", spool.stored_bytes)
        yield _counter("sightflow_agent_spool_dropped", "Messages dropped at the spool's bound", delivery.lost_count)
        yield _gauge("sightflow_agent_in_flight", "Messages handed to the producer", delivery.in_flight_count)
        yield _gauge("sightflow_agent_unacked_seconds", "Age of the last progress", delivery.unacked_age_s)
        yield _counter("sightflow_agent_producer_renewed", "Producers made anew", delivery.renewed_count)
        refused = CounterMetricFamily("sightflow_agent_refused", "Messages Kafka refused for good", labels=["error"])
        for error, count in dict(delivery.refused).items():
            refused.add_metric([error], count)
        yield refused


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def serve_metrics(collector: Collector, address: str, port: int) -> Callable[[], None]:
    """Serve /metrics on address:port and return how to stop. A taken port is logged, not fatal: cameras go first."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as e:
        _log.error("metrics are off: %s:%d: %s; choose another --metrics-port", address, port, e.strerror)
        return lambda: None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1.0)

    return stop
