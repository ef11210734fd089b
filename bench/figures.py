"""Percentiles, medians and intervals: the little arithmetic that the benchmarks share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def percentile(sorted_values: Sequence[float], ratio: float) -> float:
    """Return the smallest value that at least `ratio` (0 to 1) of the values do not exceed (nearest rank).

    Never interpolates: every figure that is reported was measured. Raises ValueError for no values.
    """
    if not sorted_values:
        raise ValueError("expected at least one value")
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"expected a ratio from 0 to 1, got {ratio}")
    rank = max(1, math.ceil(ratio * len(sorted_values)))
    return sorted_values[rank - 1]


PERCENTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Spread:
    """A distribution in the figures that are reported; all in the unit of its values."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """Return the spread of at least one value."""
        ranked = sorted(values)
        p50, p90, p99, p999 = (percentile(ranked, p) for p in PERCENTILES)
        return Spread(len(ranked), p50, p90, p99, p999, ranked[-1])


def median(values: Iterable[float]) -> float:
    """Return the median of at least one value."""
    return float(statistics.median(values))


def spread_text(values: Sequence[float], digits: int = 0) -> str:
    """Return 'median (lowest to highest)'."""
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


@dataclass(frozen=True)
class Sample:
    """What is seen at one moment of a run: results so far, and the CPU seconds of each process since its start."""

    at_s: float
    count: int
    cpu_s: dict[str, float]


@dataclass(frozen=True)
class Steady:
    """The steady part of a run: between two counts, start-up and tail left out."""

    count: int
    elapsed_s: float
    cpu_s: dict[str, float]

    @property
    def rate_hz(self) -> float:
        """Results per second."""
        return self.count / self.elapsed_s

    def cpu_us(self, process: str) -> float:
        """CPU microseconds of one process per result."""
        return self.cpu_s[process] / self.count * 1e6

    def cores(self, process: str) -> float:
        """Cores that a process kept busy."""
        return self.cpu_s[process] / self.elapsed_s


def steady_part(samples: Sequence[Sample], from_count: int, to_count: int) -> Steady:
    """Return what happened between the first sample at or above `from_count` and the last at or below `to_count`.

    Raises ValueError where the samples do not hold two such moments: the run was too short to be measured.
    """
    first = next((s for s in samples if s.count >= from_count), None)
    last = next((s for s in reversed(samples) if s.count <= to_count), None)
    if first is None or last is None or last.count <= first.count or last.at_s <= first.at_s:
        seen = [s.count for s in samples]
        raise ValueError(
            f"expected samples between the counts {from_count} and {to_count}, got {seen[:3]} … {seen[-3:]}"
        )
    cpu_s = {name: last.cpu_s[name] - first.cpu_s[name] for name in first.cpu_s}
    return Steady(last.count - first.count, last.at_s - first.at_s, cpu_s)
