"""The agent as a whole: threads, their life, their end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.agent_clock import AgentClock, is_plausible
from edge_agent.boot import next_boot
from edge_agent.capture import CameraCapture, CapturePlan
from edge_agent.counts import CameraCounts
from edge_agent.delivery import Delivery
from edge_agent.detection import CameraDetection, DetectionLoop, FrameDetector
from edge_agent.detector import Detector, DetectorOptions, open_detector
from edge_agent.frame_message import QuietRule
from edge_agent.health import CameraGauge, HealthReporter
from edge_agent.metrics import AgentCollector, serve_metrics
from edge_agent.newest_frames import NewestFrames
from edge_agent.plan import AgentPlan
from edge_agent.service_notice import notify, watchdog_interval_s
from edge_agent.source import ResolvedSource
from edge_agent.spool import Spool
from edge_agent.wake import Wake
from schemas import settings as site_settings

_log = logging.getLogger(__name__)
BEAT_LIMIT_S = 20.0
"""A thread that has made no step for so long is stuck: systemd is not told that all is well."""
HEARTBEAT_S = 1.0
CAPTURE_END_S = 3.0
DETECTION_END_S = 2.0
DELIVERY_END_S = 3.5
EXIT_OK, EXIT_BROKEN = 0, 70


class _Crew:
    """The agent's threads. One that fails ends the agent: the service manager starts it anew, the spool is safe."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self.failed = ""

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException:  # noqa: BLE001 (whatever it is, the agent must end)
                _log.exception("%s broke", name)
                self.failed = name
                self._on_failure()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread


def open_detectors(plan: AgentPlan) -> dict[str, Detector]:
    """Load each camera's detector, the same one for equal wishes. Raises ModelError, AcceleratorUnavailableError."""
    loaded: dict[site_settings.Detector, Detector] = {}
    found: dict[str, Detector] = {}
    for camera, _ in plan.cameras:
        wish = camera.detector
        if wish not in loaded:
            options = DetectorOptions(
                score_min=wish.score_min, labels=wish.classes, require_accelerator=wish.require_accelerator,
                engine_cache_dir=plan.state_dir / "engines",
            )  # fmt: skip
            loaded[wish] = open_detector(wish.model, plan.models_dir, options)
        found[camera.id] = loaded[wish]
    return found


def capture_plan(camera: site_settings.Camera, source: ResolvedSource, is_fast: bool) -> CapturePlan:
    """Return how `camera` is captured."""
    wish = camera.source
    assert wish is not None
    return CapturePlan(
        camera=camera.id, source=source, target_fps=camera.sampling.target_fps, transport=wish.transport,
        latency_s=wish.latency_s, connect_timeout_s=wish.connect_timeout_s, stall_timeout_s=wish.stall_timeout_s,
        is_fast=is_fast and source.is_file,
    )  # fmt: skip


