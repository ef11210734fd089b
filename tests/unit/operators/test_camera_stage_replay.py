"""The camera stage gives the same outputs however its records are repeated, disordered, stored and taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.wire import Figures, Point, decode, encode
from tests.unit.operators.scenes import (
    Prepared,
    alerts_of,
    bounded,
    feed,
    letters_of,
    noisy_scene,
    points_of,
    rich_scene,
    store,
)

SCENES = st.sampled_from([(make, seed) for make in (noisy_scene, rich_scene) for seed in range(4)])
"""Random walks with two rules, and a scene with every capability on: how to make it, and its seed."""
Named = tuple[Callable[[int], Prepared], int]
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

    The first record stays first (it says where the sequence begins) and the last stays last (it closes the windows; a repeat
    that is noticed with it is counted in a window of its own, which nothing closes).
    """
    delays = draw(st.lists(st.integers(0, 6), min_size=len(records), max_size=len(records)))
    keyed = [
        (i + (d if 0 < i < len(records) - 1 else 0), i, r) for i, (d, r) in enumerate(zip(delays, records, strict=True))
    ]
    copies = draw(st.lists(st.tuples(st.integers(0, len(records) - 20), st.integers(0, 50)), max_size=30))
    for i, later in copies:
        after = min(i + delays[i] + later, len(records) - 9) if i else later
        keyed.append((max(after, i), len(records) + i, records[i]._replace(offset=COPY_OFFSET + i)))
    keyed.sort(key=lambda k: (k[0], k[1]) if k[1] != len(records) - 1 else (1 << 60, 0))
    return [r for _, _, r in keyed], len(copies)


@bounded(40)
@given(SCENES, st.data())
def test_repeats_and_disorder_within_the_wait_change_nothing_and_repeats_are_counted(
    named: Named, data: st.DataObject
) -> None:
    scene = named[0](named[1])
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
@given(SCENES, st.data(), st.booleans())
def test_an_object_restored_from_bytes_at_any_record_goes_on_with_the_same_bytes(
    named: Named, data: st.DataObject, snapshot_each: bool
) -> None:
    scene = named[0](named[1])
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


@st.composite
def late(draw: st.DrawFn, records: tuple[Input, ...]) -> list[Input | None]:
    """Draw an order in which a stretch of records comes far too late, and a silence (None) that is noticed somewhere."""
    begin = draw(st.integers(1, len(records) - 40))
    end = begin + draw(st.integers(1, 30))
    back_at = min(end + draw(st.integers(1, 150)), len(records) - 1)
    arrivals: list[Input | None] = [*records[:begin], *records[end:back_at], *records[begin:end], *records[back_at:]]
    arrivals.insert(draw(st.integers(2, len(arrivals) - 1)), None)
    return arrivals


def _take(logic: KeyLogic, arrival: Input | None) -> list[Output]:
    return logic.on_silence() if arrival is None else logic.on_record(arrival)


@bounded(25)
@given(SCENES, st.data())
def test_so_it_is_where_records_come_late_and_a_silence_is_noticed(named: Named, data: st.DataObject) -> None:
    scene = named[0](named[1])
    arrivals = data.draw(late(scene.records))
    restarts = data.draw(st.sets(st.integers(0, len(arrivals) - 1), max_size=12))
    live, expected = scene.fresh(), []
    for arrival in arrivals:
        expected += _take(live, arrival)
    logic, got = scene.fresh(), []
    for i, arrival in enumerate(arrivals):
        got += _take(logic, arrival)
        if i in restarts:
            logic = scene.restored(store(logic))
    assert got == expected
    assert store(logic) == store(live)


@bounded(12)
@given(SCENES, st.data())
def test_a_restored_object_has_the_snapshot_of_the_live_one_ever_after(named: Named, data: st.DataObject) -> None:
    scene = named[0](named[1])
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
@given(SCENES, st.data())
def test_records_since_the_last_checkpoint_give_the_same_outputs_again_after_a_crash(
    named: Named, data: st.DataObject
) -> None:
    scene = named[0](named[1])
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
    assert sizes[-1] < 700 < 1300 < max(sizes)


def test_in_the_rich_scene_every_rule_has_something_to_say_and_every_number_is_one() -> None:
    opened = set()
    for seed in range(3):
        scene = rich_scene(seed)
        out = feed(scene.fresh(), scene.records)
        transitions = alerts_of(out)
        opened |= {t.rule for t in transitions if t.transition == "open"}
        numbers = [x for t in transitions for x in (t.value, t.before, *t.thresholds.values())]
        numbers += [x for p in points_of(out) for x in p.fields.values() if isinstance(x, float)]
        assert all(map(math.isfinite, numbers))
    assert opened >= {r.id for r in rich_scene(0).scene.settings.cameras[0].rules}
