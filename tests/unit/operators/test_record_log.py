"""A task that is killed after any record goes on as if nothing had happened: snapshot and log together are the state.

The real shell and stage; Flink's part is played by values in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyflink.common import Row

from operators.flink import keyed_shell, record_log
from operators.flink.keyed_shell import KeyedShell
from operators.stages.stage import Input, LiveStage, Output, Stage
from schemas.alert_orders import Acknowledgement, AnyOrder, Mute, order_key
from schemas.live_settings import SettingsMessage
from schemas.rules import Crowding, Escalation, Intrusion
from schemas.settings import Camera, HeatMap, SiteSettings, Zone
from schemas.wire import Point, decode, encode
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


class Value:
    """A value or a list in keyed state, and how often it was written."""

    def __init__(self) -> None:
        self.data: Any = None
        self.writes = 0

    def value(self) -> Any:
        return self.data

    def get(self) -> Any:
        return iter(self.data or [])

    def update(self, data: Any) -> None:
        self.data, self.writes = data, self.writes + 1

    def add(self, item: Any) -> None:
        self.data, self.writes = [*(self.data or []), item], self.writes + 1

    def clear(self) -> None:
        self.data = None


class Task:
    """One key in one task; `kill` leaves of it what its state holds."""

    def __init__(self, stage: Stage) -> None:
        self.state: dict[str, Value] = {}
        self.kill(stage)

    def kill(self, stage: Stage) -> None:
        self.shell = KeyedShell(stage, "test")
        self.shell.open(self)  # type: ignore[arg-type]

    def take(self, record: Input) -> list[Output]:
        self.time_ms = record.time_ms
        rows = self.shell.process_element(Row(record.value, record.partition, record.offset), self)  # type: ignore[arg-type]
        return [Output(*row) for row in rows]

    def held(self) -> int:
        """Bytes of state."""
        return sum(
            len(v.data) if isinstance(v.data, bytes) else sum(map(len, v.data or [])) for v in self.state.values()
        )

    # ---- what the shell asks of Flink ----

    get_metrics_group = timer_service = lambda self: self
    _runtime_context = None

    def get_state(self, descriptor: Any) -> Value:
        return self.state.setdefault(descriptor.name, Value())

    get_list_state = get_state

    def counter(self, name: str) -> Task:
        return self

    def inc(self, n: int) -> None: ...

    def get_current_key(self) -> str:
        return CAMERA

    def timestamp(self) -> int:
        return self.time_ms

    def register_processing_time_timer(self, at_ms: int) -> None: ...


@pytest.fixture(autouse=True)
def _open_stages_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of these tests are open when a shell gets them: what they were told before must not be lost."""
    monkeypatch.setattr(KeyedShell, "_begin", _begin)


def _begin(self: KeyedShell, runtime_context: Any) -> None:
    self._dead_letters = runtime_context.get_metrics_group().counter("letters")


# ---- any cut ------------------------------------------------------------------------------------------------------


@bounded(60)
@given(st.lists(st.integers(0, len(RECORDS) - 1), max_size=8), st.data())
def test_killed_at_any_record_while_versions_come_the_bytes_are_the_same(cuts: list[int], data: st.DataObject) -> None:
    """At a restart the topic of settings may hold versions that the records in the log were worked on without."""
    times = [decode(v.value or b"", SettingsMessage).from_us for _, v in VERSIONS]
    latest = [next(i for i, r in enumerate(RECORDS) if r.time_ms * 1000 >= t) for t in times]
    arrivals = list(itertools.accumulate((data.draw(st.integers(0, i)) for i in latest), max))
    stage = stage_of(BASE)
    task = Task(stage)
    for i, record in enumerate(RECORDS):
        for version, at in zip(VERSIONS, arrivals, strict=True):
            if at == i:
                stage.on_settings(*version)
        assert task.take(record) == OUTPUTS[i], i
        if i in cuts:
            stage = stage_of(BASE)
            came = sum(at <= i for at in arrivals)
            for version in VERSIONS[: data.draw(st.integers(came, len(VERSIONS)))]:
                stage.on_settings(*version)
            task.kill(stage)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_every_fifth_record_of_a_scene_with_everything_in_it_the_bytes_are_the_same(seed: int) -> None:
    prepared = rich_scene(seed)
    plain = stage_of(prepared.scene.settings).logic(CAMERA)
    task = Task(stage_of(prepared.scene.settings))
    for i, record in enumerate(prepared.records):
        assert task.take(record) == plain.on_record(record), i
        if i % 5 == 0:
            task.kill(stage_of(prepared.scene.settings))


