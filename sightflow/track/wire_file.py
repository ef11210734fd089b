"""Messages in a file, one after the other, each preceded by its length: 4 bytes, unsigned little-endian integer.

A message may also stand there with what Kafka knew of it (`Recorded`): MessagePack, an array of five, where a message is a map.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from sightflow.track.source import BadInput, Bytes, opened

_LENGTH = struct.Struct("<I")
_REMEDY = "each message is preceded by its length: 4 bytes, unsigned, little-endian; see docs/tracking.md"
MAX_BYTES = 16 << 20
"""Largest message in a file: more than a topic takes, as a recording holds what jobs refuse too."""


class Recorded(Struct, array_like=True, frozen=True):
    """A record of a topic as it was read: key and value may be missing."""

    key: bytes | None
    time_ms: int
    partition: int
    offset: int
    value: bytes | None


_RECORDED_BEGINS = b"\x95"  # how MessagePack begins an array of five
_decode_recorded = msgspec.msgpack.Decoder(Recorded).decode
_encode = msgspec.msgpack.Encoder().encode


def write_message(file: Bytes, message: bytes) -> None:
    """Append one message."""
    file.write(_LENGTH.pack(len(message)) + message)


def write_recorded(file: Bytes, record: Recorded) -> None:
    """Append one record."""
    write_message(file, _encode(record))


def recorded_in(message: bytes) -> Recorded | None:
    """Return the record that a message of a file is, or None where it is a message alone."""
    if not message.startswith(_RECORDED_BEGINS):
        return None
    try:
        return _decode_recorded(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        return None


def read_messages(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes) of the messages in a file, plain or gzip; of records their values.

    Raises:
        BadInput: the file is cut off, or what stands where a length should be is none.
    """
    for number, body in read_bodies(path):
        record = recorded_in(body)
        yield number, body if record is None else record.value or b""


def read_bodies(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes) of what a file holds, messages and records as they stand there. Raises BadInput."""
    number = at_byte = 0
    with opened(path) as file:
        while head := file.read(_LENGTH.size):
            number += 1
            place = f"message {number} at byte {at_byte}"
            if len(head) < _LENGTH.size:
                raise BadInput(path, place, "4 bytes of length", f"the end after {len(head)}", _REMEDY)
            length = _LENGTH.unpack(head)[0]
            if not 1 <= length <= MAX_BYTES:
                raise BadInput(path, place, f"a length from 1 to {MAX_BYTES}", length, _REMEDY)
            body = file.read(length)
            if len(body) < length:
                raise BadInput(path, place, f"{length} bytes", f"the end after {len(body)}", _REMEDY)
            at_byte += _LENGTH.size + length
            yield number, body
