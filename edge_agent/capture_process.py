"""The capture process: one camera, one attempt. Started by the agent, which kills it if it wedges.

    python -m edge_agent.capture_process FD

plays what the agent's `Start` names until the stream ends or the agent says so. Every end is final: the agent starts
a new process, because a pipeline that has failed once is never trusted again.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from edge_agent.capture_link import (
    SLOT_COUNT,
    Ended,
    Failed,
    Frame,
    FrameMemory,
    Opened,
    Release,
    Start,
    Status,
    ToAgent,
    receive_in_capture,
    send,
)
from edge_agent.capture_time import rtp_unix_us, unix_us
from edge_agent.pipeline import Pipeline, PipelineError, build, load_gst
from edge_agent.sampling import Sampler

STATUS_INTERVAL_S = 0.5
LEAVE_S = 1.0
"""How long taking leave of the camera may last; a wedged pipeline is left to the end of the process."""
REPORT_INTERVAL_S = 0.25
MAX_REMEMBERED_TIMES = 256


class ReportTimes:
    """Capture times from sender reports and RTP time stamps, for GStreamer before 1.22 and decoders that lose metas.

    The depayloader's packets carry RTP time and PTS; frames keep the PTS through the decoder.
    """

    def __init__(self, source: Any) -> None:
        self._manager: Any = None
        self._report: tuple[int, int] | None = None  # (RTP time, 64-bit NTP time)
        self._asked_s = 0.0
        self._clock_hz = 90_000
        self._by_pts: OrderedDict[int, int] = OrderedDict()
        source.connect("new-manager", self._keep_manager)

    def _keep_manager(self, _: Any, manager: Any) -> None:
        self._manager = manager

    def watch(self, depayloader: Any, Gst: Any) -> None:
        """Look at each RTP packet that enters `depayloader`."""
        depayloader.get_static_pad("sink").add_probe(
            Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self._look, Gst
        )

    def _look(self, pad: Any, info: Any, Gst: Any) -> Any:
        packets = info.get_buffer_list()
        packet = packets.get(0) if packets is not None else info.get_buffer()
        if packet is not None and packet.get_size() >= 12 and packet.pts != Gst.CLOCK_TIME_NONE:
            head = packet.extract_dup(0, 12)
            self._refresh(pad, int.from_bytes(head[8:12], "big"))
            if self._report is not None:
                rtp = int.from_bytes(head[4:8], "big")
                self._by_pts[packet.pts] = rtp_unix_us(rtp, *self._report, self._clock_hz)
                if len(self._by_pts) > MAX_REMEMBERED_TIMES:
                    self._by_pts.popitem(last=False)
        return Gst.PadProbeReturn.OK

    def _refresh(self, pad: Any, ssrc: int) -> None:
        now_s = time.monotonic()
        if self._manager is None or now_s - self._asked_s < REPORT_INTERVAL_S:
            return
        self._asked_s = now_s
        caps = pad.get_current_caps()
        found, clock_hz = caps.get_structure(0).get_int("clock-rate") if caps is not None else (False, 0)
        self._clock_hz = clock_hz if found and clock_hz > 0 else 90_000
        for number in range(4):
            session = self._manager.emit("get-internal-session", number)
            sender = session.emit("get-source-by-ssrc", ssrc) if session is not None else None
            if sender is None:
                continue
            stats = sender.get_property("stats")
            if stats is not None and stats.get_value("have-sr"):
                self._report = (stats.get_value("sr-rtptime"), stats.get_value("sr-ntptime"))
            return

    def at(self, pts: int) -> int:
        """Return Unix µs of the frame with this PTS, or 0."""
        return self._by_pts.get(pts, 0)


class Capture:
    """Plays one source and hands its sampled frames to the agent."""

    def __init__(self, link: socket.socket, start: Start) -> None:
        self._Gst = load_gst()
        self._link, self._start = link, start
        self._send_lock = threading.Lock()
        self._sampler = Sampler(start.target_fps)
        self._is_file = start.url.startswith("file://")
        self._file_base_us: int | None = None
        self._memory: FrameMemory | None = None
        self._shape = (0, 0)
        self._free = set(range(SLOT_COUNT))
        self._freed = threading.Condition()
        self._pending: tuple[int, int] = (0, 0)  # of the frame in conversion: monotonic µs, camera's µs
        self._timed_by_camera = False
        self._entered_count = self._decoded_count = self._skipped_count = self._leaked_count = 0
        self._dropped: dict[str, int] = {}
        self._over = threading.Event()
        self._ntp_caps = self._Gst.Caps.from_string("timestamp/x-ntp")
        self._reports: ReportTimes | None = None
        self._pipeline = build(self._Gst, start, self._watch_packets)
        self._prepare(self._pipeline)

    def _prepare(self, pipeline: Pipeline) -> None:
        Gst = self._Gst
        if not self._is_file:
            self._reports = ReportTimes(pipeline.source)
        pipeline.queue.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self._count_entered)
        pipeline.before_convert.add_probe(Gst.PadProbeType.BUFFER, self._sample)
        pipeline.sink.connect("new-sample", self._hand_over)

    def _watch_packets(self, depayloader: Any) -> None:
        has_meta = self._pipeline.source.find_property("add-reference-timestamp-meta") is not None
        # A hardware decoder may lose the meta, so both ways are kept open there.
        is_sure = has_meta and self._pipeline.decoder.startswith(("avdec_", "openh264", "jpegdec"))
        if self._reports is not None and (self._start.time_route == "reports" or not is_sure):
            self._reports.watch(depayloader, self._Gst)

    # -- in the streaming thread

    def _count_entered(self, _pad: Any, _info: Any) -> Any:
        self._entered_count += 1
        return self._Gst.PadProbeReturn.OK

    def _sample(self, _pad: Any, info: Any) -> Any:
        buffer = info.get_buffer()
        mono_us = time.monotonic_ns() // 1000
        camera_us = self._camera_us(buffer)
        self._decoded_count += 1
        if bool(camera_us) != self._timed_by_camera:  # another time line: the sampler must not see the step
            self._timed_by_camera = bool(camera_us)
            self._sampler = Sampler(self._start.target_fps)
        if not self._sampler.take(camera_us or mono_us):
            self._skipped_count += 1
            return self._Gst.PadProbeReturn.DROP
        self._pending = (mono_us, camera_us)
        return self._Gst.PadProbeReturn.OK

    def _camera_us(self, buffer: Any) -> int:
        if self._is_file:
            return self._file_us(buffer.pts)
        meta = buffer.get_reference_timestamp_meta(self._ntp_caps)
        if meta is not None:
            return unix_us(meta.timestamp)
        return self._reports.at(buffer.pts) if self._reports is not None else 0

    def _file_us(self, pts_ns: int) -> int:
        pts_us = 0 if pts_ns == self._Gst.CLOCK_TIME_NONE else pts_ns // 1000
        if self._file_base_us is None:
            self._file_base_us = self._recorded_us() if self._start.is_fast else time.time_ns() // 1000 - pts_us
        return self._file_base_us + pts_us

    def _recorded_us(self) -> int:
        """When the recording began: the file was last written when it ended."""
        found, duration_ns = self._pipeline.bin.query_duration(self._Gst.Format.TIME)
        ended_us = Path(self._start.url.partition("://")[2]).stat().st_mtime_ns // 1000
        return ended_us - (duration_ns // 1000 if found and duration_ns > 0 else 0)

    def _hand_over(self, sink: Any) -> Any:
        sample = sink.emit("pull-sample")
        if sample is None or self._over.is_set():
            return self._Gst.FlowReturn.EOS
        buffer = sample.get_buffer()
        structure = sample.get_caps().get_structure(0)
        shape = (structure.get_int("height")[1], structure.get_int("width")[1])
        if self._memory is None:
            self._open_memory(shape, buffer.get_size())
        elif shape != self._shape:
            self._fail("resolution_changed", f"from {self._shape[1]}x{self._shape[0]} to {shape[1]}x{shape[0]}")
            return self._Gst.FlowReturn.EOS
        slot = self._take_slot()
        if slot < 0:
            self._drop("no_slot")
            return self._Gst.FlowReturn.OK
        self._write(slot, buffer)
        return self._Gst.FlowReturn.OK

    def _open_memory(self, shape: tuple[int, int], size_bytes: int) -> None:
        self._shape = shape
        self._memory = FrameMemory.create(size_bytes)
        opened = Opened(shape[1], shape[0], size_bytes // shape[0], size_bytes, self._pipeline.decoder)
        self._tell(opened, self._memory.fd)

    def _take_slot(self) -> int:
        with self._freed:
            while self._start.is_fast and not self._free and not self._over.is_set():
                self._freed.wait(0.5)
            return self._free.pop() if self._free else -1

    def _write(self, slot: int, buffer: Any) -> None:
        assert self._memory is not None
        ok, view = buffer.map(self._Gst.MapFlags.READ)
        if not ok or view.size > self._memory.slot_bytes:
            self._drop("unreadable")
            self._release(slot)
            return
        try:
            self._memory.write(slot, view.data)
        finally:
            buffer.unmap(view)
        mono_us, camera_us = self._pending
        self._tell(Frame(slot, mono_us, camera_us, self._is_file))

    def _drop(self, reason: str) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def _release(self, slot: int) -> None:
        with self._freed:
            self._free.add(slot)
            self._freed.notify()

    # -- talking

    def _tell(self, message: ToAgent, fd: int = -1) -> None:
        with self._send_lock:
            try:
                send(self._link, message, fd)
            except OSError:
                self._over.set()  # the agent is gone

    def _fail(self, reason: str, detail: str) -> None:
        self._tell(self._status())
        self._tell(Failed(reason, detail[:2000]))
        self._over.set()

    def _status(self) -> Status:
        waiting = self._pipeline.queue.get_property("current-level-buffers")
        # One frame may be between the two probes, so what leaked from the queue is known within one.
        self._leaked_count = max(self._leaked_count, self._entered_count - self._decoded_count - waiting - 1)
        dropped = dict(self._dropped)
        if self._leaked_count:
            dropped["conversion_slow"] = self._leaked_count
        return Status(self._decoded_count, self._skipped_count, dropped)

    def _listen(self) -> None:
        """Obey the agent; its end is ours."""
        while True:
            try:
                message = receive_in_capture(self._link)
            except OSError:
                message = None
            if not isinstance(message, Release):
                break
            self._release(message.slot)
        self._over.set()

    # -- the main thread

    def run(self) -> None:
        """Play until it is over. Never blocks for good: whatever GStreamer does, it does in threads of its own."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        threading.Thread(target=self._play, name="play", daemon=True).start()
        bus = self._pipeline.bin.get_bus()
        told_s = 0.0
        while not self._over.is_set():
            message = bus.timed_pop_filtered(
                100 * self._Gst.MSECOND, self._Gst.MessageType.ERROR | self._Gst.MessageType.EOS
            )
            if message is not None:
                self._finish(message)
            elif time.monotonic() - told_s >= STATUS_INTERVAL_S:
                told_s = time.monotonic()
                self._tell(self._status())
        self._leave()

    def _play(self) -> None:
        if self._pipeline.bin.set_state(self._Gst.State.PLAYING) == self._Gst.StateChangeReturn.FAILURE:
            time.sleep(0.3)  # the bus says it better
            self._fail("error", "the pipeline does not start")

    def _finish(self, message: Any) -> None:
        if message.type == self._Gst.MessageType.EOS and self._is_file:
            self._tell(self._status())
            self._tell(Ended())
            self._over.set()
        elif message.type == self._Gst.MessageType.EOS:
            self._fail("end_of_stream", "the camera closed the stream")
        else:
            error, debug = message.parse_error()
            last = (debug or "").strip().splitlines()[-1:]
            self._fail("error", " ".join([error.message, *(f"({line.strip()})" for line in last)]))

    def _leave(self) -> None:
        """Say goodbye to the camera (many allow few sessions), but not for long."""
        leaving = threading.Thread(target=self._pipeline.bin.set_state, args=(self._Gst.State.NULL,), daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)


def main() -> None:
    """Entry point of the process: argument 1 is the link's file descriptor."""
    link = socket.socket(fileno=int(sys.argv[1]))
    start = receive_in_capture(link)
    if isinstance(start, Start):
        try:
            Capture(link, start).run()
        except PipelineError as e:
            send(link, Failed("no_pipeline", str(e)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a wedged streaming thread must not keep the process


if __name__ == "__main__":
    main()
