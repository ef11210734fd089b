"""Settings that change while the camera stage runs: what holds when, what ends, what is answered, and that a restore at any
point and any order of the two topics (within the lead) give the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.stages.camera_stage import _State
from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.live_settings import SettingsAck, SettingsMessage, new_version, version_key
from schemas.rules import Crowding, Loitering
from schemas.settings import Camera, Pose, SiteSettings, Tripwire, Windows, Zone, fingerprint
from schemas.wire import Event, TrackFrame, decode, encode
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    Stored,
    alerts_of,
    bounded,
    events_of,
    letters_of,
    make_frame,
    noisy_scene,
    points_of,
    store,
    stored,
    take_up,
    to_input,
)

SECOND_US = 1_000_000
ALL = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def camera(**changes: Any) -> Camera:
    """A camera with a zone that holds the whole frame, one that holds its left half, and a rule for each kind."""
    made = Camera(
        id=CAMERA,
        zones=(Zone(id="all", polygon=ALL), Zone(id="left", polygon=LEFT)),
        tripwires=(Tripwire(id="wire", points=((0.5, 0.0), (0.5, 1.0))),),
        rules=(Crowding(id="crowd", zone="all", count=1, hold_s=0.5), Loitering(id="loiter", zone="left", since_s=1.0)),
    )
    return msgspec.structs.replace(made, **changes)


def site(*cameras: Camera, name: str = "s", **changes: Any) -> SiteSettings:
    """A site, with a camera of its own so that there is always one."""
    return SiteSettings(version=1, site=name, cameras=(*cameras, Camera(id=f"other-{name}")), **changes)


def message(settings: SiteSettings, version: int, from_us: int, offset: int = 0) -> tuple[str, Input]:
    """A version as it comes from the topic."""
    m = new_version(settings, version, from_us, START_US, "me", "a test")
    return version_key(m.site, m.version, m.fingerprint), Input(encode(m), 0, offset, START_US // 1000)


def stage_of(*sites: SiteSettings) -> LiveCameraStage:
    """A stage that is ready."""
    stage = LiveCameraStage(list(sites))
    stage.open()
    return stage


def standing(count: int, first: int = 0, x: float = 0.2) -> list[Input]:
    """Ten frames a second of one object that stands there, shaking a little."""
    return [
        to_input(make_frame(i, START_US + i * 100_000, [(x + 0.002 * (i % 2), 0.4, x + 0.1, 0.8)], site="s"), i)
        for i in range(first, first + count)
    ]


def acks_of(outputs: Iterable[Output]) -> list[SettingsAck]:
    """The acknowledgements among outputs."""
    return [decode(o.value, SettingsAck) for o in outputs if o.topic == topics.SETTINGS_ACKS]


def stamps_of(outputs: Iterable[Output]) -> list[tuple[int, str]]:
    """(capture time in steps of 0.1 s, stamp) of each track frame."""
    frames = [decode(o.value, TrackFrame) for o in outputs if o.topic == topics.TRACKS]
    return [((f.capture_us - START_US) // 100_000, f.settings) for f in frames]


def run(logic: KeyLogic, records: Iterable[Input]) -> list[Output]:
    """Hand over records; a snapshot after each, as the shell takes them."""
    out: list[Output] = []
    for record in records:
        out += logic.on_record(record)
        logic.snapshot()
    return out


# ---- what holds when ----------------------------------------------------------------------------------------------


def test_a_version_holds_from_the_first_frame_captured_at_its_time_and_is_stamped_on_everything() -> None:
    before, after = site(camera()), site(camera(rules=()))
    stage = stage_of(before)
    logic = stage.logic(CAMERA)
    out = run(logic, standing(15))
    told = acks_of(stage.on_settings(*message(after, 1, START_US + 2 * SECOND_US)))
    out += run(logic, standing(15, 15))

    assert [(a.stage, a.status, a.version, a.cameras) for a in told] == [("taken", "success", 1, (CAMERA,))]
    assert stamps_of(out) == [(i, fingerprint(before) if i < 20 else f"{fingerprint(after)}@1") for i in range(30)]
    (ack,) = acks_of(out)
    assert (ack.stage, ack.status, ack.at_us, ack.fingerprint) == (
        "in_force", "success", START_US + 2 * SECOND_US, fingerprint(after),
    )  # fmt: skip
    closes = [t for t in alerts_of(out) if t.transition == "close"]
    assert {t.rule for t in closes} == {"crowd", "loiter"}
    assert {(t.at_us, t.reason, t.settings) for t in closes} == {
        (START_US + 2 * SECOND_US, "its rule is no longer in the settings", f"{fingerprint(after)}@1")
    }


def test_a_version_that_comes_after_its_time_holds_from_the_next_frame_and_says_so() -> None:
    stage = stage_of(site(camera()))
    logic = stage.logic(CAMERA)
    out = run(logic, standing(15))
    stage.on_settings(*message(site(camera(rules=())), 1, START_US + SECOND_US))
    out += run(logic, standing(5, 15))
    (ack,) = acks_of(out)
    assert (ack.status, ack.at_us) == ("partial", START_US + 1_500_000)
    assert ack.errors[0].path == "cameras[0]" and "0.400 s after its time" in ack.errors[0].problem


def test_the_newest_version_whose_time_has_come_holds_and_one_that_was_to_hold_later_is_replaced() -> None:
    a, b, c = (site(camera(zones=camera().zones[:n], rules=(), tripwires=())) for n in (1, 2, 0))
    stage = stage_of(site(camera()))
    stage.on_settings(*message(a, 1, START_US + SECOND_US))
    stage.on_settings(*message(b, 2, START_US + 3 * SECOND_US))  # never: 3 holds by then
    stage.on_settings(*message(c, 3, START_US + 2 * SECOND_US))
    stamps = dict(stamps_of(run(stage.logic(CAMERA), standing(40))))
    assert [stamps[i].partition("@")[2] for i in (9, 10, 19, 20, 29, 30, 39)] == ["", "1", "1", "3", "3", "3", "3"]


def test_settings_of_the_job_are_the_first_version_and_any_on_the_topic_wins() -> None:
    stage = stage_of(site(camera()))
    stage.on_settings(*message(site(camera(silence_s=5.0)), 7, START_US - SECOND_US))
    logic = stage.logic(CAMERA)
    out = run(logic, standing(3))
    assert {s for _, s in stamps_of(out)} == {f"{fingerprint(site(camera(silence_s=5.0)))}@7"}
    assert logic.silence_ms == 5000


def test_a_version_that_changes_nothing_for_a_camera_only_changes_its_stamp() -> None:
    """The same outputs as without it, but for the stamp."""
    base = site(camera())
    other = msgspec.structs.replace(base, cameras=(*base.cameras, Camera(id="third")))
    plain, live = stage_of(base), stage_of(base)
    live.on_settings(*message(other, 1, START_US + SECOND_US))
    want = run(plain.logic(CAMERA), standing(40))
    got = [o for o in run(live.logic(CAMERA), standing(40)) if o.topic != topics.SETTINGS_ACKS]
    new, old = f"{fingerprint(other)}@1", fingerprint(base)
    assert [stripped(o, new) for o in got] == [stripped(o, old) for o in want]


def stripped(output: Output, stamp: str) -> tuple[str, str, Any]:
    """An output without its stamp."""
    content = msgspec.msgpack.decode(output.value)
    content.pop("settings", None)
    return output.topic, output.key, content


# ---- what ends ----------------------------------------------------------------------------------------------------


def test_removing_a_zone_ends_its_visits_and_reports_its_windows_and_leaves_the_others() -> None:
    left_only = site(camera(zones=camera().zones[1:], rules=camera().rules[1:]))
    stage = stage_of(site(camera()))
    stage.on_settings(*message(left_only, 1, START_US + 2 * SECOND_US))
    out = run(stage.logic(CAMERA), standing(40))
    exits = [e for e in events_of(out) if e.kind == "exit"]
    assert [(e.zone, e.at_us, e.reason, e.settings) for e in exits] == [
        ("all", START_US + 1_900_000, "settings", fingerprint(site(camera())))
    ]
    assert exits[0].dwell_s == pytest.approx(1.9)
    zone_points = [p for p in points_of(out) if p.measurement == "zone_window"]
    assert {(p.tags["zone"], p.fields["exit_count"], p.fields["complete"]) for p in zone_points} == {
        ("all", 1, False), ("left", 0, False),
    }  # fmt: skip
    assert [p.tags["zone"] for p in points_of(out) if p.measurement == "visit"] == ["all"]
    assert not [e for e in events_of(out) if e.kind == "track_end"], "the track goes on"
    assert [t.transition for t in alerts_of(out) if t.rule == "loiter"] == ["open"], "so does the other rule's alert"


def test_a_zone_that_moves_to_the_ground_is_another_zone_and_its_visits_and_alerts_end() -> None:
    pose = Pose(
        rotation=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)), translation_mm=(0.0, 5000.0, 0.0),
        intrinsic=((1000.0, 0.0, 800.0), (0.0, 1000.0, 500.0), (0.0, 0.0, 1.0)),
    )  # fmt: skip
    far = ((900.0, 900.0), (901.0, 900.0), (901.0, 901.0))
    before = camera(pose=pose)
    zones = (before.zones[0], Zone(id="left", plane="ground", polygon=far))
    wires = (Tripwire(id="wire", plane="ground", points=far[:2]),)
    stage = stage_of(site(before))
    logic = stage.logic(CAMERA)
    told = stage.on_settings(
        *message(site(camera(pose=pose, zones=zones, tripwires=wires)), 1, START_US + 2 * SECOND_US)
    )
    assert acks_of(told)[0].errors == ()
    out = run(logic, standing(60))
    exits = [(e.zone, e.at_us, e.reason) for e in events_of(out) if e.kind in ("exit", "track_end")]
    assert exits == [("left", START_US + 1_900_000, "settings")]
    ends = [(t.rule, t.transition, t.at_us) for t in alerts_of(out) if t.transition == "close"]
    assert ends == [("loiter", "close", START_US + 1_900_000)]
    points = stored(p for p in points_of([*out, *logic.on_silence()]) if p.measurement == "zone_window")
    left = [fields["occupancy"] for key, fields in points.items() if ("zone", "left") in key[1]]  # type: ignore[operator]
    assert left and not any(left), "nobody is left behind in the zone's figures"


def test_a_tripwire_that_is_added_counts_from_its_time_and_one_that_is_removed_no_more() -> None:
    frames = []
    for i in range(80):  # to and fro over the wire, once in two seconds
        x = 0.5 + 0.2 * np.cos(np.pi * i / 10)
        frames.append(to_input(make_frame(i, START_US + i * 100_000, [(x - 0.05, 0.4, x + 0.05, 0.8)], site="s"), i))
    none = site(camera(tripwires=()))
    stage = stage_of(none)
    stage.on_settings(*message(site(camera()), 1, START_US + 2 * SECOND_US))
    stage.on_settings(*message(none, 2, START_US + 6 * SECOND_US))
    crossings = [e for e in events_of(run(stage.logic(CAMERA), frames)) if e.kind == "crossing"]
    assert len(crossings) in (3, 4)
    assert {e.settings for e in crossings} == {f"{fingerprint(site(camera()))}@1"}
    assert all(START_US + 2 * SECOND_US <= e.at_us < START_US + 6 * SECOND_US for e in crossings)


def test_a_camera_that_is_removed_ends_what_is_open_and_its_frames_are_refused_until_it_is_back() -> None:
    base = site(camera())
    stage = stage_of(base)
    stage.on_settings(*message(site(), 1, START_US + 2 * SECOND_US))
    stage.on_settings(*message(base, 2, START_US + 4 * SECOND_US))
    logic = stage.logic(CAMERA)
    out = run(logic, standing(60))
    ended = [(e.kind, e.reason) for e in events_of(out) if e.reason]
    assert sorted(ended) == [("exit", "settings"), ("exit", "settings"), ("track_end", "settings")]
    assert not [e for e in events_of(out) if e.kind.startswith("source_")]
    closes = [t for t in alerts_of(out) if t.transition == "close"]
    assert {(t.rule, t.reason) for t in closes} == {
        ("crowd", "fewer than 1 inside"), ("loiter", "the visit has ended"),
    } or {t.rule for t in closes} == {"crowd", "loiter"}  # fmt: skip
    refused = letters_of(out)
    assert [(x.reason, x.offset) for x in refused] == [("unknown_camera", i) for i in range(20, 40)]
    assert [s.partition("@")[2] for i, s in stamps_of(out) if i in (0, 19, 40, 59)] == ["", "", "2", "2"]
    enters = [e for e in events_of(out) if e.kind == "enter"]
    assert len(enters) == 4 and len({e.id for e in enters}) == 4


def test_a_camera_that_is_removed_and_sends_no_more_ends_without_an_alarm() -> None:
    stage = stage_of(site(camera()))
    logic = stage.logic(CAMERA)
    out = run(logic, standing(20))
    stage.on_settings(*message(site(), 1, START_US + 3 * SECOND_US))
    out += logic.on_silence() + logic.on_silence()
    assert [e.kind for e in events_of(out) if e.reason == "settings"].count("track_end") == 1
    assert not [t for t in alerts_of(out) if t.rule_type == "source_lost"]


def test_settings_that_hold_from_a_frame_which_waited_take_over_what_came_before_it_and_nothing_older() -> None:
    """A silence has that frame taken; the state had been stored while it waited."""
    stage = stage_of(site(camera()))
    logic = stage.logic(CAMERA)
    frames = standing(24)
    run(logic, [*frames[:20], *frames[21:]])  # the 21st never comes: the last three wait
    stage.on_settings(*message(site(camera(rules=())), 1, START_US + 2_100_000))
    out = logic.on_silence()
    assert [i for i, _ in stamps_of(out)] == [21, 22, 23]
    later = run(logic, standing(3, 24))
    assert not letters_of([*out, *later])
    assert [i for i, _ in stamps_of(later)] == [24, 25, 26]


def test_a_frame_from_before_the_removal_that_comes_after_the_silence_is_worked_on_by_what_held_then() -> None:
    stage = stage_of(site(camera()))
    logic = stage.logic(CAMERA)
    stage.on_settings(*message(site(), 1, START_US + 5 * SECOND_US))
    run(logic, standing(20))
    logic.on_silence()
    out = run(logic, standing(5, 20))
    assert stamps_of(out) == [(i, fingerprint(site(camera()))) for i in range(20, 25)]


def test_a_camera_that_is_added_begins_with_its_time() -> None:
    stage = stage_of(site())
    assert letters_of(run(stage.logic(CAMERA), standing(1)))[0].reason == "unknown_camera"
    stage.on_settings(*message(site(camera()), 1, START_US + SECOND_US))
    out = run(stage.logic(CAMERA), standing(20))
    assert [x.offset for x in letters_of(out)] == list(range(10))
    assert [i for i, _ in stamps_of(out)] == list(range(10, 20))
    assert [a.status for a in acks_of(out)] == ["success"]


def test_another_length_of_windows_reports_what_the_old_ones_held() -> None:
    stage = stage_of(site(camera()))
    stage.on_settings(*message(site(camera(), windows=Windows(length_s=1.0)), 1, START_US + 2 * SECOND_US))
    empty = [to_input(make_frame(30 + i, START_US + (3 + i) * SECOND_US, site="s"), 30 + i) for i in range(20)]
    points = stored(points_of(run(stage.logic(CAMERA), [*standing(30), *empty])))
    frames = {k[2]: f["frame_count"] for k, f in points.items() if k[0] == "camera_window"}
    assert sum(frames.values()) >= 30 and min(b - a for a, b in itertools.pairwise(sorted(frames))) == 10**9


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_an_older_or_equal_version_is_refused_and_the_old_one_stays_in_force() -> None:
    stage = stage_of(site(camera()))
    stage.on_settings(*message(site(camera(silence_s=9.0)), 5, START_US))
    for version in (4, 5):
        (ack,) = acks_of(stage.on_settings(*message(site(camera(silence_s=8.0)), version, START_US)))
        assert (ack.status, ack.errors[0].path) == ("failure", "version")
        assert "above 5" in ack.errors[0].problem
    assert {s[-2:] for _, s in stamps_of(run(stage.logic(CAMERA), standing(3)))} == {"@5"}


def test_the_same_message_again_is_taken_again_and_changes_nothing() -> None:
    stage = stage_of(site(camera()))
    first = acks_of(stage.on_settings(*message(site(), 5, START_US)))
    again = acks_of(stage.on_settings(*message(site(), 5, START_US, offset=1)))
    assert [a.status for a in first + again] == ["success", "success"]
    assert first[0].cameras == again[0].cameras == (CAMERA,)


def test_a_camera_of_another_site_is_refused() -> None:
    stage = stage_of(site(camera()), site(name="t"))
    (ack,) = acks_of(stage.on_settings(*message(site(camera(), name="t"), 1, START_US)))
    assert (ack.status, ack.errors[0].path) == ("failure", "cameras[0].id")
    assert "site 's'" in ack.errors[0].problem


def raw_message(change: Any) -> tuple[str, Input]:
    """A message whose settings are damaged as `change` does to the tree of a good one, its fingerprint kept."""
    m = new_version(site(camera()), 1, START_US, START_US, "", "")
    tree = msgspec.msgpack.decode(m.settings)
    change(tree)
    bad = msgspec.structs.replace(m, settings=msgspec.Raw(msgspec.msgpack.encode(tree)))
    return version_key(m.site, 1, m.fingerprint), Input(encode(bad), 0, 0, 0)


ZONE = "cameras[0].zones[0]"
BAD: dict[str, tuple[Any, str]] = {
    "self-crossing polygon": (lambda t: zone(t).update(polygon=[[0, 0], [1, 1], [1, 0], [0, 1]]), f"{ZONE}.polygon"),
    "two-point polygon": (lambda t: zone(t).update(polygon=[[0, 0], [1, 1]]), f"{ZONE}.polygon"),
    "zone outside the frame": (lambda t: zone(t).update(polygon=[[0, 0], [2, 0], [1, 1]]), f"{ZONE}.polygon[1]"),
    "NaN": (lambda t: zone(t).update(polygon=[[0, 0], [float("nan"), 0], [1, 1]]), f"{ZONE}.polygon[1]"),
    "unknown class": (
        lambda t: (t["cameras"][0].update(detector={"classes": ["person"]}), zone(t).update(classes=["person", "cat"])),
        f"{ZONE}.classes[1]",
    ),
    "duplicate id": (lambda t: zone(t).update(id="left"), "cameras[0].zones[1].id"),
    "rule naming a missing zone": (lambda t: t["cameras"][0]["rules"][0].update(zone="none"), "cameras[0].rules[0].zone"),
    "wrong type": (lambda t: t["cameras"][0].update(silence_s="long"), "cameras[0].silence_s"),
    "unknown field": (lambda t: zone(t).update(colour="red"), ZONE),
    "other site": (lambda t: t.update(site="t"), "site"),
    "not what was signed": (lambda t: t["cameras"][0].update(silence_s=3.0), ""),
}  # fmt: skip


def zone(tree: Any) -> Any:
    """The first zone of a site's tree."""
    return tree["cameras"][0]["zones"][0]


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused_with_their_path_and_the_old_ones_stay(name: str) -> None:
    change, path = BAD[name]
    stage = stage_of(site(camera()))
    (ack,) = acks_of(stage.on_settings(*raw_message(change)))
    assert (ack.status, ack.errors[0].path) == ("failure", path)
    assert ack.errors[0].problem
    assert {s for _, s in stamps_of(run(stage.logic(CAMERA), standing(3)))} == {fingerprint(site(camera()))}


