"""A bounded store on disk for what Kafka has not acknowledged: a log in segments.

Everything the agent sends goes through it: appended, read by the sender, acknowledged, forgotten.

Layout: `segment-<first position>.log` files of one fixed size, preallocated; `acked`, the acknowledged position;
`lock`. A segment is a 16-byte head and records one after the other; a record is

    body length u32, CRC-32 u32, position u64, time stamp ms i64, topic length u16, key length u16; topic, key, value

little-endian, the CRC taken over all that follows it. Positions count records since the spool was made and never
repeat on disk within one file, so what a reused file still holds of its former life cannot pass for a record.

Bounds: all segments together stay below `max_bytes`; at the bound the oldest segment goes, and the reader sees a gap
in the positions, which it counts. Two segments are kept preallocated, so a disk that others fill does not stop a
healthy site: with Kafka answering, the two are used in turn.

Durability: a record is with the kernel before `append` returns (kill -9 loses nothing); `sync`, called once a second,
brings it to the disk (a power cut loses at most that second). A torn or garbled record ends its segment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import zlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_HEAD = b"sightflow-spool\x01"
_RECORD = struct.Struct("<IIQqHH")
_CRC_FROM = 8  # the CRC covers the record from here on
_ACK = struct.Struct("<QI")
_ACK_SLOT_BYTES = 512  # two slots in turn, each within one sector: one of them is always whole
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MIN_SEGMENT_BYTES = 128 << 10
MAX_SEGMENT_BYTES = 8 << 20
READ_BYTES = 256 << 10


class SpoolError(Exception):
    """The spool cannot be opened; the text says why."""


class SpoolFull(Exception):
    """The disk has no room even for the smallest spool. The record was not taken."""


class RecordTooLarge(ValueError):
    """A record that fits no segment. It was not taken."""


class Record(NamedTuple):
    """What is sent: topic, record key, record time stamp (ms UTC), value."""

    topic: str
    key: bytes
    timestamp_ms: int
    value: bytes


@dataclass
class _Segment:
    path: Path
    fd: int
    base: int  # position of its first record
    count: int = 0
    end_byte: int = len(_HEAD)

    @property
    def end(self) -> int:
        return self.base + self.count


@dataclass
class _Cursor:
    """Where a position was last found, so that reading on needs no search."""

    segment: _Segment | None = None
    position: int = 0
    at_byte: int = field(default=len(_HEAD))


def encode_record(position: int, record: Record) -> bytes:
    """Return the bytes of one record as they lie in a segment."""
    topic = record.topic.encode()
    body = topic + record.key + record.value
    tail = struct.pack("<QqHH", position, record.timestamp_ms, len(topic), len(record.key)) + body
    return struct.pack("<II", len(body), zlib.crc32(tail)) + tail


def decode_record(buf: bytes | memoryview, at_byte: int, position: int) -> tuple[Record, int] | None:
    """Return the record expected at `at_byte` and the byte after it, or None where there is none (yet)."""
    if at_byte + _RECORD.size > len(buf):
        return None
    length, crc, found, timestamp_ms, topic_len, key_len = _RECORD.unpack_from(buf, at_byte)
    end = at_byte + _RECORD.size + length
    if found != position or end > len(buf) or topic_len + key_len > length:
        return None
    if zlib.crc32(buf[at_byte + _CRC_FROM : end]) != crc:
        return None
    topic_at = at_byte + _RECORD.size
    key_at = topic_at + topic_len
    value_at = key_at + key_len
    topic = bytes(buf[topic_at:key_at]).decode("utf-8", "replace")
    return Record(topic, bytes(buf[key_at:value_at]), timestamp_ms, bytes(buf[value_at:end])), end


class Spool:
    """One writer side, one reader side, any threads. Close it, or do not: both are safe."""

    def __init__(self, directory: Path, max_bytes: int, segment_bytes: int = 0) -> None:
        """Open or make the spool in `directory`. Raises SpoolError where it is in use or not writable."""
        if segment_bytes == 0:
            segment_bytes = max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, max_bytes // 8))
        self._dir, self._segment_bytes = directory, segment_bytes
        self._max_segments = max(2, max_bytes // segment_bytes)
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)
        self._segments: deque[_Segment] = deque()
        self._spare: _Segment | None = None
        self._cursor = _Cursor()
        self._acked = 0
        self._ack_slot = 0
        self._ack_stored = -1
        self._unsynced = False
        self._renamed = False
        self._closed = False
        self._lock_fd = self._claim()
        self._ack_fd = os.open(directory / "acked", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._recover()

    # -- opening

    def _claim(self) -> int:
        try:
            self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise SpoolError(f"spool {self._dir}: {e.strerror}; choose a writable --state-dir") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise SpoolError(f"spool {self._dir}: another agent is using it; give each its own --state-dir") from None
        return fd

    def _recover(self) -> None:
        for path in sorted(self._dir.glob("segment-*.log")):
            self._recover_segment(path)
        for path in self._dir.glob("spare-*.log"):
            path.unlink(missing_ok=True)
        self._acked = self._load_ack()
        end = max([self._acked, *(s.end for s in self._segments)])
        self._forget_acked()
        if not self._segments or self._segments[-1].end != end or not self._clear_tail(self._segments[-1]):
            self._extend(end)
        self._top_up()

    def _clear_tail(self, segment: _Segment) -> bool:
        """Make the rest of the last segment zeros: behind a torn record there may lie whole ones of a former life."""
        try:
            os.pwrite(segment.fd, bytes(max(0, self._segment_bytes - segment.end_byte)), segment.end_byte)
            os.fdatasync(segment.fd)
        except OSError:
            return False
        return True

    def _recover_segment(self, path: Path) -> None:
        try:
            base = int(path.stem.partition("-")[2])
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except (ValueError, OSError):
            return
        segment = _Segment(path, fd, base)
        data = os.pread(fd, self._size(fd), 0)
        if data[: len(_HEAD)] == _HEAD:
            while (found := decode_record(data, segment.end_byte, segment.end)) is not None:
                segment.end_byte = found[1]
                segment.count += 1
        overlaps = bool(self._segments) and base < self._segments[-1].end
        if segment.count == 0 or overlaps:
            os.close(fd)
            path.unlink(missing_ok=True)
            return
        self._segments.append(segment)

    @staticmethod
    def _size(fd: int) -> int:
        return min(os.fstat(fd).st_size, 2 * MAX_SEGMENT_BYTES)

    # -- writing

    def append(self, record: Record) -> int:
        """Store one record and return its position. Raises SpoolFull or RecordTooLarge; then nothing was stored."""
        with self._lock:
            position = self._end()
            data = encode_record(position, record)
            if len(data) > self._segment_bytes - len(_HEAD):
                raise RecordTooLarge(
                    f"expected a record of at most {self._segment_bytes - len(_HEAD)} bytes, got {len(data)}"
                )
            if not self._segments or self._segments[-1].end_byte + len(data) > self._segment_bytes:
                self._extend(position)
            segment = self._segments[-1] if self._segments else None
            if segment is None or segment.end_byte + len(data) > self._segment_bytes:
                raise SpoolFull(f"{self._dir}: no room on the disk for a segment of {self._segment_bytes} bytes")
            self._write(segment, data)
            segment.end_byte += len(data)
            segment.count += 1
            self._unsynced = True
            self._grown.notify_all()
            return position

    def _write(self, segment: _Segment, data: bytes) -> None:
        try:
            written = os.pwrite(segment.fd, data, segment.end_byte)
        except OSError as e:
            if e.errno in _FULL or e.errno == errno.EIO:
                raise SpoolFull(f"{segment.path}: {e.strerror}") from None
            raise
        if written != len(data):  # what was written of it is overwritten by the next record
            raise SpoolFull(f"{segment.path}: the disk took {written} of {len(data)} bytes")

    def _extend(self, base: int) -> None:
        """Begin a new last segment at `base`: the spare, a new one, or at the bound the oldest again."""
        self._top_up()
        segment, self._spare = self._spare, None
        if segment is None and len(self._segments) >= 2:
            segment = self._segments.popleft()  # its records, if not acknowledged, are the reader's gap
        if segment is None:
            return
        path = self._dir / f"segment-{base:020d}.log"
        try:
            os.pwrite(segment.fd, _HEAD, 0)
            segment.path.rename(path)
        except OSError:
            self._discard(segment)
            return
        self._segments.append(_Segment(path, segment.fd, base))
        self._renamed = True

    def _top_up(self) -> None:
        """Have a preallocated spare, if bound and disk allow."""
        if self._spare is not None or self._closed or len(self._segments) >= self._max_segments:
            return
        path = self._dir / "spare-0.log"
        fd = -1
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(fd, 0, self._segment_bytes)
        except OSError:
            if fd >= 0:
                os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return
        self._spare = _Segment(path, fd, 0)

    # -- reading

    def read(self, position: int, max_count: int) -> tuple[list[Record], list[int], int]:
        """Return (records, their positions, the position to go on from), from `position` on, about READ_BYTES.

        Where what was stored at `position` is gone (bound reached, file damaged) the first position returned, or the
        position to go on from, lies further on: the difference is the number of records lost.
        """
        records: list[Record] = []
        positions: list[int] = []
        with self._lock:
            segment = self._find(position)
            while segment is not None and not records and max_count > 0:
                position = max(position, segment.base)
                self._seek(segment, position)
                self._read_from(segment, records, positions, max_count)
                if not records:  # damaged from here on, or at its end
                    position = max(position, segment.end)
                    segment = self._find(position)
            if records:
                position = positions[-1] + 1
        return records, positions, position

    def _find(self, position: int) -> _Segment | None:
        for segment in self._segments:
            if segment.end > position:
                return segment
        return None

    def _seek(self, segment: _Segment, position: int) -> None:
        cursor = self._cursor
        if cursor.segment is not segment or cursor.position > position:
            self._cursor = cursor = _Cursor(segment, segment.base)
        if cursor.position == position:
            return
        # Heads only: a rewind over a segment of 8 MiB takes some 20 ms at 300 bytes a record.
        while cursor.position < position:
            head = self._pread(segment, _RECORD.size, cursor.at_byte)
            if len(head) < _RECORD.size:  # damaged: what follows will not be found, and counts as lost
                cursor.position, cursor.at_byte = position, segment.end_byte
                return
            cursor.at_byte += _RECORD.size + _RECORD.unpack(head)[0]
            cursor.position += 1

    def _read_from(self, segment: _Segment, records: list[Record], positions: list[int], max_count: int) -> None:
        cursor = self._cursor
        start = cursor.at_byte
        data = self._pread(segment, min(READ_BYTES, segment.end_byte - start), start)
        if len(data) >= 4 and _RECORD.size + int.from_bytes(data[:4], "little") > len(data):
            data = self._pread(segment, segment.end_byte - start, start)  # one record larger than a read
        at = 0
        while len(records) < max_count and cursor.position < segment.end:
            found = decode_record(data, at, cursor.position)
            if found is None:
                return
            records.append(found[0])
            positions.append(cursor.position)
            at = found[1]
            cursor.position += 1
            cursor.at_byte = start + at

    @staticmethod
    def _pread(segment: _Segment, size: int, at_byte: int) -> bytes:
        try:
            return os.pread(segment.fd, max(0, size), at_byte)
        except OSError:
            return b""  # an unreadable sector is a damaged record

    def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until there is a record at or after `position`, at most `timeout_s`; return whether there is."""
        with self._grown:
            if self._end() <= position:
                self._grown.wait(timeout_s)
            return self._end() > position

    # -- acknowledging

    def acknowledge(self, position: int) -> None:
        """Forget everything before `position`."""
        with self._lock:
            if position <= self._acked:
                return
            self._acked = position
            self._store_ack()  # before segments go, or their records would look lost after a crash
            self._forget_acked()

    def _forget_acked(self) -> None:
        while len(self._segments) > 1 and self._segments[0].end <= self._acked:
            segment = self._segments.popleft()
            if self._spare is None:
                self._keep_as_spare(segment)
            else:
                self._discard(segment)

    def _keep_as_spare(self, segment: _Segment) -> None:
        path = self._dir / "spare-0.log"
        try:
            segment.path.rename(path)
        except OSError:
            self._discard(segment)
            return
        self._spare = _Segment(path, segment.fd, 0)

    def _discard(self, segment: _Segment) -> None:
        os.close(segment.fd)
        with contextlib.suppress(OSError):
            segment.path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Bring what was appended and acknowledged to the disk; may take long on a slow one. Call it once a second."""
        with self._lock:
            if self._closed:
                return
            self._store_ack()
            self._top_up()
            if not self._unsynced or not self._segments:
                return
            self._unsynced = False
            fds = [os.dup(self._segments[-1].fd)]
            if self._renamed:
                fds.append(os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                self._renamed = False
        for fd in fds:
            try:
                os.fsync(fd)
            except OSError:
                self._unsynced = True
            finally:
                os.close(fd)

    def _store_ack(self) -> None:
        if self._acked == self._ack_stored:
            return
        number = struct.pack("<Q", self._acked)
        try:
            os.pwrite(self._ack_fd, number + struct.pack("<I", zlib.crc32(number)), self._ack_slot * _ACK_SLOT_BYTES)
        except OSError:
            return  # an older position stays: some records would be sent twice after a restart
        self._ack_stored = self._acked
        self._ack_slot ^= 1

    def _load_ack(self) -> int:
        best = 0
        for slot in range(2):
            data = os.pread(self._ack_fd, _ACK.size, slot * _ACK_SLOT_BYTES)
            if len(data) == _ACK.size:
                position, crc = _ACK.unpack(data)
                if zlib.crc32(data[:8]) == crc and position >= best:
                    best, self._ack_slot = position, slot ^ 1
        return best

    # -- looking

    def _end(self) -> int:
        return self._segments[-1].end if self._segments else self._acked

    @property
    def acked(self) -> int:
        """Position of the first record that is not acknowledged."""
        with self._lock:
            return self._acked

    @property
    def end(self) -> int:
        """Position that the next record will have."""
        with self._lock:
            return self._end()

    @property
    def depth_count(self) -> int:
        """Records stored and not acknowledged."""
        with self._lock:
            return sum(max(0, s.end - max(s.base, self._acked)) for s in self._segments)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the segments that hold records not acknowledged."""
        with self._lock:
            return sum(s.end_byte - len(_HEAD) for s in self._segments if s.end > self._acked)

    def close(self) -> None:
        """Store the acknowledged position, sync and let go of the files."""
        self.sync()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for segment in [*self._segments, *([self._spare] if self._spare else [])]:
                os.close(segment.fd)
            if self._spare is not None:
                self._spare.path.unlink(missing_ok=True)
            os.close(self._ack_fd)
            os.close(self._lock_fd)
            self._grown.notify_all()
