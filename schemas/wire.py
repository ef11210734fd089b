"""Messages on Kafka: MessagePack maps with named keys, readable by any MessagePack library.

Rules of evolution: fields are only ever appended, each with a default; `v` is the version of the writer's schema;
unknown fields are ignored. A job refuses a version that it does not know, as a dead letter to be re-driven after its
upgrade: upgrade jobs before agents. Recorded bytes of each released version lie in `tests/data/wire/` and must decode
for ever.

Arrays are packed little-endian without padding, row-major, in MessagePack `bin`:

=============  ========  =====  ====================================================================
field          element   shape  meaning
=============  ========  =====  ====================================================================
boxes          float32   N×4    x1 y1 x2 y2 as a ratio of the frame, origin top left
scores         float32   N      detector's confidence, 0..1
classes        uint8     N      index into the same message's `labels`
embeddings     float16   N×D    appearance vectors of `embedding_model`
=============  ========  =====  ====================================================================
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from schemas.fields import Severity
from schemas.topics import MAX_MESSAGE_BYTES

SCHEMA_VERSION = 1
MAX_DETECTIONS = 1000
MAX_LABELS = 256
EDGE_RATIO = 0.5
"""How far outside the frame, as a ratio of it, a box may reach; what sticks out is clipped, more is refused."""

EARLIEST_US = 946_684_800_000_000  # 2000-01-01: seconds or milliseconds sent as microseconds fall below it
LATEST_US = 4_102_444_800_000_000  # 2100-01-01: far below the overflow of int64 nanoseconds in 2262
NEVER_US = 1 << 62  # later than any time, with room to add to it
MAX_AHEAD_US = 5_000_000
"""A frame may be captured at most this long after it was received (clocks of camera and agent differ)."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*\Z"
LABEL_PATTERN = r"^[^\x00-\x1f\x7f]*\Z"
NAME_LENGTH = 64
Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH, pattern=NAME_PATTERN)]
Label = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH, pattern=LABEL_PATTERN)]
Text = Annotated[str, Meta(max_length=256)]
TimeUs = Annotated[int, Meta(ge=EARLIEST_US, le=LATEST_US)]
Count = Annotated[int, Meta(ge=0, le=(1 << 62))]
Clock = Literal["rtcp_sr", "arrival", "file"]