GOOD_KEY, GOOD = message(site(camera()), 1, START_US)
POISON: dict[str, tuple[str, bytes, str]] = {
    "garbage": ("s/1/0123456789ab", b"\xff\x00garbage", "invalid_field"),
    "nothing": ("", b"", "not_messagepack"),
    "a list": ("", b"\x90", "invalid_field"),
    "wrong key": ("s/2/0123456789ab", GOOD.value or b"", "wrong_key"),
    "no key": ("", GOOD.value or b"", "wrong_key"),
    "huge": (GOOD_KEY, (GOOD.value or b"") + bytes(10 << 20), "too_large"),
    "deep": (GOOD_KEY, b"\x91" * 100_000, "invalid_field"),
    "version 0": (GOOD_KEY, encode(msgspec.structs.replace(decode(GOOD.value or b"", SettingsMessage), version=0)), "invalid_field"),
    "later schema": (GOOD_KEY, encode(msgspec.structs.replace(decode(GOOD.value or b"", SettingsMessage), v=2)), "unknown_version"),
    "a frame": (CAMERA, standing(1)[0].value or b"", "invalid_field"),
}  # fmt: skip


@pytest.mark.parametrize("name", POISON)
def test_what_is_no_version_of_anything_becomes_a_dead_letter_and_changes_nothing(name: str) -> None:
    key, value, reason = POISON[name]
    stage = stage_of(site(camera()))
    out = stage.on_settings(key, Input(value, 0, 3, 0))
    (letter,) = letters_of(out)
    assert (letter.reason, letter.topic, letter.stage, letter.offset) == (reason, topics.SETTINGS, "settings", 3)
    assert len(out) == 1
    assert {s for _, s in stamps_of(run(stage.logic(CAMERA), standing(3)))} == {fingerprint(site(camera()))}


