"""Sliding windows: one of `length_us` begins every `step_us`, made of whole steps.

A step is kept as one row per series that was not idle, not as its changes: rows join exactly, so a window over a day of
hours holds 24 times the series, however much happened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from operators.windows.rows import Key, Row, Span, fresh, steady, summary


class Stretch(NamedTuple):
    """The rows of one tumbling window, or of a part of a step without a frame."""

    start_us: int
    framed: bool  # a frame fell into it
    rows: Sequence[Row]


class SlidingReport(NamedTuple):
    """One sliding window. `complete` is False where it may still change, or reaches back before its steps were kept."""

    start_us: int
    length_us: int
    revision: int
    complete: bool
    spans: list[Span]


class Step(Struct, array_like=True):
    """One step's rows, by series."""

    framed: bool
    rows: dict[str, Row]  # by the key's parts, joined by NUL: MessagePack has no tuples as keys
    numbers: int = 0


class SlidingState(Struct, array_like=True):
    """What is kept of one kind of sliding windows."""

    length_us: int
    step_us: int
    since_us: int = 0  # steps are kept from here on; 0 before the first
    reported_us: int = 0  # windows that end here or earlier have been reported for good
    steps: dict[int, Step] = {}
    revisions: dict[int, int] = {}  # of windows that were reported before they were complete


class Sliding:
    """One kind of sliding windows over all series of a camera."""

    def __init__(self, length_us: int, step_us: int, max_numbers: int) -> None:
        self.length_us, self.step_us = length_us, step_us
        self._max_numbers = max_numbers
        self.state = SlidingState(length_us, step_us, steps={}, revisions={})

    def begin(self, at_us: int) -> None:
        """Keep steps from here on, where none are kept yet."""
        if not self.state.since_us:
            self.state.since_us, self.state.reported_us = at_us, at_us - at_us % self.step_us

    def take(self, stretch: Stretch) -> None:
        """Take a stretch that lies within one step and after all others."""
        rows = [row for row in stretch.rows if not row.is_empty()]
        if not rows and not stretch.framed:
            return
        start_us = stretch.start_us - stretch.start_us % self.step_us
        step = self.state.steps.setdefault(start_us, Step(False, {}))
        step.framed |= stretch.framed
        for row in rows:
            name = "\0".join(row.key)
            if name not in step.rows:
                step.rows[name] = fresh(row.key)
                step.rows[name].first = row.first
            step.rows[name].absorb(row)
        step.numbers = sum(row.numbers() for row in step.rows.values())
        while len(self.state.steps) > 1 and sum(s.numbers for s in self.state.steps.values()) > self._max_numbers:
            oldest_us = min(self.state.steps)
            del self.state.steps[oldest_us]
            self.state.since_us = oldest_us + self.step_us

    def pass_over(self, levels: dict[Key, int], from_us: int, to_us: int) -> None:
        """Take a time in which nothing changed and no frame came. Windows that hold a frame see its beginning and its end."""
        middle_us = from_us + self.length_us, to_us - self.length_us
        while levels and from_us < to_us:
            if middle_us[0] <= from_us < middle_us[1]:
                from_us = max(from_us, middle_us[1] - middle_us[1] % self.step_us)
                middle_us = from_us, from_us
            end_us = min(to_us, from_us - from_us % self.step_us + self.step_us)
            self.take(Stretch(from_us, False, [steady(k, end_us - from_us, n) for k, n in levels.items()]))
            from_us = end_us

    def close(self, to_us: int) -> list[SlidingReport]:
        """Report the windows that end at `to_us` or before, and keep what later ones need."""
        s = self.state
        reports = self._reports(to_us, [], True)
        s.reported_us = max(s.reported_us, to_us - to_us % self.step_us)
        s.revisions = {a: n for a, n in s.revisions.items() if a + self.length_us > s.reported_us}
        needed_us = s.reported_us + self.step_us - self.length_us
        s.steps = {a: step for a, step in s.steps.items() if a >= needed_us}
        return reports

    def report_open(self, stretches: Sequence[Stretch], to_us: int) -> list[SlidingReport]:
        """Report the windows that `stretches`, not yet taken, bring to an end as they stand."""
        reports = self._reports(to_us, stretches, False)
        self.state.revisions |= {r.start_us: r.revision + 1 for r in reports}
        return reports

    def _reports(self, to_us: int, more: Sequence[Stretch], closed: bool) -> list[SlidingReport]:
        s = self.state
        framed = [a for a, step in s.steps.items() if step.framed]
        framed += [m.start_us - m.start_us % self.step_us for m in more if m.framed]
        if not s.since_us or not framed:
            return []
        first_us = max(s.reported_us, min(framed)) + self.step_us
        # Those that hold a frame, not every one from the first to the last: between two frames there may be years.
        ends = {a + n for a in framed for n in range(self.step_us, self.length_us + 1, self.step_us)}
        steps, more = sorted(s.steps.items()), sorted(more, key=lambda m: m.start_us)
        starts, starts_of_more = [a for a, _ in steps], [m.start_us for m in more]
        reports = []
        for end_us in sorted(end for end in ends if first_us <= end <= to_us):
            start_us = end_us - self.length_us
            complete = closed and start_us >= s.since_us
            kept = steps[bisect_left(starts, start_us) : bisect_left(starts, end_us)]
            rows = [r for _, step in kept for r in step.rows.values()]
            found = more[bisect_left(starts_of_more, start_us) : bisect_left(starts_of_more, end_us)]
            rows += [r for m in found for r in m.rows]
            spans = [summary(row, start_us, self.length_us) for row in _joined(rows)]
            reports.append(SlidingReport(start_us, self.length_us, s.revisions.get(start_us, 0), complete, spans))
        return reports

    def forget(self, gone: Callable[[Key], bool]) -> None:
        """Drop the rows of series that are no more."""
        for step in self.state.steps.values():
            step.rows = {name: row for name, row in step.rows.items() if not gone(row.key)}


def _joined(rows: Iterable[Row]) -> list[Row]:
    """Join rows in order of time, by series; return them in order of their keys."""
    found: dict[Key, Row] = {}
    for row in rows:
        if row.key not in found:
            found[row.key] = fresh(row.key)
            found[row.key].first = row.first
        found[row.key].absorb(row)
    return [found[key] for key in sorted(found)]
