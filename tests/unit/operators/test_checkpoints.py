"""A camera stage that is killed at any time goes on from its last checkpoint as if nothing had happened.

The real shell and stage; Flink's part is played by a harness. What counts of a run with kills in it, the outputs up to the last
checkpoint before each and those after, is byte for byte what comes of a run that nobody disturbs, with batches of one record.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.stage import Input, Output
from schemas import topics
from schemas.alert_orders import Acknowledgement, AnyOrder, Mute, order_key
from schemas.live_settings import SettingsMessage
from schemas.settings import Camera, HeatMap, SiteSettings, Zone
from schemas.wire import Point, TrackFrame, decode, encode
from tests.unit.operators.operator_harness import Clock, LiveOperator, Operator, Records, patch_topic
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    alerts_of,
    bounded,
    events_of,
    letters_of,
    make_frame,
    points_of,
    rich_scene,
    to_input,
)
from tests.unit.operators.test_alert_orders import site as site_with
from tests.unit.operators.test_alert_orders import two_rules
from tests.unit.operators.test_live_settings import (
    ALL,
    BASE,
    LEFT,
    OUTPUTS,
    RECORDS,
    VERSIONS,
    camera,
    message,
    site,
    stage_of,
    standing,
)

S = 1_000_000
SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=5)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that stands still."""
    clock = Clock()
    clock.patch(monkeypatch)
    patch_topic(monkeypatch)
    return clock


def of_camera(records: Sequence[Input]) -> Records:
    """Return records with their key."""
    return [(CAMERA, r) for r in records]