def test_a_tombstone_is_no_news() -> None:
    assert stage_of(site(camera())).on_settings("s/1/0123456789ab", Input(None, 0, 0, 0)) == []


@bounded(150)
@given(st.data())
def test_damaged_messages_are_answered_and_raise_nothing(data: st.DataObject) -> None:
    raw = bytearray(GOOD.value or b"")
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    out = STAGE.on_settings(GOOD_KEY, Input(bytes(raw), 0, 0, 0))
    assert len(out) == 1


STAGE = stage_of(site(name="elsewhere"))


# ---- replay and restore -------------------------------------------------------------------------------------------


def scenario() -> tuple[list[tuple[str, Input]], Sequence[Input], SiteSettings]:
    """A noisy scene, and versions that take away and bring back each kind of place, the camera and the tracker."""
    prepared = noisy_scene(5, 12.0)
    base = prepared.scene.settings
    view = base.cameras[0]
    more = Camera(id="spare-camera")
    edits: list[tuple[float, tuple[Camera, ...], Windows]] = [
        (2.0, (msgspec.structs.replace(view, zones=view.zones[:1]),), base.windows),
        (3.5, (msgspec.structs.replace(view, tripwires=(), rules=view.rules[:1]),), base.windows),
        (5.0, (view, more), Windows(length_s=3.0)),
        (6.5, (more,), base.windows),
        (8.0, (msgspec.structs.replace(view, tracker="sort"), more), base.windows),
        (9.0, (view,), base.windows),
    ]
    begun_us = min(r.time_ms for r in prepared.records) * 1000
    versions = []
    for i, (at_s, cameras, windows) in enumerate(edits):
        settings = msgspec.structs.replace(base, cameras=cameras, windows=windows)
        m = new_version(settings, i + 1, begun_us + round(at_s * 1e6), begun_us, "", "")
        versions.append((version_key(m.site, m.version, m.fingerprint), Input(encode(m), 0, i, 0)))
    return versions, prepared.records, base


