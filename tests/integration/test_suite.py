"""Kafka → suite → Kafka and InfluxDB on the real cluster: what comes out is what happened.

`undisturbed` (conftest.py) runs the scene once; the truth comes from the scene's paths, which nothing of the job sees.
Where a time is that of a frame, the truth is what a perfect observer sees at the frame times (`sampled_truth`).
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest

from schemas import topics
from schemas.wire import AlertTransition, DetectionFrame, Event, TrackFrame, unpack_boxes
from simulator.truth import Truth, WireFigures, ZoneFigures, sampled_truth, scene_truth
from tests.integration.outcome import Outcome, Points, difference
from tests.integration.scenes import SILENCE_S, two_sites

CONFIRM_S = 0.35  # a new object counts in a crowd once its track is confirmed: 0.15 s and the next frame
UNSEEN_S = 1.5  # an alert opens at a frame that shows its object: objects may be hidden for 0.75 s, frames may be lost
QUIET_S = 1.2  # frames come at least once a second
MEAN_STEP = 2e-6  # means are rounded to 6 digits, after sums in another order

WINDOW: dict[str, type] = {"revision": int, "complete": bool}
ZONE: dict[str, type] = {
    "enter_count": int, "born_inside_count": int, "exit_count": int, "occupancy_min": int, "occupancy_mean": float,
    "occupancy_max": int, "occupancy": int, "visit_count": int, "dwell_sum_s": float, "dwell_max_s": float,
    "dwell_p50_s": float, "dwell_p90_s": float, "dwell_p95_s": float, "dwell_p99_s": float, "speed_count": int,
    "speed_mean_mps": float, "speed_max_mps": float, "speed_p50_mps": float, "speed_p85_mps": float, **WINDOW,
}  # fmt: skip
TRIPWIRE: dict[str, type] = {"left_count": int, "right_count": int, **WINDOW}
OBJECT: dict[str, type] = {"seen_count": int, "present_min": int, "present_mean": float, "present_max": int, **WINDOW}
FIELDS: dict[str, dict[str, type]] = {
    "camera_window": {
        "frame_count": int, "detection_count": int, "duplicate_count": int, "missing_count": int, "refused_count": int,
        "late_count": int, "untracked_count": int, "refused_change_count": int, "refused_alert_count": int,
        "refused_pair_count": int, **WINDOW,
    },
    "zone_window": ZONE,
    "zone_sliding": ZONE,
    "tripwire_window": TRIPWIRE,
    "tripwire_sliding": TRIPWIRE,
    "object_window": OBJECT,
    "object_sliding": OBJECT,
    "flow_window": {
        "count": int, "transit_sum_s": float, "transit_mean_s": float, "transit_max_s": float, **WINDOW,
    },
    "heat_map": {"row": int, "column": int, "seconds": float, **WINDOW},
    "visit": {"dwell_s": float, "born_inside": bool, "subject": str},
    "alert": {
        "alert_id": str, "zone": str, "subject": str, "class": str, "value": float, "start_us": int,
        "rule_version": int, "reason": str, "severity": str, "cause": str, "incident": str, "tripwire": str,
        "subject_count": int, "acknowledged_by": str, "muted": bool, "off_hours": bool,
    },
}  # fmt: skip
TAGS = {
    "camera_window": {"site", "camera"},
    "zone_window": {"site", "camera", "class", "zone"},
    "zone_sliding": {"site", "camera", "class", "zone", "window"},
    "tripwire_window": {"site", "camera", "class", "tripwire"},
    "tripwire_sliding": {"site", "camera", "class", "tripwire", "window"},
    "object_window": {"site", "camera", "class"},
    "object_sliding": {"site", "camera", "class", "window"},
    "flow_window": {"site", "camera", "class", "from", "to"},
    "heat_map": {"site", "camera"},
    "visit": {"site", "camera", "class", "zone"},
    "alert": {"site", "camera", "rule", "rule_type", "transition"},
}


@pytest.fixture(scope="module")
def seen() -> list[Truth]:
    """What perfect observers see at the frame times, per site."""
    return [sampled_truth(scene) for scene in two_sites().scenes]


@pytest.fixture(scope="module")
def paths() -> list[Truth]:
    """What the paths say, per site."""
    return [scene_truth(scene) for scene in two_sites().scenes]


@pytest.fixture(scope="module")
def frames() -> list[DetectionFrame]:
    """Every frame that was sent."""
    return list(two_sites().frames())


@pytest.fixture(scope="module")
def events(undisturbed: Outcome) -> list[Event]:
    """Every event that came out."""
    return undisturbed.decoded(topics.EVENTS, Event)


@pytest.fixture(scope="module")
def alerts(undisturbed: Outcome) -> list[AlertTransition]:
    """Every transition of an alert that came out."""
    return undisturbed.decoded(topics.ALERTS, AlertTransition)


def test_the_job_ran_through_without_a_restart_or_a_dead_letter(undisturbed: Outcome) -> None:
    assert undisturbed.notes["failures"] == []
    assert undisturbed.values(topics.DEAD_LETTERS) == []


def test_python_runs_inside_the_taskmanager_and_not_in_processes_of_its_own(undisturbed: Outcome) -> None:
    """Flink falls back to process mode without a word where thread mode is not possible."""
    assert undisturbed.notes["python_processes"] == []
    assert any("pemja" in path for path in undisturbed.notes["python_libraries"])
    assert any("libpython" in path for path in undisturbed.notes["python_libraries"])


def test_there_is_one_track_frame_for_each_frame_sent(undisturbed: Outcome, frames: list[DetectionFrame]) -> None:
    tracks = undisturbed.decoded(topics.TRACKS, TrackFrame)
    assert difference(
        [(t.camera, t.boot, t.seq, t.capture_us, t.sent_us) for t in tracks],
        [(f.camera, f.boot, f.seq, f.capture_us, f.sent_us) for f in frames],
    ) == ""  # fmt: skip
    assert all(
        m.timestamp_ms > 0 and m.key == t.camera.encode()
        for m, t in zip(undisturbed.topics[topics.TRACKS], tracks, strict=True)
    )


def overlaps(a: Any, b: Any) -> Any:
    """Return the M×N intersections over unions of boxes M×4 and N×4 (corners)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=2)
    area_a, area_b = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b))
    return shared / (area_a[:, None] + area_b[None, :] - shared)


