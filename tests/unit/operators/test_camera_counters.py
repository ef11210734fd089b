"""Counters through the whole stage: people who walk through two doors, at any frame rate, under restarts and new settings."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Input, Output
from schemas.live_settings import new_version, version_key
from schemas.settings import Camera, Counter, CounterWire, SiteSettings, Tripwire
from schemas.wire import Point, encode
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    bounded,
    events_of,
    feed,
    make_frame,
    open_stage,
    points_of,
    stored,
    to_input,
)

S = 1_000_000
REPORT_S = 5.0
BEGIN_US = START_US - START_US % (5 * S)
WALK_S = 2.0  # from one side of the frame to the other
VISITS = ((0, 1.0, +1), (1, 3.2, +1), (0, 6.0, +1), (0, 9.3, -1), (1, 14.6, -1), (1, 21.0, +1), (0, 22.5, -1))
"""Who walks where (door 0 above, door 1 below), when (s), and whether to the right."""
DURATION_S = 40.0


def camera(**changes: Any) -> Camera:
    """A camera with two doors: into the upper one to the right, into the lower one to the left."""
    made = Camera(
        id=CAMERA,
        tripwires=(
            Tripwire(id="upper", points=((0.5, 0.45), (0.5, 0.05))),
            Tripwire(id="lower", points=((0.5, 0.95), (0.5, 0.55))),
        ),
        counters=(
            Counter(
                id="shop",
                wires=(CounterWire(tripwire="upper"), CounterWire(tripwire="lower", entering="left")),
                report_s=REPORT_S,
                reset=(),
            ),
        ),
    )
    return msgspec.structs.replace(made, **changes)


def site(made: Camera, **changes: Any) -> SiteSettings:
    return SiteSettings(version=1, site="s", cameras=(made,), **changes)


@functools.cache
def stage() -> CameraStage:
    return open_stage(site(camera()))


@functools.cache
def records(fps: float, first_s: float = 0.0, last_s: float = DURATION_S) -> tuple[Input, ...]:
    """Return frames of the walks from `first_s` to `last_s`."""
    out = []
    for n in range(round(first_s * fps), round(last_s * fps)):
        t, boxes = n / fps, []
        for door, at_s, way in VISITS:
            share = (t - at_s) / WALK_S
            if 0 <= share <= 1:
                x = 0.2 + 0.6 * share if way > 0 else 0.8 - 0.6 * share
                boxes.append((x - 0.03, 0.05 + 0.5 * door, x + 0.03, 0.35 + 0.5 * door))
        out.append(to_input(make_frame(n, BEGIN_US + round(t * 1e6), boxes), n))
    return tuple(out)


def true_windows() -> list[dict[str, int]]:
    """Return what the shop's points must hold: people pass the doors in the middle of their walks."""
    passed = sorted((at_s + WALK_S / 2, +1 if (way > 0) == (door == 0) else -1) for door, at_s, way in VISITS)
    found, inside, came, went, corrected = [], 0, 0, 0, 0
    for k in range(int(DURATION_S / REPORT_S) - 1):
        now = {"in_count": 0, "out_count": 0, "correction_count": 0, "occupancy_max": inside}
        for _, way in (p for p in passed if k * REPORT_S <= p[0] < (k + 1) * REPORT_S):
            corrected_now = int(way < 0 and inside == 0)
            inside += way + corrected_now
            came, went, corrected = came + (way > 0), went + (way < 0), corrected + corrected_now
            now["in_count"] += way > 0
            now["out_count"] += way < 0
            now["correction_count"] += corrected_now
            now["occupancy_max"] = max(now["occupancy_max"], inside)
        found.append(
            now
            | {"occupancy": inside, "in_total": came, "out_total": went, "correction_total": corrected, "revision": 0}
        )
    return found


def counter_points(outputs: Iterable[Output]) -> list[Point]:
    return [p for p in points_of(outputs) if p.measurement == "counter"]