VERSIONS, RECORDS, BASE = scenario()


def known_from_the_start() -> tuple[list[list[Output]], list[bytes | None]]:
    """Outputs of each record, and the snapshot after it, where the whole topic was read before."""
    stage = stage_of(BASE)
    for version in VERSIONS:
        stage.on_settings(*version)
    logic = stage.logic(CAMERA)
    outputs, snapshots = [], []
    for record in RECORDS:
        outputs.append(logic.on_record(record))
        snapshots.append(logic.snapshot())
    return outputs, snapshots


OUTPUTS, SNAPSHOTS = known_from_the_start()


def test_the_scenario_has_everything_in_it() -> None:
    flat = [o for outputs in OUTPUTS for o in outputs]
    assert {s.partition("@")[2] for _, s in stamps_of(flat)} == {"", "1", "2", "3", "5", "6"}
    assert {"settings", "unseen"} <= {e.reason for e in events_of(flat)}
    assert [x.reason for x in letters_of(flat)] and [a.status for a in acks_of(flat)] == ["success"] * 5


@bounded(120)
@given(st.lists(st.integers(0, len(RECORDS) - 1), max_size=6), st.data())
def test_restored_at_any_record_and_with_versions_that_come_at_any_time_before_theirs_the_bytes_are_the_same(
    cuts: list[int], data: st.DataObject
) -> None:
    """A restart reads the whole topic anew; without one, a version may come with any frame before its time."""
    times = [decode(v.value or b"", SettingsMessage).from_us for _, v in VERSIONS]
    first_after = [next(i for i, r in enumerate(RECORDS) if r.time_ms * 1000 >= t) for t in times]
    arrivals, earliest = [], 0
    for latest in first_after:
        earliest = data.draw(st.integers(earliest, latest))
        arrivals.append(earliest)
    stage = stage_of(BASE)
    logic = stage.logic(CAMERA)
    for i, record in enumerate(RECORDS):
        for version, at in zip(VERSIONS, arrivals, strict=True):
            if at == i:
                stage.on_settings(*version)
        assert logic.on_record(record) == OUTPUTS[i], i
        assert logic.snapshot() == SNAPSHOTS[i], i
        if i in cuts:
            state = store(logic)
            stage = stage_of(BASE)
            came = sum(at <= i for at in arrivals)
            for version in VERSIONS[: data.draw(st.integers(came, len(VERSIONS)))]:  # more may have been sent by now
                stage.on_settings(*version)
            logic = stage.logic(CAMERA)
            take_up(logic, state)


