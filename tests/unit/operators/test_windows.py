"""Windows against the whole history: every figure is worked out anew from the list of what happened."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.windows import Report, SlidingReport, Span, Windows, windows
from operators.windows.rows import DWELL_RANKS, SPEED_RANKS
from operators.windows.sketch import ERROR
from operators.windows.windows import MAX_CHANGES
from tests.unit.operators.scenes import bounded

KEY = ("zone", "z", "person")
FLOW = ("flow", "z y", "person")
LENGTH, GRACE = 10, 7
T0 = 1000  # all times in this file are small numbers: windows do not care for units
SLIDING = ((30, 10), (40, 20), (60, 60))


class Visit(NamedTuple):
    """Somebody inside from `a` to `b`, walking at `speed`."""

    a: int
    b: int
    speed: float


class History(NamedTuple):
    times: list[int]  # of frames
    visits: list[Visit]
    late: list[tuple[int, int]]  # (index of the frame with which it comes, how long before that it was captured)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw frame times with gaps, visits whose dates lie no more than GRACE before a frame, and late frames."""
    steps = draw(st.lists(st.one_of(st.integers(1, 6), st.integers(1, 80)), min_size=1, max_size=60))
    times = [T0]
    for step in steps:
        times.append(times[-1] + step)
    spans = draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60), st.integers(0, 3000)), max_size=25))
    visits = [Visit(T0 + a, T0 + a + d, v / 1000) for a, d, v in spans]
    # What begins is noted at a frame and dated before: only dates that cannot fall into a closed window are exact.
    visits = [v for v in visits if any(0 <= t - v.a <= GRACE for t in times)]
    late = draw(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 150)), max_size=8))
    return History([*times, times[-1] + 100, times[-1] + 200, times[-1] + 300], visits, late)


LATENESS = 50


def made() -> Windows:
    return Windows(LENGTH, GRACE, SLIDING, LATENESS, 2)


def restarted(old: Windows) -> Windows:
    """Return another object with the same state, as the shell makes it."""
    new = made()
    tallies, data = old.snapshot()
    new.restore({k: list(v) for k, v in tallies.items()}, data)
    new.restore_archive(old.archive_now())
    assert new.snapshot() == old.snapshot() and new.archive_now() == old.archive_now()
    return new


class Run(NamedTuple):
    reports: list[Report | SlidingReport]
    too_late: list[int]
    taken_late: list[int]
    framed: set[int]  # starts of windows that a frame fell into before they were closed


def run(h: History, restarts: set[int] = frozenset(), losses: set[int] = frozenset()) -> Run:  # type: ignore[assignment]
    """Feed as the stage does: a start is known when it happens, an end up to GRACE later; then windows are closed."""
    windows, out, begun, ended = made(), Run([], [], [], set()), set(), set()
    for n, now in enumerate(h.times):
        windows.open_at(now)
        windows.declare(KEY)
        for i, v in enumerate(h.visits):
            if v.a <= now and i not in begun:
                begun.add(i)
                windows.enter(KEY, v.a, 0)
            if v.b + (i % 5) <= now and i not in ended:
                ended.add(i)
                windows.leave(KEY, v.b, 2, v.b - v.a, v.speed)
                windows.dwell(FLOW, v.b, v.b - v.a)
        windows.tally(now)[0] += 1
        out.framed.add(now - now % LENGTH)
        for at in (now - age for k, age in h.late if k == n):
            if windows.is_too_late(at, now):
                out.too_late.append(at)
                continue
            out.taken_late.append(at)
            if windows.is_open(at):
                out.framed.add(at - at % LENGTH)
            report = windows.amend(at, [1, 1])
            out.reports.extend([report] if report else [])
        if n in losses:
            out.reports.extend(windows.report_open())
        out.reports.extend(windows.close(now))
        if n in restarts:
            windows = restarted(windows)
    return out