class BadMessage(ValueError):
    """Bytes that are not the message they should be. `reason` is one of a small fixed set of words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:500]


# msgspec leaves a field out where its value *is* the default: a word that was read from a snapshot or came with a job is not,
# though it is equal, and the same message would have other bytes. The value of a factory is never left out.


def _schema_version() -> int:
    return SCHEMA_VERSION


def _severity() -> Severity:
    return "warning"


def _cause() -> AlertCause:
    return "condition"


class DetectionFrame(Struct, kw_only=True, frozen=True, gc=False):
    """One video frame's detections. Topic `detections`; key = camera; record timestamp = capture time in ms.

    `site` and `camera` must be a `Name`, each of `labels` a `Label`: `decode_detections` sees to it.
    """

    v: int = SCHEMA_VERSION
    site: str
    camera: str
    boot: TimeUs  # when the agent started; strictly larger at each start, so that (boot, seq) orders a camera's frames
    seq: Count  # from 0 per camera and boot, without gaps
    capture_us: TimeUs  # UTC
    clock: Clock  # whose clock capture_us is: the camera's by RTCP sender report, the agent's on arrival, or a file's
    recv_us: TimeUs  # agent's clock when the frame came in
    sent_us: TimeUs  # agent's clock when the message was handed to the producer first
    width_px: Annotated[int, Meta(ge=1, le=65536)]
    height_px: Annotated[int, Meta(ge=1, le=65536)]
    model: Text = ""
    model_sha: Text = ""  # first 16 hex digits of the SHA-256 of the model file
    labels: Annotated[tuple[str, ...], Meta(max_length=MAX_LABELS)] = ()
    boxes: bytes = b""
    scores: bytes = b""
    classes: bytes = b""
    embeddings: bytes = b""
    embedding_model: Text = ""
    embedding_dim: Annotated[int, Meta(ge=0, le=4096)] = 0


class _NamedFrame(DetectionFrame, kw_only=True, frozen=True, gc=False):
    """The same with its names checked while it is decoded, which takes three times as long; it says which one is wrong."""

    site: Name
    camera: Name
    labels: Annotated[tuple[Label, ...], Meta(max_length=MAX_LABELS)] = ()


class TrackFrame(Struct, kw_only=True, frozen=True, gc=False):
    """All published tracks of one frame. Topic `tracks`; key = camera.

    `born_us` int64 N and `ordinals` uint32 N name the tracks (`ids.track_id`); `boxes` float32 N×4; `velocities`
    float32 N×2 in frame widths and heights per second; `states` uint8 N (0 observed, 1 predicted); `classes` uint8
    N into `labels` after voting; `scores` float32 N. Where the camera's ground is known, and else empty: `ground`
    float32 N×2, m in the site's frame; `ground_velocities` float32 N×2, m/s; `speed_sds` float32 N, standard deviation of
    the speed, m/s; NaN for an object whose place on the ground is not known.
    """

    v: int = SCHEMA_VERSION
    site: str
    camera: str
    boot: int
    seq: int
    capture_us: int
    sent_us: int
    width_px: int
    height_px: int
    model_sha: str = ""
    settings: str = ""
    labels: tuple[str, ...] = ()
    born_us: bytes = b""
    ordinals: bytes = b""
    boxes: bytes = b""
    velocities: bytes = b""
    states: bytes = b""
    classes: bytes = b""
    scores: bytes = b""
    ground: bytes = b""
    ground_velocities: bytes = b""
    speed_sds: bytes = b""


EventKind = Literal["enter", "exit", "crossing", "track_end", "source_lost", "source_back", "counter"]


class Event(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Something that happened once. Topic `events`; key = subject."""

    v: int = msgspec.field(default_factory=_schema_version)  # a factory's value is never left out
    id: str
    kind: EventKind
    site: str
    camera: str
    subject: str  # the track, or the camera for source_lost, source_back and counter
    at_us: int
    label: str = ""
    zone: str = ""
    tripwire: str = ""
    direction: Literal["", "left", "right"] = ""  # the side walked to, looking from the first to the last point
    born_inside: bool = False
    dwell_s: float = 0.0
    reason: str = ""
    settings: str = ""
    # Of `track_end` only; what is in metres is None where the camera's ground is not known.
    first_us: int = 0  # when the object was first seen; it was last seen at `at_us`
    path_plane: Literal["", "image", "ground"] = ""
    path: tuple[tuple[int, float, float], ...] = ()  # ms since first_us, x, y: m, or ratios of the frame
    path_error: float = 0.0  # every observation lies within this of the path, at its own time: m, or frame heights
    distance_m: float | None = None  # walked
    speed_mean_mps: float | None = None
    speed_max_mps: float | None = None  # mean over the fastest stretch of at least 1 s
    stopped_s: float = 0.0  # in stops of at least 3 s
    zone_times: dict[str, float] = {}  # seconds inside each zone, over all reported visits
    # Of `counter` only: an interval that ends at `at_us`.
    counter: str = ""
    in_count: int = 0
    out_count: int = 0
    occupancy: int = 0  # at its end


AlertCause = Literal[
    "condition", "repetition", "joined", "left", "escalation", "acknowledged", "schedule", "settings", "source_lost"
]  # fmt: skip


