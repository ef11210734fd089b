"""Duplicate removal and order by (boot, seq), for one camera.

Frames in order pass at once. A gap makes later frames wait until it is filled, or until the waiting frames span
`gap_wait_s` of event time or number `MAX_WAITING`; then the gap is given up. All of that depends on this camera's
frames and their order alone, never on a clock, so that two runs over one log agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from schemas.wire import BadMessage, DetectionFrame

MAX_WAITING = 64
MAX_WAITING_BYTES = 4 << 20
MAX_BOOTS = 8  # earlier starts of the agent that are remembered
MAX_SKIPPED = 64  # given-up gaps remembered per boot; beyond, the two oldest are taken for one
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
    void_to: int = 0


BOOT, NEXT_SEQ, CAPTURE_US, DUPLICATE_COUNT, MISSING_COUNT = range(5)
"""Indices of `Intake.order`."""


def _number(index: int) -> property:
    def read(self: Intake) -> int:
        return int(self.order[index])

    def write(self: Intake, value: int) -> None:
        self.order[index] = value

    return property(read, write)


class Intake:
    """What has come in from one camera. Counts are totals since its first frame.

    `order` holds what changes with every frame: the present boot, the sequence number after the last frame that passed, that
    frame's time, and the counts. A frame that is next may be let pass by a kernel, with `order` alone.
    """

    boot, next_seq, capture_us = _number(BOOT), _number(NEXT_SEQ), _number(CAPTURE_US)
    duplicate_count, missing_count = _number(DUPLICATE_COUNT), _number(MISSING_COUNT)

    def __init__(self, gap_wait_s: float = 1.0) -> None:
        self.gap_wait_us = round(gap_wait_s * 1e6)
        self.order = np.array([-1, 0, 0, 0, 0], np.int64)
        self._waiting: dict[int, _Waiting] = {}
        self._skipped: list[tuple[int, int]] = []  # [from, to) of this boot that were passed over
        self._boots: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        # [next_seq, void_to) came with impossible times and were refused. Nobody waits for them, and yet a bad message
        # has not taken the place of the good one with its number, which passes if it comes before the next.
        self._void_to = 0
        self.dirty = True  # anything but boot, next_seq, capture_us and counts has changed
        self._rare = b""

    @property
    def is_waiting(self) -> bool:
        """Whether frames are held back."""
        return bool(self._waiting)

    def accept(self, frame: DetectionFrame, raw: bytes, partition: int, offset: int) -> list[Ready | Refused]:
        """Take one frame; return those whose turn has come, in order.

        Raises BadMessage for one that cannot be used; then nothing but the count of duplicates or the void has changed.
        """
        if (
            frame.boot == self.boot
            and frame.seq == self.next_seq
            and frame.capture_us > self.capture_us
            and not self._waiting
        ):
            self.next_seq += 1
            self.capture_us = frame.capture_us
            return [Ready(frame, raw, partition, offset)]
        return self._accept_unusual(frame, raw, partition, offset)

    def give_up(self) -> list[Ready | Refused]:
        """Stop waiting for whatever is missing; return the frames that waited, in order."""
        ready: list[Ready | Refused] = []
        self.dirty |= bool(self._waiting)
        while self._waiting:
            ready.extend(self._skip())
        return ready

    def _accept_unusual(self, frame: DetectionFrame, raw: bytes, partition: int, offset: int) -> list[Ready | Refused]:
        self.dirty = True
        ready: list[Ready | Refused] = []
        if frame.boot < self.boot:
            self._refuse_earlier_boot(frame)
            return ready
        if frame.boot > self.boot:
            self._check_turn(frame, 0)  # before anything changes: what gives up here must not be lost
            ready.extend(self.give_up())
            self._begin(frame)
        elif frame.seq < self.next_seq:
            self._refuse_earlier(frame, self._skipped)
            return ready
        elif frame.seq in self._waiting:
            self.duplicate_count += 1
            return ready
        else:
            self._check_turn(frame, self._free_seq())
        self._waiting[frame.seq] = _Waiting(frame.capture_us, raw, partition, offset)
        ready.extend(self._drain())
        while self._overdue():
            ready.extend(self._skip())
        return ready

    def _free_seq(self) -> int:
        """Return the highest sequence number that need not wait for another."""
        return int(max(self.next_seq, self._void_to))

    def _begin(self, frame: DetectionFrame) -> None:
        """Start on a new boot. Of a camera never seen before, the first frame is where its sequence begins."""
        first_ever = self.boot < 0
        if not first_ever:
            self._boots[self.boot] = (self.next_seq, self._skipped)
            for old in sorted(self._boots)[:-MAX_BOOTS]:
                del self._boots[old]
        self.next_seq = frame.seq if first_ever else 0
        self.boot, self._void_to = frame.boot, 0
        self._skipped = [(0, frame.seq)] if first_ever and frame.seq else []

    def _check_turn(self, frame: DetectionFrame, free_seq: int) -> None:
        """Refuse a frame whose time or number cannot follow what has passed."""
        if frame.capture_us <= self.capture_us:
            if frame.boot == self.boot and frame.seq == free_seq:
                self._void_to = frame.seq + 1
            raise BadMessage(*self._backwards(frame.capture_us))
        most = free_seq + MAX_JUMP + MAX_FPS * (frame.capture_us - self.capture_us) // 1_000_000
        if self.capture_us and frame.seq > most:
            raise BadMessage("implausible_sequence", f"expected seq {free_seq} to {most}, got {frame.seq}")

    def _backwards(self, capture_us: int) -> tuple[str, str]:
        return "time_backwards", f"expected capture_us above the last frame's {self.capture_us}, got {capture_us}"

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
        """Let those pass that need not wait any more."""
        while self._waiting and (seq := min(self._waiting)) <= self._free_seq():
            w = self._waiting.pop(seq)
            if w.capture_us <= self.capture_us:
                self._void_to = seq + 1
                yield Refused(*self._backwards(w.capture_us), w.raw, w.partition, w.offset)
                continue
            self._pass_over(seq)
            self.next_seq, self.capture_us = seq + 1, w.capture_us
            yield Ready(None, w.raw, w.partition, w.offset)

    def _pass_over(self, seq: int) -> None:
        """Remember that everything from `next_seq` to before `seq` has had its chance."""
        if seq > self.next_seq:
            self._skipped.append((self.next_seq, seq))
            if len(self._skipped) > MAX_SKIPPED:
                self._skipped[:2] = [(self._skipped[0][0], self._skipped[1][1])]
            self.next_seq = seq

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
        self.missing_count += max(0, first - self._free_seq())
        self._pass_over(first)
        yield from self._drain()

    def snapshot(self) -> tuple[tuple[int, ...], bytes]:
        """Return what changes with every frame, and the rest as MessagePack (made anew only when it has changed)."""
        if self.dirty:
            self._rare = msgspec.msgpack.encode(_Rare(self._waiting, self._skipped, self._boots, self._void_to))
            self.dirty = False
        return tuple(self.order.tolist()), self._rare

    def restore(self, often: tuple[int, ...], rare: bytes) -> None:
        """Take up a snapshot."""
        self.order[:] = often
        s = msgspec.msgpack.decode(rare, type=_Rare)
        self._waiting, self._skipped, self._boots, self._void_to = s.waiting, s.skipped, s.boots, s.void_to
        self.dirty = True
