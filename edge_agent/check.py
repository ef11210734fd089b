"""`sightflow-agent check`: looks at everything the agent needs, and says how to mend what is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.agent_clock import AgentClock, is_plausible
from edge_agent.backoff import Backoff
from edge_agent.capture import CameraCapture, CapturePlan
from edge_agent.counts import CameraCounts
from edge_agent.delivery import DEFAULT_PROPERTIES
from edge_agent.newest_frames import CapturedFrame, NewestFrames
from edge_agent.pipeline import CODECS, PipelineError, choose_decoder, load_gst
from edge_agent.plan import AgentPlan
from edge_agent.redaction import redact
from schemas.settings import Camera
from schemas.topics import DETECTIONS, HEALTH

BROKER_TIMEOUT_S = 5.0
CLOCK_LOOK_S = 4.0
_ELEMENTS = {
    "rtspsrc": "gstreamer1.0-plugins-good", "rtph264depay": "gstreamer1.0-plugins-good",
    "h264parse": "gstreamer1.0-plugins-bad", "videoconvert": "gstreamer1.0-plugins-base",
    "appsink": "gstreamer1.0-plugins-base", "decodebin": "gstreamer1.0-plugins-base",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it will do, and what was seen or is to be done."""

    subject: str
    is_good: bool
    text: str
    is_fatal: bool = True


def check_agent(plan: AgentPlan, with_cameras: bool = True) -> int:
    """Print a line for each finding; return 0 where nothing keeps the agent from its work, else 1."""
    findings: list[Finding] = []
    checks: list[Callable[[], Iterator[Finding]]] = [
        _check_elements,
        lambda: _check_models(plan),
        lambda: _check_broker(plan),
        lambda: _check_disk(plan),
        _check_clock,
    ]
    if with_cameras:
        checks.append(lambda: _check_cameras(plan))
    for check in checks:
        for finding in check():
            findings.append(finding)
            mark = "ok  " if finding.is_good else "FAIL" if finding.is_fatal else "warn"
            print(f"{mark}  {finding.subject:<10} {finding.text}", flush=True)
    return int(any(f.is_fatal and not f.is_good for f in findings))


def _check_elements() -> Iterator[Finding]:
    try:
        gst = load_gst()
    except PipelineError as e:
        yield Finding("gstreamer", False, str(e))
        return
    missing = sorted({package for name, package in _ELEMENTS.items() if gst.ElementFactory.find(name) is None})
    if missing:
        yield Finding("gstreamer", False, f"elements are missing; install {' '.join(missing)}")
    else:
        yield Finding("gstreamer", True, gst.version_string())
    for encoding in ("H264", "H265"):
        try:
            yield Finding("decoder", True, f"{encoding}: {choose_decoder(gst, CODECS[encoding])}")
        except PipelineError as e:
            yield Finding("decoder", False, f"{encoding}: {e}", is_fatal=encoding == "H264")


def _check_models(plan: AgentPlan) -> Iterator[Finding]:
    from edge_agent.agent import open_detectors
    from edge_agent.detector import AcceleratorUnavailableError, ModelError

    try:
        detectors = open_detectors(plan)
    except (ModelError, AcceleratorUnavailableError) as e:
        yield Finding("model", False, str(e))
        return
    for detector in {id(d): d for d in detectors.values()}.values():
        name, sha, backend = detector.model, detector.fingerprint, detector.backend.name
        yield Finding("model", True, f"{name} ({sha}) on {backend}, {len(detector.labels)} classes")


def _check_broker(plan: AgentPlan) -> Iterator[Finding]:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    heard: list[str] = []

    def hear(error: KafkaError) -> None:
        heard.append(error.str())

    secrets = tuple(value for name, value in plan.properties.items() if "password" in name or "secret" in name)
    known = {name: value for name, value in DEFAULT_PROPERTIES.items() if name in ("socket.timeout.ms",)}
    try:
        admin = AdminClient(
            {**known, **plan.properties, "bootstrap.servers": plan.bootstrap_servers, "error_cb": hear, "log_level": 0}
        )
        topics = admin.list_topics(timeout=BROKER_TIMEOUT_S).topics
    except KafkaException as e:
        admin.poll(0)
        why = redact((heard or [e.args[0].str()])[-1], secrets)
        yield Finding(
            "kafka", False,
            f"{plan.bootstrap_servers}: {why}; is the broker up, are address, listener and password right? "
            "(the agent stores its messages until it is)",
        )  # fmt: skip
        return
    yield Finding("kafka", True, f"{plan.bootstrap_servers} answers")
    for name in (DETECTIONS, HEALTH):
        if name not in topics:
            yield Finding("kafka", False, f"topic {name!r} is missing: make it before the agent starts (docs/agent.md)")


