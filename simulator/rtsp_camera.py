"""A real RTSP camera played from a file: H.264 access units, own time stamps, sender reports, endless loops.

The footage is a small world that goes on whether or not anybody looks: frame k is shown k / fps seconds after the
first viewer of its mount came, and a viewer who comes back finds the world where it is by then, beginning at the next
key frame. Nothing is encoded again; one viewer at 25 frames/s costs about 1 % of a core.

    python -m simulator.rtsp_camera --port 8554 --mount path-east=vtest.mp4 --log pushes.jsonl
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_FOOTAGE_BYTES = 1 << 30
MAX_LOG_BYTES = 32 << 20
MAX_LAG_S = 1.0
RTCP_MIN_INTERVAL_NS = 500_000_000
"""Sender reports at least this often, so that a viewer knows the capture time within half a second."""

_PAYLOAD = "( appsrc name=footage ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
"""The served bin. Constant: no user text ever reaches the pipeline parser."""

_ELEMENTS = ("appsrc", "appsink", "filesrc", "parsebin", "h264parse", "rtph264pay", "rtpbin")


class CameraError(Exception):
    """The camera cannot be played; the text says what to do."""


@dataclass(frozen=True)
class Footage:
    """The access units of one H.264 file in decoding order.

    `units` are Annex B bytes, `shown` is each unit's place in presentation order, `keys` says which units can be
    decoded on their own, `fps` is frames per second.
    """

    units: tuple[bytes, ...]
    shown: tuple[int, ...]
    keys: tuple[bool, ...]
    fps: float

    def next_key(self, ordinal: int) -> int:
        """Return the first ordinal (unit number counted over all loops) from `ordinal` on that is a key frame."""
        while not self.keys[ordinal % len(self.units)]:
            ordinal += 1
        return ordinal


@dataclass(frozen=True)
class Login:
    """What a viewer must present."""

    username: str
    password: str


def load_gstreamer() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Return the modules (Gst, GstRtspServer, GLib). Raises CameraError with the packages to install."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer
    except (ImportError, ValueError) as e:
        raise CameraError(
            f"GStreamer's Python bindings are not usable ({e}); install python3-gi gir1.2-gstreamer-1.0 "
            "gir1.2-gst-rtsp-server-1.0 and run with the system's Python (venv --system-site-packages)"
        ) from None
    Gst.init(None)
    missing = [name for name in _ELEMENTS if Gst.ElementFactory.find(name) is None]
    if missing:
        raise CameraError(f"GStreamer elements missing: {missing}; install gstreamer1.0-plugins-base, -good and -bad")
    return Gst, GstRtspServer, GLib


def load_footage(path: Path, fps: float = 0.0) -> Footage:
    """Read an H.264 file (mp4, mkv, raw) into memory without decoding it.

    `fps` overrides the file's own rate. Raises CameraError where the file has no H.264, does not begin with a key
    frame, states no rate, or is larger than MAX_FOOTAGE_BYTES.
    """
    Gst, _, _ = load_gstreamer()
    if not path.is_file():
        raise CameraError(f"no such file: {path}")
    if path.stat().st_size > MAX_FOOTAGE_BYTES:
        raise CameraError(f"{path}: expected at most {MAX_FOOTAGE_BYTES >> 20} MiB, got {path.stat().st_size >> 20}")
    pipeline, sink = _unit_reader(Gst, path)
    try:
        pipeline.set_state(Gst.State.PLAYING)
        units, times_ns, keys, file_fps = _read_units(Gst, pipeline, sink, path)
    finally:
        pipeline.set_state(Gst.State.NULL)
    if not units:
        raise CameraError(f"{path}: no H.264 video found; encode it to H.264 first")
    if not keys[0]:
        raise CameraError(f"{path}: the first frame is no key frame; encode it with closed groups of pictures")
    rate = fps or file_fps
    if rate <= 0:
        raise CameraError(f"{path}: the file states no frame rate; give --fps")
    ranked = sorted(range(len(units)), key=lambda i: times_ns[i])
    shown = [0] * len(units)
    for rank, i in enumerate(ranked):
        shown[i] = rank
    return Footage(tuple(units), tuple(shown), tuple(keys), rate)


def _unit_reader(Gst: Any, path: Path) -> tuple[Any, Any]:
    pipeline = Gst.Pipeline.new("footage")
    source, parse, units, sink = (
        Gst.ElementFactory.make(kind) for kind in ("filesrc", "parsebin", "h264parse", "appsink")
    )
    source.set_property("location", str(path))
    sink.set_property("caps", Gst.Caps.from_string("video/x-h264,stream-format=byte-stream,alignment=au"))
    sink.set_property("sync", False)
    sink.set_property("max-buffers", 64)
    for element in (source, parse, units, sink):
        pipeline.add(element)
    source.link(parse)
    units.link(sink)

    def link_video(_: Any, pad: Any) -> None:
        if pad.query_caps(None).to_string().startswith("video/x-h264"):
            pad.link(units.get_static_pad("sink"))

    parse.connect("pad-added", link_video)
    return pipeline, sink


def _read_units(Gst: Any, pipeline: Any, sink: Any, path: Path) -> tuple[list[bytes], list[int], list[bool], float]:
    units: list[bytes] = []
    times_ns: list[int] = []
    keys: list[bool] = []
    fps = 0.0
    bus = pipeline.get_bus()
    while True:
        sample = sink.emit("try-pull-sample", 100_000_000)
        if sample is None:
            if sink.get_property("eos"):
                return units, times_ns, keys, fps
            message = bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.EOS)
            if message is not None and message.type == Gst.MessageType.ERROR:
                raise CameraError(f"{path}: {message.parse_error()[0].message}")
            if message is not None and not units:
                return units, times_ns, keys, fps
            continue
        buffer = sample.get_buffer()
        ok, numerator, denominator = sample.get_caps().get_structure(0).get_fraction("framerate")
        if ok and denominator and numerator:
            fps = numerator / denominator
        units.append(buffer.extract_dup(0, buffer.get_size()))
        times_ns.append(buffer.pts if buffer.pts != Gst.CLOCK_TIME_NONE else len(units) << 40)
        keys.append(not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT))


class PushLog:
    """Writes one JSON line for each frame pushed: mount, loop, frame, capture_us (UTC). Bounded: two files."""

    def __init__(self, path: Path | None, max_bytes: int = MAX_LOG_BYTES) -> None:
        self._handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=1) if path else None

    def write(self, mount: str, loop: int, frame: int, capture_us: int) -> None:
        """Append one line; handed to the kernel at once, so that a killed camera's log is complete."""
        if self._handler is None:
            return
        line = json.dumps({"mount": mount, "loop": loop, "frame": frame, "capture_us": capture_us})
        self._handler.emit(logging.LogRecord("push", logging.INFO, "", 0, line, None, None))