def expected(h: History, start: int, length: int) -> dict[str, object]:
    """Work out one window of KEY from the history: whole units of time, so levels can be looked at one by one."""
    end = start + length
    visits = [v for v in h.visits if v.a <= h.times[-1]]
    levels = [sum(v.a <= t < v.b for v in visits) for t in range(start, end)]
    ended = [v for v in visits if start <= v.b < end]
    came = sum(start <= v.a < end for v in visits)
    counts = Counter({0: came, 2: len(ended)})
    return {
        "level_min": min(levels), "level_max": max(levels), "level_mean": sum(levels) / length,
        "level_end": sum(v.a < end <= v.b for v in visits),  # who comes at the end is the next window's
        "seen_count": came + sum(v.a < start <= v.b for v in visits),
        "counts": {k: n for k, n in counts.items() if n},
        "ended_count": len(ended), "speed_count": len(ended),
        "dwell_sum_s": pytest.approx(sum(v.b - v.a for v in ended) * 1e-6),
        "dwell_max_s": pytest.approx(max((v.b - v.a for v in ended), default=0) * 1e-6),
        "speed_mean_mps": pytest.approx(sum(v.speed for v in ended) / max(1, len(ended))),
        "speed_max_mps": pytest.approx(max((v.speed for v in ended), default=0.0)),
        "dwell_s": _near([(v.b - v.a) * 1e-6 for v in ended], DWELL_RANKS),
        "speed_mps": _near([v.speed for v in ended], SPEED_RANKS),
    }  # fmt: skip


def _near(values: Sequence[float], ranks: Sequence[float]) -> object:
    exact = [sorted(values)[math.floor(q * (len(values) - 1))] if values else 0.0 for q in ranks]
    return pytest.approx(exact, rel=ERROR * 1.0001, abs=1e-12)


def check(span: Span, want: dict[str, object]) -> None:
    for name, value in want.items():
        assert getattr(span, name) == value, (name, span, want)


RESTARTS = st.sets(st.integers(0, 60), max_size=4)


@bounded(120)
@given(histories(), RESTARTS, RESTARTS)
def test_closed_windows_equal_what_the_whole_history_says(h: History, restarts: set[int], losses: set[int]) -> None:
    out = run(h, restarts, losses)
    last_us = h.times[-1]
    reports = [r for r in out.reports if isinstance(r, Report) and r.complete and r.spans is not None]
    assert [r.start_us for r in reports] == sorted(a for a in out.framed if a + LENGTH + GRACE <= last_us)
    for report in reports:
        assert report.spans is not None
        start = report.start_us
        flows = [s for s in report.spans if s.key == FLOW]
        (span,) = (s for s in report.spans if s.key == KEY)
        want = expected(h, start, LENGTH)
        check(span, want)
        assert [(s.ended_count, s.dwell_sum_s) for s in flows] == (
            [(want["ended_count"], want["dwell_sum_s"])] if flows else []
        )
        assert bool(flows) == bool(want["ended_count"])


