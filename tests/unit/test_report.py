"""The report from messages, without servers: figures, pictures' frames, escaping, empty spans."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.ids import track_id
from schemas.settings import HeatMap
from schemas.settings_file import parse_settings
from schemas.wire import AlertTransition, CameraHealth, DetectionFrame, Event, Health, TrackFrame
from sightflow.demo_summary import sparkline
from sightflow.errors import CheckFailed, SightflowError
from sightflow.report import moments
from sightflow.report.command import moment_us
from sightflow.report.footage import TOLERANCE_US, PushLog
from sightflow.report.outcome import Occupancy, latency, level_at, occupancy, summarise
from sightflow.report.page import Material, Shot, render, thresholds_text
from sightflow.report.points import Points, Row, flux, query_points
from sightflow.report.records import Records, Span, Stamped
from sightflow.stack.influx import InfluxTarget

T0 = 1_700_000_000_000_000
S = 1_000_000
EVIL = '<script>alert("x")</script>'
SITE = parse_settings(
    b"""
version: 1
site: test-site
timezone: Europe/London
cameras:
  - id: cam
    zones: [{id: hall, polygon: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]}]
    tripwires: [{id: door, points: [[0.5, 0.9], [0.5, 0.1]]}]
    rules:
      - {id: crowd, type: crowding, zone: hall, count: 2}
      - {id: loiter, type: loitering, zone: hall, since_s: 5}
