"""Intake against a slow model, and its named cases."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.intake import Intake, Late, Refused
from operators.intake.intake import MAX_BOOTS, MAX_JUMP, MAX_SKIPPED, MAX_WAITING
from schemas.wire import BadMessage, DetectionFrame, encode
from tests.unit.operators.scenes import START_US, bounded, make_frame

FRAME_US = 100_000


def frame(seq: int, boot: int = 0, at_us: int | None = None) -> DetectionFrame:
    """Return frame `seq` of the `boot`-th start; its time follows from both unless given."""
    at_us = START_US + boot * 1_000_000_000 + seq * FRAME_US if at_us is None else at_us
    return make_frame(seq, at_us, boot=START_US - 5_000_000 + boot)


class Ledger:
    """Feeds an intake and keeps account of what became of each record."""

    def __init__(self) -> None:
        self.intake = Intake()
        self.sent = 0
        self.used: list[tuple[int, int, int]] = []  # boot, seq, capture time
        self.refused: list[str] = []
        self.late: list[tuple[int, int]] = []  # boot, seq

    def send(self, f: DetectionFrame) -> None:
        self.sent += 1
        try:
            self.take(self.intake.accept(f, encode(f), 0, self.sent), f)
        except BadMessage as e:
            self.refused.append(e.reason)

    def take(self, ready: list, f: DetectionFrame | None = None) -> None:  # type: ignore[type-arg]
        from schemas.wire import decode_detections

        for item in ready:
            if isinstance(item, Refused):
                self.refused.append(item.reason)
                continue
            if isinstance(item, Late):
                self.late.append((item.frame.boot, item.frame.seq))
                continue
            g = item.frame or decode_detections(item.raw)
            self.used.append((g.boot, g.seq, g.capture_us))

    def restart(self) -> None:
        old, self.intake = self.intake, Intake()
        self.intake.restore(*old.snapshot())
        assert self.intake.snapshot() == old.snapshot()

    def waiting(self) -> int:
        return self.sent - len(self.used) - len(self.refused) - len(self.late) - self.intake.duplicate_count


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, int, int | None]]:
    """Draw (boot, seq, time or None for the one that fits), near each other so that repeats and gaps are common."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
                st.one_of(st.integers(0, 30), st.integers(0, 3000)),
                st.one_of(
                    st.none(), st.none(), st.none(), st.integers(-200, 400).map(lambda n: START_US + n * FRAME_US)
                ),
            ),
            max_size=120,
        )
    )


@bounded(150)
@given(arrivals(), st.sets(st.integers(0, 119), max_size=5))
def test_every_record_is_used_once_or_counted_and_never_out_of_order(
    sent: list[tuple[int, int, int | None]], restarts: set[int]
) -> None:
    ledger = Ledger()
    for i, (boot, seq, at_us) in enumerate(sent):
        ledger.send(frame(seq, boot, at_us))
        assert 0 <= ledger.waiting() <= MAX_WAITING
        if i in restarts:
            ledger.restart()
    ledger.take(ledger.intake.give_up())
    assert ledger.waiting() == 0
    assert [(b, s) for b, s, _ in ledger.used] == sorted({(b, s) for b, s, _ in ledger.used})
    once = [*ledger.late, *((b, s) for b, s, _ in ledger.used)]
    assert len(set(once)) == len(once)
    times = [t for _, _, t in ledger.used]
    assert all(a < b for a, b in pairwise(times))


@bounded(100)
@given(st.lists(st.integers(0, 40), max_size=120), st.integers(0, 10))
def test_of_one_start_with_true_times_what_is_used_equals_a_naive_model(seqs: list[int], first: int) -> None:
    """The model: sets and loops; a gap is given up when the frames that wait span a second."""
    ledger, used, waiting, late, copies, next_seq = Ledger(), [], set(), [], 0, first
    passed: set[int] = set()
    for seq in [first, *seqs]:
        ledger.send(frame(seq))
        if seq in passed or seq in waiting or seq in late:
            copies += 1
        elif seq < next_seq:
            late.append(seq)
        else:
            waiting.add(seq)
        while waiting and (next_seq in waiting or (max(waiting) - min(waiting)) * FRAME_US >= 1_000_000):
            next_seq = min(waiting)
            waiting.remove(next_seq)
            passed.add(next_seq)
            used.append(next_seq)
            next_seq += 1
    assert [s for _, s, _ in ledger.used] == used
    assert ledger.intake.duplicate_count == copies
    assert [s for _, s in ledger.late] == late
    assert not ledger.refused