class AlertTransition(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One transition of one alert. Topic `alerts`; key = alert_id. Folding by `id` makes repeats harmless."""

    v: int = msgspec.field(default_factory=_schema_version)  # a factory's value is never left out
    id: str  # alert_id + transition + number of that transition
    alert_id: str
    transition: Literal["open", "update", "close"]
    site: str
    camera: str
    rule: str
    rule_version: int
    rule_type: str
    zone: str = ""
    subjects: tuple[str, ...] = ()
    label: str = ""
    start_us: int  # when the condition began
    at_us: int  # event time of this transition
    value: float = 0.0  # what the rule measures (seconds, objects), now
    before: float = 0.0  # the same at the transition before
    thresholds: dict[str, float] = {}
    reason: str = ""  # in words
    settings: str = ""
    model_sha: str = ""
    evidence_from_us: int = 0
    evidence_to_us: int = 0
    input_partition: int = -1
    input_offset: int = -1
    input_seq: int = -1
    detection_sent_us: int = 0  # `sent_us` of the frame that caused this: the alert's record timestamp − this = latency
    severity: Severity = msgspec.field(default_factory=_severity)
    cause: AlertCause = msgspec.field(default_factory=_cause)  # of this transition
    incident: str = ""  # alerts that belong together share it: the alert_id of the first of them
    tripwire: str = ""
    subject_count: int = 0  # of `subjects`, which names 100 of them at most
    acknowledged_by: str = ""
    muted: bool = False  # somebody wants to hear nothing of this rule now
    off_hours: bool = False  # `thresholds` are those outside the rule's schedule


class Point(Struct, frozen=True, array_like=True):
    """One InfluxDB point. Ids of tracks and alerts are fields, never tags, so that series stay bounded."""

    measurement: str
    tags: dict[str, str]
    at_ns: int
    fields: dict[str, bool | int | float | str]


class Figures(Struct, kw_only=True, frozen=True):
    """A batch of points that belong together; many batches share a request. Topic `figures`; key = camera."""

    v: int = SCHEMA_VERSION
    site: str
    camera: str
    points: tuple[Point, ...]


class CameraHealth(Struct, kw_only=True, frozen=True):
    """One camera in a heartbeat. Counts are totals since the agent's start."""

    camera: str
    state: Literal["connecting", "streaming", "backoff", "stopped"]
    clock: str = ""
    capture_fps: float = 0.0
    sent_fps: float = 0.0
    captured_count: int = 0
    sent_count: int = 0
    delivered_count: int = 0
    skipped_count: int = 0  # by sampling: wanted
    dropped: dict[str, int] = {}  # by reason: not wanted
    reconnect_count: int = 0
    clock_offset_s: float = 0.0
    last_error: str = ""


class Health(Struct, kw_only=True, frozen=True):
    """Heartbeat of one agent, once a second. Topic `health`; key = agent."""

    v: int = SCHEMA_VERSION
    site: str
    agent: str
    boot: int
    seq: int
    at_us: int
    cameras: tuple[CameraHealth, ...] = ()
    spool_count: int = 0
    spool_bytes: int = 0
    spool_dropped_count: int = 0
    queue_count: int = 0
    model: str = ""
    model_sha: str = ""
    backend: str = ""
    temperatures_c: dict[str, float] = {}
    versions: dict[str, str] = {}
    uplink_error: str = ""  # what last went wrong on the way to Kafka; empty once something was acknowledged since


class DeadLetter(Struct, kw_only=True, frozen=True):
    """Something unreadable or refused, with where it came from. Topic `dead-letters`; key = the original key."""

    v: int = SCHEMA_VERSION
    reason: str
    detail: str
    stage: str
    topic: str
    partition: int
    offset: int
    key: str
    raw: bytes
    raw_sha256: str
    truncated: bool = False


_detection_decoder = msgspec.msgpack.Decoder(DetectionFrame)
_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Encode any message of this module to MessagePack bytes."""

M = TypeVar("M", bound=Struct)
_decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}


def decode(buf: bytes, kind: type[M]) -> M:
    """Decode `buf` as `kind`. Raises BadMessage, whatever the bytes are."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(buf)  # type: ignore[no-any-return]
    except msgspec.ValidationError as e:
        raise BadMessage("invalid_field", str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as e:
        raise BadMessage("not_messagepack", str(e)) from None


def _decode_frame(buf: bytes) -> DetectionFrame:
    """Decode a frame; names are checked after that, since a pattern costs more than all other fields together."""
    try:
        f = _detection_decoder.decode(buf)
        if _are_names(f.site, f.camera) and _are_labels(f.labels):
            return f
    except (ValueError, RecursionError, OverflowError):
        pass  # whatever is wrong first, the other decoder says so
    return decode(buf, _NamedFrame)


def _is(text: str, pattern: str) -> bool:
    return 1 <= len(text) <= NAME_LENGTH and re.search(pattern, text) is not None


@lru_cache(maxsize=4096)
def _are_names(site: str, camera: str) -> bool:
    return _is(site, NAME_PATTERN) and _is(camera, NAME_PATTERN)


def _are_labels(labels: tuple[str, ...]) -> bool:
    return _are_few_labels(labels) if len(labels) <= 16 else all(_is(label, LABEL_PATTERN) for label in labels)


@lru_cache(maxsize=1024)
def _are_few_labels(labels: tuple[str, ...]) -> bool:
    return all(_is(label, LABEL_PATTERN) for label in labels)


def decode_detections(buf: object) -> DetectionFrame:
    """Decode one `detections` value and check what types cannot say, save the numbers in the packed arrays.

    The arrays' numbers are checked by `check_detections` (or by the camera stage's kernel, which applies the same
    rules); this function costs about 1 µs. Raises BadMessage with reason `tombstone`, `too_large`,
    `not_messagepack`, `invalid_field`, `unknown_version`, `array_length` or `implausible_time`.
    """
    if not isinstance(buf, bytes):
        raise BadMessage("tombstone", "expected MessagePack bytes, got a record without a value")
    if len(buf) > MAX_MESSAGE_BYTES:
        raise BadMessage("too_large", f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(buf)}")
    f = _decode_frame(buf)
    if not 1 <= f.v <= SCHEMA_VERSION:
        raise BadMessage("unknown_version", f"expected schema version 1 to {SCHEMA_VERSION}, got {f.v}")
    n = len(f.classes)
    if len(f.boxes) != 16 * n or len(f.scores) != 4 * n or n > MAX_DETECTIONS:
        raise BadMessage(
            "array_length",
            f"expected N ≤ {MAX_DETECTIONS} classes, 16·N bytes of boxes, 4·N of scores; got N={n}, "
            f"{len(f.boxes)} and {len(f.scores)} bytes",
        )
    if f.embeddings and len(f.embeddings) != 2 * f.embedding_dim * n:
        raise BadMessage(
            "array_length", f"expected {2 * f.embedding_dim * n} bytes of embeddings, got {len(f.embeddings)}"
        )
    if f.capture_us > f.recv_us + MAX_AHEAD_US or f.boot > f.recv_us + MAX_AHEAD_US:
        raise BadMessage(
            "implausible_time",
            f"capture_us {f.capture_us} and boot {f.boot} must not lie after recv_us {f.recv_us} + {MAX_AHEAD_US}",
        )
    return f


def read_usual(buf: object) -> DetectionFrame | None:
    """Decode one `detections` value without embeddings; None where `decode_detections` might refuse it, which says why.

    Of its names only those are good that are known to be: they are not looked at.
    """
    if type(buf) is not bytes or len(buf) > MAX_MESSAGE_BYTES:
        return None
    try:
        f = _detection_decoder.decode(buf)
    except (ValueError, RecursionError, OverflowError):
        return None
    n, latest_us = len(f.classes), f.recv_us + MAX_AHEAD_US
    if (
        f.v == SCHEMA_VERSION
        and len(f.boxes) == 16 * n
        and len(f.scores) == 4 * n
        and n <= MAX_DETECTIONS
        and not f.embeddings
        and f.capture_us <= latest_us
        and f.boot <= latest_us
    ):
        return f
    return None


def check_detections(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.uint8],
    label_count: int,
) -> str:
    """Return '' or what is wrong with a frame's arrays (shapes N×4, N, N), as text for a dead letter."""
    for i in range(len(scores)):
        x1, y1, x2, y2 = (float(c) for c in boxes[i])
        if not all(-EDGE_RATIO <= c <= 1 + EDGE_RATIO for c in (x1, y1, x2, y2)):  # false for NaN too
            return f"box {i}: expected numbers from {-EDGE_RATIO} to {1 + EDGE_RATIO}, got {x1, y1, x2, y2}"
        if not (x1 < x2 and y1 < y2):
            return f"box {i}: expected x1 < x2 and y1 < y2, got {x1, y1, x2, y2}"
        if not 0.0 <= float(scores[i]) <= 1.0:
            return f"score {i}: expected 0 to 1, got {float(scores[i])}"
        if int(classes[i]) >= label_count:
            return f"class {i}: expected an index below {label_count} (the number of labels), got {int(classes[i])}"
    return ""


def check_embeddings(embeddings: bytes) -> str:
    """Return '' or what is wrong with packed embeddings, as text for a dead letter."""
    if np.isfinite(np.frombuffer(embeddings, "<f2")).all():
        return ""
    return "embeddings: expected finite numbers, got NaN or infinity"


def unpack_boxes(frame: DetectionFrame | TrackFrame) -> npt.NDArray[np.float32]:
    """Return the frame's boxes as a read-only float32 array of shape N×4."""
    return np.frombuffer(frame.boxes, dtype="<f4").reshape(-1, 4)
