"""Bad and odd input for the `detections` topic: every kind a job must survive, in any number, from a seed.

Each record says what should become of it: `dead_letter` (malformed or refused), `accepted` (odd but legal) or `dropped`
(legal, and to be left out: a repeat). Legal records belong to a camera of their own (`spare_camera`), which must be in
the site's settings; no record moves another camera's (boot, seq) on.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import MAX_DETECTIONS, MAX_LABELS, DetectionFrame, Health, TrackFrame, encode
from simulator.layout import SPARE_CAMERA

Expect = Literal["dead_letter", "accepted", "dropped"]
SEQ_SLACK_COUNT, SEQ_PER_S = 1000, 240
"""A sequence number further ahead than 1000 + 240 for each second since the last frame is refused."""
TIMESTAMP_SLACK_MS = 1000
"""Record timestamps further than this from the capture time are refused."""
_YEAR_US = 31_557_600_000_000
_SPARE_STEP_US = 1000  # the spare camera's time hardly moves, so that its frames do not drag watermarks along


@dataclass(frozen=True, slots=True)
class PoisonRecord:
    """One Kafka record, the kind of trouble it is, and what should become of it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    kind: str
    expect: Expect


class _Corpus:
    """Makes records; holds the spare camera's position so that its legal frames follow one another."""

    def __init__(self, seed: int, good: DetectionFrame, spare_camera: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.good = good
        self.fields: dict[str, Any] = msgspec.structs.asdict(
            msgspec.structs.replace(
                good,
                labels=("person",),
                boxes=_floats([0.1, 0.1, 0.2, 0.3]),
                scores=_floats([0.9]),
                classes=b"\0",
                embeddings=b"",
                embedding_dim=0,
            )
        )
        self.spare_camera = spare_camera
        self.spare_seq = 0
        self.spare_last: PoisonRecord | None = None

    def between(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, choices: list[Any]) -> Any:
        """Return one of `choices`."""
        return choices[self.between(0, len(choices) - 1)]

    def noise(self, length: int) -> bytes:
        """Return random bytes."""
        return self.rng.bytes(length)

    def bad(self, value: bytes | None, key: bytes | None = b"", timestamp_ms: int | None = None) -> PoisonRecord:
        """Return a record to be refused, under the good camera's key and time unless told otherwise."""
        key = self.good.camera.encode() if key == b"" else key
        return PoisonRecord(key, value, timestamp_ms or self.good.capture_us // 1000, "", "dead_letter")

    def bad_fields(self, **changes: Any) -> PoisonRecord:
        """Return a record like a good one, save for some fields."""
        return self.bad(_pack({**self.fields, **changes}))

    def bad_arrays(self, boxes: list[float], scores: list[float], classes: bytes) -> PoisonRecord:
        """Return a record like a good one, with other packed arrays."""
        return self.bad_fields(boxes=_floats(boxes), scores=_floats(scores), classes=classes)

    def legal(self, encoder: Callable[[dict[str, Any]], bytes] | None = None, **changes: Any) -> PoisonRecord:
        """Return the spare camera's next frame, with some fields changed."""
        at_us = self.good.capture_us + self.spare_seq * _SPARE_STEP_US
        fields = {
            **self.fields,
            "camera": self.spare_camera,
            "seq": self.spare_seq,
            "capture_us": at_us,
            "recv_us": at_us + 30_000,
            "sent_us": at_us + 38_000,
            **changes,
        }
        record = PoisonRecord(self.spare_camera.encode(), (encoder or _pack)(fields), at_us // 1000, "", "accepted")
        self.spare_seq += 1
        self.spare_last = record
        return record

    def spare(self, expect: Expect, **changes: Any) -> PoisonRecord:
        """Return a frame of the spare camera that must not move it on: a repeat, or a jump to be refused."""
        if self.spare_last is None or self.spare_last.value is None:
            return self.legal()
        fields = {**msgspec.msgpack.decode(self.spare_last.value), **changes}
        return PoisonRecord(self.spare_last.key, _pack(fields), self.spare_last.timestamp_ms, "", expect)


def _floats(values: list[float]) -> bytes:
    """Pack as little-endian float32; numbers too large for it become infinite."""
    with np.errstate(over="ignore"):
        return np.array(values, dtype="<f4").tobytes()


def _pack(fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


def _number_after(buf: bytes, name: str, raw: bytes) -> bytes:
    """Replace the (one-byte) value of field `name` by raw bytes."""
    key = bytes([0xA0 | len(name)]) + name.encode()
    at = buf.index(key) + len(key)
    return buf[:at] + raw + buf[at + 1 :]


# Whole values that are not our MessagePack ---------------------------------------------------------------


def _too_large(c: _Corpus) -> bytes:
    return _pack({**c.fields, "extra": bytes(MAX_MESSAGE_BYTES + 1 - len(_pack(c.fields)) + c.between(0, 4096))})


def _length_bomb(head: int) -> Callable[[_Corpus], PoisonRecord]:
    return lambda c: c.bad(struct.pack(">BI", head, c.pick([0xFFFFFFFF, 0x7FFFFFFF, 1 << 30])) + c.noise(1))


def _deep_array(c: _Corpus) -> bytes:
    return b"\x91" * int(c.pick([100, 600, 1000, 5000, 100_000])) + b"\xc0"


def _deep_map(c: _Corpus) -> bytes:
    return b"\x81\xa1a" * int(c.pick([100, 600, 1000, 5000, 100_000])) + b"\xc0"


def _deep_in_field(c: _Corpus) -> bytes:
    depth = int(c.pick([100, 1000, 50_000]))
    return b"\x81" + _pack(c.pick(["site", "extra"])) + b"\x91" * depth + b"\xc0"


def _truncated(c: _Corpus) -> bytes:
    whole = _pack(c.fields)
    return whole[: c.between(1, len(whole) - 1)]


def _root(c: _Corpus) -> bytes:
    return _pack(c.pick([0, -1, 1.5, "text", b"bin", None, True, [], [1, 2], list(c.fields.values()), {}]))


def _protobuf(c: _Corpus) -> bytes:
    return b"\x0a\x07cam-000\x10" + c.noise(c.between(4, 60)) + b"\x1a\x03abc"


def _json(c: _Corpus) -> bytes:
    return json.dumps({k: v if not isinstance(v, bytes) else v.hex() for k, v in c.fields.items()}).encode()


def _other_message(c: _Corpus) -> bytes:
    g = c.good
    health = Health(site=g.site, agent="a", boot=g.boot, seq=g.seq, at_us=g.capture_us)
    track = TrackFrame(
        site=g.site, camera=g.camera, boot=g.boot, seq=g.seq, capture_us=g.capture_us, sent_us=g.sent_us,
        width_px=g.width_px, height_px=g.height_px,
    )  # fmt: skip
    return encode(c.pick([health, track]))


def _not_string_keys(c: _Corpus) -> bytes:
    return _pack(c.pick([{1: 2}, {b"site": "x"}, {1.5: 0, True: 1}]))


def _bad_utf8(c: _Corpus) -> bytes:
    return _pack(c.fields).replace(b"\xa6person", b"\xa6" + c.pick([b"\xff\xfe\xfd\xfc\xfb\xfa", b"\xed\xa0\x80abc"]))


# One field wrong -------------------------------------------------------------------------------------------

_REQUIRED = ["site", "camera", "boot", "seq", "capture_us", "clock", "recv_us", "sent_us", "width_px", "height_px"]
_NUMBERS = ["boot", "seq", "capture_us", "recv_us", "sent_us", "width_px", "height_px"]


def _missing_field(c: _Corpus) -> PoisonRecord:
    gone = c.pick(_REQUIRED)
    return c.bad(_pack({k: v for k, v in c.fields.items() if k != gone}))


def _wrong_type(c: _Corpus) -> PoisonRecord:
    return c.bad_fields(**{c.pick(_NUMBERS): c.pick(["1", 1.5, None, True, [], {}, b"1"])})


def _ext_field(c: _Corpus) -> PoisonRecord:
    return c.bad_fields(**{c.pick(_REQUIRED): msgspec.msgpack.Ext(c.between(0, 127), c.noise(8))})


def _timestamp_ext(c: _Corpus) -> PoisonRecord:
    return c.bad_fields(capture_us=msgspec.msgpack.Ext(-1, struct.pack(">I", 1_700_000_000)))


def _odd_name(c: _Corpus) -> str:
    return str(
        c.pick([
            "", "x" * 65, "x" * 10_000, "cam\u202e001", "cam\x00", "cam\n1", "cam,site=evil", "cam=1", "cam 1", "cam\\",
            "кам", "cam\u200b", "../cam", "-cam", ".cam", "cam/1", "cam;drop", 'cam"', "😀", "cam\r",
        ])
    )  # fmt: skip


def _other_case(name: str) -> bytes:
    return (name.swapcase() if name.swapcase() != name else name + ".").encode()


def _odd_camera(c: _Corpus) -> PoisonRecord:
    name = _odd_name(c)
    return c.bad(_pack({**c.fields, "camera": name}), key=name.encode())


def _unknown_camera(c: _Corpus) -> PoisonRecord:
    name = f"nobody-{c.between(0, 1 << 30)}"
    return c.bad(_pack({**c.fields, "camera": name}), key=name.encode())


def _odd_time(c: _Corpus) -> PoisonRecord:
    now_us = c.good.capture_us
    odd = [0, -1, -now_us, now_us // 1_000_000, now_us // 1000, now_us * 1000, 9_300_000_000_000_000, (1 << 63) - 1,
           1 << 63, (1 << 64) - 1, -(1 << 63)]  # fmt: skip
    return c.bad_fields(**{c.pick(["capture_us", "boot", "recv_us", "sent_us"]): c.pick(odd)})


def _future(c: _Corpus) -> PoisonRecord:
    ahead_us = c.pick([6_000_000, 60_000_000, 3_600_000_000, _YEAR_US])
    return c.bad_fields(**{c.pick(["capture_us", "boot"]): c.good.recv_us + ahead_us})


def _far_capture(c: _Corpus) -> PoisonRecord:
    """Both clocks a year off, either way: plausible alone, but far from the record's timestamp."""
    shift_us = c.pick([_YEAR_US, -_YEAR_US, 3_600_000_000])
    g = c.good
    return c.bad_fields(capture_us=g.capture_us + shift_us, recv_us=g.recv_us + max(0, shift_us))


def _seq_out_of_range(c: _Corpus) -> PoisonRecord:
    return c.bad_fields(seq=c.pick([-1, -(1 << 31), (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]))


def _seq_jump(c: _Corpus) -> PoisonRecord:
    return c.spare("dead_letter", seq=c.spare_seq + SEQ_SLACK_COUNT + SEQ_PER_S + c.pick([1, 1000, 1 << 40]))


def _stale_boot(c: _Corpus) -> PoisonRecord:
    """A start of the agent before any that was heard of: its frames cannot be put in order any more."""
    return c.spare("dead_letter", boot=c.good.boot - c.pick([1, 1_000_000, _YEAR_US]))


# The numbers in the arrays ---------------------------------------------------------------------------------


def _bad_box(*boxes: list[float]) -> Callable[[_Corpus], PoisonRecord]:
    return lambda c: c.bad_arrays([0.1, 0.1, 0.2, 0.3, *c.pick(list(boxes))], [0.9, 0.9], b"\0\0")


def _bad_score(*scores: float) -> Callable[[_Corpus], PoisonRecord]:
    return lambda c: c.bad_arrays([0.1, 0.1, 0.2, 0.3], [c.pick(list(scores))], b"\0")


def _array_length(c: _Corpus) -> PoisonRecord:
    field = c.pick(["boxes", "scores", "classes"])
    return c.bad_fields(**{field: c.pick([b"", c.fields[field][:-1], c.fields[field] + c.noise(c.between(1, 40))])})


def _too_many(c: _Corpus) -> PoisonRecord:
    n = c.pick([MAX_DETECTIONS + 1, 2000, 45_000, 49_000])  # the last two lie just below the bound of a message
    return c.bad_arrays([0.1, 0.1, 0.2, 0.3] * n, [0.5] * n, bytes(n))


_NAN, _INF = float("nan"), float("inf")

DEAD_LETTER_KINDS: dict[str, Callable[[_Corpus], PoisonRecord]] = {
    "tombstone": lambda c: c.bad(None),
    "tombstone_without_key": lambda c: c.bad(None, key=None),
    "empty": lambda c: c.bad(b""),
    "one_byte": lambda c: c.bad(c.noise(1)),
    "reserved_byte": lambda c: c.bad(b"\xc1" + c.noise(c.between(0, 20))),
    "too_large": lambda c: c.bad(_too_large(c)),
    "array_bomb": _length_bomb(0xDD),
    "map_bomb": _length_bomb(0xDF),
    "str_bomb": _length_bomb(0xDB),
    "bin_bomb": _length_bomb(0xC6),
    "ext_bomb": _length_bomb(0xC9),
    "deep_array": lambda c: c.bad(_deep_array(c)),
    "deep_map": lambda c: c.bad(_deep_map(c)),
    "deep_in_field": lambda c: c.bad(_deep_in_field(c)),
    "trailing_bytes": lambda c: c.bad(_pack(c.fields) + c.noise(c.between(1, 50))),
    "truncated": lambda c: c.bad(_truncated(c)),
    "root_not_map": lambda c: c.bad(_root(c)),
    "json": lambda c: c.bad(_json(c)),
    "gzip": lambda c: c.bad(gzip.compress(_pack(c.fields), mtime=0)),
    "protobuf": lambda c: c.bad(_protobuf(c)),
    "random_bytes": lambda c: c.bad(c.noise(c.between(2, 4096))),
    "bad_utf8": lambda c: c.bad(_bad_utf8(c)),
    "not_string_keys": lambda c: c.bad(_not_string_keys(c)),
    "other_message": lambda c: c.bad(_other_message(c)),
    "version_higher": lambda c: c.bad_fields(v=c.pick([2, 3, 1000, (1 << 63) - 1, (1 << 64) - 1])),
    "version_lower": lambda c: c.bad_fields(v=c.pick([0, -1, -(1 << 63)])),
    "missing_field": _missing_field,
    "wrong_type": _wrong_type,
    "text_as_bytes": lambda c: c.bad_fields(site=c.good.site.encode()),
    "bytes_as_text": lambda c: c.bad_fields(boxes="x" * 16),
    "bytes_as_numbers": lambda c: c.bad_fields(boxes=[0.1, 0.1, 0.2, 0.3]),
    "ext_field": _ext_field,
    "timestamp_ext": _timestamp_ext,
    "clock_unknown": lambda c: c.bad_fields(clock=c.pick(["", "ntp", "FILE"])),
    "size_out_of_range": lambda c: c.bad_fields(
        **{c.pick(["width_px", "height_px"]): c.pick([0, -1, 65_537, 1 << 40])}
    ),
    "odd_time": _odd_time,
    "future": _future,
    "far_capture": _far_capture,
    "seq_out_of_range": _seq_out_of_range,
    "seq_jump": _seq_jump,
    "stale_boot": _stale_boot,
    "odd_camera": _odd_camera,
    "unknown_camera": _unknown_camera,
    "odd_site": lambda c: c.bad_fields(site=_odd_name(c)),
    "wrong_site": lambda c: c.bad_fields(site=f"other-site-{c.between(0, 99)}"),
    "key_of_other_camera": lambda c: c.bad(_pack(c.fields), key=c.spare_camera.encode()),
    "key_in_other_case": lambda c: c.bad(_pack(c.fields), key=_other_case(c.good.camera)),
    "no_key": lambda c: c.bad(_pack(c.fields), key=None),
    "key_not_utf8": lambda c: c.bad(_pack(c.fields), key=b"\xff\xfe" + c.noise(4)),
    "timestamp_behind": lambda c: c.bad(
        _pack(c.fields), timestamp_ms=c.good.capture_us // 1000 - TIMESTAMP_SLACK_MS - c.pick([1, 500, 60_000, 10**9])
    ),
    "nan_box": _bad_box([_NAN, 0.1, 0.2, 0.3], [0.1, 0.1, _NAN, 0.3], [_NAN] * 4),
    "infinite_box": _bad_box([0.1, 0.1, _INF, 0.3], [-_INF, 0.1, 0.2, 0.3]),
    "huge_box": _bad_box([0.1, 0.1, 1e308, 0.3], [0.0, 0.0, 3e38, 3e38]),
    "negative_box": _bad_box([-0.6, 0.1, 0.2, 0.3], [-1e9, -1e9, 0.2, 0.3]),
    "outside_box": _bad_box([0.1, 0.1, 1.6, 0.3], [2.0, 2.0, 3.0, 3.0], [100.0, 50.0, 164.0, 178.0]),
    "inverted_box": _bad_box([0.3, 0.1, 0.2, 0.3], [0.1, 0.5, 0.2, 0.3]),
    "empty_box": _bad_box([0.1, 0.1, 0.1, 0.3], [0.1, 0.1, 0.2, 0.1], [0.0] * 4),
    "score_out_of_range": _bad_score(-1.0, -1e-3, 1.001, 2.0, 100.0),
    "score_not_finite": _bad_score(_NAN, _INF, -_INF),
    "class_out_of_range": lambda c: c.bad_arrays([0.1, 0.1, 0.2, 0.3], [0.9], bytes([c.between(1, 255)])),
    "class_without_labels": lambda c: c.bad_fields(labels=[]),
    "array_length": _array_length,
    "too_many_detections": _too_many,
    "too_many_labels": lambda c: c.bad_fields(labels=[f"l{i}" for i in range(MAX_LABELS + c.between(1, 100))]),
    "odd_label": lambda c: c.bad_fields(labels=[c.pick(["", "x" * 65, "per\nson", "per\x00son", "\x7f"])]),
    "long_text": lambda c: c.bad_fields(model="x" * c.pick([257, 10_000])),
    "embeddings_length": lambda c: c.bad_fields(embeddings=c.noise(c.pick([1, 15, 17])), embedding_dim=8),
    "embeddings_not_finite": lambda c: c.bad_fields(
        embeddings=np.array([c.pick([_NAN, _INF, -_INF]), *(c.between(-99, 99) for _ in range(7))], "<f2").tobytes(),
        embedding_dim=8,
    ),
    "embeddings_without_dim": lambda c: c.bad_fields(embeddings=c.noise(16)),
    "embedding_dim_out_of_range": lambda c: c.bad_fields(embedding_dim=c.pick([-1, 4097, 1 << 40])),
}  # fmt: skip
"""Each must end as exactly one dead letter."""

WATERMARK_KINDS: dict[str, Callable[[_Corpus], PoisonRecord]] = {
    "timestamp_ahead": lambda c: c.bad(
        _pack(c.fields),
        timestamp_ms=c.good.capture_us // 1000 + TIMESTAMP_SLACK_MS + c.pick([1, 500, 60_000, 3_000_000]),
    ),
}
"""Dead letters whose record timestamp runs ahead: they move their partition's watermark, so only on request."""


def _extra_fields(c: _Corpus) -> PoisonRecord:
    extras = {f"x{i}": c.pick([None, 1, "text", [1, [2]], {"a": {}}, c.noise(20)]) for i in range(c.between(1, 20))}
    return c.legal(**extras)


def _duplicate_keys(fields: dict[str, Any]) -> bytes:
    """Write `site` twice: the first says something else, the last counts."""
    body = _pack(fields)
    count = len(fields) + 1
    head = struct.pack(">BH", 0xDE, count)
    return head + _pack("site") + _pack("somewhere-else") + body[1 if len(fields) < 16 else 3 :]


def _wide_numbers(fields: dict[str, Any]) -> bytes:
    """Write the version as uint64 where one byte would do: legal MessagePack."""
    return _number_after(_pack(fields), "v", struct.pack(">BQ", 0xCF, 1))


def _reversed_fields(fields: dict[str, Any]) -> bytes:
    return _pack(dict(reversed(list(fields.items()))))


def _legal_boxes(*boxes: list[float]) -> Callable[[_Corpus], PoisonRecord]:
    return lambda c: c.legal(boxes=_floats(c.pick(list(boxes))))


ACCEPTED_KINDS: dict[str, Callable[[_Corpus], PoisonRecord]] = {
    "plain": lambda c: c.legal(),
    "no_detections": lambda c: c.legal(boxes=b"", scores=b"", classes=b"", labels=[]),
    "extra_fields": _extra_fields,
    "duplicate_keys": lambda c: c.legal(_duplicate_keys),
    "wide_numbers": lambda c: c.legal(_wide_numbers),
    "reversed_fields": lambda c: c.legal(_reversed_fields),
    "negative_zero": _legal_boxes([-0.0, -0.0, 0.2, 0.3]),
    "denormal": _legal_boxes([1e-40, 1e-45, 0.2, 0.3]),
    "box_beyond_edge": _legal_boxes([-0.4, 0.1, 0.2, 0.3], [0.1, 0.1, 1.5, 1.5]),
    "score_at_bound": lambda c: c.legal(scores=_floats([c.pick([0.0, 1.0, -0.0, 1e-45])])),
    "label_like_line_protocol": lambda c: c.legal(
        labels=[c.pick(["a,b", "a=b", "a b", "a\\", 'a"b', "person,site=evil x=1", "пешеход", "\u202eabc"])]
    ),
    "repeated_labels": lambda c: c.legal(labels=["person", "person"]),
    "zero_embeddings": lambda c: c.legal(
        embeddings=np.zeros(8, dtype="<f2").tobytes(), embedding_dim=8, embedding_model="m"
    ),
    "no_model": lambda c: c.legal(model="", model_sha=""),
}
"""Odd but legal: each must be taken as a frame of the spare camera, and none may end as a dead letter."""

DROPPED_KINDS: dict[str, Callable[[_Corpus], PoisonRecord]] = {
    "repeated_frame": lambda c: c.spare("dropped"),
    "repeated_seq": lambda c: c.spare(
        "dropped", seq=c.between(0, max(0, c.spare_seq - 1)), sent_us=c.good.sent_us + 9_999
    ),
}
"""Legal, and already known: each must be left out, and counted."""

KINDS: tuple[str, ...] = (*DEAD_LETTER_KINDS, *ACCEPTED_KINDS, *DROPPED_KINDS)


def poison_messages(
    seed: int,
    count: int,
    good: DetectionFrame,
    *,
    spare_camera: str = SPARE_CAMERA,
    kinds: tuple[str, ...] = KINDS,
) -> Iterator[PoisonRecord]:
    """Yield `count` records, every kind in turn (in an order that the seed shuffles), each drawn anew.

    good: a real frame of the stream that must not be disturbed: its site and camera are used, its time dates the
    records. spare_camera: a camera of the same site, known to the jobs and otherwise silent. kinds: names from KINDS
    or WATERMARK_KINDS. The same arguments give the same bytes.
    """
    makers = {**DEAD_LETTER_KINDS, **WATERMARK_KINDS, **ACCEPTED_KINDS, **DROPPED_KINDS}
    unknown = [kind for kind in kinds if kind not in makers]
    if unknown:
        raise ValueError(f"no such kind of poison: {unknown}; there are {sorted(makers)}")
    corpus = _Corpus(seed, good, spare_camera)
    turn: list[str] = []
    for _ in range(count):
        if not turn:
            turn = [str(kind) for kind in corpus.rng.permutation(list(kinds))]
        kind = turn.pop()
        made = makers[kind](corpus)
        # The first repeat has nothing to repeat: it comes out as a plain legal frame.
        name = kind if made.expect != "accepted" or kind in ACCEPTED_KINDS else "plain"
        yield PoisonRecord(made.key, made.value, made.timestamp_ms, name, made.expect)
