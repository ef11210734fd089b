"""Quantiles of the sketch against exact ones, and sketches that are joined in any grouping."""

from __future__ import annotations

import math
import random

import pytest
from ddsketch import DDSketch
from ddsketch.mapping import LogarithmicMapping
from hypothesis import given
from hypothesis import strategies as st

from operators.windows import sketch
from operators.windows.rows import Sample
from operators.windows.sketch import ERROR, MAX_BINS, MOST, ZERO, bin_of
from tests.unit.operators.scenes import bounded

NUMBERS = st.lists(st.one_of(st.just(0), st.integers(1, 100), st.integers(1, 10**11)), min_size=1, max_size=200)
RANKS = (0.0, 0.25, 0.5, 0.85, 0.9, 0.95, 0.99, 1.0)


def sketched(numbers: list[int]) -> Sample:
    sample, half = Sample(), len(numbers) // 2
    sample.note(numbers[half:])
    sample.note(numbers[:half])
    return sample


@bounded(200)
@given(NUMBERS)
def test_a_quantile_is_within_the_error_of_the_exact_one(numbers: list[int]) -> None:
    ordered = sorted(numbers)
    found = sketched(numbers).quantiles(RANKS)
    for rank, value in zip(RANKS, found, strict=True):
        exact = ordered[math.floor(rank * (len(ordered) - 1))]
        assert abs(value - exact) <= ERROR * exact * (1 + 1e-9)
        assert value <= ordered[-1]


@bounded(100)
@given(NUMBERS)
def test_quantiles_are_those_of_the_package_s_own_sketch(numbers: list[int]) -> None:
    theirs = DDSketch(ERROR)
    for number in numbers:
        theirs.add(number)
        assert number == 0 or bin_of(number) == LogarithmicMapping(ERROR).key(number)
    assert sketch.quantiles(sketched(numbers).bins, RANKS) == [theirs.get_quantile_value(rank) for rank in RANKS]


@bounded(60)
@given(NUMBERS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_parts_joined_in_any_order_are_the_whole(numbers: list[int], parts: int, chance: random.Random) -> None:
    order = list(numbers)
    chance.shuffle(order)
    joined = Sample()
    for n in range(parts):
        joined.absorb(sketched(order[n::parts]))
    whole = sketched(numbers)
    assert joined == whole
    assert joined.quantiles(RANKS) == whole.quantiles(RANKS)


def test_bins_are_bounded() -> None:
    bins: sketch.Bins = {}
    number = 1
    while number < 3 * MOST:
        sketch.add(bins, {bin_of(number): 1})
        number = number + 1 if number < 1000 else number * 1001 // 1000
    sketch.add(bins, {bin_of(-5): 1, bin_of(10**30): 1})
    assert bins[ZERO] == 1 and len(bins) <= MAX_BINS
    assert min(k for k in bins if k != ZERO) >= 0


def test_without_numbers_quantiles_are_nought() -> None:
    assert Sample().quantiles((0.5, 0.9)) == (0.0, 0.0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_few_numbers_quantiles_are_those_numbers(count: int) -> None:
    numbers = [7_000_000 * (n + 1) for n in range(count)]
    assert sketched(numbers).quantiles((0.99,))[0] == pytest.approx(numbers[math.floor(0.99 * (count - 1))], rel=ERROR)
