"""What one series did over a stretch of time, in whole numbers, so that stretches join exactly and in any grouping."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct, field

from operators.windows import sketch
from operators.windows.sketch import Bins

Key = tuple[str, str, str]
"""(what, place, class), e.g. ('zone', 'gate', 'person')."""
DWELL_RANKS = (0.5, 0.9, 0.95, 0.99)
SPEED_RANKS = (0.5, 0.85)  # traffic engineers go by the speed that 85 of 100 do not exceed
_NO_DWELL, _NO_SPEED = (0.0,) * len(DWELL_RANKS), (0.0,) * len(SPEED_RANKS)


LEVEL, DWELL, SPEED = -1, -2, -3
"""What a note is of: one came (+1) or went (−1); the µs of a finished visit; its speed in mm/s. Plain counts are 0 and more."""
Note = tuple[int, int, int]
"""(time_us, what, number)"""


class Series(Struct, array_like=True):
    """One quantity over the time that is still open: how many are present, and what is counted and measured."""

    level: int = 0  # present at the start of the oldest open window
    notes: list[Note] = []  # in order of arrival; of finished visits by their end


class Sample(Struct, array_like=True):
    """Measured numbers: how many, their sum, the greatest, and a sketch of them."""

    count: int = 0
    total: int = 0
    most: int = 0
    bins: Bins = {}

    def note(self, numbers: list[int]) -> None:
        """Take numbers, in any order."""
        self.count += len(numbers)
        self.total += sum(numbers)
        self.most = max([self.most, *numbers])
        bins = self.bins
        for number in numbers:
            name = sketch.bin_of(number)
            bins[name] = bins.get(name, 0) + 1

    def absorb(self, other: Sample) -> None:
        """Take all that another has."""
        self.count, self.total, self.most = (
            self.count + other.count,
            self.total + other.total,
            max(self.most, other.most),
        )
        sketch.add(self.bins, other.bins)

    def quantiles(self, ranks: tuple[float, ...]) -> tuple[float, ...]:
        """Return quantiles, none above the greatest; zeros where there is no number."""
        if not self.count:
            return (0.0,) * len(ranks)
        most = float(self.most)
        return tuple([min(q, most) for q in sketch.quantiles(self.bins, ranks)])


class Row(Struct, array_like=True):
    """One series over one stretch. A stretch without a row is one in which nothing was present and nothing happened."""

    key: Key
    span_us: int
    first: int = 0  # present at its start
    last: int = 0  # present at its end
    came: int = 0  # of +1
    low: int = 0
    high: int = 0
    area: int = 0  # present × µs
    counts: dict[int, int] = {}
    dwell: Sample = field(default_factory=Sample)
    speed: Sample = field(default_factory=Sample)

    def is_empty(self) -> bool:
        """Whether it says no more than no row would."""
        return not (
            self.first or self.high or self.low or self.came or self.counts or self.dwell.count or self.speed.count
        )

    def absorb(self, later: Row) -> None:
        """Take a later stretch; between the two nothing was present."""
        self.span_us += later.span_us
        self.last = later.last
        self.came += later.came
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)
        self.area += later.area
        for what, n in later.counts.items():
            self.counts[what] = self.counts.get(what, 0) + n
        self.dwell.absorb(later.dwell)
        self.speed.absorb(later.speed)

    def numbers(self) -> int:
        """Return about how many numbers it takes to store."""
        return 16 + 2 * (len(self.counts) + len(self.dwell.bins) + len(self.speed.bins))


def fresh(key: Key) -> Row:
    """Return a row of nothing, to absorb others."""
    return Row(key, 0, low=1 << 62, high=-(1 << 62))


def steady(key: Key, span_us: int, level: int) -> Row:
    """Return the row of a stretch in which nothing changed."""
    return Row(key, span_us, level, level, 0, level, level, level * span_us)


class Span(NamedTuple):
    """What one series did in one window. Levels in objects; `dwell_s` and `speed_mps` are quantiles at DWELL_RANKS, SPEED_RANKS."""

    start_us: int
    key: Key
    level_min: int = 0
    level_mean: float = 0.0
    level_max: int = 0
    level_end: int = 0
    seen_count: int = 0
    counts: dict[int, int] = {}  # noqa: RUF012  # never changed
    ended_count: int = 0
    dwell_sum_s: float = 0.0
    dwell_max_s: float = 0.0
    dwell_s: tuple[float, ...] = _NO_DWELL
    speed_count: int = 0
    speed_mean_mps: float = 0.0
    speed_max_mps: float = 0.0
    speed_mps: tuple[float, ...] = _NO_SPEED


def sweep(key: Key, series: Series, start_us: int, end_us: int) -> tuple[Row, int]:
    """Go over [start, end); return the row and the level at the end."""
    level = series.level
    if not series.notes:
        return steady(key, end_us - start_us, level), level
    row = Row(key, end_us - start_us)
    net: dict[int, int] = {}
    counts, dwells, speeds = row.counts, [], []
    for at_us, what, n in series.notes:
        if at_us >= end_us:
            continue
        if what == LEVEL:
            if at_us < start_us:
                level += n
            else:
                net[at_us] = net.get(at_us, 0) + n
                row.came += n == 1
        elif at_us < start_us:
            continue
        elif what >= 0:
            counts[what] = counts.get(what, 0) + n
        elif what == DWELL:
            dwells.append(n)
        else:
            speeds.append(n)
    if dwells:
        row.dwell.note(dwells)
    if speeds:
        row.speed.note(speeds)
    first = low = high = level
    area, before_us = 0, start_us
    for at_us, change in sorted(net.items()):  # what comes and goes at the same instant cancels
        area += level * (at_us - before_us)
        level, before_us = level + change, at_us
        # A change at the very start replaces the level carried over: nobody was there at that level in this stretch.
        if at_us == start_us:
            low = high = level
        elif level < low:
            low = level
        elif level > high:
            high = level
    row.first, row.last, row.low, row.high, row.area = first, level, low, high, area + level * (end_us - before_us)
    return row, level


def summary(row: Row, start_us: int, length_us: int) -> Span:
    """Return what a window says of a series; of the time that the row does not cover, that nothing was present."""
    partial = row.span_us < length_us
    dwell, speed = row.dwell, row.speed
    return Span(
        start_us, row.key,
        level_min=min(row.low, 0) if partial else row.low,
        level_mean=row.area / length_us,
        level_max=max(row.high, 0) if partial else row.high,
        level_end=row.last,
        seen_count=row.first + row.came,
        counts=row.counts,
        ended_count=dwell.count,
        dwell_sum_s=dwell.total * 1e-6,
        dwell_max_s=dwell.most * 1e-6,
        dwell_s=tuple([q * 1e-6 for q in dwell.quantiles(DWELL_RANKS)]) if dwell.count else _NO_DWELL,
        speed_count=speed.count,
        speed_mean_mps=speed.total * 1e-3 / speed.count if speed.count else 0.0,
        speed_max_mps=speed.most * 1e-3,
        speed_mps=tuple([q * 1e-3 for q in speed.quantiles(SPEED_RANKS)]) if speed.count else _NO_SPEED,
    )  # fmt: skip
