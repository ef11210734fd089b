"""Windows against an exact step function over the whole history."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from operators.windows import Report, Windows
from operators.windows.windows import MAX_CHANGES
from tests.unit.operators.scenes import bounded

KEY = ("zone", "z", "person")
LENGTH, GRACE = 10, 7
T0 = 1000  # all times in this file are small numbers: windows do not care for units


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]]]:
    """Draw frame times with gaps, and spans (from, to) inside them."""
    steps = draw(st.lists(st.one_of(st.integers(1, 6), st.integers(1, 80)), min_size=1, max_size=60))
    times = [T0]
    for step in steps:
        times.append(times[-1] + step)
    spans = draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=25))
    return times, [(T0 + a, T0 + a + d) for a, d in spans]


def run(times: list[int], spans: list[tuple[int, int]], restarts: set[int], losses: set[int]) -> list[Report]:
    """Feed as the stage does: a start is known when it happens, an end up to GRACE later; then windows are closed."""
    windows, reports, begun, ended = Windows(LENGTH, GRACE), [], set(), set()
    for n, now in enumerate(times):
        windows.open_at(now)
        windows.declare(KEY)
        for i, (a, b) in enumerate(spans):
            if a <= now and i not in begun:
                begun.add(i)
                windows.change(KEY, a, +1)
                windows.count(KEY, a, 0)
            if b + (i % 5) <= now and i not in ended:
                ended.add(i)
                windows.change(KEY, b, -1)
                windows.count(KEY, b, 2)
                windows.dwell(KEY, b, float(b - a))
        windows.tally(now, 2)[0] += 1
        if n in losses:
            reports += windows.report_open()
        reports += windows.close(now)
        if n in restarts:
            old, windows = windows, Windows(LENGTH, GRACE)
            tallies, data = old.snapshot()
            windows.restore({k: list(v) for k, v in tallies.items()}, data)
            assert windows.snapshot() == old.snapshot()
    return reports


@bounded(150)
@given(histories(), st.sets(st.integers(0, 60), max_size=4), st.sets(st.integers(0, 60), max_size=4))
def test_closed_windows_equal_the_step_function(
    history: tuple[list[int], list[tuple[int, int]]], restarts: set[int], losses: set[int]
) -> None:
    times, spans = history
    # A span is noted at a frame, and dated before: only those whose dates cannot fall into a closed window are exact.
    spans = [(a, b) for a, b in spans if any(0 <= t - a <= GRACE for t in times)]
    times = [*times, times[-1] + 100, times[-1] + 200, times[-1] + 300]
    known = [(a, b) for a, b in spans if a <= times[-1]]
    reports = [r for r in run(times, known, restarts, losses) if r.complete]
    starts = [r.start_us for r in reports]
    assert starts == sorted({t - t % LENGTH for t in times if t - t % LENGTH + LENGTH + GRACE <= times[-1]})
    for report in reports:
        start, end = report.start_us, report.start_us + LENGTH
        assert report.tally[0] == sum(start <= t < end for t in times)
        (span,) = report.spans
        levels = [sum(a <= t < b for a, b in known) for t in range(start, end)]  # whole units: exact for whole dates
        assert (span.level_min, span.level_max) == (min(levels), max(levels))
        assert span.level_mean == sum(levels) / LENGTH
        assert span.level_end == sum(a < end <= b for a, b in known)  # who comes at the end is the next window's
        ended = [float(b - a) for a, b in known if start <= b < end]
        assert span.counts == {
            k: n for k, n in Counter({0: sum(start <= a < end for a, _ in known), 2: len(ended)}).items() if n
        }
        assert (span.ended_count, span.dwell_sum_s, span.dwell_max_s) == (len(ended), sum(ended), max(ended, default=0))


@bounded(60)
@given(histories(), st.sets(st.integers(0, 60), min_size=1, max_size=6))
def test_a_window_reported_while_open_comes_again_complete_with_a_higher_revision(
    history: tuple[list[int], list[tuple[int, int]]], losses: set[int]
) -> None:
    times, spans = history
    reports = run([*times, times[-1] + 200], spans, set(), losses)
    for start in {r.start_us for r in reports}:
        mine = [r for r in reports if r.start_us == start]
        assert [r.revision for r in mine] == list(range(len(mine)))
        assert not any(r.complete for r in mine[:-1])


def test_what_is_reported_open_changes_nothing_of_the_closed_report() -> None:
    times, spans = list(range(T0, T0 + 60, 3)), [(T0 + 2, T0 + 17), (T0 + 9, T0 + 33)]
    quiet = run([*times, T0 + 200], spans, set(), set())
    loud = [r for r in run([*times, T0 + 200], spans, set(), {3, 4, 9}) if r.complete]
    assert [(r.start_us, r.spans, r.tally) for r in loud] == [(r.start_us, r.spans, r.tally) for r in quiet]


def test_sums_of_no_dwell_are_floats_as_others_are() -> None:
    (report, *_) = run([T0, T0 + 100], [], set(), set())
    assert type(report.spans[0].dwell_sum_s) is float
    assert type(report.spans[0].level_mean) is float


def test_a_date_before_the_oldest_open_window_counts_at_its_start() -> None:
    windows = Windows(LENGTH, GRACE)
    windows.open_at(T0)
    windows.change(KEY, T0 - 500, +1)
    windows.count(KEY, T0 - 500, 0)
    windows.tally(T0, 1)[0] += 1
    (report,) = windows.close(T0 + LENGTH + GRACE)
    assert report.spans[0].level_min == 1
    assert report.spans[0].counts == {0: 1}


def test_at_the_bound_of_changes_dates_are_lost_but_levels_end_right() -> None:
    windows = Windows(LENGTH, GRACE)
    windows.open_at(T0)
    for _ in range(MAX_CHANGES):
        windows.count(KEY, T0, 0)
    windows.change(KEY, T0 + 1, +1)
    windows.change(KEY, T0 + 2, +1)
    windows.tally(T0, 1)
    assert windows.refused == 2
    windows.close(T0 + LENGTH + GRACE)
    windows.change(KEY, T0 + 25, -1)
    windows.change(KEY, T0 + 25, -1)
    windows.tally(T0 + 30, 1)
    windows.tally(T0 + 40, 1)
    assert [r.spans[0].level_max for r in windows.close(T0 + 70)] == [0, 0]


def test_a_jump_of_a_year_closes_in_few_steps() -> None:
    windows = Windows(LENGTH, GRACE)
    windows.open_at(T0)
    windows.declare(KEY)
    windows.tally(T0, 1)
    year = T0 + 10**15
    assert [r.start_us for r in windows.close(year)] == [T0]
    assert year - GRACE - 2 * LENGTH < windows.oldest_us <= year


def test_another_window_length_after_a_restart_starts_on_its_own_grid() -> None:
    old = Windows(10, GRACE)
    old.open_at(T0 + 12)
    for t in (12, 25, 33):
        old.tally(T0 + t, 1)[0] += 1
        old.change(KEY, T0 + t, +1)
    windows = Windows(30, GRACE)
    tallies, data = old.snapshot()
    windows.restore(dict(tallies), data)
    reports = windows.close(T0 + 200)
    assert [r.start_us % 30 for r in reports] == [0] * len(reports)
    assert sum(r.tally[0] for r in reports) == 3
    assert reports[-1].spans[0].level_max == 3