def test_every_object_is_one_track_with_its_own_boxes(
    undisturbed: Outcome, events: list[Event], frames: list[DetectionFrame], seen: list[Truth]
) -> None:
    """As many tracks as objects, and each observed box of a track is, but for noise, one that was sent in that frame."""
    objects = Counter((camera, label) for truth in seen for camera, _, label, _ in truth.seen)
    assert difference([(e.camera, e.label) for e in events if e.kind == "track_end"], objects.elements()) == ""
    sent = {(f.camera, f.capture_us): unpack_boxes(f) for f in frames}
    observed = 0
    for t in undisturbed.decoded(topics.TRACKS, TrackFrame):
        is_seen = np.frombuffer(t.states, np.uint8) == 0
        boxes = unpack_boxes(t)[is_seen]
        if len(boxes):
            overlap = overlaps(boxes, sent[t.camera, t.capture_us])
            assert len(set(overlap.argmax(axis=1))) == len(boxes)
            assert overlap.max(axis=1).min() > 0.7
        observed += len(boxes)
    unseen_before_confirmation = 3 * sum(objects.values())
    assert observed > sum(len(b) for b in sent.values()) - unseen_before_confirmation


def test_visits_are_those_that_happened(undisturbed: Outcome, events: list[Event], seen: list[Truth]) -> None:
    expected = [
        (v.camera, v.zone, v.label, v.enter_us, v.exit_us, v.born_inside) for truth in seen for v in truth.visits
    ]
    assert len(expected) > 60
    enters = [(e.camera, e.zone, e.label, e.at_us, e.born_inside) for e in events if e.kind == "enter"]
    assert difference(enters, [(c, z, label, a, born) for c, z, label, a, _, born in expected]) == ""
    exits = [
        (e.camera, e.zone, e.label, e.at_us - round(e.dwell_s * 1e6), e.at_us, e.born_inside)
        for e in events
        if e.kind == "exit"
    ]
    assert difference(exits, expected) == ""
    points = [
        (k.tag("camera"), k.tag("zone"), k.tag("class"), k.at_ns // 1000 - round(f["dwell_s"] * 1e6), k.at_ns // 1000,
         f["born_inside"])
        for k, f in undisturbed.measured("visit").items()
    ]  # fmt: skip
    assert difference(points, expected) == ""