class Agent:
    """One running agent. `run` blocks until SIGTERM, SIGINT, the end of all files, or a broken thread."""

    def __init__(self, plan: AgentPlan, detectors: dict[str, Detector]) -> None:
        """Opens the spool and makes everything; starts nothing. Raises SpoolError, UplinkError, OSError."""
        self._plan = plan
        self._wake = Wake()
        self._signalled = False
        plan.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spool = Spool(plan.spool_dir, plan.spool_max_bytes)
        self._boot = next_boot(plan.state_dir, time.time_ns() // 1000)
        self._clock = AgentClock(self._boot)
        self._counts = {camera.id: CameraCounts() for camera, _ in plan.cameras}
        self._frames = NewestFrames(lambda camera: self._counts[camera].drop("detector_busy"))
        self._captures = {
            camera.id: CameraCapture(
                capture_plan(camera, source, plan.is_fast), self._clock, self._frames, self._counts[camera.id],
                on_change=self._wake.set,
            )
            for camera, source in plan.cameras
        }  # fmt: skip
        self._detection = self._make_detection(detectors)
        self._delivery = Delivery(
            self._spool, plan.bootstrap_servers, plan.properties, plan.agent, self._count_delivered
        )
        self._gauges = {name: CameraGauge(capture, self._counts[name]) for name, capture in self._captures.items()}
        self._health = self._make_health(detectors)
        self._is_syncing = True
        self._crew = _Crew(self._wake.set)

    def _make_detection(self, detectors: dict[str, Detector]) -> DetectionLoop:
        cameras = {
            camera.id: CameraDetection(
                _as_frame_detector(detectors[camera.id]), QuietRule(camera.sampling.quiet_s), self._counts[camera.id]
            )
            for camera, _ in self._plan.cameras
        }
        return DetectionLoop(self._plan.site, self._boot, cameras, self._frames, self._spool, self._clock)

    def _make_health(self, detectors: dict[str, Detector]) -> HealthReporter:
        first = next(iter(detectors.values()))
        models = (first.model, first.fingerprint, first.backend.name)
        return HealthReporter(
            self._plan.site, self._plan.agent, self._boot, self._clock, self._gauges, self._spool, self._delivery,
            models, self._plan.bootstrap_servers, self._plan.properties,
        )  # fmt: skip

    def _count_delivered(self, camera: str) -> None:
        counts = self._counts.get(camera)  # None: stored by an earlier start that had this camera
        if counts is not None:
            counts.add("delivered_count")

    # -- running

    def run(self) -> int:
        """Run and return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        stop_metrics = self._serve_metrics()
        threads = self._start()
        notify("READY=1")
        _log.info(
            "agent %s of site %s: boot %d, %d camera(s), %d message(s) stored from before, Kafka at %s",
            self._plan.agent, self._plan.site, self._boot, len(self._captures), self._spool.depth_count,
            self._plan.bootstrap_servers,
        )  # fmt: skip
        self._watch()
        notify("STOPPING=1")
        self._end(threads)
        stop_metrics()
        return EXIT_BROKEN if self._crew.failed else EXIT_OK

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signalled = True
        self._wake.set()

    def _serve_metrics(self) -> Callable[[], None]:
        if self._plan.metrics_port == 0:
            return lambda: None
        collector = AgentCollector(
            self._gauges, self._spool, self._delivery, self._detection, lambda: self._clock.ahead_s
        )
        return serve_metrics(collector, self._plan.metrics_address, self._plan.metrics_port)

    def _start(self) -> dict[str, threading.Thread]:
        start = self._crew.start
        threads = {"delivery": start("delivery", self._delivery.run), "sync": start("sync", self._sync)}
        threads["detection"] = start("detection", self._detection.run)
        for name, capture in self._captures.items():
            threads[f"capture {name}"] = start(f"capture {name}", capture.run)
        return threads

    def _sync(self) -> None:
        """Bring the spool to the disk once a second: in a thread of its own, for a slow card may take seconds."""
        while self._is_syncing:
            self._spool.sync()
            time.sleep(1.0)

    def _watch(self) -> None:
        """The main thread: heartbeat, watchdog, and the wish to end."""
        next_s = time.monotonic()
        while not (self._signalled or self._crew.failed or self._is_played_out()):
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + HEARTBEAT_S
                self._health.beat()
                self._tell_watchdog()
            self._wake.wait(next_s - time.monotonic())

    def _is_played_out(self) -> bool:
        return all(c.state == "stopped" for c in self._captures.values()) and self._frames.is_empty()

    def _tell_watchdog(self) -> None:
        if watchdog_interval_s() == 0:
            return
        beats = {"delivery": self._delivery.beat_s, "detection": self._detection.beat_s}
        beats |= {name: c.beat_s for name, c in self._captures.items() if c.state != "stopped"}
        stuck = [name for name, beat_s in beats.items() if time.monotonic() - beat_s > BEAT_LIMIT_S]
        if stuck:
            _log.error("no progress for %.0f s in: %s", BEAT_LIMIT_S, ", ".join(stuck))
        else:
            notify("WATCHDOG=1")

    # -- ending

    def _end(self, threads: dict[str, threading.Thread]) -> None:
        """Stop in the order of the flow; under ten seconds when signalled. What is not delivered stays stored."""
        for capture in self._captures.values():
            capture.stop()
        _join([t for name, t in threads.items() if name.startswith("capture ")], CAPTURE_END_S)
        self._detection.stop()
        _join([threads["detection"]], DETECTION_END_S)
        self._deliver_rest(threads["delivery"])
        self._health.beat()
        self._health.close()
        self._is_syncing = False
        left_count = self._spool.depth_count
        self._spool.close()
        totals = {name: counts.snapshot() for name, counts in self._counts.items()}
        for name, total in totals.items():
            _log.info(
                "camera %s: %d messages stored, %d delivered", name, total["sent_count"], total["delivered_count"]
            )
        _log.info("stopped; %d message(s) wait in the spool for the next start", left_count)

    def _deliver_rest(self, thread: threading.Thread) -> None:
        """Files that have played out are delivered however long it takes; a signal leaves a few seconds."""
        while not self._signalled and not self._crew.failed and self._spool.depth_count and thread.is_alive():
            self._health.beat()
            self._tell_watchdog()
            self._wake.wait(HEARTBEAT_S)
        self._delivery.stop(DELIVERY_END_S)
        _join([thread], DELIVERY_END_S + 0.5)


def _as_frame_detector(detector: Detector) -> FrameDetector:
    return detector


def _join(threads: list[threading.Thread], within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))


def wait_for_clock(stop: threading.Event | None = None) -> None:
    """Wait until the clock tells a possible time: a board without a battery wakes up in 1970."""
    while not is_plausible(time.time_ns() // 1000):
        _log.warning("the system clock says %s: waiting for NTP", time.strftime("%Y-%m-%d"))
        if (stop or threading.Event()).wait(5.0):
            return


def run_agent(plan: AgentPlan) -> int:
    """Load the models, make the agent and run it; return the exit status. Raises what the parts raise."""
    wait_for_clock()
    (plan.state_dir / "engines").mkdir(parents=True, exist_ok=True, mode=0o700)
    return Agent(plan, open_detectors(plan)).run()


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder` (made itself where missing)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError:
        return False
    return True
