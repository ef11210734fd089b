"""The bytes of a `TrackFrame`, written by a kernel.

What one camera says in every frame (names, labels, keys) is encoded once, as a template of pieces; per frame only numbers and
arrays go in between. The bytes are those of `schemas.wire.encode`, tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from operators.compiled import kernel
from schemas.wire import TrackFrame, encode

NUMBERS = ("seq", "capture_us", "sent_us")
ARRAYS = (
    "born_us", "ordinals", "boxes", "velocities", "states", "classes", "scores", "ground", "ground_velocities", "speed_sds",
)  # fmt: skip
BYTES_PER_TRACK = 8 + 4 + 16 + 8 + 1 + 1 + 4 + 8 + 8 + 4
PIECES = len(NUMBERS) + len(ARRAYS)
ROOM_FOR_HEADS = 9 * PIECES  # bytes: a number or the head of an array takes at most nine


def template(constants: Mapping[str, Any]) -> list[bytes]:
    """Return what stands before each of NUMBERS and ARRAYS, given all the other fields of the message."""
    pieces: list[bytes] = []
    piece = b"\xde" + len(TrackFrame.__struct_fields__).to_bytes(2, "big")
    for name in TrackFrame.__struct_fields__:
        piece += encode(name)
        if name in constants:
            piece += encode(constants[name])
        else:
            pieces.append(piece)
            piece = b""
    if piece or len(pieces) != PIECES:
        raise ValueError(f"expected all fields but {NUMBERS + ARRAYS}, with the arrays last; got {sorted(constants)}")
    return pieces


@kernel
def put_number(out: Any, at: int, value: int) -> int:
    """Write a number ≥ 0 as MessagePack at its shortest; return where it ends."""
    if value < 0x80:
        out[at] = value
        return at + 1
    if value < 0x100:
        out[at], size = 0xCC, 1
    elif value < 0x10000:
        out[at], size = 0xCD, 2
    elif value < 0x100000000:
        out[at], size = 0xCE, 4
    else:
        out[at], size = 0xCF, 8
    for i in range(size):
        out[at + 1 + i] = (value >> (8 * (size - 1 - i))) & 0xFF
    return at + 1 + size


@kernel
def put_array(out: Any, at: int, memory: Any, begin: int, size: int) -> int:
    """Write `size` bytes of `memory` as MessagePack `bin`; return where they end."""
    if size < 0x100:
        out[at], out[at + 1] = 0xC4, size
        at += 2
    elif size < 0x10000:
        out[at], out[at + 1], out[at + 2] = 0xC5, size >> 8, size & 0xFF
        at += 3
    else:
        out[at], out[at + 1], out[at + 2] = 0xC6, size >> 24, (size >> 16) & 0xFF
        out[at + 3], out[at + 4] = (size >> 8) & 0xFF, size & 0xFF
        at += 5
    return put(out, at, memory, begin, begin + size)


@kernel
def put(out: Any, at: int, memory: Any, begin: int, end: int) -> int:
    """Copy bytes; return where they end."""
    there, here = out[at : at + end - begin], memory[begin:end]
    for i in range(there.shape[0]):
        there[i] = here[i]
    return at + end - begin


@kernel
def write_track_frame(out: Any, pieces: Any, ends: Any, numbers: Any, memory: Any, places: Any, sizes: Any) -> int:
    """Write one message to `out`; return its size.

    Args:
        out: uint8, with room for all.
        pieces, ends: the template, joined, and where each piece ends.
        numbers: the values of NUMBERS.
        memory, places, sizes: where the bytes of each of ARRAYS lie, and how many they are.
    """
    at, begin = 0, 0
    for i in range(ends.shape[0]):
        at = put(out, at, pieces, begin, ends[i])
        begin = ends[i]
        if i < len(numbers):
            at = put_number(out, at, numbers[i])
        else:
            at = put_array(out, at, memory, places[i - len(numbers)], sizes[i - len(numbers)])
    return at


def joined(pieces: list[bytes]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a template as `write_track_frame` takes it."""
    return np.frombuffer(b"".join(pieces), np.uint8), np.cumsum([len(p) for p in pieces]).astype(np.int64)