def test_crossings_are_those_that_happened_at_their_times(events: list[Event], paths: list[Truth]) -> None:
    expected = sorted((c.camera, c.tripwire, c.label, c.direction, c.at_us) for t in paths for c in t.crossings)
    found = sorted((e.camera, e.tripwire, e.label, e.direction, e.at_us) for e in events if e.kind == "crossing")
    assert len(expected) > 60
    assert difference([c[:4] for c in found], [c[:4] for c in expected]) == ""
    # The moment between two frames is interpolated: exact for a straight walk, save for float32.
    assert max(abs(a[4] - b[4]) for a, b in zip(found, expected, strict=True)) < 1000


def test_alerts_open_and_close_when_they_should(alerts: list[AlertTransition], seen: list[Truth]) -> None:
    expected = sorted((a.camera, a.rule, a.end_us, a.start_us, a.open_us, a.zone) for t in seen for a in t.alerts)
    by_id: dict[str, dict[str, list[AlertTransition]]] = defaultdict(lambda: defaultdict(list))
    for t in alerts:
        if t.rule_type != "source_lost":
            by_id[t.alert_id][t.transition].append(t)
    assert all(len(life["open"]) == len(life["close"]) == 1 for life in by_id.values())
    lives = [(life["open"][0], life["close"][0]) for life in by_id.values()]
    found = sorted((o.camera, o.rule, c.at_us, o.start_us, o.at_us, o.zone) for o, c in lives)
    assert len(expected) > 40
    assert difference([f[:3] for f in found], [e[:3] for e in expected]) == ""
    for f, e in zip(found, expected, strict=True):
        late_s = (f[3] - e[3]) / 1e6, (f[4] - e[4]) / 1e6
        allowed_s = CONFIRM_S if f[1] == "crowd" else 0.0
        assert f[5] == e[5] and 0 <= late_s[0] <= allowed_s and 0 <= late_s[1] <= UNSEEN_S + allowed_s, (f, e)


def test_an_open_alert_is_repeated_and_every_transition_explains_itself(alerts: list[AlertTransition]) -> None:
    rules = {(s.site, r.id): r for s in two_sites().sites for c in s.cameras for r in c.rules}
    lives: dict[str, list[AlertTransition]] = defaultdict(list)
    for t in alerts:
        if t.rule_type != "source_lost":
            lives[t.alert_id].append(t)
    updates = 0
    for life in lives.values():
        order = sorted(life, key=lambda t: (("open", "update", "close").index(t.transition), t.at_us))
        update_s = rules[order[0].site, order[0].rule].update_s
        for before, after in itertools.pairwise(order):
            gap_s = (after.at_us - before.at_us) / 1e6
            assert gap_s <= update_s + QUIET_S, (before, after)
            assert gap_s >= update_s or after.transition == "close"
            assert after.before == before.value
        updates += sum(t.transition == "update" for t in order)
        for t in order:
            assert t.reason and t.thresholds and t.settings and t.model_sha and t.subjects
            assert t.evidence_from_us == t.start_us and t.input_partition >= 0 and t.input_offset >= 0
    assert updates > 5
    ids = [t.id for t in alerts]
    assert len(set(ids)) == len(ids)


