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


class Late(NamedTuple):
    """A frame that was missed when its turn came, and that can no longer be worked in; the same one does not come twice."""

    frame: DetectionFrame
    raw: bytes
    partition: int
    offset: int


class _Waiting(Struct, array_like=True):
    capture_us: int
    raw: bytes
    partition: int
    offset: int


class _Skipped(Struct, array_like=True):
    """Numbers of one boot that were passed over and have not come since."""

    ranges: list[tuple[int, int]] = []  # [from, to), in order
    blurred_to: int = 0  # below, ranges were taken for one, and numbers between them that have come lie in it

    def add(self, begin: int, end: int) -> None:
        """Add a range after all others."""
        self.ranges.append((begin, end))
        self._bound()

    def holds(self, seq: int) -> bool:
        """Whether a number was passed over."""
        return any(a <= seq < b for a, b in self.ranges)

    def remove(self, seq: int) -> None:
        """Note that a number has come after all."""
        i = next(i for i, (a, b) in enumerate(self.ranges) if a <= seq < b)
        a, b = self.ranges[i]
        self.ranges[i : i + 1] = [r for r in ((a, seq), (seq + 1, b)) if r[0] < r[1]]
        self._bound()

    def _bound(self) -> None:
        if len(self.ranges) > MAX_SKIPPED:
            self.blurred_to = self.ranges[1][1]
            self.ranges[:2] = [(self.ranges[0][0], self.blurred_to)]


class _Rare(Struct, array_like=True):
    waiting: dict[int, _Waiting]
    skipped: _Skipped
    boots: dict[int, tuple[int, _Skipped]]
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
        self._skipped = _Skipped()  # of this boot
        self._boots: dict[
            int, tuple[int, _Skipped]
        ] = {}  # of earlier ones: the number after the last, and what was skipped
        # [next_seq, void_to) came with impossible times and were refused. Nobody waits for them, and yet a bad message
        # has not taken the place of the good one with its number, which passes if it comes before the next.
        self._void_to = 0

    @property
    def is_waiting(self) -> bool:
        """Whether frames are held back."""
        return bool(self._waiting)

    def accept(self, frame: DetectionFrame, raw: bytes, partition: int, offset: int) -> list[Ready | Refused | Late]:
        """Take one frame; return those whose turn has come, in order, or this one as late.

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
        while self._waiting:
            ready.extend(self._skip())
        return ready

    def _accept_unusual(
        self, frame: DetectionFrame, raw: bytes, partition: int, offset: int
    ) -> list[Ready | Refused | Late]:
        ready: list[Ready | Refused | Late] = []
        if frame.boot < self.boot:
            return [Late(frame, raw, partition, offset)] if self._is_late_of_earlier_boot(frame) else []
        if frame.boot > self.boot:
            self._check_turn(frame, 0)  # before anything changes: what gives up here must not be lost
            ready.extend(self.give_up())
            self._begin(frame)
        elif frame.seq < self.next_seq:
            return [Late(frame, raw, partition, offset)] if self._is_late(frame, self._skipped) else []
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
        self._skipped = _Skipped([(0, frame.seq)] if first_ever and frame.seq else [])

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

    def _is_late_of_earlier_boot(self, frame: DetectionFrame) -> bool:
        known = self._boots.get(frame.boot)
        if known is None:
            raise BadMessage("stale_boot", f"expected boot {self.boot} or one seen before it, got {frame.boot}")
        next_seq, skipped = known
        if frame.seq < next_seq:
            return self._is_late(frame, skipped)
        self._check_past(frame)
        if frame.seq > next_seq:
            skipped.add(next_seq, frame.seq)
        self._boots[frame.boot] = (frame.seq + 1, skipped)
        return True

    def _is_late(self, frame: DetectionFrame, skipped: _Skipped) -> bool:
        """Whether a number below the next was passed over; take it out of those then. Others are counted as repeats."""
        if not skipped.holds(frame.seq):
            self.duplicate_count += 1
            return False
        self._check_past(frame)
        if frame.seq < skipped.blurred_to:
            raise BadMessage("late_frame", f"seq {frame.seq}: too many gaps since to tell whether it has come before")
        skipped.remove(frame.seq)
        return True

    def _check_past(self, frame: DetectionFrame) -> None:
        if frame.capture_us >= self.capture_us:
            detail = f"seq {frame.seq} came after its turn; expected capture_us below {self.capture_us}, got {frame.capture_us}"
            raise BadMessage("late_frame", detail)

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
            self._skipped.add(self.next_seq, seq)
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
        """Return what changes with every frame, and the rest as MessagePack."""
        rest = _Rare(self._waiting, self._skipped, self._boots, self._void_to)
        return tuple(self.order.tolist()), msgspec.msgpack.encode(rest)

    def restore(self, often: tuple[int, ...], rare: bytes) -> None:
        """Take up a snapshot."""
        self.order[:] = often
        s = msgspec.msgpack.decode(rare, type=_Rare)
        self._waiting, self._skipped, self._boots, self._void_to = s.waiting, s.skipped, s.boots, s.void_to
