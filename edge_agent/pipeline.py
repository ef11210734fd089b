"""GStreamer pipelines, built element by element: no text of a user ever reaches a pipeline parser.

RTSP:  rtspsrc → depayloader → parser → decoder → queue (leaky) → [sampling] → converter → BGR → appsink
File:  filesrc → decodebin → queue → [sampling] → converter → BGR → appsink

Frames are dropped only after the decoder: before it, they would take others with them. The sampling probe, the
conversion and the hand-over run in one streaming thread, so what the probe notes of a frame holds for the next sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

from edge_agent.capture_link import Start


class PipelineError(Exception):
    """A pipeline cannot be built here; the text names what is missing."""


@dataclass(frozen=True)
class Codec:
    """Elements for one RTP encoding; of `decoders` the first that exists is taken: hardware first."""

    depayloader: str
    parser: str
    decoders: tuple[str, ...]


CODECS: dict[str, Codec] = {
    "H264": Codec("rtph264depay", "h264parse", ("nvv4l2decoder", "avdec_h264", "openh264dec")),
    "H265": Codec("rtph265depay", "h265parse", ("nvv4l2decoder", "avdec_h265")),
    "JPEG": Codec("rtpjpegdepay", "jpegparse", ("nvjpegdec", "jpegdec", "avdec_mjpeg")),
    "MP4V-ES": Codec("rtpmp4vdepay", "mpeg4videoparse", ("nvv4l2decoder", "avdec_mpeg4")),
}
TCP_TIMEOUT_US = 5_000_000
QUEUE_FRAMES = 2


def load_gst() -> ModuleType:
    """Return the initialised Gst module. Raises PipelineError with the packages to install."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
    except (ImportError, ValueError) as e:
        raise PipelineError(
            f"GStreamer's Python bindings are not usable ({e}); install python3-gi and gir1.2-gstreamer-1.0, and run "
            "the agent with the system's Python (a venv with --system-site-packages)"
        ) from None
    Gst.init(None)
    return Gst  # type: ignore[no-any-return]


def choose_decoder(Gst: Any, codec: Codec) -> str:
    """Return the first decoder of `codec` that this machine has. Raises PipelineError."""
    for name in codec.decoders:
        if Gst.ElementFactory.find(name) is not None:
            return name
    raise PipelineError(f"no decoder: install one of {', '.join(codec.decoders)} (Debian: gstreamer1.0-libav)")


def make(Gst: Any, kind: str, **properties: Any) -> Any:
    """Make an element and set those of `properties` that its version knows. Raises PipelineError."""
    element = Gst.ElementFactory.make(kind)
    if element is None:
        raise PipelineError(f"GStreamer element {kind} is missing; install the plugins (`sightflow-agent check`)")
    for name, value in properties.items():
        if element.find_property(name.replace("_", "-")) is not None:
            element.set_property(name.replace("_", "-"), value)
    return element


@dataclass
class Pipeline:
    """A built pipeline, not yet playing. `before_convert` is where sampling sits, `sink` where BGR frames come out."""

    bin: Any
    source: Any
    queue: Any
    before_convert: Any
    sink: Any
    decoder: str = ""
    depayloader: Any = None


def build(Gst: Any, start: Start, on_depayloader: Callable[[Any], None]) -> Pipeline:
    """Build the pipeline for `start`; `on_depayloader` is called with an RTSP stream's depayloader once it exists."""
    is_rtsp = start.url.startswith(("rtsp://", "rtsps://"))
    pipeline = _build_tail(Gst, is_rtsp, start.is_fast)
    if is_rtsp:
        _add_rtsp_source(Gst, pipeline, start, on_depayloader)
    else:
        _add_file_source(Gst, pipeline, start.url.partition("://")[2])
    return pipeline


def _build_tail(Gst: Any, is_rtsp: bool, is_fast: bool) -> Pipeline:
    whole = Gst.Pipeline.new("capture")
    queue = make(Gst, "queue", max_size_buffers=QUEUE_FRAMES, max_size_bytes=0, max_size_time=0)
    if is_rtsp:
        queue.set_property("leaky", 2)  # downstream: the oldest goes
    chain = [queue]
    if Gst.ElementFactory.find("nvvidconv") is not None:  # out of NVMM memory; BGR itself it cannot make
        chain += [make(Gst, "nvvidconv"), _only(Gst, "video/x-raw,format=BGRx")]
    chain += [make(Gst, "videoconvert", n_threads=1), _only(Gst, "video/x-raw,format=BGR")]
    sink = make(
        Gst, "appsink", sync=not is_rtsp and not is_fast, drop=is_rtsp, max_buffers=1, emit_signals=True, qos=False
    )
    chain.append(sink)
    for element in chain:
        whole.add(element)
    for a, b in pairwise(chain):
        if not a.link(b):
            raise PipelineError(f"cannot link {a.get_name()} to {b.get_name()}")
    return Pipeline(whole, None, queue, chain[1].get_static_pad("sink"), sink)