"""
)
CAMERA = SITE.cameras[0]
SPAN = Span(T0, T0 + 100 * S)


def detections(seq: int, label: str = "person", camera_clock: Any = "rtcp_sr") -> DetectionFrame:
    at_us = T0 + seq * S // 10
    return DetectionFrame(
        site="test-site", camera="cam", boot=T0, seq=seq, capture_us=at_us, clock=camera_clock, recv_us=at_us,
        sent_us=at_us + 5000, width_px=640, height_px=480, model="m", model_sha="aa", labels=(label,),
    )  # fmt: skip


def tracks(seq: int, label: str = "person") -> TrackFrame:
    at_us = T0 + seq * S // 10
    x = 0.2 + seq * 0.01
    return TrackFrame(
        site="test-site", camera="cam", boot=T0, seq=seq, capture_us=at_us, sent_us=at_us + 5000, width_px=640,
        height_px=480, settings="5e7", labels=(label,), born_us=np.array([T0], "<i8").tobytes(),
        ordinals=np.array([7], "<u4").tobytes(), boxes=np.array([[x, 0.2, x + 0.1, 0.6]], "<f4").tobytes(),
        velocities=bytes(8), states=b"\0", classes=b"\0", scores=np.array([0.9], "<f4").tobytes(),
    )  # fmt: skip


def event(kind: Any, at_s: float, **fields: Any) -> Event:
    at_us = T0 + int(at_s * S)
    subject = fields.pop("subject", track_id("test-site", "cam", T0, 7))
    return Event(
        id=f"{kind}/{subject}/{at_us}",
        kind=kind,
        site="test-site",
        camera="cam",
        subject=subject,
        at_us=at_us,
        **fields,
    )


def alert(transition: Any, at_s: float, reason: str = "2 inside hall", **fields: Any) -> AlertTransition:
    given: dict[str, Any] = {
        "alert_id": "a1", "rule": "crowd", "rule_type": "crowding", "zone": "hall", "start_us": T0 + 2 * S,
        "detection_sent_us": T0 + int(at_s * S), "thresholds": {"count": 2.0, "hold_s": 2.0},
        "subjects": (track_id("test-site", "cam", T0, 7),),
    }  # fmt: skip
    given |= fields
    return AlertTransition(
        id=f"{given['alert_id']}#{transition}", transition=transition, site="test-site", camera="cam", rule_version=1,
        at_us=T0 + int(at_s * S), reason=reason, **given,
    )  # fmt: skip


def stamp(message: Any, record_us: int) -> Stamped[Any]:
    return Stamped(message, record_us)


def records(count: int = 50, label: str = "person", reason: str = "2 inside hall") -> Records:
    return Records(
        detections=[stamp(detections(i, label), 0) for i in range(count)],
        tracks=[stamp(tracks(i, label), T0 + i * S // 10 + 15_000) for i in range(count)],
        events=[
            stamp(e, 0)
            for e in (
                event("enter", 1, zone="hall", label=label),
                event("exit", 4, zone="hall", label=label, dwell_s=3.0),
                event("crossing", 2, tripwire="door", direction="left", label=label),
            )
        ],
        alerts=[stamp(alert("open", 3, reason), T0 + 3 * S + 8000), stamp(alert("close", 4), T0 + 4 * S + 12_000)],
        health=[stamp(health(count), 0)],
    )


def health(sent: int) -> Health:
    camera = CameraHealth(
        camera="cam", state="stopped", captured_count=sent + 3, sent_count=sent, dropped={"detector_busy": 3}
    )
    return Health(site="test-site", agent="agent", boot=T0, seq=1, at_us=T0, cameras=(camera,), backend="cpu")


def points(label: str = "person") -> Points:
    tags = {"camera": "cam", "class": label, "site": "test-site"}
    return Points(
        camera_windows=[{"at_us": T0, "frame_count": 50, "detection_count": 50, "complete": True}],
        tripwire_windows=[tags | {"at_us": T0, "tripwire": "door", "left_count": 1, "right_count": 0}],
        zone_windows=[
            tags
            | {
                "at_us": T0, "zone": "hall", "enter_count": 1, "born_inside_count": 0, "exit_count": 1, "visit_count": 1,
                "occupancy_mean": 0.3, "occupancy_max": 1, "dwell_sum_s": 3.0,
            }
        ],
        visits=[tags | {"at_us": T0 + 4 * S, "zone": "hall", "dwell_s": 3.0, "born_inside": False}],
        alerts=[{"at_us": T0 + 3 * S}, {"at_us": T0 + 4 * S}],
        flow_windows=[
            {"from": "hall", "to": "side", "class": label, "count": n, "transit_sum_s": 2.0 * n, "at_us": T0} for n in (1, 2)
        ],
        heat_cells=[
            {"row": 1, "column": 2, "seconds": 1.5, "at_us": T0}, {"row": 1, "column": 2, "seconds": 2.0, "at_us": T0},
            {"row": 0, "column": 0, "seconds": 0.25, "at_us": T0},
        ],
    )  # fmt: skip


def page(found: Records, stored: Points, jpeg: bytes | None = None) -> str:
    o = summarise(SITE, CAMERA, found, stored, SPAN)
    events = [e.message for e in found.events]
    frames = [t.message for t in found.tracks]
    drawn = [
        moments.draw_up(at, title, subjects, frames, events, o, CAMERA)
        for at, title, subjects in moments.choose_moments(o, events)
    ]
    return render(Material(o, CAMERA, events, frames, [Shot(m, jpeg) for m in drawn if m is not None]))


def test_figures_are_those_of_the_messages() -> None:
    o = summarise(SITE, CAMERA, records(), points(), SPAN, whole_run=True)
    assert o.objects == {"person": 1}
    assert [(c.left_count, c.right_count) for c in o.crossings] == [(1, 0)]
    assert [(v.count, v.mean_dwell_s) for v in o.visits] == [(1, 3.0)]
    assert (o.frames.sent_count, o.frames.track_count, o.frames.lost_count, o.frames.duplicate_count) == (50, 50, 0, 0)
    assert o.frames.fps == pytest.approx(10.0)
    assert o.detection_to_alert == latency([8000, 12_000])
    assert o.detection_to_track.p50_ms == pytest.approx(10.0)
    assert o.problems == ()


def test_repeats_count_once_and_are_reported() -> None:
    found = records()
    found.tracks.append(found.tracks[3])
    found.detections.append(found.detections[3])
    found.alerts.append(found.alerts[0])
    o = summarise(SITE, CAMERA, found, points(), SPAN, whole_run=True)
    assert (o.frames.duplicate_count, o.frames.resent_count, o.frames.lost_count) == (1, 1, 0)
    assert len(o.incidents) == 1
    assert o.detection_to_alert.count == 2
    assert any("twice" in p for p in o.problems)


def test_a_lost_frame_is_a_problem_whether_or_not_the_agent_is_asked() -> None:
    for whole_run in (False, True):
        found = records()
        del found.tracks[20]
        o = summarise(SITE, CAMERA, found, points(), SPAN, whole_run=whole_run)
        assert o.frames.lost_count == 1
        assert any("lost" in p for p in o.problems)


def test_frames_that_never_reached_kafka_are_lost_by_the_agents_own_word() -> None:
    found = records(50)
    found.health = [stamp(health(53), 0)]
    assert summarise(SITE, CAMERA, found, points(), SPAN, whole_run=True).frames.lost_count == 3


def test_influx_that_disagrees_with_kafka_is_a_problem() -> None:
    stored = points()
    stored.visits = []
    problems = summarise(SITE, CAMERA, records(), stored, SPAN, whole_run=True).problems
    assert problems == ("InfluxDB has 0 visits, Kafka has 1",)


def test_alerts_fold_to_one_incident_with_its_end() -> None:
    (i,) = summarise(SITE, CAMERA, records(), points(), SPAN).incidents
    assert (i.open_us - T0, i.close_us - T0) == (3 * S, 4 * S)
    assert i.latency_ms == pytest.approx(8.0)


def test_an_alert_by_silence_has_no_latency() -> None:
    found = records()
    found.alerts = [stamp(alert("open", 3, detection_sent_us=0, rule_type="source_lost"), T0 + 9 * S)]
    o = summarise(SITE, CAMERA, found, points(), SPAN)
    assert o.detection_to_alert.count == 0
    assert o.incidents[0].latency_ms is None


def test_occupancy_knows_visits_from_before_the_span_and_those_still_going_on() -> None:
    events = [
        event("exit", 2, zone="hall", dwell_s=9.0, subject="old"),
        event("enter", 1, zone="hall", subject="new"),
        event("enter", 1, zone="elsewhere", subject="other"),
    ]
    curve = occupancy("hall", events, T0, T0 + 10 * S)
    assert curve.steps == ((T0, 1), (T0 + S, 2), (T0 + 2 * S, 1))
    assert curve.max_count == 2
    assert curve.mean_count == pytest.approx((1 + 2 + 8) / 10)
    assert level_at(curve, T0 + 1_500_000) == 2


def test_sparkline_shows_nobody_as_blank_and_the_most_as_full() -> None:
    curve = Occupancy("hall", ((0, 0), (2 * S, 1), (4 * S, 5)), 0, 5)
    assert sparkline(curve, 0, 6 * S, width=3) == " ▁█"


def test_the_page_says_what_happened() -> None:
    html = page(records(), points())
    for text in (
        "test-site",
        "Alert “crowd” opens",
        "2 inside hall",
        "count 2, hold 2 s",
        "to the left",
        "Europe/London",
    ):
        assert text in html
    assert html.count("<svg") >= 4
    assert all('role="img" aria-label="' in svg for svg in re.findall(r"<svg[^>]*>", html))


def test_the_page_fetches_nothing_and_runs_no_script() -> None:
    html = page(records(), points(), jpeg=b"\xff\xd8picture")
    assert not re.search(r"<(script|link|iframe|object|embed)\b", html)
    assert re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', html) == []
    assert "url(" not in html
    assert "data:image/jpeg;base64," in html


def test_texts_from_messages_are_escaped_everywhere() -> None:
    html = page(records(label=EVIL, reason=EVIL), points(EVIL))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert 'alert("x")' not in html


def test_an_empty_span_makes_a_page_that_says_so() -> None:
    html = page(Records(), Points())
    assert "no detections arrived on Kafka" in html
    assert "No alert in this span." in html
    assert "No window is closed yet." in html


def test_without_footage_the_ways_are_drawn_on_a_blank_frame() -> None:
    html = page(records(), points())
    assert 'class="blank"' in html
    assert "All 1 ways" in html
    assert "data:image" not in html


def test_moments_know_nothing_of_what_came_later() -> None:
    found = records()
    o = summarise(SITE, CAMERA, found, points(), SPAN)
    events = [e.message for e in found.events]
    moment = moments.draw_up(T0 + S // 2, "t", (), [t.message for t in found.tracks], events, o, CAMERA)
    assert moment is not None
    assert (moment.inside, moment.crossed) == ({"hall": 0}, {"door": (0, 0)})
    assert moments.draw_up(T0 - 1, "t", (), [t.message for t in found.tracks], events, o, CAMERA) is None


def test_a_capture_time_finds_the_frame_that_was_shown_then_or_none(tmp_path: Path) -> None:
    log = tmp_path / "pushes.jsonl"
    lines = [{"mount": "cam", "loop": 0, "frame": i, "capture_us": T0 + i * 100_000} for i in range(5)]
    lines.append({"mount": "other", "loop": 0, "frame": 99, "capture_us": T0 + 250_000})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"mount": "cam", "fr')
    pushes = PushLog.read(log, "cam")
    assert pushes.frame_at(T0 + 2 * 100_000 + 900) == 2
    assert pushes.frame_at(T0 + 250_000) is None
    assert pushes.frame_at(T0 + 4 * 100_000 + TOLERANCE_US + 1) is None
    with pytest.raises(SightflowError, match="cannot be read"):
        PushLog.read(tmp_path / "none", "cam")


def test_times_are_read_as_ago_or_in_the_sites_time_zone() -> None:
    assert moment_us("2m", "UTC", T0) == T0 - 120 * S
    assert moment_us("2023-07-01T12:00", "Europe/London", T0) == moment_us("2023-07-01T11:00Z", "UTC", T0)
    with pytest.raises(CheckFailed, match="not a time"):
        moment_us("yesterday", "UTC", T0)


def test_names_cannot_leave_their_place_in_a_query() -> None:
    text = flux("b", "visit", 'x" or true) //${evil}', SPAN)
    assert '"x\\" or true) //\\${evil}"' in text


def test_thresholds_carry_their_units() -> None:
    assert thresholds_text({"count": 4.0, "hold_s": 2.0}) == "count 4, hold 2 s"
    told = thresholds_text(
        {"limit_mps": 8.0, "sure_sd": 1.0, "distance_m": 2.5, "tolerance_deg": 60.0, "owner_ratio": 1.5}
    )
    assert told == "limit 8 m/s, sure 1 deviations, distance 2.5 m, tolerance 60°, owner_ratio 1.5"


def test_the_outcome_is_plain_data() -> None:
    o = summarise(SITE, CAMERA, records(), points(), SPAN)
    assert msgspec.json.decode(msgspec.json.encode(o))["frames"]["track_count"] == 50


@pytest.mark.parametrize("plane", ["image", "ground"])
def test_cells_and_flows_of_all_windows_are_added_up_and_drawn(plane: str) -> None:
    o = summarise(SITE, CAMERA, records(), points(), SPAN)
    assert o.heat == ((0, 0, 0.25), (1, 2, 3.5))
    assert [(f.from_zone, f.to_zone, f.count, f.mean_s) for f in o.flows] == [("hall", "side", 3, 2.0)]
    grid = HeatMap(plane=plane, columns=4, rows=3, to_m=(8.0, 6.0))  # type: ignore[arg-type]
    camera = msgspec.structs.replace(CAMERA, heat_map=grid)
    found = records()
    html = render(Material(o, camera, [e.message for e in found.events], [t.message for t in found.tracks]))
    assert "3.5 s</title>" in html and "4 object-seconds in all" in html and "From zone to zone" in html
    assert ("seen from above" in html) == (plane == "ground")
    without = render(Material(o, CAMERA, [e.message for e in found.events], [t.message for t in found.tracks]))
    assert "object-seconds" not in without


def test_windows_and_periods_of_the_heat_map_are_asked_for_from_the_one_that_holds_the_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, str] = {}

    def query(_: InfluxTarget, text: str) -> list[Row]:
        found = re.search(r'start: time\(v: (\d+)\).*_measurement == "(\w+)"', text)
        assert found
        asked[found[2]] = found[1]
        return []

    monkeypatch.setattr("sightflow.report.points.query", query)
    target = InfluxTarget("http://127.0.0.1:1", "o", "b", Path("/nowhere"), Path("/nowhere"), local=False)
    span = Span(T0 - T0 % (60 * S) + 59 * S, T0 + 100 * S)
    camera = msgspec.structs.replace(CAMERA, heat_map=HeatMap())
    query_points(target, camera, span, 10.0)
    starts = {name: (span.since_us * 1000 - int(at_ns)) // 1_000_000_000 for name, at_ns in asked.items()}
    assert starts["heat_map"] == 59 and starts["visit"] == starts["alert"] == 0
    assert {s for name, s in starts.items() if name.endswith("_window")} == {9}
    asked.clear()
    assert query_points(target, CAMERA, span, 10.0).heat_cells == [] and "heat_map" not in asked
