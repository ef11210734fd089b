"""The camera stage gives the same outputs however its records are repeated, disordered, stored and taken up again."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.wire import Figures, Point, decode, encode
from tests.unit.operators.scenes import bounded, feed, letters_of, noisy_scene, points_of, store

SEEDS = st.integers(0, 5)
COPY_OFFSET = 1_000_000  # offsets of repeats: were one of them used, outputs would name it


def without_duplicate_counts(outputs: list[Output]) -> list[Output]:
    """Set the one figure to 0 that may differ: how many repeats came in."""
    return [_without_duplicate_counts(o) if o.topic == topics.FIGURES else o for o in outputs]


def _without_duplicate_counts(output: Output) -> Output:
    figures = decode(output.value, Figures)
    points = tuple(
        Point(p.measurement, p.tags, p.at_ns, {**p.fields, "duplicate_count": 0})
        if p.measurement == "camera_window"
        else p
        for p in figures.points
    )
    return Output(output.topic, output.key, encode(msgspec.structs.replace(figures, points=points)))


def counted(outputs: list[Output], field: str) -> int:
    return sum(int(p.fields[field]) for p in points_of(outputs) if p.measurement == "camera_window")


@st.composite
def disturbed(draw: st.DrawFn, records: tuple[Input, ...]) -> tuple[list[Input], int]:
    """Draw an order in which every record is delayed by up to six others, and repeats that come at any later time.

    The first record stays first (it says where the sequence begins) and the last stays last (it closes the windows).
    """
    delays = draw(st.lists(st.integers(0, 6), min_size=len(records), max_size=len(records)))
    keyed = [
        (i + (d if 0 < i < len(records) - 1 else 0), i, r) for i, (d, r) in enumerate(zip(delays, records, strict=True))
    ]
    copies = draw(st.lists(st.tuples(st.integers(0, len(records) - 2), st.integers(0, 50)), max_size=30))
    for i, later in copies:
        after = min(i + delays[i] + later, len(records) - 2) if i else later
        keyed.append((max(after, i), len(records) + i, records[i]._replace(offset=COPY_OFFSET + i)))
    keyed.sort(key=lambda k: (k[0], k[1]) if k[1] != len(records) - 1 else (1 << 60, 0))
    return [r for _, _, r in keyed], len(copies)


@bounded(40)
@given(SEEDS, st.data())
def test_repeats_and_disorder_within_the_wait_change_nothing_and_repeats_are_counted(
    seed: int, data: st.DataObject
) -> None:
    scene = noisy_scene(seed)
    records = scene.records
    expected = feed(scene.fresh(), records)
    arrivals, copy_count = data.draw(disturbed(records))
    logic = scene.fresh()
    got = feed(logic, arrivals)
    assert not letters_of(got)
    assert without_duplicate_counts(got) == without_duplicate_counts(expected)
    assert counted(got, "duplicate_count") == copy_count
    assert counted(got, "missing_count") == 0


@bounded(40)
@given(SEEDS, st.data(), st.booleans())
def test_an_object_restored_from_bytes_at_any_record_goes_on_with_the_same_bytes(
    seed: int, data: st.DataObject, snapshot_each: bool
) -> None:
    scene = noisy_scene(seed)
    arrivals, _ = data.draw(disturbed(scene.records))
    restarts = data.draw(st.sets(st.integers(0, len(arrivals) - 1), max_size=12))
    expected = feed(scene.fresh(), arrivals)
    logic, got = scene.fresh(), []
    for i, record in enumerate(arrivals):
        got += logic.on_record(record)
        if i in restarts:
            logic = scene.restored(store(logic))
        elif snapshot_each:
            logic.snapshot()
    assert got == expected


@bounded(12)
@given(SEEDS, st.data())
def test_a_restored_object_has_the_snapshot_of_the_live_one_ever_after(seed: int, data: st.DataObject) -> None:
    scene = noisy_scene(seed)
    arrivals, _ = data.draw(disturbed(scene.records))
    at = data.draw(st.integers(0, len(arrivals) - 1))
    live = scene.fresh()
    feed(live, arrivals[: at + 1])
    other = scene.restored(store(live))
    assert store(other) == store(live)
    for record in arrivals[at + 1 :]:
        assert other.on_record(record) == live.on_record(record)
        assert store(other) == store(live)


@bounded(20)
@given(SEEDS, st.data())
def test_records_since_the_last_checkpoint_give_the_same_outputs_again_after_a_crash(
    seed: int, data: st.DataObject
) -> None:
    scene = noisy_scene(seed)
    records = scene.records
    expected = [tuple(fresh_out) for fresh_out in _by_record(scene.fresh(), records)]
    logic, at, checkpoint, stored = scene.fresh(), 0, 0, None
    crashes = sorted(data.draw(st.sets(st.integers(1, len(records) - 1), max_size=5)))
    checkpoint_every = data.draw(st.integers(1, 60))
    while at < len(records):
        if crashes and at == crashes[0]:
            crashes.pop(0)
            logic, at = (scene.restored(stored), checkpoint) if stored else (scene.fresh(), 0)
        assert tuple(logic.on_record(records[at])) == expected[at]
        at += 1
        if at % checkpoint_every == 0:
            checkpoint, stored = at, store(logic)


def _by_record(logic: KeyLogic, records: tuple[Input, ...]) -> list[list[Output]]:
    return [logic.on_record(r) for r in records]


def test_state_shrinks_to_little_once_everybody_has_left() -> None:
    scene = noisy_scene(0)
    logic = scene.fresh()
    sizes = []
    for record in scene.records:
        logic.on_record(record)
        sizes.append(len(logic.snapshot() or b""))
    assert sizes[-1] < 1500 < max(sizes)
