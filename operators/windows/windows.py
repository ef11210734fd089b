"""Windows of one camera, from dated changes: tumbling ones, and sliding ones made of them.

Nothing is sampled: what happens is noted as (time, +1) and (time, −1), and when a window can no longer change, one
sweep over its changes gives exact minimum, time-weighted mean and maximum. Ends of visits and tracks are known only
some time after their date (the gap or memory that they are given), so a window is closed `grace_us` after its end, in
the camera's own event time: the result depends on the order of this camera's frames and on nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from operators.windows.rows import DWELL, LEVEL, SPEED, Key, Row, Series, Span, summary, sweep
from operators.windows.sliding import Sliding, SlidingReport, SlidingState, Stretch

MAX_SERIES = 4096  # (what, place, class) combinations per camera; more are refused and counted
MAX_CHANGES = 100_000  # per camera, over all open windows; beyond, levels stay right but dates are lost
MAX_CLOSED = 10_000  # reported windows that are remembered, so that a late frame can still be counted in them
MAX_NUMBERS = 500_000  # of the steps of all sliding windows; beyond, the oldest steps are let go
PASSING = frozenset({"flow"})
"""Kinds of series that exist only while something is noted of them, in tumbling windows alone: their sums add up to longer ones."""


class Report(NamedTuple):
    """One tumbling window. `complete` is False where the source fell silent before the window could be closed.

    `spans` is None where only the tally has changed.
    """

    start_us: int
    revision: int
    complete: bool
    spans: list[Span] | None
    tally: list[int]


class _State(Struct, array_like=True):
    oldest_us: int
    series: list[tuple[Key, Series]]
    revisions: dict[int, int]
    refused: int


class _Closed(Struct, array_like=True):
    revision: int
    tally: list[int]


class _Archive(Struct, array_like=True):
    length_us: int
    forgotten_us: int
    closed: dict[int, _Closed]
    sliding: list[SlidingState]


_FASTEST = 1  # of zlib's levels
_archive_decoder = msgspec.msgpack.Decoder(_Archive)


class Windows:
    """All series of one camera. A series is named (what, place, class), e.g. ('zone', 'gate', 'person').

    Args:
        length_us: of the tumbling windows, which are aligned to the Unix epoch.
        grace_us: how long after its end a window is closed.
        sliding: length and step of sliding windows, µs; lengths are multiples of steps, and those of `length_us`.
        lateness_us: how long after its end a window's tally can still be amended.
        width: how many plain counts a window has.
    """

    def __init__(
        self,
        length_us: int,
        grace_us: int,
        sliding: Sequence[tuple[int, int]] = (),
        lateness_us: int = 0,
        width: int = 1,
    ) -> None:
        self.length_us, self.grace_us, self.lateness_us = length_us, grace_us, lateness_us
        self.oldest_us = 0  # start of the oldest window that is still open; 0 before the first frame
        self.revisions: dict[int, int] = {}  # of windows that were reported before they were complete
        self.refused = 0
        self.tallies: dict[int, list[int]] = {}  # plain counts by window
        self._width = width
        self._series: dict[Key, Series] = {}
        self._change_count = 0
        self._sliding = [Sliding(length, step, MAX_NUMBERS // len(sliding)) for length, step in sliding]
        self._closed: dict[int, _Closed] = {}  # windows that were reported and can still be amended, in order of time
        self._forgotten_us = 0  # windows that began earlier can no longer be
        self._archive_dirty = True

    # ---- what happens -----------------------------------------------------------------------------------------

    def tally(self, at_us: int) -> list[int]:
        """Return the plain counts of the window that holds `at_us`, or of the oldest open one, to be added to at once."""
        start = max(at_us - at_us % self.length_us, self.oldest_us)
        counts = self.tallies.get(start)
        if counts is None:
            counts = self.tallies[start] = [0] * self._width
        return counts

    def start_of(self, at_us: int) -> int:
        """Return the start of the window that holds `at_us`; windows are aligned to the Unix epoch."""
        return at_us - at_us % self.length_us

    def open_at(self, at_us: int) -> None:
        """Say that the camera's time has begun."""
        if not self.oldest_us:
            self.oldest_us = self.start_of(at_us)
            self._begin_anew()

    def change(self, key: Key, at_us: int, by: int) -> None:
        """Note that at `at_us` one came (+1) or went (−1). Dates before the oldest open window count at its start."""
        self.note(key, at_us, ((LEVEL, by),))

    def count(self, key: Key, at_us: int, what: int, n: int = 1) -> None:
        """Count `n` of kind `what` at `at_us`."""
        self.note(key, at_us, ((what, n),))

    def dwell(self, key: Key, at_us: int, dwell_us: int) -> None:
        """Note a dwell (or the transit of a flow) that ended at `at_us`."""
        self.note(key, at_us, ((DWELL, dwell_us),))

    def enter(self, key: Key, at_us: int, what: int) -> None:
        """Note that one came, and count it."""
        self.note(key, at_us, ((LEVEL, 1), (what, 1)))

    def leave(self, key: Key, at_us: int, what: int, dwell_us: int, mps: float | None) -> None:
        """Note that one went, count it, and note how long it was there and how fast; the speed is kept in mm/s."""
        if mps is None:
            self.note(key, at_us, ((LEVEL, -1), (what, 1), (DWELL, dwell_us)))
        else:
            self.note(key, at_us, ((LEVEL, -1), (what, 1), (DWELL, dwell_us), (SPEED, round(1000 * mps))))

    def note(self, key: Key, at_us: int, found: Sequence[tuple[int, int]]) -> None:
        """Note what happened at one time, each as what it is of (`rows`) and a number."""
        series = self._series.get(key) or self._begun(key)
        if series is None:
            self.refused += len(found)
            return
        if at_us < self.oldest_us:
            at_us = self.oldest_us
        notes = series.notes
        for what, number in found:
            if self._change_count < MAX_CHANGES:
                self._change_count += 1
                notes.append((at_us, what, number))
                continue
            self.refused += 1
            if what == LEVEL:  # dated wrongly, but a later −1 must find its +1, or the level would be off for ever
                series.level += number

    def declare(self, key: Key) -> None:
        """Make the series exist, so that it is reported with zeros from now on."""
        if key not in self._series and self._begun(key) is None:
            self.refused += 1

    # ---- closing ----------------------------------------------------------------------------------------------

    def due_us(self) -> int:
        """Return from when on `due` is true."""
        return self.oldest_us + self.length_us + self.grace_us

    def due(self, now_us: int) -> bool:
        """Whether `close` would report anything."""
        return self.oldest_us > 0 and now_us >= self.due_us()

    def close(self, now_us: int) -> list[Report | SlidingReport]:
        """Report windows that can no longer change at `now_us`, oldest first; those without a frame are left out."""
        reports: list[Report | SlidingReport] = []
        while self.due(now_us):
            start = self.oldest_us
            rows = self._sweep(start, forget=True)
            revision, tally = self.revisions.pop(start, 0), self.tallies.pop(start, None)
            if tally is not None:
                reports.append(Report(start, revision, True, self._spans(start, rows), tally))
                self._closed[start] = _Closed(revision, tally)
            self.oldest_us = self._next_start(start, now_us)
            self._archive_dirty = True
            reports += self._slide(Stretch(start, tally is not None, _lasting(rows)))
        self._forget_closed(now_us)
        return reports

    def report_open(self) -> list[Report | SlidingReport]:
        """Report the open windows as they stand and keep them: they are reported again, with a higher revision."""
        reports: list[Report | SlidingReport] = []
        stretches = []
        last_us = max(self.tallies, default=0)
        for start in self._open_starts():
            if start > last_us:
                break
            rows = self._sweep(start, forget=False)
            stretches.append(Stretch(start, start in self.tallies, _lasting(rows)))
            if start in self.tallies:
                revision = self.revisions.get(start, 0)
                reports.append(Report(start, revision, False, self._spans(start, rows), list(self.tallies[start])))
                self.revisions[start] = revision + 1
        for sliding in self._sliding:
            reports += sliding.report_open(stretches, last_us + self.length_us)
            self._archive_dirty = True
        return reports

    def _slide(self, closed: Stretch) -> list[SlidingReport]:
        """Hand a closed window on, and the time up to the next open one."""
        if not self._sliding:
            return []
        reports = []
        levels = {k: s.level for k, s in self._series.items() if s.level and k[0] not in PASSING}
        for sliding in self._sliding:
            sliding.take(closed)
            sliding.pass_over(levels, closed.start_us + self.length_us, self.oldest_us)
            reports += sliding.close(self.oldest_us)
        return reports

    def _begin_anew(self) -> None:
        """Of windows before the oldest open one nothing is known."""
        self._forgotten_us = self.oldest_us
        self._archive_dirty = True
        for sliding in self._sliding:
            sliding.begin(self.oldest_us)

    def _open_starts(self) -> list[int]:
        if not self.oldest_us:
            return []
        starts = {self.oldest_us, *self.tallies}
        starts.update(self.start_of(at) for s in self._series.values() for at, _, _ in s.notes)
        return sorted(starts)

    def _next_start(self, start: int, now_us: int) -> int:
        following, last_due = start + self.length_us, self.start_of(now_us - self.grace_us)
        if last_due <= following:
            return following
        return max(following, min([*(s for s in self._open_starts() if s > start), last_due]))

    def _sweep(self, start: int, forget: bool) -> list[Row]:
        end = start + self.length_us
        rows = []
        for key in sorted(self._series):
            series = self._series[key]
            row, level = sweep(key, series, start, end)
            rows.append(row)
            if forget and series.notes:
                later = [n for n in series.notes if n[0] >= end]
                self._change_count -= len(series.notes) - len(later)
                series.level, series.notes = level, later
        if forget:
            for key in [k for k, s in self._series.items() if k[0] in PASSING and not s.notes]:
                del self._series[key]
        return rows

    def _spans(self, start: int, rows: Sequence[Row]) -> list[Span]:
        return [summary(r, start, self.length_us) for r in rows if r.key[0] not in PASSING or not r.is_empty()]

    # ---- what comes late --------------------------------------------------------------------------------------

    def is_open(self, at_us: int) -> bool:
        """Whether the window that holds `at_us` is still to be closed."""
        return self.start_of(at_us) >= self.oldest_us

    def is_too_late(self, at_us: int, now_us: int) -> bool:
        """Whether the tally of the window that holds `at_us` is past amending."""
        start = self.start_of(at_us)
        return not self.is_open(at_us) and (
            start < self._forgotten_us or start + self.length_us + self.lateness_us <= now_us
        )

    def amend(self, at_us: int, counts: Sequence[int]) -> Report | None:
        """Add plain counts to the window that holds `at_us`; report it again where it has been reported for good."""
        if self.is_open(at_us):
            tally = self.tally(at_us)
            tally[:] = [a + b for a, b in zip(tally, counts, strict=True)]
            return None
        start = self.start_of(at_us)
        closed = self._closed.get(start)
        if closed is None:  # all frames of it are late
            closed = self._closed[start] = _Closed(-1, [0] * self._width)
            self._closed = dict(sorted(self._closed.items()))
        closed.revision += 1
        closed.tally = [a + b for a, b in zip(closed.tally, counts, strict=True)]
        self._archive_dirty = True
        return Report(start, closed.revision, True, None, list(closed.tally))

    def _forget_closed(self, now_us: int) -> None:
        while self._closed:
            start = next(iter(self._closed))
            if len(self._closed) <= MAX_CLOSED and start + self.length_us + self.lateness_us > now_us:
                return
            del self._closed[start]
            self._forgotten_us = start + self.length_us

    # ---- series -----------------------------------------------------------------------------------------------

    def _begun(self, key: Key) -> Series | None:
        """Return a new series, None where there is no room for one."""
        if len(self._series) >= MAX_SERIES:
            return None
        series = self._series[key] = Series()
        return series

    def keep(self, wanted: Callable[[Key], bool]) -> None:
        """Forget the series that are not wanted: after new settings, those of places that are gone."""
        self._series = {key: series for key, series in self._series.items() if wanted(key)}
        self._change_count = sum(len(s.notes) for s in self._series.values())

    # ---- state ------------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[int, list[int]], bytes]:
        """Return the tallies, and the rest as compressed MessagePack.

        Changes are dated at full length, most at the times of others: compressed at the fastest level they take a third.
        """
        state = _State(self.oldest_us, list(self._series.items()), self.revisions, self.refused)
        return self.tallies, zlib.compress(msgspec.msgpack.encode(state), _FASTEST)

    def archive(self) -> bytes | None:
        """Return what changes when windows are closed or amended, or None where it has not since this was last asked."""
        if not self._archive_dirty:
            return None
        self._archive_dirty = False
        return self.archive_now()

    def archive_now(self) -> bytes:
        """Return it as it stands."""
        sliding = [s.state for s in self._sliding]
        return msgspec.msgpack.encode(_Archive(self.length_us, self._forgotten_us, self._closed, sliding))

    def restore(self, tallies: dict[int, list[int]], data: bytes) -> None:
        """Take up a snapshot. What the archive holds is not known until `restore_archive`."""
        try:
            state = msgspec.msgpack.decode(zlib.decompress(data), type=_State)
        except zlib.error as e:
            raise ValueError(f"windows: expected a snapshot, got {len(data)} damaged bytes") from e
        self.oldest_us, self.revisions, self.refused = state.oldest_us, state.revisions, state.refused
        self._series = dict(state.series)
        self._realign(tallies)
        self._change_count = sum(len(s.notes) for s in self._series.values())
        self._archive_dirty = True
        if self.oldest_us:
            self._begin_anew()

    def restore_archive(self, data: bytes, wanted: Callable[[Key], bool] = lambda _: True) -> None:
        """Take up an archive, after the snapshot that it belongs to, save the series that are not wanted.

        Under another window length the reported windows and the steps are forgotten; of other sliding windows, the steps.
        """
        archive = _archive_decoder.decode(data)
        if archive.length_us != self.length_us:
            return
        self._closed, self._forgotten_us = archive.closed, archive.forgotten_us
        kept = {(s.length_us, s.step_us): s for s in archive.sliding}
        for sliding in self._sliding:
            sliding.state = kept.get((sliding.length_us, sliding.step_us), sliding.state)
            sliding.forget(lambda key: not wanted(key))
        self._archive_dirty = True

    def _realign(self, tallies: dict[int, list[int]]) -> None:
        """Move what was noted under another window length to this one's windows."""
        self.oldest_us = self.start_of(self.oldest_us)
        self.tallies = {}
        for start, counts in tallies.items():
            mine = self.tallies.setdefault(self.start_of(start), [0] * len(counts))
            mine[:] = [a + b for a, b in zip(mine, counts, strict=True)]
        revisions: dict[int, int] = {}
        for start, revision in self.revisions.items():
            start = self.start_of(start)
            revisions[start] = max(revision, revisions.get(start, 0))
        self.revisions = revisions


def _lasting(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.key[0] not in PASSING]