class Mount:
    """One camera of the server: a footage, its time line, and the pushing of units to whoever watches."""

    def __init__(self, name: str, footage: Footage, loop_count: int, log: PushLog) -> None:
        self.name = name
        self._footage = footage
        self._unit_count = loop_count * len(footage.units) if loop_count else 0  # 0: for ever
        self._log = log
        self._lock = threading.Lock()
        self._began_s: float | None = None  # time.monotonic() when unit 0 is shown
        self._generation = 0
        self.ended = threading.Event()

    def play(self, Gst: Any, source: Any, pipeline: Any) -> None:
        """Push units to `source` from now on, in a thread that ends with the media or with the footage."""
        with self._lock:
            self._generation += 1
            generation = self._generation
        threading.Thread(
            target=self._push, args=(Gst, source, pipeline, generation), name=f"mount-{self.name}", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop pushing: the media is gone."""
        with self._lock:
            self._generation += 1

    def _push(self, Gst: Any, source: Any, pipeline: Any, generation: int) -> None:
        # Before PLAYING the clock has no base time, and time stamps would be hours off.
        while not (pipeline.get_state(20_000_000)[1] == Gst.State.PLAYING and pipeline.get_base_time()):
            if generation != self._generation:
                return
            time.sleep(0.002)
        period_s = 1.0 / self._footage.fps
        ordinal = self._first_ordinal(period_s)
        assert self._began_s is not None
        # Running time of the pipeline at time.monotonic() == 0.
        skew_ns = pipeline.get_clock().get_time() - pipeline.get_base_time() - time.monotonic_ns()
        while generation == self._generation:
            if self._unit_count and ordinal >= self._unit_count:
                source.emit("end-of-stream")
                self.ended.set()
                return
            due_s = self._began_s + ordinal * period_s
            if time.monotonic() - due_s > MAX_LAG_S:  # the process was stopped: the world went on meanwhile
                ordinal = self._first_ordinal(period_s)
                continue
            time.sleep(max(0.0, due_s - time.monotonic()))
            self._push_unit(Gst, source, ordinal, due_s, skew_ns)
            ordinal += 1

    def _first_ordinal(self, period_s: float) -> int:
        now_s = time.monotonic()
        with self._lock:
            if self._began_s is None:
                self._began_s = now_s + 0.02
        return self._footage.next_key(
            max(0, int((now_s - self._began_s) / period_s) + 1) if now_s > self._began_s else 0
        )

    def _push_unit(self, Gst: Any, source: Any, ordinal: int, due_s: float, skew_ns: int) -> None:
        count = len(self._footage.units)
        loop, i = divmod(ordinal, count)
        delay_s = (self._footage.shown[i] - i) / self._footage.fps  # of B-frames; 0 in a camera's stream
        buffer = Gst.Buffer.new_wrapped(self._footage.units[i])
        buffer.pts = max(0, int((due_s + delay_s) * 1e9) + skew_ns)
        buffer.duration = int(1e9 / self._footage.fps)
        capture_us = time.time_ns() // 1000 + int((due_s + delay_s - time.monotonic()) * 1e6)
        self._log.write(self.name, loop, self._footage.shown[i], capture_us)
        source.emit("push-buffer", buffer)


class RtspCamera:
    """The RTSP server with its mounts. `serve` blocks until `stop` is called or SIGTERM comes."""

    def __init__(self, address: str, port: int, login: Login | None = None) -> None:
        self._Gst, self._Rtsp, self._GLib = load_gstreamer()
        self._server = self._Rtsp.RTSPServer.new()
        self._server.set_address(address)
        self._server.set_service(str(port))
        self._login = login
        if login is not None:
            self._server.set_auth(self._make_auth(login))
        self._mounts: list[Mount] = []
        self._loop = self._GLib.MainLoop()
        self._address, self._port = address, port

    def add(self, mount: Mount) -> None:
        """Serve `mount` at rtsp://address:port/NAME."""
        factory = self._Rtsp.RTSPMediaFactory()
        factory.set_launch(_PAYLOAD)
        factory.set_shared(True)
        if self._login is not None:
            self._allow_viewer(factory)
        factory.connect("media-configure", self._configure, mount)
        self._server.get_mount_points().add_factory(f"/{mount.name}", factory)
        self._mounts.append(mount)

    def serve(self, exit_at_end: bool = False) -> None:
        """Answer viewers until told to stop (or, with `exit_at_end`, until every mount has played out)."""
        if self._server.attach(None) == 0:
            raise CameraError(
                f"cannot listen on {self._address}:{self._port}: is the port taken? choose another --port"
            )
        for number in (signal.SIGTERM, signal.SIGINT):
            self._GLib.unix_signal_add(self._GLib.PRIORITY_HIGH, number, self.stop)
        self._GLib.timeout_add_seconds(2, self._tidy, exit_at_end)
        self._loop.run()

    def stop(self) -> bool:
        """End `serve`."""
        for mount in self._mounts:
            mount.stop()
        self._loop.quit()
        return False

    def _tidy(self, exit_at_end: bool) -> bool:
        self._server.get_session_pool().cleanup()  # viewers who vanished without a TEARDOWN
        if exit_at_end and all(mount.ended.is_set() for mount in self._mounts):
            self._loop.quit()
        return True

    def _configure(self, _: Any, media: Any, mount: Mount) -> None:
        source = media.get_element().get_by_name_recurse_up("footage")
        source.set_property("format", self._Gst.Format.TIME)
        source.set_property("is-live", True)
        source.set_property("max-bytes", 8 << 20)
        source.set_property("caps", self._Gst.Caps.from_string("video/x-h264,stream-format=byte-stream,alignment=au"))
        media.connect("unprepared", lambda _media: mount.stop())
        media.connect("new-state", self._hasten_reports)
        pipeline = media.get_element().get_parent()
        mount.play(self._Gst, source, pipeline)

    def _hasten_reports(self, media: Any, _: int) -> None:
        for i in range(media.n_streams()):
            session = media.get_stream(i).get_rtpsession()
            if session is not None:
                session.set_property("rtcp-min-interval", RTCP_MIN_INTERVAL_NS)

    def _make_auth(self, login: Login) -> Any:
        import gi

        gi.require_version("GstRtsp", "1.0")
        from gi.repository import GstRtsp

        auth = self._Rtsp.RTSPAuth.new()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)  # the password itself never travels
        token = self._Rtsp.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_digest(login.username, login.password, token)
        return auth

    def _allow_viewer(self, factory: Any) -> None:
        permissions = self._Rtsp.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)


