"""The wire: recorded bytes decode for ever, any reader can read them, and nothing but BadMessage comes of bad bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import (
    AlertTransition,
    BadMessage,
    CameraHealth,
    DeadLetter,
    DetectionFrame,
    Event,
    Figures,
    Health,
    Point,
    TrackFrame,
    decode,
    decode_detections,
    encode,
    read_usual,
    unpack_boxes,
)

GOLDEN = Path(__file__).parent.parent / "data" / "wire" / "v1"
T0 = 1_700_000_000_000_000


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def frame(**changes) -> DetectionFrame:
    fields = {
        "site": "site-1", "camera": "cam-1", "boot": T0 - 5_000_000, "seq": 0, "capture_us": T0, "clock": "rtcp_sr",
        "recv_us": T0 + 30_000, "sent_us": T0 + 38_000, "width_px": 1280, "height_px": 720,
    }  # fmt: skip
    return DetectionFrame(**{**fields, **changes})


TWO = {
    "labels": ("car", "person"),
    "boxes": floats(0.125, 0.25, 0.5, 0.75, 0.5, 0.5, 0.625, 0.875),
    "scores": floats(0.5, 0.875),
    "classes": bytes([1, 0]),
    "model": "centernet-mobilenetv3",
    "model_sha": "0123456789abcdef",
}
EXAMPLES: dict[str, msgspec.Struct] = {
    "detections-empty": frame(),
    "detections-two": frame(seq=1, **TWO),
    "detections-embeddings": frame(
        seq=300, clock="arrival", **TWO,
        embeddings=np.arange(6, dtype="<f2").tobytes(), embedding_model="reid-small", embedding_dim=3,
    ),
    "detections-file-clock": frame(camera="Cam_2.north-east", seq=1 << 40, clock="file", **TWO),
    "tracks": TrackFrame(
        site="site-1", camera="cam-1", boot=T0 - 5_000_000, seq=1, capture_us=T0, sent_us=T0 + 38_000,
        width_px=1280, height_px=720, model_sha="0123456789abcdef", settings="a1b2c3d4e5f6", labels=("car", "person"),
        born_us=struct.pack("<2q", T0 - 2_000_000, T0 - 1_000_000), ordinals=struct.pack("<2I", 0, 1),
        boxes=TWO["boxes"], velocities=floats(0.25, 0.0, -0.125, 0.5), states=bytes([0, 1]), classes=bytes([1, 0]),
        scores=TWO["scores"],
    ),
    "event": Event(
        id="crossing/site-1/cam-1/1699999998000000/0/gate/1700000000000000", kind="crossing", site="site-1",
        camera="cam-1", subject="site-1/cam-1/1699999998000000/0", at_us=T0, label="person", tripwire="gate",
        direction="left", settings="a1b2c3d4e5f6",
    ),
    "event-exit": Event(
        id="exit/site-1/cam-1/1699999998000000/0/hall/1700000000000000", kind="exit", site="site-1", camera="cam-1",
        subject="site-1/cam-1/1699999998000000/0", at_us=T0, label="person", zone="hall", born_inside=True,
        dwell_s=1.5, reason="left", settings="a1b2c3d4e5f6",
    ),
    "alert": AlertTransition(
        id="site-1/loiter@1/cam-1/hall/0/1700000000000000#open1",
        alert_id="site-1/loiter@1/cam-1/hall/0/1700000000000000",
        transition="open", site="site-1", camera="cam-1", rule="loiter", rule_version=1, rule_type="loitering",
        zone="hall", subjects=("site-1/cam-1/1699999998000000/0",), label="person", start_us=T0 - 8_000_000, at_us=T0,
        value=8.0, before=0.0, thresholds={"since_s": 8.0}, reason="in hall for 8.0 s", settings="a1b2c3d4e5f6",
        model_sha="0123456789abcdef", evidence_from_us=T0 - 10_000_000, evidence_to_us=T0, input_partition=2,
        input_offset=12345, input_seq=77, detection_sent_us=T0 + 38_000,
    ),
    "figures": Figures(
        site="site-1", camera="cam-1",
        points=(
            Point("zone", {"site": "site-1", "camera": "cam-1", "zone": "hall", "class": "person"}, T0 * 1000,
                  {"enter_count": 2, "occupancy_mean": 0.5, "complete": True, "settings": "a1b2c3d4e5f6"}),
        ),
    ),
    "health": Health(
        site="site-1", agent="site-1", boot=T0 - 5_000_000, seq=5, at_us=T0,
        cameras=(CameraHealth(camera="cam-1", state="streaming", clock="rtcp_sr", capture_fps=10.0, sent_fps=9.5,
                              captured_count=50, sent_count=48, delivered_count=47, skipped_count=1,
                              dropped={"queue": 1}, reconnect_count=2, clock_offset_s=-0.25, last_error="none"),),
        spool_count=1, spool_bytes=300, spool_dropped_count=0, queue_count=1, model="centernet-mobilenetv3",
        model_sha="0123456789abcdef", backend="onnxruntime-cpu", temperatures_c={"cpu": 51.5}, versions={"agent": "1"},
    ),
    "dead-letter": DeadLetter(
        reason="not_messagepack", detail="truncated", stage="camera", topic="detections", partition=1, offset=99,
        key="cam-1", raw=b"\xc1\x00", raw_sha256="00" * 32, truncated=True,
    ),
    "tracks-ground": TrackFrame(
        site="site-1", camera="cam-1", boot=T0 - 5_000_000, seq=8, capture_us=T0 + 100_000, sent_us=T0 + 140_000,
        width_px=1280, height_px=720, model_sha="0123456789abcdef", settings="abcdef012345", labels=("person",),
        born_us=np.array([T0], "<i8").tobytes(), ordinals=np.array([3], "<u4").tobytes(),
        boxes=np.array([[0.125, 0.25, 0.5, 0.75]], "<f4").tobytes(), velocities=np.array([[0.5, -0.25]], "<f4").tobytes(),
        states=b"\x00", classes=b"\x00", scores=np.array([0.5], "<f4").tobytes(),
        ground=np.array([[-1.5, 12.25]], "<f4").tobytes(), ground_velocities=np.array([[1.25, 0.5]], "<f4").tobytes(),
        speed_sds=np.array([0.375], "<f4").tobytes(),
    ),
    "event-track-end": Event(
        id=f"track_end/site-1/cam-1/{T0}/3//{T0 + 9_000_000}", kind="track_end", site="site-1", camera="cam-1",
        subject=f"site-1/cam-1/{T0}/3", at_us=T0 + 9_000_000, label="person", dwell_s=9.0, reason="unseen",
        settings="abcdef012345", first_us=T0, path_plane="ground", path=((0, -1.5, 12.25), (9000, 6.5, 12.25)),
        path_error=0.5, distance_m=8.25, speed_mean_mps=0.917, speed_max_mps=1.5, stopped_s=3.5, zone_times={"door": 2.5},
    ),
}  # fmt: skip
"""What the recorded bytes say. A later version appends fields with defaults, so these lines stay as they are."""


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_recorded_bytes_of_version_1_mean_what_they_meant(name):
    raw = (GOLDEN / f"{name}.msgpack").read_bytes()
    kind = type(EXAMPLES[name])
    assert decode(raw, kind) == EXAMPLES[name]
    assert decode(encode(decode(raw, kind)), kind) == EXAMPLES[name]
    if kind is DetectionFrame:
        assert decode_detections(raw) == EXAMPLES[name]


def test_each_recorded_file_and_each_message_type_has_its_example():
    assert {p.stem for p in GOLDEN.glob("*.msgpack")} == set(EXAMPLES)
    messages = {
        kind for kind in vars(wire).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and "v" in kind.__struct_fields__
        and not kind.__name__.startswith("_")
    }  # fmt: skip
    assert {type(example) for example in EXAMPLES.values()} == messages


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_any_messagepack_library_reads_recorded_bytes(name):
    raw = (GOLDEN / f"{name}.msgpack").read_bytes()
    plain = msgpack.unpackb(raw)
    expected = msgpack.unpackb(msgpack.packb(msgspec.to_builtins(EXAMPLES[name], builtin_types=(bytes,))))
    # Fields that were appended after the recording are not in it; that they are at their defaults is seen above.
    assert plain == {name: expected[name] for name in plain}
    assert next(iter(plain.items())) == ("v", 1)  # in every message, even where other defaults are left out


def test_packed_arrays_are_what_the_document_says():
    plain = msgpack.unpackb((GOLDEN / "detections-two.msgpack").read_bytes())
    boxes = np.frombuffer(plain["boxes"], "<f4").reshape(-1, 4)
    assert boxes.tolist() == [[0.125, 0.25, 0.5, 0.75], [0.5, 0.5, 0.625, 0.875]]
    assert [plain["labels"][i] for i in plain["classes"]] == ["person", "car"]
    assert (unpack_boxes(EXAMPLES["detections-two"]) == boxes).all()


@pytest.mark.parametrize("name", [n for n in EXAMPLES if n.startswith("detections")])
def test_what_plain_messagepack_writes_is_read(name):
    plain = msgspec.to_builtins(EXAMPLES[name], builtin_types=(bytes,))
    assert decode_detections(msgpack.packb(plain)) == EXAMPLES[name]


def test_unknown_fields_are_ignored_and_defaults_fill_in():
    plain = msgpack.unpackb(encode(frame()))
    for gone in ("v", "model", "labels", "boxes", "embedding_dim"):
        del plain[gone]
    assert decode_detections(msgpack.packb({**plain, "later": {"a": [1]}})) == frame()


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", fullmatch=True)
times = st.integers(wire.EARLIEST_US, wire.LATEST_US - 10_000_000)
printable = st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"])
labels = st.text(printable, min_size=1, max_size=64)


@st.composite
def frames(draw) -> DetectionFrame:
    n = draw(st.integers(0, 20))
    at_us = draw(times)
    dim = draw(st.sampled_from([0, 0, 4, 16]))
    return frame(
        site=draw(names), camera=draw(names), boot=draw(st.integers(wire.EARLIEST_US, at_us)),
        seq=draw(st.integers(0, 1 << 62)), capture_us=at_us, recv_us=at_us + draw(st.integers(-5_000_000, 5_000_000)),
        sent_us=at_us, width_px=draw(st.integers(1, 65536)), height_px=draw(st.integers(1, 65536)),
        clock=draw(st.sampled_from(["rtcp_sr", "arrival", "file"])), labels=tuple(draw(st.lists(labels, max_size=5))),
        boxes=draw(st.binary(min_size=16 * n, max_size=16 * n)), scores=draw(st.binary(min_size=4 * n, max_size=4 * n)),
        classes=draw(st.binary(min_size=n, max_size=n)),
        embeddings=draw(st.binary(min_size=2 * dim * n, max_size=2 * dim * n)), embedding_dim=dim,
    )  # fmt: skip


@given(frames())
def test_what_is_encoded_is_decoded_alike_by_both_readers(message):
    if message.recv_us < wire.EARLIEST_US or message.boot > message.recv_us + wire.MAX_AHEAD_US:
        return
    raw = encode(message)
    assert decode_detections(raw) == message
    plain = msgpack.unpackb(raw)
    assert plain["boxes"] == message.boxes and plain["seq"] == message.seq


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"site": ""}, "at `$.site`"),
        ({"camera": "a b"}, "matching regex"),
        ({"camera": "c" * 65}, "at `$.camera`"),
        ({"labels": ("person", "a\x00b")}, "at `$.labels["),
        ({"labels": ("x" * 65,)}, "at `$.labels["),
        ({"labels": tuple(f"{i}\x7f" for i in range(30))}, "at `$.labels["),
        ({"labels": ("l",) * 257}, "at `$.labels`"),
    ],
)
def test_a_wrong_name_is_named(changes, told):
    for _ in range(2):  # names that were seen before are not looked at again
        with pytest.raises(BadMessage) as caught:
            decode_detections(encode(frame(**changes)))
        assert caught.value.reason == "invalid_field" and told in caught.value.detail


def outcome(raw: object) -> str:
    """Decode as every kind of message: only BadMessage may come out. What is usual is good, but for names."""
    usual = read_usual(raw)
    try:
        f = decode_detections(raw)
    except BadMessage as e:
        assert len(e.detail) <= 500
        reason = e.reason
        if usual is not None:
            decode_detections(encode(msgspec.structs.replace(usual, site="site", camera="camera", labels=())))
    else:
        reason = ""
        assert usual == (None if f.embeddings else f)
    for kind in (TrackFrame, Event, AlertTransition, Figures, Health, DeadLetter):
        try:
            decode(raw, kind)
        except BadMessage:
            pass
    return reason


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xc1")
@example(b"\x91" * 100_000)
@example(b"\x81\xa1a" * 100_000)
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\x81\xa4site\xa3\xff\xfe\xfd")
@example(b"\x81\xa2\xff\xfe\x01")
@example(b"\xd6\xff\x00\x00\x00\x00")
def test_random_bytes_give_bad_message_and_nothing_else(raw):
    assert outcome(raw) in {"not_messagepack", "invalid_field"}


@settings(max_examples=300)
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_damaged_messages_give_bad_message_or_a_message_and_nothing_else(name, data):
    raw = bytearray(encode(EXAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if how == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del raw[at : at + data.draw(st.integers(1, 8))]
        elif how == "insert":
            raw[at:at] = data.draw(st.binary(max_size=8))
        else:
            raw[at:at] = raw[max(0, at - 20) : at]
        if not raw:
            break
    outcome(bytes(raw))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=10)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(DetectionFrame.__struct_fields__), values, min_size=1, max_size=3))
def test_any_value_in_any_field_gives_bad_message_or_a_message_and_nothing_else(changes):
    plain = msgpack.unpackb(encode(frame(**TWO)))
    outcome(msgpack.packb({**plain, **changes}))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "tombstone"),
        (bytes(MAX_MESSAGE_BYTES + 1), "too_large"),
        (b"\xc1", "not_messagepack"),
        (b"\x80", "invalid_field"),
        (encode(frame(v=2)), "unknown_version"),
        (encode(frame(v=0)), "unknown_version"),
        (encode(frame(classes=b"\0")), "array_length"),
        (encode(frame(embeddings=b"\0" * 16)), "array_length"),
        (encode(frame(capture_us=T0 + 60_000_000)), "implausible_time"),
        (encode(frame(boot=T0 + 60_000_000)), "implausible_time"),
    ],
)
def test_each_fault_has_its_reason(raw, reason):
    assert read_usual(raw) is None
    with pytest.raises(BadMessage) as caught:
        decode_detections(raw)
    assert caught.value.reason == reason