@pytest.mark.parametrize("fps", [5.0, 12.5, 30.0])
def test_reports_are_the_same_at_any_frame_rate_and_those_of_the_true_walks(fps: float) -> None:
    """No walk passes a door within 0.2 s of a boundary, so the counts are equal, not near."""
    out = feed(stage().logic(CAMERA), records(fps))
    points = counter_points(out)
    assert [p.at_ns for p in points] == [(BEGIN_US + k * 5 * S) * 1000 for k in range(len(points))]
    assert [{**p.fields, "complete": None} for p in points] == [{**w, "complete": None} for w in true_windows()]
    assert all(p.fields["complete"] is True and p.tags["counter"] == "shop" for p in points)
    told = [e for e in events_of(out) if e.kind == "counter"]
    assert [(e.at_us, e.subject, e.counter, e.in_count, e.out_count, e.occupancy) for e in told] == [
        (p.at_ns // 1000 + 5 * S, CAMERA, "shop", p.fields["in_count"], p.fields["out_count"], p.fields["occupancy"])
        for p in points
    ]
    assert len({e.id for e in told}) == len(told)


def test_a_counter_makes_a_frame_unusual_only_when_a_report_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    long_way = CameraLogic._frame
    monkeypatch.setattr(
        CameraLogic, "_frame", lambda self, f, *rest: (frames.append(f.capture_us), long_way(self, f, *rest))[1]
    )
    taken = []
    for made in (camera(), camera(counters=())):
        frames.clear()
        feed(open_stage(site(made)).logic(CAMERA), records(12.5))
        taken.append(frames[:])
    assert len(taken[0]) - len(taken[1]) <= DURATION_S / REPORT_S


@bounded(10)
@given(st.integers(1, 480))
def test_restored_at_any_frame_the_bytes_are_the_same(cut: int) -> None:
    frames = records(12.5)
    through, again = stage().logic(CAMERA), stage().logic(CAMERA)
    feed(through, frames[:cut])
    state = through.snapshot()
    assert state is not None
    again.restore(state)
    for record in frames[cut:]:
        assert through.on_record(record) == again.on_record(record)
        assert through.snapshot() == again.snapshot()


@bounded(10)
@given(st.randoms())
def test_repeats_and_disorder_within_the_wait_change_nothing(random: Any) -> None:
    frames = list(records(12.5))
    mixed: list[Input] = []
    for n in range(0, len(frames), 4):
        some = frames[n : n + 4] + frames[max(n - 3, 0) : n]
        random.shuffle(some)
        mixed += some
    got, want = (feed(stage().logic(CAMERA), [frames[0], *fed]) for fed in (mixed, frames))
    assert counter_points(got) == counter_points(want)


def test_a_silence_and_the_same_gap_in_a_replay_store_the_same() -> None:
    before, after = records(12.5, 0.0, 12.0), records(12.5, 36.0, 40.0)
    later = tuple(
        to_input(make_frame(len(before) + k, BEGIN_US + 36 * S + k * S), 1000 + k) for k in range(16)
    )  # as `after` is numbered as if no frame were missing
    assert len(after) == 50
    live, replay = stage().logic(CAMERA), stage().logic(CAMERA)
    told = feed(live, before) + live.on_silence()
    provisional = [p for p in counter_points(told) if not p.fields["complete"]]
    assert [(p.at_ns // 1000 - BEGIN_US) // S for p in provisional] == [5, 10]
    told += feed(live, later)
    again = feed(replay, before) + feed(replay, later)
    assert stored(counter_points(told)) == stored(counter_points(again))
    final = stored(counter_points(told))
    assert {(key[2] // 1000 - BEGIN_US) // S for key in final} == {0, 5, 10, 35, 40}  # type: ignore[operator]
    assert all(fields["complete"] for fields in final.values())
    assert [fields["revision"] for fields in final.values()] == [0, 1, 1, 0, 0]


def test_resets_are_by_the_time_zone_of_the_settings_that_hold() -> None:
    shop = msgspec.structs.replace(camera().counters[0], reset=("23:14",))  # in Vienna 40 s after the first frame
    totals = {}
    for zone in ("UTC", "Europe/Vienna"):
        stage = LiveCameraStage([site(camera(counters=(shop,)))])
        stage.open()
        logic = stage.logic(CAMERA)
        version = new_version(site(camera(counters=(shop,)), timezone=zone), 1, BEGIN_US + 12 * S, BEGIN_US, "me", "")
        stage.on_settings(version_key("s", 1, version.fingerprint), Input(encode(version), 0, 0, BEGIN_US // 1000))
        points = counter_points(feed(logic, records(12.5, 0.0, 50.0)))
        totals[zone] = [p.fields["in_total"] for p in points]
    assert totals == {"UTC": [1, 2, 2, 3, 3, 3, 3, 3, 3], "Europe/Vienna": [1, 2, 2, 3, 3, 3, 3, 3, 0]}


def test_new_settings_keep_a_counters_totals_and_report_one_that_is_gone() -> None:
    keep = camera().counters[0]
    gone = msgspec.structs.replace(keep, id="gone")
    stage = LiveCameraStage([site(camera(counters=(keep, gone)))])
    stage.open()
    logic = stage.logic(CAMERA)
    after = site(camera(counters=(msgspec.structs.replace(keep, reset=("12:00",)),)), timezone="Europe/Vienna")
    version = new_version(after, 1, BEGIN_US + 12 * S, BEGIN_US, "me", "a test")
    stage.on_settings(version_key("s", 1, version.fingerprint), Input(encode(version), 0, 0, BEGIN_US // 1000))
    points = counter_points(feed(logic, records(12.5)))
    final = {p.at_ns: p.fields for p in points if p.tags["counter"] == "shop"}
    assert [fields["in_total"] for fields in final.values()] == [w["in_total"] for w in true_windows()]
    last = [p for p in points if p.tags["counter"] == "gone"][-1]
    assert (last.at_ns // 1000 - BEGIN_US, last.fields["complete"]) == (10 * S, False)
    assert (last.fields["out_count"], last.fields["out_total"]) == (1, 2), "as it stood at 12 s"