def test_each_camera_is_lost_once_after_its_last_frame_and_not_before(
    alerts: list[AlertTransition], events: list[Event], frames: list[DetectionFrame]
) -> None:
    last_us = {f.camera: f.capture_us for f in frames}
    lost = [(t.camera, t.transition, t.at_us) for t in alerts if t.rule_type == "source_lost"]
    assert difference(lost, [(camera, "open", at_us) for camera, at_us in last_us.items()]) == ""
    assert difference([(e.camera, e.at_us) for e in events if e.kind == "source_lost"], last_us.items()) == ""
    assert SILENCE_S < 10


def test_alert_points_are_the_alert_transitions(undisturbed: Outcome, alerts: list[AlertTransition]) -> None:
    points = [
        (f["alert_id"], k.tag("transition"), k.at_ns // 1000, f["value"], f["start_us"], k.tag("rule"), f["reason"])
        for k, f in undisturbed.measured("alert").items()
    ]
    said = [(t.alert_id, t.transition, t.at_us, t.value, t.start_us, t.rule, t.reason) for t in alerts]
    assert difference(points, said) == ""


def test_every_point_has_all_fields_of_its_measurement_and_no_id_as_tag(undisturbed: Outcome) -> None:
    assert {k.measurement for k in undisturbed.points} == set(FIELDS)
    for key, fields in undisturbed.points.items():
        assert {name: type(value) for name, value in fields.items()} == FIELDS[key.measurement], key
        assert {name for name, _ in key.tags} == TAGS[key.measurement]


def test_zone_windows_are_what_happened_in_them(undisturbed: Outcome, seen: list[Truth]) -> None:
    points = undisturbed.measured("zone_window")
    born = Counter(
        (v.camera, v.zone, v.label, v.enter_us // t.window_us * t.window_us)
        for t in seen for v in t.visits if v.born_inside
    )  # fmt: skip
    checked = 0
    for truth in seen:
        for (camera, zone, label, start_us), expected in truth.zone_figures().items():
            found = pop(points, start_us, camera=camera, zone=zone, label=label)
            if found is None:  # a class that this camera has not seen yet
                assert not label or expected == ZoneFigures(), (camera, zone, label, start_us)
                continue
            got = tuple(
                found[n] for n in ("enter_count", "exit_count", "visit_count", "occupancy_min", "occupancy_max")
            )
            dwells_s = expected.dwells_s
            want = (expected.enter_count, expected.exit_count, len(dwells_s), expected.occupancy_min, expected.occupancy_max)  # fmt: skip
            assert got == want, (camera, zone, label, start_us)
            assert found["born_inside_count"] == born[camera, zone, label, start_us]
            assert found["occupancy_mean"] == pytest.approx(expected.occupancy_mean, abs=MEAN_STEP)
            assert found["dwell_sum_s"] == pytest.approx(sum(dwells_s), abs=MEAN_STEP)
            assert found["dwell_max_s"] == pytest.approx(max(dwells_s, default=0.0), abs=MEAN_STEP)
            checked += 1
    assert points == {} and checked > 100


def test_tripwire_windows_count_what_crossed_in_them(undisturbed: Outcome, paths: list[Truth]) -> None:
    points = undisturbed.measured("tripwire_window")
    checked = 0
    for truth in paths:
        for (camera, wire, label, start_us), expected in truth.wire_figures().items():
            found = pop(points, start_us, camera=camera, tripwire=wire, label=label)
            if found is None:
                assert not label or expected == WireFigures(), (camera, wire, label, start_us)
                continue
            assert (found["left_count"], found["right_count"]) == (expected.left_count, expected.right_count)
            checked += 1
    assert points == {} and checked > 100


def test_object_windows_count_who_was_there(undisturbed: Outcome, seen: list[Truth]) -> None:
    points = undisturbed.measured("object_window")
    for truth in seen:
        for (camera, label, start_us), expected in truth.distinct_counts().items():
            found = pop(points, start_us, camera=camera, label=label)
            if found is None:
                assert not label or expected == 0, (camera, label, start_us)
                continue
            assert found["seen_count"] == expected, (camera, label, start_us)
            assert found["present_min"] <= found["present_mean"] <= found["present_max"] <= expected
    assert points == {}


def test_camera_windows_count_every_frame_and_detection_once(
    undisturbed: Outcome, frames: list[DetectionFrame]
) -> None:
    frame_count: Counter[tuple[str, int]] = Counter()
    detection_count: Counter[tuple[str, int]] = Counter()
    for f in frames:
        start_us = f.capture_us // 10_000_000 * 10_000_000
        frame_count[f.camera, start_us] += 1
        detection_count[f.camera, start_us] += len(f.classes)
    found = {(k.tag("camera"), k.at_ns // 1000): f for k, f in undisturbed.measured("camera_window").items()}
    assert {k: f["frame_count"] for k, f in found.items()} == dict(frame_count)
    assert {k: f["detection_count"] for k, f in found.items()} == {k: detection_count[k] for k in frame_count}
    undisturbed_counts = ("duplicate_count", "missing_count", "refused_count", "untracked_count")
    assert not any(f[name] for f in found.values() for name in undisturbed_counts)


def test_only_the_windows_that_were_open_at_the_end_are_incomplete(undisturbed: Outcome) -> None:
    ends_us = {scene.end_us for scene in two_sites().scenes}
    last_us = min(ends_us) - 20_000_000
    for key, fields in undisturbed.points.items():
        if key.measurement.endswith("_window"):
            assert fields["complete"] or key.at_ns // 1000 >= last_us, key
            assert fields["revision"] == 0


def test_heat_maps_have_the_seconds_in_which_objects_were_seen(
    undisturbed: Outcome, frames: list[DetectionFrame]
) -> None:
    """Each detection of this scene is an object; it stands for the time since the frame before."""
    sent: dict[str, float] = defaultdict(float)
    last_us: dict[str, int] = {}
    for f in frames:
        sent[f.camera] += len(f.classes) * min((f.capture_us - last_us.get(f.camera, f.capture_us)) * 1e-6, 1.0)
        last_us[f.camera] = f.capture_us
    found: dict[str, float] = defaultdict(float)
    for key, fields in undisturbed.measured("heat_map").items():
        assert key.at_ns % 1000 == fields["row"] * 16 + fields["column"]
        found[key.tag("camera")] += fields["seconds"]
    assert set(found) == set(sent)
    for camera, seconds in sent.items():
        assert found[camera] == pytest.approx(seconds, rel=0.05)


def test_sliding_windows_sum_up_their_tumbling_ones(undisturbed: Outcome) -> None:
    tumbling = undisturbed.measured("tripwire_window")
    checked = 0
    for key, fields in undisturbed.measured("tripwire_sliding").items():
        names = ("site", "camera", "class", "tripwire")
        inside = [
            f
            for k, f in tumbling.items()
            if key.at_ns <= k.at_ns < key.at_ns + 30_000_000_000 and all(k.tag(n) == key.tag(n) for n in names)
        ]
        assert key.tag("window") == "30s"
        assert fields["left_count"] == sum(f["left_count"] for f in inside)
        assert fields["right_count"] == sum(f["right_count"] for f in inside)
        checked += 1
    assert checked > 50


def pop(points: Points, start_us: int, *, label: str, **places: str) -> dict[str, object] | None:
    """Take out the point of one window, None where there is none."""
    for key in points:
        if (
            key.at_ns == start_us * 1000
            and key.tag("class") == label
            and all(key.tag(n) == v for n, v in places.items())
        ):
            return points.pop(key)
    return None
