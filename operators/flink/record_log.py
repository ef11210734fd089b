"""Entries of a key's log of records (`keyed_shell`): partition and offset and time of the record, then its value."""

from __future__ import annotations

import struct

from operators.stages.stage import Input

_HEAD = struct.Struct("<?iqq")  # whether there is a value, partition, offset, ms; little endian


def pack(record: Input) -> bytes:
    """Return a record as bytes, 21 more than its value."""
    value, partition, offset, time_ms = record
    return _HEAD.pack(value is not None, partition, offset, time_ms) + (value or b"")


def unpack(entry: bytes) -> Input:
    """Return the record. Raises ValueError where the bytes are no entry."""
    if len(entry) < _HEAD.size:
        raise ValueError(f"expected an entry of the log of at least {_HEAD.size} bytes, got {len(entry)}")
    has_value, partition, offset, time_ms = _HEAD.unpack_from(entry)
    return Input(entry[_HEAD.size :] if has_value else None, partition, offset, time_ms)
