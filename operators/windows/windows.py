"""Tumbling windows of one camera, from dated changes.

Nothing is sampled: what happens is noted as (time, +1) and (time, −1), and when a window can no longer change, one
sweep over its changes gives exact minimum, time-weighted mean and maximum. Ends of visits and tracks are known only
some time after their date (the gap or memory that they are given), so a window is closed `grace_us` after its end, in
the camera's own event time: the result depends on the order of this camera's frames and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec import Struct

MAX_SERIES = 4096  # (what, place, class) combinations per camera; more are refused and counted
MAX_CHANGES = 100_000  # per camera, over all open windows; beyond, levels stay right but dates are lost


class Series(Struct, array_like=True):
    """One quantity over time: how many are present, and what is counted."""

    level: int = 0  # present at `since_us` of the oldest open window
    changes: list[tuple[int, int]] = []  # (time_us, ±1), in order of arrival
    counts: list[tuple[int, int, int]] = []  # (time_us, what, how many)
    sums: list[tuple[int, float]] = []  # (time_us, seconds): finished dwells, by their end


class Span(NamedTuple):
    """What one series did in one window. Times in µs, `level_*` in objects, dwell in seconds."""

    start_us: int
    key: tuple[str, str, str]
    level_min: int
    level_mean: float
    level_max: int
    counts: dict[int, int]
    ended_count: int
    dwell_sum_s: float
    dwell_max_s: float
    seen_count: int
    level_end: int = 0


class Report(NamedTuple):
    """One window. `complete` is False where the source fell silent before the window could be closed."""

    start_us: int
    revision: int
    complete: bool
    spans: list[Span]
    tally: list[int]


class _State(Struct, array_like=True):
    oldest_us: int
    series: list[msgspec.Raw]  # each a (key, Series)
    revisions: dict[int, int]
    refused: int


_series_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, str, str], Series])


@dataclass
class Windows:
    """All series of one camera. A series is named (what, place, class), e.g. ('zone', 'gate', 'person')."""

    length_us: int
    grace_us: int

    def __post_init__(self) -> None:
        self.oldest_us = 0  # start of the oldest window that is still open; 0 before the first frame
        self.revisions: dict[int, int] = {}  # of windows that were reported before they were complete
        self.refused = 0
        self._series: dict[tuple[str, str, str], Series] = {}
        self._change_count = 0
        self.tallies: dict[int, list[int]] = {}  # plain counts by window
        self.dirty = True  # anything has changed since the last snapshot
        self._snapshot = b""
        # Series that have not changed since the last snapshot, as they stood in it.
        self._encoded: dict[tuple[str, str, str], msgspec.Raw] = {}

    def tally(self, at_us: int, width: int) -> list[int]:
        """Return the `width` plain counts of the window that holds `at_us`, to be added to in place, at once."""
        self.dirty = True
        start = max(at_us - at_us % self.length_us, self.oldest_us)
        counts = self.tallies.get(start)
        if counts is None:
            counts = self.tallies[start] = [0] * width
        return counts

    def start_of(self, at_us: int) -> int:
        """Return the start of the window that holds `at_us`; windows are aligned to the Unix epoch."""
        return at_us - at_us % self.length_us

    def open_at(self, at_us: int) -> None:
        """Say that the camera's time has begun."""
        if not self.oldest_us:
            self.oldest_us = self.start_of(at_us)
            self.dirty = True

    def change(self, key: tuple[str, str, str], at_us: int, by: int) -> None:
        """Note that at `at_us` one came (+1) or went (−1). Dates before the oldest open window count at its start."""
        series = self._at(key)
        if series is None:
            return
        if self._room():
            series.changes.append((max(at_us, self.oldest_us), by))
        else:
            series.level += by  # dated wrongly, but a later -1 must find its +1, or the level would be off for ever

    def count(self, key: tuple[str, str, str], at_us: int, what: int, n: int = 1) -> None:
        """Count `n` of kind `what` at `at_us`."""
        series = self._at(key)
        if series is not None and self._room():
            series.counts.append((max(at_us, self.oldest_us), what, n))

    def dwell(self, key: tuple[str, str, str], at_us: int, seconds: float) -> None:
        """Note a dwell that ended at `at_us`."""
        series = self._at(key)
        if series is not None and self._room():
            series.sums.append((max(at_us, self.oldest_us), seconds))

    def declare(self, key: tuple[str, str, str]) -> None:
        """Make the series exist, so that it is reported with zeros from now on."""
        if key not in self._series:
            self._at(key)

    def due_us(self) -> int:
        """Return from when on `due` is true."""
        return self.oldest_us + self.length_us + self.grace_us

    def due(self, now_us: int) -> bool:
        """Whether `close` would report anything."""
        return self.oldest_us > 0 and now_us >= self.due_us()

    def close(self, now_us: int) -> list[Report]:
        """Report windows that can no longer change at `now_us`, oldest first; those without a frame are left out."""
        reports = []
        while self.due(now_us):
            start = self.oldest_us
            spans = self._sweep(start, forget=True)
            revision, tally = self.revisions.pop(start, 0), self.tallies.pop(start, None)
            if tally is not None:
                reports.append(Report(start, revision, True, spans, tally))
            self.oldest_us = self._next_start(start, now_us)
            self.dirty = True
        return reports

    def report_open(self) -> list[Report]:
        """Report the open windows as they stand and keep them: they are reported again, with a higher revision."""
        reports = []
        self.dirty = True
        for start in sorted(self.tallies):
            revision = self.revisions.get(start, 0)
            reports.append(Report(start, revision, False, self._sweep(start, forget=False), list(self.tallies[start])))
            self.revisions[start] = revision + 1
        return reports

    def _open_starts(self) -> list[int]:
        if not self.oldest_us:
            return []
        starts = {self.oldest_us, *self.tallies}
        for s in self._series.values():
            for dated in (s.changes, s.counts, s.sums):
                starts.update(self.start_of(at) for at, *_ in dated)
        return sorted(starts)

    def _next_start(self, start: int, now_us: int) -> int:
        following = [s for s in self._open_starts() if s > start]
        last_due = self.start_of(now_us - self.grace_us)
        return max(start + self.length_us, min([*following, last_due]))

    def _at(self, key: tuple[str, str, str]) -> Series | None:
        self.dirty = True
        self._encoded.pop(key, None)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                self.refused += 1
                return None
            series = self._series[key] = Series()
        return series

    def _room(self) -> bool:
        if self._change_count >= MAX_CHANGES:
            self.refused += 1
            return False
        self._change_count += 1
        return True

    def _sweep(self, start: int, forget: bool) -> list[Span]:
        end = start + self.length_us
        spans = []
        for key in sorted(self._series):
            series = self._series[key]
            # A later window's sweep starts from the level at its start, so that reports of open windows chain.
            level = series.level + sum(by for at, by in series.changes if at < start)
            span, level = _span(start, end, key, level, series)
            spans.append(span)
            if forget:
                self._forget(series, end, level)
        return spans

    def _forget(self, series: Series, end: int, level: int) -> None:
        self._encoded.clear()
        before = len(series.changes) + len(series.counts) + len(series.sums)
        series.level = level
        series.changes = [c for c in series.changes if c[0] >= end]
        series.counts = [c for c in series.counts if c[0] >= end]
        series.sums = [c for c in series.sums if c[0] >= end]
        self._change_count -= before - len(series.changes) - len(series.counts) - len(series.sums)

    def snapshot(self) -> tuple[dict[int, list[int]], bytes]:
        """Return the tallies, and the rest as MessagePack (made anew only when it has changed)."""
        if self.dirty:
            self._snapshot = msgspec.msgpack.encode(
                _State(self.oldest_us, [self._encode(key) for key in self._series], self.revisions, self.refused)
            )
            self.dirty = False
        return self.tallies, self._snapshot

    def _encode(self, key: tuple[str, str, str]) -> msgspec.Raw:
        raw = self._encoded.get(key)
        if raw is None:
            raw = self._encoded[key] = msgspec.Raw(msgspec.msgpack.encode((key, self._series[key])))
        return raw

    def restore(self, tallies: dict[int, list[int]], data: bytes) -> None:
        """Take up a snapshot."""
        state = msgspec.msgpack.decode(data, type=_State)
        self.oldest_us, self.revisions, self.refused = state.oldest_us, state.revisions, state.refused
        self._series = dict(_series_decoder.decode(raw) for raw in state.series)
        self._encoded.clear()
        self._realign(tallies)
        self._change_count = sum(len(s.changes) + len(s.counts) + len(s.sums) for s in self._series.values())
        self.dirty = True

    def keep(self, wanted: Callable[[tuple[str, str, str]], bool]) -> None:
        """Forget the series that are not wanted: after new settings, those of places that are gone."""
        self._series = {key: series for key, series in self._series.items() if wanted(key)}
        self._encoded.clear()
        self._change_count = sum(len(s.changes) + len(s.counts) + len(s.sums) for s in self._series.values())
        self.dirty = True

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


def _span(start: int, end: int, key: tuple[str, str, str], level: int, series: Series) -> tuple[Span, int]:
    """Sweep one series over [start, end) from `level`; return the span and the level at the end."""
    low = high = level
    seen, area, at = level, 0, start
    net: dict[int, int] = {}
    for t, by in series.changes:
        if start <= t < end:
            net[t] = net.get(t, 0) + by
            seen += by == 1
    for t in sorted(net):  # what comes and goes at the same instant cancels
        area += level * (t - at)
        level, at = level + net[t], t
        # A change at the very start replaces the level carried over: nobody was there at that level in this window.
        low, high = (level, level) if t == start else (min(low, level), max(high, level))
    area += level * (end - at)
    counts: dict[int, int] = {}
    for t, what, n in series.counts:
        if start <= t < end:
            counts[what] = counts.get(what, 0) + n
    dwells = [s for t, s in series.sums if start <= t < end]
    dwell_sum_s = sum(dwells, 0.0)  # a float even of none: the first value written fixes a field's type in InfluxDB
    mean = area / (end - start)
    longest_s = max(dwells, default=0.0)
    return Span(start, key, low, mean, high, counts, len(dwells), dwell_sum_s, longest_s, seen, level), level