def _site(**changes: Any) -> SiteSettings:
    rules = (
        Crowding(
            id="crowd", zone="all", count=1, hold_s=0.0, update_s=0.5,
            escalate=(Escalation(after_s=3.0, severity="critical"),),
        ),
        Intrusion(id="in", zone="all", update_s=0.4),
    )  # fmt: skip
    return SiteSettings(
        version=1, site="s", cameras=(Camera(id=CAMERA, zones=(Zone(id="all", polygon=ALL),), rules=rules),)
    )


@pytest.mark.parametrize("seed", range(12))
def test_orders_that_come_late_do_not_change_what_was_worked_on_before_a_kill(seed: int) -> None:
    """An order holds from its time, but for frames that were worked on before it came; a restart must not forget that."""
    rng = np.random.default_rng(seed)
    opened = {t.rule: t.alert_id for t in alerts_of(_run([], []))}
    orders: list[tuple[int, AnyOrder]] = []
    for at in sorted(rng.integers(5, 95, 8).tolist()):
        from_us = START_US + (at - int(rng.integers(0, 30))) * 100_000
        name = str(rng.choice(["crowd", "in"]))
        orders.append(
            (at, Mute(site="s", camera=CAMERA, rule=name, from_us=from_us, until_us=from_us + 2 * S, sent_us=START_US))
            if rng.random() < 0.7
            else (at, Acknowledgement(site="s", alert_id=opened[name], from_us=from_us, sent_us=START_US, author="ann"))
        )
    cuts = rng.integers(0, 100, 10).tolist() + [at - 1 for at, _ in orders] + [at for at, _ in orders]
    assert _run(orders, cuts) == _run(orders, [])
    assert _run(orders, []) != _run([], [])


