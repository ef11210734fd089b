"""Messages in a file: each preceded by its length in bytes, as a 4-byte unsigned little-endian integer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from schemas.topics import MAX_MESSAGE_BYTES
from sightflow.track.source import BadInput, Bytes, opened

_LENGTH = struct.Struct("<I")
_REMEDY = "each message is preceded by its length: 4 bytes, unsigned, little-endian; see docs/tracking.md"


def write_message(file: Bytes, message: bytes) -> None:
    """Append one message."""
    file.write(_LENGTH.pack(len(message)) + message)


def read_messages(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes) of the messages in a file, plain or gzip.

    Raises:
        BadInput: the file is cut off, or what stands where a length should be is none.
    """
    number = at_byte = 0
    with opened(path) as file:
        while head := file.read(_LENGTH.size):
            number += 1
            place = f"message {number} at byte {at_byte}"
            if len(head) < _LENGTH.size:
                raise BadInput(path, place, "4 bytes of length", f"the end after {len(head)}", _REMEDY)
            length = _LENGTH.unpack(head)[0]
            if not 1 <= length <= MAX_MESSAGE_BYTES:
                raise BadInput(path, place, f"a length from 1 to {MAX_MESSAGE_BYTES}", length, _REMEDY)
            body = file.read(length)
            if len(body) < length:
                raise BadInput(path, place, f"{length} bytes", f"the end after {len(body)}", _REMEDY)
            at_byte += _LENGTH.size + length
            yield number, body
