"""One camera from the agent's side: starts its capture process, watches it, kills it, tries again."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_agent.agent_clock import AgentClock
from edge_agent.backoff import Backoff
from edge_agent.capture_link import (
    SLOT_COUNT,
    Ended,
    Failed,
    Frame,
    Opened,
    Release,
    Start,
    Status,
    Stop,
    make_link,
    receive_in_agent,
    send,
)
from edge_agent.capture_time import MAX_OFFSET_US, CaptureClock
from edge_agent.counts import CameraCounts
from edge_agent.newest_frames import CapturedFrame, NewestFrames
from edge_agent.redaction import redact
from edge_agent.source import ResolvedSource
from schemas.wire import Clock

_log = logging.getLogger(__name__)
GOOD_STREAM_S = 30.0
"""After so long a stream the next failure is met with short waits again."""
LEAVE_S = 1.5
POLL_S = 0.1

_FILE: Clock = "file"

State = Literal["connecting", "streaming", "backoff", "stopped"]


@dataclass(frozen=True)
class CapturePlan:
    """How one camera is captured."""

    camera: str
    source: ResolvedSource
    target_fps: float = 10.0
    transport: str = "tcp"
    latency_s: float = 0.2
    connect_timeout_s: float = 30.0
    stall_timeout_s: float = 10.0
    is_fast: bool = False
    time_route: str = "auto"


class _Over(Exception):
    """An attempt has ended. `is_end`: nothing more will come; `at_once`: no need to wait before the next."""

    def __init__(self, reason: str, detail: str, is_end: bool = False, at_once: bool = False) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.is_end, self.at_once = reason, detail, is_end, at_once


class _Region:
    """The frame memory of one attempt, as the agent sees it."""

    def __init__(self, fd: int, opened: Opened) -> None:
        size = opened.slot_bytes * SLOT_COUNT
        try:
            if os.fstat(fd).st_size < size or opened.stride_bytes < 3 * opened.width_px:
                raise _Over("bad_hand_over", "the capture process sent a memory that does not fit its frames")
            pixels = np.frombuffer(mmap.mmap(fd, size, prot=mmap.PROT_READ), np.uint8)
        finally:
            os.close(fd)
        shape = (SLOT_COUNT, opened.height_px, opened.width_px, 3)
        self.slots = np.lib.stride_tricks.as_strided(
            pixels, shape, (opened.slot_bytes, opened.stride_bytes, 3, 1), writeable=False
        )


class CameraCapture:
    """Keeps one camera streaming into `frames`, for ever: any failure leads to a new process after a while.

    Failures: the process ends or says so (error, end of stream, other resolution), no first frame within
    `connect_timeout_s`, no decoded frame for `stall_timeout_s`.
    """

    def __init__(
        self, plan: CapturePlan, clock: AgentClock, frames: NewestFrames, counts: CameraCounts,
        backoff: Backoff | None = None, on_change: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.plan, self.counts = plan, counts
        self._agent_clock, self._frames = clock, frames
        self._backoff = backoff or Backoff()
        self._on_change = on_change
        self._stopping = threading.Event()
        self._capture_clock = CaptureClock()
        self._held_count = 0
        self._link_lock = threading.Lock()
        self.state: State = "connecting"
        self.clock: Clock | Literal[""] = ""
        self.last_error = ""
        self.width_px = self.height_px = 0
        self.decoder = ""
        self.beat_s = time.monotonic()
        """When this object's thread last made a step, on the monotonic clock."""

    @property
    def clock_offset_s(self) -> float:
        """Camera clock − arrival, as last seen."""
        return self._capture_clock.offset_us * 1e-6

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping.set()

    def run(self) -> None:
        """Capture until `stop` (or a file's end). For a thread of its own."""
        while not self._stopping.is_set():
            began_s = time.monotonic()
            self._enter("connecting")
            over = self._attempt()
            if over.is_end or self._stopping.is_set():
                break
            if over.reason not in ("connect_timeout", "no_pipeline") and time.monotonic() - began_s > GOOD_STREAM_S:
                self._backoff.reset()
            self._wait(over)
            self.counts.add("reconnect_count")
        self._enter("stopped")

    def _wait(self, over: _Over) -> None:
        self.last_error = redact(f"{over.reason}: {over.detail}", self.plan.source.secrets)[:300]
        delay_s = 0.0 if over.at_once else self._backoff.next_delay_s()
        _log.warning("camera %s: %s; again in %.1f s", self.plan.camera, self.last_error, delay_s)
        self._enter("backoff")
        deadline_s = time.monotonic() + delay_s
        while not self._stopping.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            self.beat_s = time.monotonic()
            self._stopping.wait(min(left_s, 1.0))

    def _enter(self, state: State) -> None:
        self.beat_s = time.monotonic()
        if state != self.state:
            self.state = state
            self._on_change()

    # -- one attempt

    def _attempt(self) -> _Over:
        self._capture_clock = CaptureClock()
        link, theirs = make_link()
        try:
            with theirs:
                process = self._spawn(theirs)
        except OSError as e:
            link.close()
            return _Over("no_process", f"cannot start a capture process: {e}")
        link.settimeout(POLL_S)
        try:
            self._follow(link, process)
        except _Over as over:
            return over
        finally:
            self._end(link, process)
        return _Over("stopped", "", is_end=True)

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if self.plan.source.password:
            environment.pop("GST_DEBUG", None)  # it would print the headers that carry the password
        command = [sys.executable, "-m", "edge_agent.capture_process", str(theirs.fileno())]
        return subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )

    def _follow(self, link: socket.socket, process: subprocess.Popen[bytes]) -> None:
        plan, source = self.plan, self.plan.source
        start = Start(
            source.url, source.username, source.password, plan.transport, round(plan.latency_s * 1000),
            plan.target_fps, plan.is_fast, plan.time_route,
        )  # fmt: skip
        region: _Region | None = None
        seen = Status(0, 0, {})
        progress_s = time.monotonic()
        with contextlib.suppress(OSError):
            send(link, start)
        while not self._stopping.is_set():
            self.beat_s = time.monotonic()
            self._check_progress(progress_s, region is not None)
            try:
                message, fd = receive_in_agent(link)
            except TimeoutError:
                continue
            except OSError:
                message, fd = None, -1
            if isinstance(message, Frame) and region is not None:
                progress_s = time.monotonic()
                self._take(message, region, link)
            elif isinstance(message, Status):
                if message.decoded_count > seen.decoded_count:
                    progress_s = time.monotonic()
                self._count(seen, message)
                seen = message
            elif isinstance(message, Opened):
                region = self._open(fd, message)
            else:
                self._raise_over(message, process)

    def _check_progress(self, progress_s: float, is_open: bool) -> None:
        silent_s = time.monotonic() - progress_s
        if not is_open and silent_s > self.plan.connect_timeout_s:
            raise _Over("connect_timeout", f"no picture from {self.plan.source.shown} after {silent_s:.0f} s")
        if is_open and silent_s > self.plan.stall_timeout_s and self._held_count == 0:
            raise _Over("stall", f"no frame from {self.plan.source.shown} for {silent_s:.1f} s")

    def _raise_over(self, message: object, process: subprocess.Popen[bytes]) -> None:
        if isinstance(message, Ended):
            raise _Over("ended", "", is_end=True)
        if isinstance(message, Failed):
            raise _Over(message.reason, message.detail, at_once=message.reason == "resolution_changed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE_S)
        raise _Over("process_ended", f"the capture process ended with status {process.returncode}")

    def _open(self, fd: int, opened: Opened) -> _Region:
        region = _Region(fd, opened)
        self.width_px, self.height_px, self.decoder = opened.width_px, opened.height_px, opened.decoder
        _log.info(
            "camera %s: streaming %dx%d from %s (%s)",
            self.plan.camera, opened.width_px, opened.height_px, self.plan.source.shown, opened.decoder,
        )  # fmt: skip
        self.last_error = ""
        self._enter("streaming")
        return region

    def _take(self, frame: Frame, region: _Region, link: socket.socket) -> None:
        recv_us = self._agent_clock.at_us(frame.mono_us)
        capture_us, clock = (frame.camera_us, _FILE) if frame.is_file else self._stamp(frame.camera_us, recv_us)
        self.clock = clock
        with self._link_lock:
            self._held_count += 1
        self._frames.put(
            CapturedFrame(
                self.plan.camera, region.slots[frame.slot % SLOT_COUNT], capture_us, clock, recv_us,
                lambda: self._give_back(link, frame.slot),
            ),
            keep_all=self.plan.is_fast,
        )  # fmt: skip

    def _stamp(self, camera_us: int, recv_us: int) -> tuple[int, Clock]:
        was_right = abs(self._capture_clock.offset_us) <= MAX_OFFSET_US
        capture_us, clock = self._capture_clock.stamp(camera_us, recv_us)
        if was_right and abs(self._capture_clock.offset_us) > MAX_OFFSET_US:
            self.last_error = f"camera clock is off by {self.clock_offset_s:+.1f} s: arrival times are used"
            _log.warning("camera %s: %s; set the camera's clock by NTP", self.plan.camera, self.last_error)
        return capture_us, clock

    def _give_back(self, link: socket.socket, slot: int) -> None:
        with self._link_lock:
            self._held_count -= 1
        with contextlib.suppress(OSError):  # the attempt is over, and its memory with it
            send(link, Release(slot))

    def _count(self, before: Status, now: Status) -> None:
        lost_count = sum(now.dropped.values()) - sum(before.dropped.values())
        converted = now.dropped.get("conversion_slow", 0) - before.dropped.get("conversion_slow", 0)
        self.counts.add("captured_count", now.decoded_count - before.decoded_count + converted)
        self.counts.add("skipped_count", now.skipped_count - before.skipped_count)
        if lost_count:
            for reason, count in now.dropped.items():
                self.counts.drop(reason, count - before.dropped.get(reason, 0))

    def _end(self, link: socket.socket, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            send(link, Stop())
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        link.close()