def test_restored_after_each_record_the_bytes_are_the_same() -> None:
    state: Stored | None = None
    for i, record in enumerate(RECORDS):
        stage = stage_of(BASE)
        for version in VERSIONS:
            stage.on_settings(*version)
        logic = stage.logic(CAMERA)
        if state is not None:
            take_up(logic, state)
        assert logic.on_record(record) == OUTPUTS[i], i
        state = store(logic)
        assert state.snapshot == SNAPSHOTS[i], i


def test_a_state_from_settings_that_nobody_knows_any_more_is_taken_up_under_what_holds_now() -> None:
    """As after an upgrade with other settings: places are matched by id."""
    stage = stage_of(site(camera()))
    logic = stage.logic(CAMERA)
    run(logic, standing(20))
    old = msgspec.msgpack.decode(logic.snapshot() or b"")
    other = stage_of(site(camera(zones=camera().zones[:1], rules=())))
    again = other.logic(CAMERA)
    old[_State.__struct_fields__.index("settings")] = "0123456789ab@7"
    again.restore(msgspec.msgpack.encode(old))
    out = run(again, standing(20, 20))
    assert {e.zone for e in events_of(out) if e.kind == "exit"} <= {"all"}
    assert {s for _, s in stamps_of(out)} == {fingerprint(other.sites[0])}


def test_an_event_kind_has_the_fields_of_its_version() -> None:
    """The stamp fits the field of the wire format."""
    assert "settings" in Event.__struct_fields__ and len(f"{'0' * 12}@{10**9}") <= 256
