"""Duplicate removal and order by (boot, seq), for one camera.

Frames in order pass at once. A gap makes later frames wait until it is filled, or until the waiting frames span
`gap_wait_s` of event time or number `MAX_WAITING`; then the gap is given up. All of that depends on this camera's
frames and their order alone, never on a clock, so that two runs over one log agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from schemas.wire import BadMessage, DetectionFrame

MAX_WAITING = 64
MAX_WAITING_BYTES = 4 << 20
MAX_BOOTS = 8  # earlier starts of the agent that are remembered
MAX_SKIPPED = 64  # given-up gaps remembered per boot; a frame from a forgotten one counts as a duplicate
MAX_JUMP = 1000  # a sequence number may run ahead by this and by MAX_FPS per second since the last frame
MAX_FPS = 240


class Refused(NamedTuple):
    """A frame that cannot be used, for the dead letters."""

    reason: str
    detail: str
    raw: bytes
    partition: int
    offset: int


class Ready(NamedTuple):
    """A frame whose turn it is. `frame` is None where it had to wait and must be decoded again from `raw`."""

    frame: DetectionFrame | None
    raw: bytes
    partition: int
    offset: int


class _Waiting(Struct, array_like=True):
    capture_us: int
    raw: bytes
    partition: int
    offset: int


class _Rare(Struct, array_like=True):
    waiting: dict[int, _Waiting]
    skipped: list[tuple[int, int]]
    boots: dict[int, tuple[int, list[tuple[int, int]]]]


class Intake:
    """What has come in from one camera. Counts are totals since its first frame."""

    def __init__(self, gap_wait_s: float = 1.0) -> None:
        self.gap_wait_us = int(gap_wait_s * 1e6)
        self.boot = -1
        self.next_seq = 0
        self.capture_us = 0  # of the last frame that passed
        self.duplicate_count = 0
        self.missing_count = 0
        self._waiting: dict[int, _Waiting] = {}
        self._skipped: list[tuple[int, int]] = []  # [from, to) of given-up gaps of this boot
        self._boots: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        self.dirty = True  # anything but boot, next_seq, capture_us and counts has changed
        self._rare = b""

    def accept(self, frame: DetectionFrame, raw: bytes, partition: int, offset: int) -> list[Ready | Refused]:
        """Take one frame; return those whose turn has come, in order. Raises BadMessage for one that cannot be used."""
        if frame.boot == self.boot and frame.seq == self.next_seq and not self._waiting:
            self.next_seq += (
                1  # a frame with an impossible time has had its turn too, or all later ones would wait for it
            )
            self._check_time(frame.capture_us)
            self.capture_us = frame.capture_us
            return [Ready(frame, raw, partition, offset)]
        return list(self._accept_unusual(frame, raw, partition, offset))

    def give_up(self) -> list[Ready | Refused]:
        """Stop waiting for whatever is missing; return the frames that waited, in order."""
        ready: list[Ready | Refused] = []
        self.dirty |= bool(self._waiting)
        while self._waiting:
            ready.extend(self._skip())
        return ready

    def _accept_unusual(
        self, frame: DetectionFrame, raw: bytes, partition: int, offset: int
    ) -> Iterator[Ready | Refused]:
        self.dirty = True
        if frame.boot < self.boot:
            self._refuse_earlier_boot(frame)
            return
        if frame.boot > self.boot:
            self._check_time(frame.capture_us)
            yield from self.give_up()
            self._begin(frame)
        if frame.seq < self.next_seq:
            self._refuse_earlier(frame, self._skipped)
            return
        if frame.seq in self._waiting:
            self.duplicate_count += 1
            return
        self._check_jump(frame)
        self._waiting[frame.seq] = _Waiting(frame.capture_us, raw, partition, offset)
        yield from self._drain()
        while self._overdue():
            yield from self._skip()

    def _begin(self, frame: DetectionFrame) -> None:
        """Start on a new boot. Of a camera never seen before, the first frame is where its sequence begins."""
        if self.boot >= 0:
            self._boots[self.boot] = (self.next_seq, self._skipped)
            for old in sorted(self._boots)[:-MAX_BOOTS]:
                del self._boots[old]
        self.next_seq = frame.seq if self.boot < 0 else 0
        self.boot, self._skipped = frame.boot, []

    def _check_time(self, capture_us: int) -> None:
        if capture_us <= self.capture_us:
            raise BadMessage(
                "time_backwards", f"expected capture_us above the last frame's {self.capture_us}, got {capture_us}"
            )

    def _check_jump(self, frame: DetectionFrame) -> None:
        if not self.capture_us:
            return
        most = self.next_seq + MAX_JUMP + MAX_FPS * (frame.capture_us - self.capture_us) // 1_000_000
        if frame.seq > most:
            raise BadMessage("implausible_sequence", f"expected seq {self.next_seq} to {most}, got {frame.seq}")

    def _refuse_earlier_boot(self, frame: DetectionFrame) -> None:
        known = self._boots.get(frame.boot)
        if known is None:
            raise BadMessage("stale_boot", f"expected boot {self.boot} or one seen before it, got {frame.boot}")
        next_seq, skipped = known
        if frame.seq >= next_seq:
            raise BadMessage("late_frame", f"boot {frame.boot} ended at seq {next_seq - 1}, got {frame.seq}")
        self._refuse_earlier(frame, skipped)

    def _refuse_earlier(self, frame: DetectionFrame, skipped: list[tuple[int, int]]) -> None:
        if any(a <= frame.seq < b for a, b in skipped):
            raise BadMessage("late_frame", f"seq {frame.seq} came after its gap was given up")
        self.duplicate_count += 1

    def _drain(self) -> Iterator[Ready | Refused]:
        while self.next_seq in self._waiting:
            w = self._waiting.pop(self.next_seq)
            self.next_seq += 1
            try:
                self._check_time(w.capture_us)
            except BadMessage as e:
                yield Refused(e.reason, e.detail, w.raw, w.partition, w.offset)
                continue
            self.capture_us = w.capture_us
            yield Ready(None, w.raw, w.partition, w.offset)

    def _overdue(self) -> bool:
        if not self._waiting:
            return False
        times = [w.capture_us for w in self._waiting.values()]
        return (
            len(times) > MAX_WAITING
            or max(times) - min(times) >= self.gap_wait_us
            or sum(len(w.raw) for w in self._waiting.values()) > MAX_WAITING_BYTES
        )

    def _skip(self) -> Iterator[Ready | Refused]:
        first = min(self._waiting)
        self.missing_count += first - self.next_seq
        self._skipped.append((self.next_seq, first))
        del self._skipped[:-MAX_SKIPPED]
        self.next_seq = first
        yield from self._drain()

    def snapshot(self) -> tuple[tuple[int, ...], bytes]:
        """Return what changes with every frame, and the rest as MessagePack (made anew only when it has changed)."""
        if self.dirty:
            self._rare = msgspec.msgpack.encode(_Rare(self._waiting, self._skipped, self._boots))
            self.dirty = False
        return (self.boot, self.next_seq, self.capture_us, self.duplicate_count, self.missing_count), self._rare

    def restore(self, often: tuple[int, ...], rare: bytes) -> None:
        """Take up a snapshot."""
        self.boot, self.next_seq, self.capture_us, self.duplicate_count, self.missing_count = often
        s = msgspec.msgpack.decode(rare, type=_Rare)
        self._waiting, self._skipped, self._boots = s.waiting, s.skipped, s.boots
        self.dirty = True
