"""The counters of one camera, from dated crossings.

A crossing is told some time after its date: by an object that was out of sight, or not yet confirmed. So nothing is added up
before `grace_us` have passed, in the camera's own event time; then crossings, resets and ends of intervals are taken in
the order of their dates, and the result depends on the dates alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import tzinfo
from typing import NamedTuple

import msgspec
from msgspec import Struct

from operators.counters.resets import Resets
from schemas.settings import Counter
from schemas.wire import NEVER_US

MAX_PENDING = 4096  # dates that wait per counter; what comes beyond counts at the nearest of them


class CounterWindow(NamedTuple):
    """One interval of one counter. `complete` is False where it was reported before its end, as it stood."""

    counter: str
    start_us: int
    end_us: int
    in_count: int  # in the interval
    out_count: int
    correction_count: int  # of `out_count`, those for whom nobody was left inside
    in_total: int  # since the last reset, at the interval's end
    out_total: int
    correction_total: int
    occupancy: int  # in_total − out_total + correction_total
    occupancy_max: int  # in the interval
    revision: int
    complete: bool


class Tally(Struct, array_like=True):
    """What one counter knows."""

    length_us: int  # of its intervals
    start_us: int = 0  # of the interval in progress; 0 before the first frame
    settled_us: int = 0  # what is dated before is in the numbers
    in_count: int = 0
    out_count: int = 0
    correction_count: int = 0
    in_total: int = 0
    out_total: int = 0
    correction_total: int = 0
    occupancy: int = 0
    occupancy_max: int = -1  # −1: no time has passed in the interval
    said_us: int = 0  # intervals that began by then have been reported before their end …
    rounds: int = 0  # … this often
    pending: list[tuple[int, int, int]] = []  # (date, in, out), by date

    def add(self, at_us: int, came: int, went: int) -> None:
        """Keep crossings until nothing can be dated before them any more."""
        at_us = max(at_us, self.settled_us)
        n = bisect_left(self.pending, (at_us,))
        if n == len(self.pending) or self.pending[n][0] != at_us:
            if len(self.pending) < MAX_PENDING:
                self.pending.insert(n, (at_us, came, went))
                return
            n = min(n, len(self.pending) - 1)
        date_us, before, gone = self.pending[n]
        self.pending[n] = date_us, before + came, gone + went

    def pass_over(self, at_us: int, resets: bool) -> None:
        """Take what is dated `at_us`: the reset first, then who comes, then who goes."""
        if at_us > self.start_us:
            self.occupancy_max = max(self.occupancy_max, self.occupancy)
        if resets:
            self.reset()
        if self.pending and self.pending[0][0] == at_us:
            _, came, went = self.pending.pop(0)
            missing = max(went - self.occupancy - came, 0)
            self.in_count, self.in_total = self.in_count + came, self.in_total + came
            self.out_count, self.out_total = self.out_count + went, self.out_total + went
            self.correction_count += missing
            self.correction_total += missing
            self.occupancy += came - went + missing
        self.settled_us = max(self.settled_us, at_us + 1)

    def reset(self) -> None:
        """Begin anew."""
        self.in_total = self.out_total = self.correction_total = self.occupancy = 0

    def begin(self, start_us: int) -> None:
        """Begin an interval."""
        self.start_us, self.settled_us = start_us, max(start_us, self.settled_us)
        self.in_count = self.out_count = self.correction_count = 0
        self.occupancy_max = -1
        if start_us > self.said_us:
            self.rounds = 0

    def window(self, counter: str, complete: bool) -> CounterWindow:
        """Return the interval in progress as it stands."""
        return CounterWindow(
            counter, self.start_us, self.start_us + self.length_us, self.in_count, self.out_count,
            self.correction_count, self.in_total, self.out_total, self.correction_total, self.occupancy,
            max(self.occupancy_max, self.occupancy), self.rounds if self.start_us <= self.said_us else 0, complete,
        )  # fmt: skip

    def start_of(self, at_us: int) -> int:
        """Return the start of the interval that holds `at_us`; intervals are aligned to the Unix epoch."""
        return at_us - at_us % self.length_us

    def copy(self) -> Tally:
        """Return another that knows the same."""
        return msgspec.structs.replace(self, pending=list(self.pending))


_decoder = msgspec.msgpack.Decoder(dict[str, Tally])


class Counters:
    """All counters of one camera.

    Args:
        counters: their settings.
        wires: ids of the camera's tripwires, in the order that crossings number them.
        grace_us: how much later than its date a crossing may be told and still be put in its place.
        zone: the site's time zone, for resets.
    """

    def __init__(self, counters: Sequence[Counter], wires: Sequence[str], grace_us: int, zone: tzinfo) -> None:
        self.counters = tuple(counters)
        self._grace_us = grace_us
        # by wire: (counter, whether walking to the right comes in)
        self._of_wire: list[list[tuple[int, bool]]] = [[] for _ in wires]
        for i, counter in enumerate(self.counters):
            for entrance in counter.wires:
                self._of_wire[wires.index(entrance.tripwire)].append((i, entrance.entering == "right"))
        self._resets = [Resets(c.reset, zone) for c in self.counters]
        self._found_resets = [(0, -1)] * len(self.counters)  # (from, first reset since then)
        self._tallies = [Tally(round(c.report_s * 1e6)) for c in self.counters]

    def cross(self, wire: int, right: bool, label: str, at_us: int, now_us: int) -> None:
        """Take one crossing of a tripwire, dated `at_us`, of which the frame at `now_us` tells."""
        for i, in_is_right in self._of_wire[wire]:
            classes, t = self.counters[i].classes, self._tallies[i]
            if classes and label not in classes:
                continue
            self._begin(t, now_us)
            self._sweep(i, t, min(now_us - self._grace_us, t.start_us + t.length_us - 1))
            came = int(right == in_is_right)
            t.add(at_us, came, 1 - came)

    def due_us(self) -> int:
        """Return from when on `close` has something to report."""
        return min((t.start_us + t.length_us for t in self._tallies), default=NEVER_US) + self._grace_us

    def close(self, now_us: int) -> list[CounterWindow]:
        """Return the intervals into which nothing can be dated any more, by counter, then time."""
        if now_us < self.due_us():
            return []
        for t in self._tallies:
            self._begin(t, now_us)
        return [w for i, t in enumerate(self._tallies) for w in self._sweep(i, t, now_us - self._grace_us)]

    def _begin(self, t: Tally, now_us: int) -> None:
        """Let a counter that new settings have brought begin."""
        if not t.start_us:
            t.begin(t.start_of(now_us))
            t.settled_us = now_us

    def resume(self, now_us: int) -> list[CounterWindow]:
        """Say that the camera's time begins, or goes on after a time in which it sent nothing and every track ended.

        Returns the intervals that were in progress then. Those that lie wholly in the time without frames have no report;
        their resets count.
        """
        out = []
        for i, t in enumerate(self._tallies):
            start_us = t.start_of(now_us)
            if t.start_us:
                last_us = t.start_of(max(t.said_us, t.start_us))
                out += self._sweep(i, t, min(last_us + t.length_us, now_us))
            if t.start_us < start_us:
                if t.start_us and self._reset_us(i, t.settled_us) < start_us:
                    t.reset()
                t.begin(start_us)
            self._sweep(i, t, now_us)
        return out

    def report_open(self, last_us: int) -> list[CounterWindow]:
        """Return the intervals that are not closed as they stand after the frame at `last_us`; they will be reported again."""
        out = []
        for i, t in enumerate(self._tallies):
            if not t.start_us:
                continue
            so_far = t.copy()
            out += [w._replace(complete=False) for w in self._sweep(i, so_far, last_us + 1)]
            if so_far.start_us <= last_us:
                out.append(so_far.window(self.counters[i].id, complete=False))
            t.rounds, t.said_us = t.rounds + 1, last_us
        return out

    def _sweep(self, i: int, t: Tally, until_us: int) -> list[CounterWindow]:
        """Take all that is dated before `until_us`; return the intervals that end by then."""
        out = []
        while True:
            end_us, reset_us = t.start_us + t.length_us, self._reset_us(i, t.settled_us)
            at_us = min(end_us, reset_us, t.pending[0][0] if t.pending else NEVER_US)
            if at_us == end_us and end_us <= until_us:  # before what is dated at this very time: that is the next one's
                out.append(t.window(self.counters[i].id, complete=True))
                t.begin(end_us)
            elif at_us < until_us:
                t.pass_over(at_us, at_us == reset_us)
            else:
                t.settled_us = max(t.settled_us, until_us)
                return out

    def _reset_us(self, i: int, from_us: int) -> int:
        """Return the counter's first reset at `from_us` or later."""
        since_us, at_us = self._found_resets[i]
        if not since_us <= from_us <= at_us:
            at_us = self._resets[i].next_us(from_us)
            self._found_resets[i] = from_us, at_us
        return at_us

    def snapshot(self) -> bytes:
        """Return everything as MessagePack."""
        return msgspec.msgpack.encode({c.id: t for c, t in zip(self.counters, self._tallies, strict=True)})

    def restore(self, data: bytes) -> None:
        """Take up a snapshot. Counters are matched by id and keep their totals; another length begins another interval."""
        known = _decoder.decode(data)
        for i, (counter, fresh) in enumerate(zip(self.counters, self._tallies, strict=True)):
            t = known.get(counter.id)
            if t is None:
                continue
            if t.length_us != fresh.length_us:
                t.length_us = fresh.length_us
                t.begin(t.start_of(t.settled_us))
            self._tallies[i] = t