def crashes(count: int, longest: int, most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Pairs, in order: a checkpoint before so many records, a kill before so many."""
    pair = st.tuples(st.integers(0, count), st.integers(0, longest)).map(lambda p: (p[0], min(sum(p), count)))
    return st.lists(pair, max_size=most).map(sorted)


# ---- any checkpoint, any kill -------------------------------------------------------------------------------------


@bounded(60)
@given(crashes(len(RECORDS), 50, 6), SIZES, st.data())
def test_killed_at_any_time_while_versions_come_the_bytes_are_the_same(
    pairs: list[tuple[int, int]], sizes: list[int], data: st.DataObject
) -> None:
    """After a restart the topic of settings may hold versions that the records were first worked on without."""
    times = [decode(v.value or b"", SettingsMessage).from_us for _, v in VERSIONS]
    latest = [next(i for i, r in enumerate(RECORDS) if r.time_ms * 1000 >= t) for t in times]
    arrivals = list(itertools.accumulate((data.draw(st.integers(0, i)) for i in latest), max))
    task = LiveOperator([BASE], of_camera(RECORDS), sizes)
    for version, at in zip(VERSIONS, arrivals, strict=True):
        task.arrivals.setdefault(at, []).append(version)
    for saved, killed in pairs:
        task.run_to(saved)
        task.checkpoint()
        task.run_to(killed)
        task.topic += VERSIONS[len(task.topic) : data.draw(st.integers(len(task.topic), len(VERSIONS)))]
        task.kill()
    assert task.run([]) == [o for out in OUTPUTS for o in out]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", [[1], [7], [64], [3, 1, 20, 64, 2]])
def test_killed_all_the_time_in_a_scene_with_everything_in_it_the_bytes_are_the_same(
    seed: int, sizes: list[int]
) -> None:
    prepared, n = rich_scene(seed), len(rich_scene(seed).records)
    plain = stage_of(prepared.scene.settings).logic(CAMERA)
    expected = [o for r in prepared.records for o in plain.on_record(r)]
    rng = np.random.default_rng([seed, *sizes])
    pairs = [(at, min(at + int(rng.integers(0, 60)), n)) for at in range(0, n, 5)]
    assert LiveOperator([prepared.scene.settings], of_camera(prepared.records), sizes).run(pairs) == expected


@bounded(40)
@given(crashes(150, 60, 5), SIZES)
def test_cameras_that_share_a_task_and_its_batches_are_each_as_if_alone(
    pairs: list[tuple[int, int]], sizes: list[int]
) -> None:
    """With strangers among them, whose records are refused."""
    names = ("a", "b", "c")
    settings = site(*(camera(id=name) for name in names))
    source: list[tuple[str, Input]] = []
    for i in range(30):
        for n, name in enumerate((*names, "nobody", "x")):
            box = (0.1 + 0.02 * n + 0.01 * i, 0.4, 0.2 + 0.02 * n + 0.01 * i, 0.8)
            source.append((name, to_input(make_frame(i, START_US + i * 100_000, [box], camera=name), i)))
    stage = stage_of(settings)
    logics = {name: stage.logic(name) for name, _ in source}
    expected = [o for name, r in source for o in logics[name].on_record(r)]
    task = LiveOperator([settings], source, sizes)
    assert task.run(pairs) == expected
    assert task.state.keys() == set(names)


@pytest.mark.parametrize("seed", range(12))
def test_orders_that_come_late_do_not_change_what_was_worked_on_before_the_checkpoint(seed: int) -> None:
    """An order holds from its time, but for frames that were worked on before it came; a restart must not forget that.

    What was worked on since the checkpoint does not count: an order that came meanwhile came right after the checkpoint.
    """
    rng = np.random.default_rng(seed)
    opened = {t.rule: t.alert_id for t in alerts_of(_with_orders([], []))}
    orders: list[tuple[int, AnyOrder]] = []
    for at in sorted(rng.integers(5, 95, 8).tolist()):
        from_us = START_US + (at - int(rng.integers(0, 30))) * 100_000
        name = str(rng.choice(["crowd", "in"]))
        orders.append(
            (at, Mute(site="s", camera=CAMERA, rule=name, from_us=from_us, until_us=from_us + 2 * S, sent_us=START_US))
            if rng.random() < 0.7
            else (at, Acknowledgement(site="s", alert_id=opened[name], from_us=from_us, sent_us=START_US, author="ann"))
        )
    saved = [*rng.integers(0, 100, 6).tolist(), *(at + int(rng.integers(-1, 2)) for at, _ in orders)]
    pairs = [(at, min(at + int(rng.integers(0, 12)), 100)) for at in sorted(saved)]
    came = [(min([at, *(s for s, killed in pairs if s <= at <= killed)]), order) for at, order in orders]
    for sizes in ([1], [64], [3, 11]):
        assert _with_orders(orders, pairs, sizes) == _with_orders(came, [])
    assert _with_orders(orders, []) != _with_orders([], [])


def _with_orders(
    orders: Sequence[tuple[int, AnyOrder]], pairs: Sequence[tuple[int, int]], sizes: Sequence[int] = (1,)
) -> list[Output]:
    """Ten seconds of one object. Orders that come with the record before which a kill is are on the topic after it."""
    task = LiveOperator([site_with(rules=two_rules(0.5, 0.4))], of_camera(standing(100)), sizes)
    records = [(at, (order_key(o), Input(encode(o), 0, n, START_US // 1000))) for n, (at, o) in enumerate(orders)]
    for at, record in records:
        task.arrivals.setdefault(at, []).append(record)
    for saved, killed in pairs:
        task.run_to(saved)
        task.checkpoint()
        task.run_to(killed)
        task.topic += [record for at, record in records if at <= killed and record not in task.topic]
        task.kill()
    return task.run([])


# ---- silence ------------------------------------------------------------------------------------------------------


def wait(task: Operator, clock: Clock, ms: int) -> list[Output]:
    """Let time pass; return what is said of it."""
    out: list[Output] = []
    for _ in range(ms // task.shell.tick_ms):
        clock.go_on(task.shell.tick_ms)
        out += task.tick(clock.now_ms)
    return out


@pytest.mark.parametrize("told_before", [False, True])
@pytest.mark.parametrize("sizes", [[1], [64]])
def test_a_silence_is_told_once_whether_the_checkpoint_or_the_kill_comes_between(
    clock: Clock, told_before: bool, sizes: list[int]
) -> None:
    source = of_camera([*standing(20), *standing(20, 320)])
    undisturbed = LiveOperator([site(camera())], source)
    undisturbed.run_to(20)
    wait(undisturbed, clock, 20_000)
    expected = undisturbed.run([])
    task = LiveOperator([site(camera())], source, sizes)
    task.run_to(20)
    if told_before:
        assert [e.kind for e in events_of(wait(task, clock, 20_000))][-1] == "source_lost"
    task.checkpoint()
    if not told_before:
        assert [e.kind for e in events_of(wait(task, clock, 20_000))][-1] == "source_lost"
    task.kill()
    assert bool(wait(task, clock, 20_000)) == (not told_before)
    assert task.run([]) == expected
    by_frame = LiveOperator([site(camera())], source).run([])
    assert (events_of(by_frame), alerts_of(by_frame)) == (events_of(expected), alerts_of(expected))
    assert [e.kind for e in events_of(expected)].count("source_lost") == 1


def test_a_silence_belongs_to_the_state(clock: Clock) -> None:
    task = LiveOperator([site(camera())], of_camera([*standing(20), *standing(3, 20)]))
    task.run_to(20)
    wait(task, clock, 20_000)
    task.checkpoint()
    task.kill()
    task.run_to(23)
    assert next(e.kind for e in events_of(task.pending)) == "source_back"


# ---- other settings at submit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [10, 17, 25, 40])
@pytest.mark.parametrize("more", [0, 13])
def test_a_zone_that_comes_and_one_that_goes_with_a_restart_begin_and_end_with_their_events(
    saved: int, more: int
) -> None:
    old, new = (
        site(camera(zones=zones, rules=(), tripwires=()))
        for zones in ((Zone(id="old", polygon=ALL),), (Zone(id="new", polygon=LEFT),))
    )
    task = LiveOperator([old], of_camera(standing(60)), [8])
    task.run_to(saved)
    task.checkpoint()
    before = list(task.counted)
    task.run_to(saved + more)
    task.submit([new])
    after = task.run([])[len(before) :]
    assert [(e.kind, e.zone) for e in events_of(before) if e.zone] == [("enter", "old")]
    said = [(e.kind, e.zone, e.reason, e.at_us) for e in events_of(after) if e.zone]
    assert said == [
        ("exit", "old", "settings", START_US + (saved - 1) * 100_000),
        ("enter", "new", "", START_US + saved * 100_000),
    ]


@pytest.mark.parametrize("saved", [1, 20, 33, 34])
def test_a_camera_whose_site_has_another_name_after_a_restart_goes_on_under_it(saved: int) -> None:
    old, new = site(camera(rules=())), site(camera(rules=()), name="t")
    box = (0.2, 0.4, 0.3, 0.8)
    renamed = [to_input(make_frame(i, START_US + i * 100_000, [box], site="t"), i) for i in range(saved, saved + 40)]
    task = LiveOperator([old], of_camera([*standing(saved), *renamed]), [5])
    task.run_to(saved)
    task.checkpoint()
    for at in (saved, saved + 20):
        task.submit([new])
        assert task.checkpoint() == set(), "nothing has come: the state is that of the old site"
        task.submit([new])
        task.run_to(at + 20)
        task.flush()
        out = list(task.pending)
        assert {o.topic for o in out} >= {topics.TRACKS} and not letters_of(out)
        assert len([o for o in out if o.topic == topics.TRACKS]) == 20
        task.checkpoint()
    assert not [e for e in events_of(out) if e.kind in ("enter", "track_end")], "who was there is the same object"


@pytest.mark.parametrize("refused_count", [0, 3])
@pytest.mark.parametrize("restart_count", [0, 2])
def test_a_camera_that_is_named_again_after_it_was_unknown_goes_on_where_it_was(
    clock: Clock, refused_count: int, restart_count: int
) -> None:
    records = [*standing(20), *standing(40, 20 + refused_count)]
    task = LiveOperator([site(camera())], of_camera(records))
    task.run_to(20)
    task.checkpoint()
    stored = task.state[CAMERA]
    known = ids_of(task.counted)
    task.submit([site()])
    for record in standing(refused_count, 20):
        task.send(CAMERA, record)
    assert [x.reason for x in letters_of(task.pending)] == ["unknown_camera"] * refused_count
    wait(task, clock, 60_000)
    for _ in range(restart_count):
        assert task.checkpoint() == set()
        task.kill()
    assert task.state[CAMERA] == stored
    task.checkpoint()
    task.tell(*message(site(camera()), 1, START_US))
    task.run_to(60)
    assert not letters_of(task.pending)
    assert len([o for o in task.pending if o.topic == topics.TRACKS]) == 40
    assert ids_of(task.pending) == known
    assert task.checkpoint() == {CAMERA}
    assert task.state[CAMERA] != stored


def ids_of(out: Sequence[Output]) -> set[int]:
    """Return the objects of the last track frame."""
    frames = [decode(o.value, TrackFrame) for o in out if o.topic == topics.TRACKS]
    return {int(i) for i in np.frombuffer(frames[-1].ordinals, "<u4")}


def test_a_camera_that_is_taken_out_while_it_runs_goes_on_when_it_is_named_again(clock: Clock) -> None:
    """Its logic stays; after a kill it is made again, and says the same."""
    versions = [message(site(), 1, START_US + 2 * S, 0), message(site(camera()), 2, START_US + 4 * S, 1)]
    source = of_camera(standing(60))
    undisturbed = LiveOperator([site(camera())], source, topic=versions).run([])
    assert {x.reason for x in letters_of(undisturbed)} == {"unknown_camera"}
    for pairs in ([(15, 30)], [(25, 35), (25, 26), (30, 50)], [(40, 41), (45, 60)]):
        for sizes in ([1], [13], [64]):
            task = LiveOperator([site(camera())], source, sizes)
            task.arrivals = {18: [versions[0]], 33: [versions[1]]}
            assert task.run(pairs) == undisturbed


@pytest.mark.parametrize(
    ("saved", "killed"), [(202, 202), (202, 2101), (2101, 2140), (2121, 2121), (2150, 2155), (2151, 2290)]
)
def test_a_heat_map_is_the_same_with_a_kill_while_the_camera_is_absent(saved: int, killed: int) -> None:
    """Longer periods before, other ones after: both hang on the last frame's time, which an absent camera has no track of."""
    begin_us = (START_US // (300 * S) + 1) * 300 * S
    long, short = HeatMap(report_s=300.0), HeatMap(report_s=60.0)
    edits = [(205, short), (210, None), (215, short)]
    out = _heat(begin_us, long, edits, [])
    assert out and _heat(begin_us, long, edits, [(saved, killed)]) == out


def test_heat_maps_of_other_cells_after_an_absence_have_times_of_their_own() -> None:
    begin_us = (START_US // (300 * S) + 1) * 300 * S
    wide, narrow = HeatMap(columns=62, rows=23), HeatMap(columns=17, rows=10)
    points = _heat(begin_us, wide, [(20, None), (22, narrow)], [], 500)
    assert len({p.at_ns // 1_000_000 for p in points}) == 2


def _heat(
    begin_us: int,
    first: HeatMap,
    edits: Sequence[tuple[int, HeatMap | None]],
    pairs: Sequence[tuple[int, int]],
    count: int = 2300,
) -> list[Point]:
    """Return the points of the heat map of one object that stands there, under versions from so many seconds on."""

    def with_map(heat_map: HeatMap | None) -> SiteSettings:
        return site(Camera(id=CAMERA, heat_map=heat_map)) if heat_map else site()

    frames = [
        make_frame(i, begin_us + i * 100_000, [(0.2, 0.4, 0.3, 0.8)])
        for i in [*range(count), count + 900, count + 1000]
    ]
    source = of_camera([to_input(f, f.seq) for f in frames])
    versions = [message(with_map(then), n + 1, begin_us + at_s * S, n) for n, (at_s, then) in enumerate(edits)]
    out = LiveOperator([with_map(first)], source, [64] if pairs else [1], versions).run(pairs)
    return [p for p in points_of(out) if p.measurement == "heat_map"]


# ---- what is stored -----------------------------------------------------------------------------------------------


def test_a_checkpoint_stores_what_has_changed_and_no_more() -> None:
    task = LiveOperator([site(camera())], of_camera(standing(200)))

    def stored(count: int) -> list[Any]:
        task.run_to(task.position + count)
        return task.shell.changed_states()

    (key, *parts) = stored(20)
    assert key == CAMERA and all(parts)
    assert stored(0) == []
    (_, snapshot, archive, terms) = stored(20)
    assert snapshot and archive is None and terms is None, "no window was closed, no settings have come"
    task.tell(*message(site(camera(rules=())), 1, START_US + 5 * S))
    assert stored(5)[3] is not None, "frames have asked for the settings"
    assert stored(10)[3] is not None, "the version holds"
    assert stored(10)[3] is None


def test_a_state_does_not_grow_with_the_records_since_a_checkpoint() -> None:
    sizes = []
    for more in (1, 50, 500):
        task = LiveOperator([site(camera())], of_camera(standing(550)), [64])
        task.run_to(50)
        task.checkpoint()
        task.run_to(50 + more)
        task.checkpoint()
        sizes.append(sum(len(part or b"") for part in task.state[CAMERA]))
    assert max(sizes) < sizes[0] + 500
