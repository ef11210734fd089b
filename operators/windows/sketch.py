"""Quantiles of many numbers in bounded memory: DDSketch (Masson, Rim and Lee, VLDB 2019), by Datadog's package `ddsketch`.

Chosen because it is deterministic and merges exactly: the sketch of two windows together is the sum of their bins, in whatever
order. Sketches that draw chance (KLL, REQ) or that depend on the order of merging (t-digest) would not repeat their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

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


def quantiles(bins: Bins, ranks: Iterable[float]) -> list[float]:
    """Return the quantiles (ranks 0..1) of a sketch of n ≥ 1 numbers: each within ERROR of the one at ⌊rank · (n − 1)⌋ in order."""
    store = DenseStore()
    for key in sorted(bins):
        if key != ZERO:
            store.add(key, bins[key])
    sketch = BaseDDSketch(_mapping, store, DenseStore(), float(bins.get(ZERO, 0)))
    return [float(sketch.get_quantile_value(rank) or 0.0) for rank in ranks]