def _only(Gst: Any, caps: str) -> Any:
    return make(Gst, "capsfilter", caps=Gst.Caps.from_string(caps))


def _add_rtsp_source(Gst: Any, pipeline: Pipeline, start: Start, on_depayloader: Callable[[Any], None]) -> None:
    import gi

    gi.require_version("GstRtsp", "1.0")
    from gi.repository import GstRtsp

    transport = GstRtsp.RTSPLowerTrans.UDP if start.transport == "udp" else GstRtsp.RTSPLowerTrans.TCP
    source = make(
        Gst, "rtspsrc", location=start.url, protocols=transport, latency=start.latency_ms, drop_on_latency=True,
        tcp_timeout=TCP_TIMEOUT_US, do_rtsp_keep_alive=True, add_reference_timestamp_meta=start.time_route != "reports",
        user_agent="sightflow-agent",
    )  # fmt: skip
    if start.username or start.password:
        source.set_property("user-id", start.username)
        source.set_property("user-pw", start.password)
    source.connect("select-stream", lambda _source, _number, caps: _is_video(caps))

    def attach(_: Any, pad: Any) -> None:
        if pipeline.depayloader is None and _is_video(pad.get_current_caps() or pad.query_caps(None)):
            _attach_decoder(Gst, pipeline, pad, on_depayloader)

    source.connect("pad-added", attach)
    pipeline.bin.add(source)
    pipeline.source = source


def _is_video(caps: Any) -> bool:
    return caps is None or caps.get_size() == 0 or caps.get_structure(0).get_string("media") in (None, "video")


def _attach_decoder(Gst: Any, pipeline: Pipeline, pad: Any, on_depayloader: Callable[[Any], None]) -> None:
    caps = pad.get_current_caps() or pad.query_caps(None)
    encoding = (caps.get_structure(0).get_string("encoding-name") or "").upper()
    try:
        if encoding not in CODECS:
            raise PipelineError(
                f"the stream is {encoding or 'of unknown encoding'}; expected one of {', '.join(CODECS)}"
            )
        codec = CODECS[encoding]
        pipeline.decoder = choose_decoder(Gst, codec)
        depayloader = make(Gst, codec.depayloader)
        decoder = make(Gst, pipeline.decoder, max_threads=2, enable_max_performance=True)
        chain = [depayloader, make(Gst, codec.parser), decoder]
    except PipelineError as e:
        _post_error(Gst, pipeline.bin, str(e))
        return
    for element in chain:
        pipeline.bin.add(element)
    links = [a.link(b) for a, b in zip(chain, [*chain[1:], pipeline.queue], strict=True)]
    if not all(links) or pad.link(depayloader.get_static_pad("sink")) != Gst.PadLinkReturn.OK:
        _post_error(Gst, pipeline.bin, f"the decoder chain for {encoding} does not fit together")
        return
    pipeline.depayloader = depayloader
    on_depayloader(depayloader)
    for element in reversed(chain):
        element.sync_state_with_parent()


def _post_error(Gst: Any, element: Any, text: str) -> None:
    from gi.repository import GLib

    error = GLib.Error.new_literal(Gst.CoreError.quark(), text, Gst.CoreError.FAILED)
    element.post_message(Gst.Message.new_error(element, error, text))


def _add_file_source(Gst: Any, pipeline: Pipeline, path: str) -> None:
    source, decode = make(Gst, "filesrc", location=path), make(Gst, "decodebin")
    pipeline.bin.add(source)
    pipeline.bin.add(decode)
    source.link(decode)

    def attach(_: Any, pad: Any) -> None:
        sink = pipeline.queue.get_static_pad("sink")
        caps = pad.query_caps(None)
        if not sink.is_linked() and caps.get_size() and caps.get_structure(0).get_name().startswith("video/"):
            pad.link(sink)

    decode.connect("pad-added", attach)
    pipeline.source, pipeline.decoder = source, "decodebin"
