"""Load for benchmarks: frames encoded once, then only their times and numbers rewritten in place.

Objects swing to and fro in cells of their own, so a loop over the encoded frames has no seam and a tracker keeps each;
those whose cell lies across an edge or a tripwire enter, leave and cross at a steady rate.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.wire import DetectionFrame, encode
from simulator.layout import camera_name
from simulator.objects import Box
from simulator.records import Record
from simulator.scene import BOOT_LEAD_US, RECEIVE_DELAY_US, SEND_DELAY_US, Detection, pack_detections

LOOP_COUNT = 200
"""Encoded frames per camera before the loop repeats."""
MAX_POOL_BYTES = 1 << 30
_PLACEHOLDER = 1 << 33  # wide enough to be written with 8 bytes, as every time in µs is
_PATCHED = ("boot", "seq", "capture_us", "recv_us", "sent_us")
_U64 = struct.Struct(">Q")


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `detection_count` per frame, `camera_count` cameras at `fps` of event time each."""

    camera_count: int = 100
    detection_count: int = 10
    fps: float = 10.0
    site: str = "sim-site"
    start_us: int = 1_700_000_000_000_000
    loop_count: int = LOOP_COUNT


class _Template:
    """One encoded frame whose numbers are rewritten in place."""

    __slots__ = ("_buffer", "_offsets")

    def __init__(self, frame: DetectionFrame) -> None:
        raw = encode(frame)
        self._buffer = bytearray(raw)
        self._offsets = tuple(_offset_of(raw, name) for name in _PATCHED)

    def stamp(self, boot_us: int, seq: int, capture_us: int, sent_us: int) -> bytes:
        numbers = (boot_us, seq, capture_us, capture_us + RECEIVE_DELAY_US, sent_us)
        for offset, number in zip(self._offsets, numbers, strict=True):
            _U64.pack_into(self._buffer, offset, number)
        return bytes(self._buffer)


def _offset_of(raw: bytes, name: str) -> int:
    """Return where the 8 bytes of a number field start. The field's name must occur once."""
    mark = bytes([0xA0 | len(name)]) + name.encode() + b"\xcf"
    if raw.count(mark) != 1:
        raise ValueError(f"expected {name!r} once, as a 64-bit number, in the encoded frame; found {raw.count(mark)}")
    return raw.index(mark) + len(mark)


class Load:
    """A pool of encoded frames (made here, once) and the endless record stream over it.

    Raises ValueError where the pool would exceed MAX_POOL_BYTES.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.keys = [camera_name(i).encode() for i in range(plan.camera_count)]
        size = len(encode(self._frame(0, 0))) * plan.camera_count * plan.loop_count
        if size > MAX_POOL_BYTES:
            raise ValueError(
                f"expected a pool of at most {MAX_POOL_BYTES} bytes, got {size}: lower camera_count or loop_count"
            )
        self.pool_bytes = size
        self._pool = [[_Template(self._frame(c, k)) for k in range(plan.loop_count)] for c in range(plan.camera_count)]

    def records(self, frame_count: int, *, first: int = 0) -> Iterator[Record]:
        """Yield `frame_count` records, the cameras in turn, from the `first`-th on (to go on where a call ended)."""
        plan, pool, keys = self.plan, self._pool, self.keys
        cameras, loop, boot_us = plan.camera_count, plan.loop_count, plan.start_us - BOOT_LEAD_US
        for n in range(first, first + frame_count):
            seq, camera = divmod(n, cameras)
            # The cameras' frames are spread evenly over the frame interval, as independent cameras' are.
            capture_us = plan.start_us + round((seq + camera / cameras) * 1e6 / plan.fps)
            sent_us = capture_us + RECEIVE_DELAY_US + SEND_DELAY_US
            value = pool[camera][seq % loop].stamp(boot_us, seq, capture_us, sent_us)
            yield Record(keys[camera], value, capture_us // 1000)

    def _frame(self, camera: int, k: int) -> DetectionFrame:
        detections = swing_detections(self.plan.detection_count, k / self.plan.loop_count, camera)
        boxes, scores, classes, labels = pack_detections(detections)
        return DetectionFrame(
            site=self.plan.site, camera=camera_name(camera), boot=_PLACEHOLDER, seq=_PLACEHOLDER,
            capture_us=_PLACEHOLDER, clock="rtcp_sr", recv_us=_PLACEHOLDER, sent_us=_PLACEHOLDER,
            width_px=1280, height_px=720, model="simulator", model_sha="0" * 16,
            labels=labels, boxes=boxes, scores=scores, classes=classes,
        )  # fmt: skip


def swing_detections(count: int, phase: float, salt: int = 0) -> list[Detection]:
    """Return `count` boxes at `phase` (0 to 1) of their loop, each in its own cell of a grid that fills the frame."""
    rows = max(1, math.isqrt(count // 2))
    columns = math.ceil(count / rows)
    cell_w, cell_h = 1 / columns, 0.94 / rows
    detections: list[Detection] = []
    for i in range(count):
        row, column = divmod(i, columns)
        swing = math.sin(2 * math.pi * (phase + 0.37 * i + 0.11 * salt))
        x = (column + 0.5 + 0.25 * swing) * cell_w
        y = 0.03 + (row + 0.9) * cell_h
        box: Box = (x - 0.2 * cell_w, y - 0.7 * cell_h, x + 0.2 * cell_w, y)
        detections.append((box, 0.9, "person" if i % 4 else "car"))
    return detections