def _run(orders: list[tuple[int, AnyOrder]], cuts: list[int]) -> list[Output]:
    """Ten seconds of one object. A kill at i: after record i; the orders that come with record i + 1 are on the topic then."""
    stage = stage_of(_site())
    task, out = Task(stage), []
    for i, record in enumerate(standing(100)):
        for n, (at, order) in enumerate(orders):
            if at == i:
                stage.on_settings(order_key(order), Input(encode(order), 0, n, START_US // 1000))
        out += task.take(record)
        if i in cuts:
            stage = stage_of(_site())
            for n, (at, order) in enumerate(orders):
                if at <= i + 1:
                    stage.on_settings(order_key(order), Input(encode(order), 0, n, START_US // 1000))
            task.kill(stage)
    return out


# ---- other settings at submit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [10, 17, 25, 40])
def test_a_zone_that_comes_and_one_that_goes_with_a_restart_begin_and_end_with_their_events(cut: int) -> None:
    """What the log holds is repeated under the settings of before, so that nothing of the new zone is taken for said."""
    old, new = (
        site(camera(zones=zones, rules=(), tripwires=()))
        for zones in ((Zone(id="old", polygon=ALL),), (Zone(id="new", polygon=LEFT),))
    )
    task = Task(stage_of(old))
    records = standing(60)
    before = [o for r in records[:cut] for o in task.take(r)]
    task.kill(stage_of(new))
    after = [o for r in records[cut:] for o in task.take(r)]
    assert [(e.kind, e.zone) for e in events_of(before) if e.zone] == [("enter", "old")]
    said = [(e.kind, e.zone, e.reason, e.at_us) for e in events_of(after) if e.zone]
    assert said == [
        ("exit", "old", "settings", START_US + (cut - 1) * 100_000),
        ("enter", "new", "", START_US + cut * 100_000),
    ]


@pytest.mark.parametrize("cut", [1, 20, 33, 34])
def test_a_camera_whose_site_has_another_name_after_a_restart_goes_on_under_it(cut: int) -> None:
    old, new = site(camera(rules=())), site(camera(rules=()), name="t")
    task = Task(stage_of(old))
    for record in standing(cut):
        task.take(record)
    for first in (cut, cut + 20):
        task.kill(stage_of(new))
        frames = [
            make_frame(i, START_US + i * 100_000, [(0.2, 0.4, 0.3, 0.8)], site="t") for i in range(first, first + 20)
        ]
        out = [o for f in frames for o in task.take(to_input(f, f.seq))]
        assert {o.topic for o in out} >= {"tracks"} and not letters_of(out)
    assert not [e for e in events_of(out) if e.kind in ("enter", "track_end")], "who was there is the same object"


def test_a_camera_that_is_named_again_after_a_timer_found_it_unknown_loses_no_frame() -> None:
    stage = stage_of(site(camera()))
    task = Task(stage)
    for record in standing(20):
        task.take(record)
    stage = stage_of(site())
    task.kill(stage)
    assert list(task.shell.on_timer(0, task)) == []  # type: ignore[arg-type]
    stage.on_settings(*message(site(camera()), 1, START_US))
    out = [o for r in standing(5, 20) for o in task.take(r)]
    assert not letters_of(out) and len([o for o in out if o.topic == "tracks"]) == 5


@pytest.mark.parametrize("kill_at", [201, 2100, 2120, 2149, 2150])
def test_a_heat_map_is_the_same_with_a_kill_while_the_camera_is_absent(kill_at: int) -> None:
    """Longer periods before, other ones after: both hang on the last frame's time, which an absent camera has no track of."""
    begin_us = (START_US // (300 * S) + 1) * 300 * S
    long, short = HeatMap(report_s=300.0), HeatMap(report_s=60.0)
    edits = [(205, short), (210, None), (215, short)]
    out = _heat(begin_us, long, edits, None)
    assert out and _heat(begin_us, long, edits, kill_at) == out


def test_heat_maps_of_other_cells_after_an_absence_have_times_of_their_own() -> None:
    begin_us = (START_US // (300 * S) + 1) * 300 * S
    wide, narrow = HeatMap(columns=62, rows=23), HeatMap(columns=17, rows=10)
    points = _heat(begin_us, wide, [(20, None), (22, narrow)], None, 500)
    assert len({p.at_ns // 1_000_000 for p in points}) == 2


def _heat(
    begin_us: int,
    first: HeatMap,
    edits: Sequence[tuple[int, HeatMap | None]],
    kill_at: int | None,
    count: int = 2300,
) -> list[Point]:
    """Return the points of the heat map of one object that stands there, under versions from so many seconds on."""

    def with_map(heat_map: HeatMap | None) -> SiteSettings:
        return site(Camera(id=CAMERA, heat_map=heat_map)) if heat_map else site()

    def ready() -> LiveStage:
        stage = stage_of(with_map(first))
        for n, (at_s, then) in enumerate(edits):
            stage.on_settings(*message(with_map(then), n + 1, begin_us + at_s * S, n))
        return stage

    task, out = Task(ready()), []
    for i in [*range(count), count + 900, count + 1000]:
        frame = make_frame(i, begin_us + i * 100_000, [(0.2, 0.4, 0.3, 0.8)], site="s")
        out += task.take(to_input(frame, i))
        if i == kill_at:
            task.kill(ready())
    return [p for p in points_of(out) if p.measurement == "heat_map"]


# ---- bounds -------------------------------------------------------------------------------------------------------


def test_a_snapshot_comes_after_so_many_records_or_bytes_and_the_log_is_empty_then() -> None:
    task = Task(stage_of(site(camera())))
    records = standing(200)
    for record in records:
        task.take(record)
        assert len(task.state["log"].data or []) <= keyed_shell.MAX_LOG_COUNT
    each = keyed_shell.MAX_LOG_COUNT + 1
    assert len(records) // each <= task.state["logic"].writes <= len(records) // each + 2
    assert task.state["terms"].writes == 1

    many = [(0.1, 0.1, 0.2, 0.2)] * 200
    writes = task.state["logic"].writes
    for i in range(200, 240):
        task.take(to_input(make_frame(i, START_US + i * 100_000, many, site="s"), i))
        assert sum(map(len, task.state["log"].data or [])) <= keyed_shell.MAX_LOG_BYTES
    assert task.state["logic"].writes - writes >= 40 * 200 * 21 // keyed_shell.MAX_LOG_BYTES


def test_a_record_that_is_larger_than_the_log_is_not_put_into_it() -> None:
    task = Task(stage_of(site(camera())))
    huge = Input(b"\xc1" * (keyed_shell.MAX_LOG_BYTES + 1), 0, 0, START_US // 1000)
    for _ in range(5):
        (letter,) = task.take(huge)
        assert letter.topic == "dead-letters"
    assert not task.state["log"].data and task.held() < keyed_shell.MAX_LOG_BYTES


def test_a_silence_is_stored_whole() -> None:
    task = Task(stage_of(site(camera())))
    for record in standing(20):
        task.take(record)
    live = task.shell._live[CAMERA]
    live.logic.on_silence()
    task.shell._store(live)
    task.kill(stage_of(site(camera())))
    out = [o for r in standing(3, 20) for o in task.take(r)]
    assert next(e.kind for e in events_of(out)) == "source_back"


# ---- entries ------------------------------------------------------------------------------------------------------


@given(
    st.one_of(st.none(), st.binary(max_size=50)),
    st.integers(-1, 2**31 - 1),
    st.integers(-1, 2**62),
    st.integers(-1, 2**62),
)
def test_an_entry_gives_its_record_back(value: bytes | None, partition: int, offset: int, time_ms: int) -> None:
    record = Input(value, partition, offset, time_ms)
    assert record_log.unpack(record_log.pack(record)) == record


def test_what_is_no_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 21 bytes, got 3"):
        record_log.unpack(b"abc")