@bounded(120)
@given(histories(), RESTARTS, RESTARTS)
def test_sliding_windows_equal_what_the_whole_history_says(h: History, restarts: set[int], losses: set[int]) -> None:
    out = run(h, restarts, losses)
    reports = [r for r in out.reports if isinstance(r, SlidingReport)]
    closed_to = max((t - GRACE) // LENGTH * LENGTH for t in h.times)
    for length, step in SLIDING:
        final = [
            r for r in reports if r.length_us == length and _is_last(r, reports) and r.start_us + length <= closed_to
        ]
        starts = {
            a
            for t in out.framed
            for a in range((t - length) // step * step, t + 1, step)
            if a <= t < a + length and T0 - T0 % LENGTH < a + length <= closed_to
        }
        assert {r.start_us for r in final} == starts
        for report in final:
            # What reaches back before the first frame is never whole.
            assert report.complete == (report.start_us >= T0 - T0 % LENGTH)
            want = expected(h, report.start_us, length)
            mine = [s for s in report.spans if s.key == KEY]
            assert FLOW not in [s.key for s in report.spans]
            if mine:
                check(mine[0], want)
            else:
                assert (want["level_max"], want["counts"], want["seen_count"]) == (0, {}, 0)


def _is_last(report: SlidingReport, reports: Sequence[SlidingReport]) -> bool:
    return all(
        r.revision <= report.revision
        for r in reports
        if (r.start_us, r.length_us) == (report.start_us, report.length_us)
    )


@bounded(80)
@given(histories(), st.sets(st.integers(0, 60), min_size=1, max_size=6))
def test_what_is_reported_again_comes_with_the_next_revision_and_restarts_change_nothing(
    h: History, losses: set[int]
) -> None:
    out = run(h, set(), losses)
    assert run(h, {n for n, _ in enumerate(h.times)}, losses) == out
    groups: dict[tuple[int, int], list[Report | SlidingReport]] = {}
    for r in out.reports:
        groups.setdefault((r.start_us, r.length_us if isinstance(r, SlidingReport) else LENGTH), []).append(r)
    for (start, length), mine in groups.items():
        assert [r.revision for r in mine if not isinstance(r, Report) or length == LENGTH] == list(range(len(mine)))
        if start >= T0 - T0 % LENGTH:
            whole = [r.complete for r in mine]
            assert whole == sorted(whole)  # never incomplete again once it was complete


@bounded(100)
@given(histories(), RESTARTS, RESTARTS)
def test_late_frames_are_counted_in_their_windows_or_refused(h: History, restarts: set[int], losses: set[int]) -> None:
    out = run(h, restarts, losses)
    assert len(out.taken_late) + len(out.too_late) == sum(n < len(h.times) for n, _ in h.late)
    last: dict[int, Report] = {r.start_us: r for r in out.reports if isinstance(r, Report)}
    frames = Counter(t - t % LENGTH for t in [*h.times, *out.taken_late])
    late = Counter(t - t % LENGTH for t in out.taken_late)
    for start, report in last.items():
        if report.complete:
            assert report.tally == [frames[start], late[start]]
    assert {t - t % LENGTH for t in out.taken_late} <= set(last) | {t - t % LENGTH for t in h.times[-1:]}
    first = T0 - T0 % LENGTH
    for n, age in h.late:
        if n < len(h.times):
            at, now = h.times[n] - age, h.times[n]
            start = at - at % LENGTH
            assert (at in out.taken_late) or start < first or start + LENGTH + LATENESS <= now


def test_what_is_reported_open_changes_nothing_of_the_closed_report() -> None:
    h = History(list(range(T0, T0 + 60, 3)), [Visit(T0 + 2, T0 + 17, 1.0), Visit(T0 + 9, T0 + 33, 2.0)], [])
    h = h._replace(times=[*h.times, T0 + 200])
    quiet = run(h)
    loud = [r for r in run(h, set(), {3, 4, 9}).reports if isinstance(r, Report) and r.complete]
    assert [(r.start_us, r.spans, r.tally) for r in loud] == [
        (r.start_us, r.spans, r.tally) for r in quiet.reports if isinstance(r, Report)
    ]


def test_figures_of_nothing_are_of_the_types_of_figures_of_something() -> None:
    nothing = run(History([T0, T0 + 100], [], [])).reports[0]
    something = run(History([T0, T0 + 5, T0 + 100], [Visit(T0, T0 + 1, 1.0)], [])).reports[0]
    assert isinstance(nothing, Report) and isinstance(something, Report)
    assert nothing.spans is not None and something.spans is not None
    kinds = [
        [type(x) for x in itertools.chain(s, s.dwell_s, s.speed_mps)] for s in (nothing.spans[0], something.spans[-1])
    ]
    assert kinds[0] == kinds[1]


def only(reports: Sequence[Report | SlidingReport]) -> list[Report]:
    return [r for r in reports if isinstance(r, Report)]


def span_of(report: Report) -> Span:
    assert report.spans is not None
    return report.spans[0]


def test_a_date_before_the_oldest_open_window_counts_at_its_start() -> None:
    w = Windows(LENGTH, GRACE)
    w.open_at(T0)
    w.change(KEY, T0 - 500, +1)
    w.count(KEY, T0 - 500, 0)
    w.tally(T0)[0] += 1
    (report,) = only(w.close(T0 + LENGTH + GRACE))
    assert span_of(report).level_min == 1
    assert span_of(report).counts == {0: 1}


def test_at_the_bound_of_changes_dates_are_lost_but_levels_end_right() -> None:
    w = Windows(LENGTH, GRACE)
    w.open_at(T0)
    for _ in range(MAX_CHANGES):
        w.count(KEY, T0, 0)
    w.change(KEY, T0 + 1, +1)
    w.change(KEY, T0 + 2, +1)
    w.tally(T0)
    assert w.refused == 2
    w.close(T0 + LENGTH + GRACE)
    w.change(KEY, T0 + 25, -1)
    w.change(KEY, T0 + 25, -1)
    w.tally(T0 + 30)
    w.tally(T0 + 40)
    assert [span_of(r).level_max for r in only(w.close(T0 + 70))] == [0, 0]


def test_a_jump_of_a_year_closes_in_few_steps_even_with_somebody_inside() -> None:
    w = made()
    w.open_at(T0)
    w.declare(KEY)
    w.change(KEY, T0 + 3, +1)
    w.tally(T0)
    year = T0 + 10**15
    reports = w.close(year)
    assert [r.start_us for r in only(reports)] == [T0]
    assert year - GRACE - 2 * LENGTH < w.oldest_us <= year
    assert max(r.start_us for r in reports) < T0 + LENGTH
    w.tally(year)
    later = max(r for r in w.close(year + 60) if isinstance(r, SlidingReport) and r.length_us == 30 and r.complete)
    assert (later.spans[0].level_min, later.spans[0].level_mean) == (1, 1.0)


def test_the_archive_is_stored_anew_when_the_cameras_time_begins() -> None:
    w = made()
    assert w.archive() is not None and w.archive() is None
    w.open_at(T0)  # records that were refused came first
    assert w.archive() == w.archive_now()


def test_sliding_windows_are_reported_open_in_few_steps_over_a_jump_of_years() -> None:
    second_us = 1_000_000
    start_us, later_us = 1_700_000_000 * second_us, 2_400_000_000 * second_us
    w = Windows(second_us, 10 * second_us, ((3 * second_us, second_us),))
    w.open_at(start_us)
    for at_us in (start_us, later_us):
        w.tally(at_us)[0] += 1
    starts = [(r.start_us - start_us) // second_us for r in w.report_open() if isinstance(r, SlidingReport)]
    jump = (later_us - start_us) // second_us
    assert starts == [-2, -1, 0, jump - 2]


def test_another_window_length_after_a_restart_starts_on_its_own_grid_and_amends_nothing_of_the_old() -> None:
    old = Windows(10, GRACE)
    old.open_at(T0 + 12)
    for t in (12, 25, 33):
        old.tally(T0 + t)[0] += 1
        old.change(KEY, T0 + t, +1)
    w = Windows(30, GRACE, (), 1000)
    tallies, data = old.snapshot()
    w.restore(dict(tallies), data)
    w.restore_archive(old.archive_now())
    assert w.is_too_late(T0 - 20, T0 + 40)
    reports = only(w.close(T0 + 200))
    assert [r.start_us % 30 for r in reports] == [0] * len(reports)
    assert sum(r.tally[0] for r in reports) == 3
    assert span_of(reports[-1]).level_max == 3


def test_other_sliding_windows_begin_with_what_happens_from_then_on() -> None:
    old = made()
    for t in range(T0, T0 + 200, 5):
        old.open_at(t)
        old.tally(t)
        old.close(t)
    w = Windows(LENGTH, GRACE, ((30, 10), (50, 10)), LATENESS, 2)
    w.restore(*old.snapshot())
    w.restore_archive(old.archive_now())
    found: dict[int, list[bool]] = {30: [], 50: []}
    for t in range(T0 + 200, T0 + 300, 5):
        w.tally(t)
        for r in w.close(t):
            if isinstance(r, SlidingReport):
                found[r.length_us].append(r.complete)
    assert all(found[30]) and found[50][:5] == [False] * 4 + [True]


def test_steps_are_let_go_at_the_bound_and_their_windows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_NUMBERS", 3 * 200)
    w, complete, size = made(), [], 0
    for t in range(T0, T0 + 1000, 2):
        w.open_at(t)
        w.tally(t)
        for n in range(20):
            w.count(("zone", f"{n}", "person"), t, 0)
        complete += [r.complete for r in w.close(t) if isinstance(r, SlidingReport) and r.length_us == 40]
        size = max(size, len(w.archive_now()))
    assert complete[1:] == [False] * (len(complete) - 1) and len(complete) > 10
    assert size < 20_000


def test_reported_windows_are_forgotten_after_the_lateness_and_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_CLOSED", 3)
    w = Windows(LENGTH, GRACE, (), 1000)
    for t in range(T0, T0 + 100, 2):
        w.open_at(t)
        w.tally(t)[0] += 1
        w.close(t)
    assert [w.is_too_late(T0 + t, T0 + 98) for t in (5, 55, 60, 75)] == [True, True, False, False]
    size = len(w.archive_now())
    for t in range(T0 + 100, T0 + 1000, 2):
        w.tally(t)
        w.close(t)
    assert len(w.archive_now()) <= size + 8


def test_an_archive_is_given_only_when_it_has_changed() -> None:
    w = made()
    w.open_at(T0)
    w.tally(T0)
    assert w.archive() is not None
    assert w.archive() is None