def test_frames_in_order_pass_at_once() -> None:
    ledger = Ledger()
    for seq in range(7, 20):
        ledger.send(frame(seq))
        assert ledger.used[-1][1] == seq


def test_a_frame_from_before_the_first_one_ever_is_late_and_no_repeat() -> None:
    ledger = Ledger()
    ledger.send(frame(5))
    ledger.send(frame(4))
    assert [s for _, s in ledger.late] == [4]
    assert ledger.intake.duplicate_count == 0
    ledger.send(frame(4))
    assert [s for _, s in ledger.late] == [4]
    assert ledger.intake.duplicate_count == 1


def test_a_bad_time_does_not_use_up_the_number_of_the_good_frame_and_nobody_waits_for_it() -> None:
    ledger = Ledger()
    ledger.send(frame(0))
    ledger.send(frame(1, at_us=START_US - 1))
    ledger.send(frame(1))
    ledger.send(frame(2, at_us=START_US))
    ledger.send(frame(3))
    assert [s for _, s, _ in ledger.used] == [0, 1, 3]
    assert ledger.refused == ["time_backwards"] * 2
    assert ledger.intake.missing_count == 0
    ledger.send(frame(2))
    assert [s for _, s in ledger.late] == [2]


def test_after_an_hour_of_impossible_times_the_camera_goes_on_without_waiting() -> None:
    ledger = Ledger()
    ledger.send(frame(0))
    last = 36_000
    for seq in range(1, last):
        ledger.send(frame(seq, at_us=START_US - 3_600_000_000 + seq * FRAME_US))
    ledger.send(frame(last, at_us=START_US + 1))
    assert [s for _, s, _ in ledger.used] == [0, last]


def test_frames_that_wait_are_not_lost_when_a_new_start_is_refused() -> None:
    ledger = Ledger()
    ledger.send(frame(0))
    ledger.send(frame(2))
    ledger.send(frame(5_000_000, boot=1, at_us=START_US + 10_000_000))
    assert ledger.refused == ["implausible_sequence"]
    ledger.send(frame(1))
    assert [s for _, s, _ in ledger.used] == [0, 1, 2]


def test_a_new_start_hands_out_what_waits_and_begins_at_nought() -> None:
    ledger = Ledger()
    for f in (frame(0), frame(2), frame(0, 1), frame(1, 1), frame(1)):
        ledger.send(f)
    assert [(b - START_US + 5_000_000, s) for b, s, _ in ledger.used] == [(0, 0), (0, 2), (1, 0), (1, 1)]
    assert [s for _, s in ledger.late] == [1]


def test_a_gap_given_up_is_counted_and_its_frames_come_late() -> None:
    ledger = Ledger()
    for seq in [0, *range(4, 15)]:
        ledger.send(frame(seq))
    assert [s for _, s, _ in ledger.used] == [0, *range(4, 15)]
    assert ledger.intake.missing_count == 3
    ledger.send(frame(2))
    ledger.restart()
    ledger.send(frame(2))
    assert [s for _, s in ledger.late] == [2]
    assert ledger.intake.duplicate_count == 1


@pytest.mark.parametrize(("jump", "refused"), [(MAX_JUMP, []), (MAX_JUMP + 1000, ["implausible_sequence"])])
def test_a_number_too_far_ahead_is_refused(jump: int, refused: list[str]) -> None:
    ledger = Ledger()
    ledger.send(frame(0))
    ledger.send(frame(jump, at_us=START_US + FRAME_US))
    assert ledger.refused == refused


def test_memory_is_bounded_whatever_gaps_and_starts_come() -> None:
    ledger = Ledger()
    for boot in range(3 * MAX_BOOTS):
        for seq in range(0, 6 * MAX_SKIPPED, 2):
            ledger.send(frame(seq, boot))
        ledger.take(ledger.intake.give_up())
    assert len(ledger.intake.snapshot()[1]) < 20_000
    ledger.send(frame(1, 3 * MAX_BOOTS - 1))
    assert ledger.refused == ["late_frame"]
    ledger.send(frame(1, 0))
    assert ledger.refused[-1] == "stale_boot"
