"""The camera stage: silence, new settings, poison, labels, what is never published."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.camera_stage import MAX_CLASSES, MAX_POINTS, OTHER, CameraLogic, _State
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.rules import Crowding, Loitering
from schemas.settings import Camera, SiteSettings, Tripwire, Windows, Zone
from schemas.wire import Figures, Point, TrackFrame, decode
from simulator.poison import poison_messages
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    alerts_of,
    bounded,
    events_of,
    feed,
    letters_of,
    make_frame,
    noisy_scene,
    open_stage,
    points_of,
    stored,
    to_input,
)

SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
BOX = (0.45, 0.3, 0.55, 0.6)
STEP_US = 100_000


def site(**camera: object) -> SiteSettings:
    fields = {
        "id": CAMERA,
        "zones": (Zone(id="z", polygon=SQUARE),),
        "tripwires": (Tripwire(id="w", points=((0.5, 1.0), (0.5, 0.0))),),
        "rules": (
            Crowding(id="c", zone="z", count=1, hold_s=0.5),
            Loitering(id="l", zone="z", since_s=1.0),
        ),
        **camera,
    }
    return SiteSettings(version=1, site="s", windows=Windows(length_s=10.0), cameras=(Camera(**fields),))  # type: ignore[arg-type]


def logic_of(settings: SiteSettings) -> KeyLogic:
    return open_stage(settings).logic(CAMERA)


def standing(first: int, count: int, *, start_us: int = START_US, label: str = "person") -> list[Input]:
    """Return frames in which somebody stands in the zone."""
    return [to_input(make_frame(n, start_us + n * STEP_US, [BOX], label=label), n) for n in range(first, first + count)]


def kinds(outputs: list[Output]) -> list[str]:
    return [e.kind for e in events_of(outputs)]


def test_silence_ends_everything_at_the_last_frame_and_reports_windows_as_incomplete() -> None:
    logic = logic_of(site())
    feed(logic, standing(0, 30))
    out = logic.on_silence()
    last_us = START_US + 29 * STEP_US
    assert kinds(out) == ["track_end", "exit", "source_lost"]
    assert {e.at_us for e in events_of(out)} == {last_us}
    closes = [(a.rule, a.transition, a.at_us) for a in alerts_of(out)]
    assert sorted(closes) == [("c", "close", last_us), ("l", "close", last_us), ("source-lost", "open", last_us)]
    windows = [p for p in points_of(out) if p.measurement == "zone_window"]
    assert [(p.fields["complete"], p.fields["revision"], p.fields["exit_count"]) for p in windows] == [(False, 0, 1)]
    assert logic.on_silence() == []


def test_frames_soon_after_a_silence_bring_the_source_back_and_the_window_is_corrected() -> None:
    logic = logic_of(site())
    feed(logic, standing(0, 30))
    logic.on_silence()
    out = feed(logic, standing(30, 200))
    assert kinds(out)[0] == "source_back"
    close = next(a for a in alerts_of(out) if a.rule == "source-lost")
    assert (close.transition, close.start_us, close.at_us) == (
        "close",
        START_US + 29 * STEP_US,
        START_US + 30 * STEP_US,
    )
    first = [p for p in points_of(out) if p.measurement == "zone_window" and p.at_ns == START_US * 1000]
    assert [(p.fields["complete"], p.fields["revision"]) for p in first] == [(True, 1)]
    assert first[0].fields["born_inside_count"] == 2  # who was there is not known to be who is there


def test_a_track_that_ended_in_the_last_frame_before_the_silence_ends_once() -> None:
    logic = logic_of(site(track_memory_s=1.0))
    out = feed(logic, standing(0, 30))
    out += feed(logic, [to_input(make_frame(30 + i, START_US + 3_000_000 + i * 500_000), 30 + i) for i in range(3)])
    assert kinds(out).count("track_end") == 1
    out += logic.on_silence()
    assert [e.reason for e in events_of(out) if e.kind == "track_end"] == ["unseen"]
    levels = [p.fields["present_min"] for p in points_of(out) if p.measurement == "object_window"]
    assert levels and min(levels) == 0  # type: ignore[type-var]


def test_two_silences_are_two_alerts() -> None:
    logic = logic_of(site())
    out = feed(logic, standing(0, 10)) + logic.on_silence()
    out += feed(logic, standing(10, 10)) + logic.on_silence() + feed(logic, standing(20, 1))
    lost = [(a.alert_id, a.transition) for a in alerts_of(out) if a.rule == "source-lost"]
    assert [t for _, t in lost] == ["open", "close", "open", "close"]
    assert lost[0][0] == lost[1][0] != lost[2][0] == lost[3][0]


def test_a_replay_without_a_clock_says_of_a_hole_what_the_live_run_said_of_the_silence() -> None:
    later = standing(30, 5, start_us=START_US + 3_600_000_000)
    live, replay = logic_of(site()), logic_of(site())
    before = standing(0, 30)
    said_live = feed(live, before) + live.on_silence() + feed(live, later)
    said_replay = feed(replay, before) + feed(replay, later)
    for topic in (topics.EVENTS, topics.ALERTS, topics.TRACKS):
        assert [o for o in said_live if o.topic == topic] == [o for o in said_replay if o.topic == topic]
    assert live.snapshot() == replay.snapshot()


def final(points: list[Point]) -> dict[tuple[object, ...], dict[str, bool | int | float | str]]:
    return {k: {n: v for n, v in f.items() if n != "revision"} for k, f in stored(points).items()}


def test_revisions_of_a_window_never_come_in_one_message() -> None:
    logic = logic_of(site())
    out = feed(logic, standing(0, 30) + standing(30, 5, start_us=START_US + 3_600_000_000))
    for output in out:
        if output.topic == topics.FIGURES:
            points = decode(output.value, Figures).points
            assert len(stored(points)) == len(points)


def test_waiting_frames_are_used_when_the_source_falls_silent_and_late_ones_are_counted() -> None:
    logic = logic_of(site())
    records = standing(0, 10)
    out = feed(logic, [*records[:5], *records[6:8]])
    assert sum(o.topic == topics.TRACKS for o in out) == 5
    out = logic.on_silence()
    assert sum(o.topic == topics.TRACKS for o in out) == 2
    assert logic.on_record(records[5]) == []
    out = feed(logic, standing(8, 200))
    (first,) = (p for p in points_of(out) if p.measurement == "camera_window" and p.at_ns == START_US * 1000)
    counts = [
        first.fields[n] for n in ("frame_count", "detection_count", "missing_count", "late_count", "refused_count")
    ]
    assert counts == [100, 100, 1, 1, 0]


def test_a_late_frame_makes_its_window_be_written_again_within_the_lateness_and_once() -> None:
    settings = site()
    settings = msgspec.structs.replace(settings, windows=Windows(length_s=10.0, lateness_s=30.0))
    records = standing(0, 700)
    missing = {20, 21, 250}
    logic = logic_of(settings)
    out = feed(logic, [r for n, r in enumerate(records[:400]) if n not in missing])
    before = stored(points_of(out))
    again = feed(logic, [records[250], records[20], records[250], records[20]])
    data = logic.snapshot()
    assert isinstance(logic, CameraLogic)
    archive, logic = logic.archive(), logic_of(settings)
    assert data and archive and isinstance(logic, CameraLogic)
    logic.restore(data)
    logic.restore_archive(archive)
    again += feed(logic, [records[21], records[250], records[20]])
    key = ("camera_window", (("camera", CAMERA), ("site", "s")), START_US * 1000)
    first = [p.fields for p in points_of(again) if p.at_ns == key[2]]
    counted = [(f["frame_count"], f["missing_count"], f["late_count"], f["revision"], f["complete"]) for f in first]
    assert before[key]["frame_count"] == 98
    assert counted == [(99, 2, 1, 1, True), (100, 2, 2, 2, True)]
    assert len(points_of(again)) == 3 and not letters_of(again)
    feed(logic, records[400:700])
    (letter,) = letters_of(feed(logic_of(settings), [*records[:20], *records[21:700], records[20]]))
    assert (letter.reason, letter.offset) == ("too_late", 20)


def test_what_is_seen_once_is_never_published() -> None:
    logic = logic_of(site())
    frames = [make_frame(n, START_US + n * STEP_US, [BOX] if n == 3 else []) for n in range(30)]
    out = feed(logic, [to_input(f, n) for n, f in enumerate(frames)])
    assert events_of(out) == [] and alerts_of(out) == []
    assert all(not decode(o.value, TrackFrame).ordinals for o in out if o.topic == topics.TRACKS)


def test_a_class_that_flickers_in_mid_visit_leaves_level_and_counts_even() -> None:
    logic = logic_of(site())
    records = []
    for n in range(60):
        label = "car" if 20 <= n < 45 else "person"
        records.append(to_input(make_frame(n, START_US + n * STEP_US, [BOX], label=label), n))
    records += [to_input(make_frame(60 + n, START_US + 6_000_000 + n * 1_000_000), 60 + n) for n in range(40)]
    out = feed(logic, records)
    (left,) = (e for e in events_of(out) if e.kind == "exit")
    assert left.label == "person"
    last = max(p.at_ns for p in points_of(out) if p.measurement == "zone_window")
    for p in points_of(out):
        if p.measurement in ("zone_window", "object_window") and p.at_ns == last:
            assert p.fields.get("occupancy_max", p.fields.get("present_max")) == 0


def test_after_new_settings_figures_of_places_that_are_gone_end_and_new_ones_begin() -> None:
    old = logic_of(site())
    feed(old, standing(0, 30))
    new = logic_of(site(zones=(Zone(id="y", polygon=SQUARE, classes=("dog",)),), tripwires=(), rules=()))
    assert isinstance(new, CameraLogic)
    new.restore(old.snapshot() or b"")
    out = feed(new, standing(30, 200))
    places = {(p.measurement, p.tags.get("zone"), p.tags.get("class")) for p in points_of(out)}
    assert ("zone_window", "y", "dog") in places
    assert not any(zone == "z" for name, zone, _ in places if name != "alert")
    assert sorted((a.rule, a.transition) for a in alerts_of(out)) == [("c", "close"), ("l", "close")]


def test_poison_among_good_records_changes_no_good_result() -> None:
    scene = noisy_scene(1)
    good = next(iter(scene.scene.camera_frames(CAMERA)))
    bad = [p for p in poison_messages(7, 400, good) if p.key == CAMERA.encode() and p.expect == "dead_letter"]
    assert len(bad) > 100
    expected = feed(scene.fresh(), scene.records)
    logic, got = scene.fresh(), []
    for n, record in enumerate(scene.records):
        got += logic.on_record(record)
        for p in bad[n :: len(scene.records)]:
            got += logic.on_record(Input(p.value, 0, 10_000 + n, p.timestamp_ms))
    assert len(letters_of(got)) == len(bad)
    for topic in (topics.TRACKS, topics.EVENTS, topics.ALERTS):
        assert [o for o in got if o.topic == topic] == [o for o in expected if o.topic == topic]


def test_labels_without_end_leave_state_and_messages_bounded() -> None:
    logic = logic_of(site())
    size = 0
    for n in range(600):
        frame = make_frame(n, START_US + n * STEP_US, [BOX], label=f"{n:060d}")
        for o in logic.on_record(to_input(frame, n)):
            size = max(size, len(o.value))
    labels = msgspec.msgpack.decode(logic.snapshot() or b"")[_State.__struct_fields__.index("labels")]
    assert len(labels) == MAX_CLASSES + 1 and labels[-1] == OTHER
    assert size < 1 << 20


def test_many_figures_come_in_messages_of_bounded_size() -> None:
    logic = logic_of(site())
    assert isinstance(logic, CameraLogic)
    points = [Point("m", {"n": str(n)}, 1, {"f": 1.0}) for n in range(2 * MAX_POINTS + 1)]
    sizes = [len(decode(o.value, Figures).points) for o in logic._points(points)]
    assert sizes == [MAX_POINTS, MAX_POINTS, 1]


@bounded(25)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=8), st.sets(st.integers(0, 300), max_size=5))
def test_silences_at_any_time_and_restarts_give_the_same_bytes(
    parts: list[tuple[bool, int]], restarts: set[int]
) -> None:
    settings = site()

    def play(restart: bool) -> list[Output]:
        logic, out, seq = logic_of(settings), [], 0
        for silent, count in parts:
            for record in standing(seq, count):
                out += logic.on_record(record)
                seq += 1
                if restart and seq in restarts:
                    data, logic = logic.snapshot(), logic_of(settings)
                    logic.restore(data or b"")
            if silent:
                out += logic.on_silence()
        return out

    assert play(True) == play(False)