def _check_disk(plan: AgentPlan) -> Iterator[Finding]:
    from edge_agent.agent import is_writable

    for name, folder in (("state", plan.state_dir), ("spool", plan.spool_dir)):
        if not is_writable(folder):
            yield Finding("disk", False, f"{name} folder {folder} is not writable: choose another --state-dir")
            return
    free_bytes = shutil.disk_usage(plan.spool_dir).free
    text = (
        f"{free_bytes / 2**30:.1f} GiB free at {plan.spool_dir}, the spool may take {plan.spool_max_bytes / 2**30:.1f}"
    )
    if free_bytes < plan.spool_max_bytes:
        yield Finding("disk", False, f"{text}: free some, or lower spool.max_bytes", is_fatal=False)
    else:
        yield Finding("disk", True, text)


def _check_clock() -> Iterator[Finding]:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if not is_plausible(time.time_ns() // 1000):
        yield Finding("clock", False, f"the system clock says {now}: set it, or wait for NTP")
        return
    synchronised = _ntp_state()
    if synchronised == "no":
        yield Finding("clock", False, f"{now}, not synchronised: enable systemd-timesyncd or chrony", is_fatal=False)
    else:
        yield Finding("clock", True, f"{now}, NTP {synchronised or 'state unknown (no timedatectl)'}")


def _ntp_state() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(
            ["timedatectl", "show", "-p", "NTPSynchronized", "--value"], capture_output=True, text=True, timeout=3
        )
        return shown.stdout.strip()
    return ""


def _check_cameras(plan: AgentPlan) -> Iterator[Finding]:
    for camera, source in plan.cameras:
        if source.is_file:
            readable = os.access(Path(source.url.removeprefix("file://")), os.R_OK)
            yield Finding("camera", readable, f"{camera.id}: file {'is readable' if readable else 'cannot be read'}")
        else:
            yield _try_camera(plan, camera)


def _try_camera(plan: AgentPlan, camera: Camera) -> Finding:
    """Capture for a few seconds: until a frame has the camera's own time, or CLOCK_LOOK_S after the first."""
    from edge_agent.agent import capture_plan

    source = {c.id: s for c, s in plan.cameras}[camera.id]
    capture, frames = _make_capture(capture_plan(camera, source, is_fast=False))
    thread = threading.Thread(target=capture.run, daemon=True)
    thread.start()
    limit_s = min(20.0, capture.plan.connect_timeout_s)
    deadline_s = time.monotonic() + limit_s
    last: CapturedFrame | None = None
    while time.monotonic() < deadline_s and capture.state != "backoff":
        frame = frames.take(0.2)
        if frame is None:
            continue
        if last is None:
            deadline_s = min(deadline_s, time.monotonic() + CLOCK_LOOK_S)
        last = frame
        frame.release()
        if frame.clock == "rtcp_sr":
            break
    error = capture.last_error
    capture.stop()
    thread.join(3.0)
    if last is None:
        remedy = "check address, name and password with any RTSP player"
        return Finding("camera", False, f"{camera.id}: {error or f'no picture after {limit_s:.0f} s'}; {remedy}")
    how = f"{capture.width_px}x{capture.height_px} by {capture.decoder}"
    if last.clock == "rtcp_sr":
        return Finding("camera", True, f"{camera.id}: {how}, tells its time ({capture.clock_offset_s:+.3f} s)")
    why = error or "no sender report: capture time is the time of arrival"
    return Finding("camera", False, f"{camera.id}: {how}; {why}", is_fatal=False)


def _make_capture(plan: CapturePlan) -> tuple[CameraCapture, NewestFrames]:
    frames = NewestFrames(lambda camera: None)
    return CameraCapture(plan, AgentClock(), frames, CameraCounts(), Backoff(5.0, 5.0)), frames
