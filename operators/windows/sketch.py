"""Quantiles of many numbers in bounded memory: DDSketch (Masson, Rim and Lee, VLDB 2019), by Datadog's package `ddsketch`.

Chosen because it is deterministic and merges exactly: the sketch of two windows together is the sum of their bins, in whatever
order. Sketches that draw chance (KLL, REQ) or that depend on the order of merging (t-digest) would not repeat their bytes.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Iterable, Mapping

from ddsketch.mapping import LogarithmicMapping

ERROR = 0.01
"""A quantile is off by at most this share of its true value."""
MOST = 10**14
"""Larger numbers (three years in µs) are taken for this one."""
MAX_BINS = 1614
"""A sketch of whole numbers from 1 to MOST has no more: log(MOST) / log((1 + ERROR) / (1 - ERROR)), one for the ends, one for 0."""

Bins = dict[int, int]
"""How many numbers fell into each bin of the mapping; ZERO holds those that are 0."""
ZERO = -1

_mapping = LogarithmicMapping(ERROR)


def bin_of(number: int) -> int:
    """Return the bin of a whole number; below 0 counts as 0."""
    return int(_mapping.key(min(number, MOST))) if number > 0 else ZERO


def add(bins: Bins, more: Mapping[int, int]) -> None:
    """Merge another sketch into `bins`."""
    for key, count in more.items():
        bins[key] = bins.get(key, 0) + count


def quantiles(bins: Mapping[int, int], ranks: Iterable[float]) -> list[float]:
    """Return the quantiles (ranks 0..1) of a sketch of n ≥ 1 numbers: each within ERROR of the one at ⌊rank · (n − 1)⌋ in order.

    As the package's own sketches do it, over the bins in use alone: theirs lay out every bin between the least and the greatest.
    """
    keys = sorted(bins)
    if len(keys) == 1:
        return [_value(keys[0]) for _ in ranks]
    ends = list(itertools.accumulate(map(bins.__getitem__, keys)))
    last = ends[-1] - 1
    return [_value(keys[bisect.bisect_right(ends, rank * last)]) for rank in ranks]


@functools.cache  # of at most MAX_BINS keys
def _value(key: int) -> float:
    return 0.0 if key == ZERO else float(_mapping.value(key))