def _parse_mount(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path or not all(c.isalnum() or c in "._-" for c in name):
        raise argparse.ArgumentTypeError(
            f"expected NAME=FILE with a NAME of letters, digits, '.', '_', '-'; got {text!r}"
        )
    return name, Path(path)


def _parse_loops(text: str) -> int:
    if text == "forever":
        return 0
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 or 'forever', got {text!r}")
    return int(text)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator.rtsp_camera", description=__doc__.partition("\n")[0])
    parser.add_argument("--mount", type=_parse_mount, action="append", required=True, metavar="NAME=FILE",
                        help="serve the H.264 FILE at /NAME (repeatable)")  # fmt: skip
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8554, help="port to listen on (default %(default)s)")
    parser.add_argument("--fps", type=float, default=0.0, help="frames per second (default: the file's own)")
    parser.add_argument("--loops", type=_parse_loops, default=0, metavar="N|forever", help="default: forever")
    parser.add_argument("--exit-at-end", action="store_true", help="exit once every mount has played its --loops")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write a JSON line for each frame pushed")
    parser.add_argument("--username", default="", help="ask viewers for this name …")
    parser.add_argument("--password-file", type=Path, help="… and the password in this file")
    return parser


def _read_login(username: str, password_file: Path | None) -> Login | None:
    if not username and password_file is None:
        return None
    if not username or password_file is None:
        raise CameraError("--username and --password-file go together")
    return Login(username, password_file.read_text().strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the camera from the command line; return the exit status."""
    args = _build_parser().parse_args(argv)
    try:
        camera = RtspCamera(args.bind, args.port, _read_login(args.username, args.password_file))
        log = PushLog(args.log)
        for name, path in args.mount:
            footage = load_footage(path, args.fps)
            camera.add(Mount(name, footage, args.loops, log))
            print(
                f"rtsp://{args.bind}:{args.port}/{name}  {path.name}: {len(footage.units)} frames at {footage.fps:g}/s",
                flush=True,
            )
        camera.serve(args.exit_at_end)
    except (CameraError, OSError) as e:
        print(f"rtsp_camera: {e}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    os._exit(0)  # GStreamer's threads of a live viewer need not be waited for


if __name__ == "__main__":
    sys.exit(main())
