"""`sightflow replay` over files: what it counts, what it writes, what it refuses."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from operators.stages.camera_stage import CameraStage
from operators.stages.replay_stage import RECORDS, ReplayStage, Side
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.ids import alert_id, alert_subject
from schemas.settings import Counter as Counter_
from schemas.settings import CounterWire, SiteSettings, Windows
from schemas.settings_file import parse_settings
from schemas.wire import DetectionFrame, Event, Figures, decode, encode
from sightflow import cli
from sightflow.errors import SightflowError
from sightflow.progress import Progress
from sightflow.replay import comparison, page, record, topic
from sightflow.replay.comparison import Alert, Comparison, RuleRow, compare
from sightflow.replay.outputs import NEW, OLD, Outputs
from sightflow.replay.records import Span, of_messages
from sightflow.replay.sorting import SortedLines
from sightflow.track.source import EPOCH_US
from sightflow.track.wire_file import Recorded, read_messages, recorded_in, write_message
from simulator.layout import scene_camera, settings_yaml
from simulator.scenario import build_robust_scene
from simulator.scene import FrameClock

FILES = ("events", "alerts", "windows", "dead-letters")
WIDTH, HEIGHT, FPS = 1000, 500, 10.0
YARD = b"""
version: 1
site: yard
cameras:
  - id: gate
    track_memory_s: 1
    zones: [{id: lane, polygon: [[0.3, 0.0], [0.7, 0.0], [0.7, 1.0], [0.3, 1.0]]}]
    tripwires: [{id: line, points: [[0.5, 0.0], [0.5, 1.0]]}]
    rules:
      - {id: long, type: loitering, zone: lane, since_s: 2}
      - {id: two, type: crowding, zone: lane, count: 2, hold_s: 0.5}
"""
Row = tuple[int, float, float, float, float, float]


# ---- inputs -------------------------------------------------------------------------------------------------------


def scene_settings(**changes: Any) -> SiteSettings:
    """A site of two cameras."""
    counter = Counter_(id="people", wires=(CounterWire(tripwire="gate"),), report_s=10.0)
    cameras = [
        msgspec.structs.replace(scene_camera(name), silence_s=6.0, counters=(counter,)) for name in ("a-1", "a-2")
    ]
    site = SiteSettings(version=1, site="alpha", windows=Windows(length_s=10.0), cameras=tuple(cameras))
    return parse_settings(settings_yaml(site).encode(), "alpha")


def lowered(site: SiteSettings) -> SiteSettings:
    """The site with lower thresholds at its first camera."""
    first, second = site.cameras
    rules = [
        msgspec.structs.replace(rule, **({"count": 2} if hasattr(rule, "count") else {"since_s": 4.0}))
        for rule in first.rules
    ]
    return msgspec.structs.replace(site, cameras=(msgspec.structs.replace(first, rules=tuple(rules)), second))


@pytest.fixture(scope="module")
def frames() -> list[DetectionFrame]:
    """Half a minute of two cameras."""
    scene, _ = build_robust_scene(4, settings=scene_settings(), duration_s=45.0, clock=FrameClock(8.0, 0.5))
    return list(scene.frames())


@pytest.fixture(scope="module")
def recorded(frames: list[DetectionFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of messages, a folder with its two site files, and what a replay of both sides makes of it."""
    folder = tmp_path_factory.mktemp("replay")
    write(folder / "in.wire", (encode(f) for f in frames))
    (folder / "old.yaml").write_text(settings_yaml(scene_settings()))
    (folder / "new.yaml").write_text(settings_yaml(lowered(scene_settings())))
    assert replay(folder / "in.wire", folder / "new.yaml", folder / "out", "--compare", str(folder / "old.yaml")) == 0
    return folder


def write(path: Path, messages: Iterable[bytes]) -> Path:
    with path.open("wb") as file:
        for message in messages:
            write_message(file, message)
    return path


def replay(source: Path | str, settings: Path, out: Path | None, *more: str) -> int:
    words = ["replay", "--input", str(source), "--settings", str(settings), *more]
    return cli.main([*words, *(["--out", str(out)] if out else [])])


def bytes_of(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*.jsonl"))}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def walkers() -> list[Row]:
    """Two people who walk towards each other; one waits in the middle."""
    rows: list[Row] = []
    for n in range(1, 121):
        rows.append((n, 4.0 * n + 200 if n < 75 else 500.0, 60.0, 40.0, 100.0, 0.875))
        rows.append((n, 900.0 - 6 * n, 300.0, 42.0, 110.0, 0.75))
    return rows


def yard_frame(n: int, camera: str = "gate") -> DetectionFrame:
    """One frame of `walkers` as an agent would send it, made without the code under test."""
    here = [r for r in walkers() if r[0] == n]
    boxes = np.array([[x, y, x + w, y + h] for _, x, y, w, h, _ in here]) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    at_us = EPOCH_US + round((n - 1) * 1e6 / FPS)
    return DetectionFrame(
        site="yard", camera=camera, boot=EPOCH_US, seq=n - 1, capture_us=at_us, clock="file", recv_us=at_us, sent_us=at_us,
        width_px=WIDTH, height_px=HEIGHT, labels=("person",), boxes=boxes.astype("<f4").tobytes(),
        scores=np.array([r[5] for r in here], "<f4").tobytes(), classes=bytes(len(here)),
    )  # fmt: skip


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    path = tmp_path / "yard.yaml"
    path.write_bytes(YARD)
    return path


# ---- what is counted ----------------------------------------------------------------------------------------------


def by_hand(folder: Path, side: str) -> tuple[Counter[Any], dict[Any, list[float]]]:
    """Count the lines of a side: what the summary should say."""
    counts: Counter[Any] = Counter()
    dwells: dict[Any, list[float]] = {}
    for event in rows_of(folder / "events.jsonl"):
        if event["kind"] == "enter":
            counts["visits", event["camera"], event["zone"]] += 1
            counts["entries", event["camera"], event["zone"]] += not event.get("born_inside", False)
        elif event["kind"] == "exit":
            dwells.setdefault((event["camera"], event["zone"]), []).append(event.get("dwell_s", 0.0))
        elif event["kind"] == "crossing":
            counts[event["direction"], event["camera"], event["tripwire"]] += 1
    for transition in rows_of(folder / "alerts.jsonl"):
        counts["alert", transition["camera"], transition["rule"]] += transition["transition"] == "open"
    return counts, dwells


def test_the_summary_agrees_with_a_count_of_the_lines(recorded: Path) -> None:
    summary = json.loads((recorded / "out" / "summary.json").read_text())
    for side, folder in ((NEW, recorded / "out"), (OLD, recorded / "out" / "old")):
        counts, dwells = by_hand(folder, side)
        assert sum(n for key, n in counts.items() if key[0] == "alert") > 4
        for row in summary["rules"]:
            assert row["alert_count"][side] == counts["alert", row["camera"], row["rule"]], row
        for row in summary["places"]:
            if "tripwire" in row:
                wire = row["camera"], row["tripwire"]
                assert row[side] == {"left_count": counts[("left", *wire)], "right_count": counts[("right", *wire)]}
                continue
            zone = row["camera"], row["zone"]
            assert row[side]["visit_count"] == counts[("visits", *zone)]
            assert row[side]["entry_count"] == counts[("entries", *zone)]
            ended = dwells.get(zone, [])
            assert row[side]["exit_count"] == len(ended)
            expected = pytest.approx(sum(ended) / len(ended), abs=1e-5) if ended else None
            assert row[side]["dwell_mean_s"] == expected
    changed = {(r["camera"], r["rule"]) for r in summary["rules"] if any(r["only_count"].values())}
    assert {camera for camera, _ in changed} == {"a-1"}, "the other camera's settings are the same"
    for row in summary["rules"]:
        same = {s: row["alert_count"][s] - row["only_count"][s] for s in (NEW, OLD)}
        assert same[NEW] == same[OLD], "what is not on one side alone is on both"


def test_figures_are_added_up_over_the_last_revision_of_each_window(recorded: Path) -> None:
    summary = json.loads((recorded / "out" / "summary.json").read_text())
    rows = rows_of(recorded / "out" / "windows.jsonl")
    frames = sum(r["fields"]["frame_count"] for r in rows if r["measurement"] == "camera_window")
    found = {(f["measurement"], f["tags"]["camera"], f["field"]): f["value"] for f in summary["figures"]}
    assert (
        sum(found["camera_window", c, "frame_count"][NEW] for c in ("a-1", "a-2")) == frames == summary["record_count"]
    )
    most = max(
        r["fields"]["present_max"] for r in rows if r["measurement"] == "object_window" and r["tags"]["camera"] == "a-1"
    )
    values = [
        f["value"][NEW] for f in summary["figures"] if f["field"] == "present_max" and f["tags"]["camera"] == "a-1"
    ]
    assert max(values) == most


def test_lines_are_what_the_stage_says(recorded: Path, frames: list[DetectionFrame]) -> None:
    stage = CameraStage([lowered(scene_settings())])
    stage.open()
    logics = {name: stage.logic(name) for name in ("a-1", "a-2")}
    out: list[Output] = []
    for place, f in enumerate(frames):
        out += logics[f.camera].on_record(Input(encode(f), -1, place, f.capture_us // 1000))
    for logic in logics.values():
        out += logic.on_silence()
    events = sorted(msgspec.to_builtins(decode(o.value, Event))["id"] for o in out if o.topic == topics.EVENTS)
    assert sorted(e["id"] for e in rows_of(recorded / "out" / "events.jsonl")) == events
    alerts = [msgspec.msgpack.decode(o.value) for o in out if o.topic == topics.ALERTS]
    assert sorted(map(str, rows_of(recorded / "out" / "alerts.jsonl"))) == sorted(map(str, alerts))
    held: dict[Any, Any] = {}
    for o in out:
        if o.topic == topics.FIGURES:
            for p in decode(o.value, Figures).points:
                held[p.measurement, tuple(sorted(p.tags.items())), p.at_ns] = p.fields
    windows = rows_of(recorded / "out" / "windows.jsonl")
    assert {(w["measurement"], tuple(sorted(w["tags"].items())), w["at_ns"]): w["fields"] for w in windows} == held
    assert len(windows) == len(held)


def test_what_is_open_at_the_end_closes_as_it_does_when_a_camera_falls_silent(recorded: Path) -> None:
    events = rows_of(recorded / "out" / "events.jsonl")
    assert [e["camera"] for e in events if e["kind"] == "source_lost"].sort() == ["a-1", "a-2"].sort()
    last_us = {e["camera"]: e["at_us"] for e in events if e["kind"] == "source_lost"}
    assert all(e["at_us"] <= last_us[e["camera"]] for e in events)
    alerts = rows_of(recorded / "out" / "alerts.jsonl")
    opened = Counter(a["alert_id"] for a in alerts if a["transition"] == "open")
    closed = Counter(a["alert_id"] for a in alerts if a["transition"] == "close")
    assert {i for i in opened if not closed[i]} == {i for i in opened if "/source-lost@" in i}
    windows = [w for w in rows_of(recorded / "out" / "windows.jsonl") if w["measurement"] == "camera_window"]
    for camera in ("a-1", "a-2"):
        states = [w["fields"]["complete"] for w in windows if w["tags"]["camera"] == camera]
        assert states[0] and not states[-1]


def test_lines_are_in_order_of_time_and_an_alert_opens_before_it_closes(recorded: Path) -> None:
    for name in ("events", "alerts"):
        times = [r["at_us"] for r in rows_of(recorded / "out" / f"{name}.jsonl")]
        assert times == sorted(times)
    seen: set[str] = set()
    for a in rows_of(recorded / "out" / "alerts.jsonl"):
        assert (a["transition"] == "open") != (a["alert_id"] in seen)
        seen.add(a["alert_id"])


# ---- pairs of alerts ----------------------------------------------------------------------------------------------


def spans(rng: random.Random, about: str) -> list[Alert]:
    """Alerts of one subject, one after the other."""
    found, at = [], rng.randint(0, 5)
    for _ in range(rng.randint(0, 7)):
        end = at + rng.randint(0, 6)
        found.append(Alert(about, at, at, end, ""))
        at = end + rng.randint(1, 5)
    return found


def most_pairs(new: Sequence[Alert], old: Sequence[Alert]) -> int:
    """The largest number of pairs that overlap, by trying all."""
    if not new:
        return 0
    head, rest = new[0], new[1:]
    best = most_pairs(rest, old)
    for i, other in enumerate(old):
        if head.about == other.about and head.start_us <= other.end_us and other.start_us <= head.end_us:
            best = max(best, 1 + most_pairs(rest, [*old[:i], *old[i + 1 :]]))
    return best


def test_alerts_of_both_sides_are_paired_as_far_as_can_be() -> None:
    rng = random.Random(3)
    paired = 0
    for _ in range(150):
        new, old = ([a for about in "ab" for a in spans(rng, about)] for _ in range(2))
        row = RuleRow("s", "c", "r", "t")
        comparison._match(row, {NEW: new, OLD: old}, True, 1)
        expected = most_pairs(new, old)
        assert (row.only[NEW], row.only[OLD]) == (len(new) - expected, len(old) - expected)
        assert row.count == {NEW: len(new), OLD: len(old)}
        paired += expected
    assert paired > 200


def test_an_alert_about_a_moment_ends_though_its_close_is_dated_before_its_opening(tmp_path: Path, yard: Path) -> None:
    """A crossing is dated between two frames, its opening by the frame that told it."""
    source = write(tmp_path / "in.wire", (encode(yard_frame(n)) for n in range(1, 121)))
    rules = "      - {id: over, type: line_crossing, tripwire: line, gap_s: 0.5}\n"
    yard.write_text(yard.read_text() + rules)
    out = tmp_path / "out"
    assert replay(source, yard, out, "--compare", str(yard)) == 0
    said = [t for t in rows_of(out / "alerts.jsonl") if t["rule"] == "over"]
    at_us = {t["transition"]: t["at_us"] for t in said if t["alert_id"] == said[0]["alert_id"]}
    assert at_us["close"] < at_us["open"]
    (row,) = [r for r in json.loads((out / "summary.json").read_text())["rules"] if r["rule"] == "over"]
    assert row["alert_count"] == {"new": len(said) // 2, "old": len(said) // 2}
    assert "open at the end: person crossed" not in (out / "timeline.html").read_text()


def test_an_alert_is_about_the_same_whatever_the_version_of_the_rule_and_its_start() -> None:
    one = alert_id("s", "r", 1, "cam", "zone", "s/cam/17/3", 100)
    assert alert_subject(one) == alert_subject(alert_id("s", "r", 2, "cam", "zone", "s/cam/17/3", 900)) == "cam/zone/3"
    assert alert_subject(one) != alert_subject(alert_id("s", "r", 1, "cam", "zone", "s/cam/17/4", 100))
    assert alert_subject("odd") == ""


def test_very_many_alerts_are_drawn_as_stretches_of_time() -> None:
    bars = [(Alert("", i * 10, i * 10, i * 10 + 5, "one"), i < 400) for i in range(800)]
    drawn = comparison._bars(bars, 20)
    assert [(b.start_us, b.end_us, paired) for b, paired in drawn] == [(0, 3995, True), (4000, 7995, False)]
    assert comparison._bars(bars[:300], 20) == bars[:300]


# ---- the same from every format -----------------------------------------------------------------------------------


def test_every_format_gives_the_same_files(tmp_path: Path, yard: Path) -> None:
    rows, frames = walkers(), [yard_frame(n) for n in range(1, 121)]
    wire = write(tmp_path / "in.wire", map(encode, frames))
    packed = tmp_path / "in.wire.gz"
    packed.write_bytes(gzip.compress(wire.read_bytes()))
    folder = tmp_path / "messages"
    folder.mkdir()
    for n, f in enumerate(frames):  # named so that order by letters would be wrong
        (folder / f"frame-{n}.msgpack").write_bytes(encode(f))
    parts = tmp_path / "parts"
    parts.mkdir()
    write(parts / "2.wire", map(encode, frames[:50]))
    write(parts / "10.wire", map(encode, frames[50:]))
    mot = tmp_path / "in.txt"
    mot.write_text("".join(f"{n},-1,{x},{y},{w},{h},{s}\n" for n, x, y, w, h, s in rows))
    jsonl = tmp_path / "in.jsonl"
    jsonl.write_text(
        "".join(
            json.dumps({"frame": n, "detections": [{"box": r[1:5], "score": r[5]} for r in rows if r[0] == n]}) + "\n"
            for n in range(1, 121)
        )
    )
    text = ["--fps", "10", "--size", f"{WIDTH}x{HEIGHT}"]
    found = []
    for i, (source, more) in enumerate(
        [(wire, []), (packed, []), (folder, []), (parts, []), (mot, text), (jsonl, text), (wire, ["--format", "wire"])]
    ):
        assert replay(source, yard, tmp_path / f"out-{i}", *more) == 0
        found.append(bytes_of(tmp_path / f"out-{i}"))
    assert all(one == found[0] for one in found)
    kinds = Counter(e["kind"] for e in rows_of(tmp_path / "out-0" / "events.jsonl"))
    assert kinds["enter"] == 2 and kinds["crossing"] >= 1
    assert {a["rule"] for a in rows_of(tmp_path / "out-0" / "alerts.jsonl")} >= {"long", "two"}


def test_text_can_be_given_a_begin_and_is_of_the_camera_that_is_named(tmp_path: Path, yard: Path) -> None:
    mot = tmp_path / "in.txt"
    mot.write_text("".join(f"{n},-1,{x},{y},{w},{h},{s}\n" for n, x, y, w, h, s in walkers()))
    text = ["--fps", "10", "--size", f"{WIDTH}x{HEIGHT}", "--camera", "gate", "--start", "2026-05-01T08:00+02:00"]
    assert replay(mot, yard, tmp_path / "out", *text) == 0
    first = rows_of(tmp_path / "out" / "events.jsonl")[0]
    begin_us = 1_777_615_200_000_000
    assert first["site"] == "yard" and begin_us < first["at_us"] < begin_us + 12_000_000


def test_recordings_keep_key_time_and_place(tmp_path: Path, yard: Path) -> None:
    frames = [yard_frame(n) for n in range(1, 121)]
    wire = tmp_path / "in.wire"
    records = [Recorded(b"gate", f.capture_us // 1000, 3, 1000 + f.seq, encode(f)) for f in frames]
    odd = [
        Recorded(None, 5, 3, 90, None),
        Recorded(b"\xff", 5, 3, 91, b"\xc1garbage"),
        Recorded(b"other", frames[0].capture_us // 1000, 3, 92, encode(frames[0])),
        Recorded(b"gate", 7, 3, 93, encode(frames[5])),
    ]
    with Progress() as silent:
        assert record.write(wire, [*records, *odd], silent)[0] == 124
    assert replay(wire, yard, tmp_path / "out") == 0
    letters = rows_of(tmp_path / "out" / "dead-letters.jsonl")
    assert [(x["offset"], x["reason"], x["key"]) for x in letters] == [
        (90, "tombstone", ""), (91, "not_messagepack", "\ufffd"), (92, "unknown_camera", "other"),
        (93, "wrong_timestamp", "gate"),
    ]  # fmt: skip
    placed = [a for a in rows_of(tmp_path / "out" / "alerts.jsonl") if "input_seq" in a]
    assert placed
    assert all((a["input_partition"], a["input_offset"]) == (3, 1000 + a["input_seq"]) for a in placed)
    assert [raw for _, raw in read_messages(wire)][:120] == [encode(f) for f in frames], (
        "`sightflow track` reads it too"
    )


def test_a_message_that_begins_like_a_recording_is_none() -> None:
    assert recorded_in(b"\x95") is None
    assert recorded_in(b"\x95\xc1") is None
    assert recorded_in(encode(yard_frame(1))) is None
    assert recorded_in(msgspec.msgpack.encode([b"k", 1, 2, 3, None])) == Recorded(b"k", 1, 2, 3, None)
    ((key, found),) = of_messages([b"\x95\xc1"])
    assert (key, found) == ("", Input(b"\x95\xc1", -1, 0, 0))


def test_cameras_may_be_interleaved_in_any_way(tmp_path: Path, recorded: Path, frames: list[DetectionFrame]) -> None:
    """Offsets tell where a message stood, so they are those of the file; everything else is the same."""
    apart = sorted(frames, key=lambda f: f.camera)
    write(tmp_path / "apart.wire", map(encode, apart))
    assert replay(tmp_path / "apart.wire", recorded / "new.yaml", tmp_path / "out") == 0
    for name in ("events", "windows"):
        assert (tmp_path / "out" / f"{name}.jsonl").read_bytes() == (recorded / "out" / f"{name}.jsonl").read_bytes()
    alerts = [rows_of(folder / "out" / "alerts.jsonl") for folder in (tmp_path, recorded)]
    unplaced = [[{k: v for k, v in a.items() if k != "input_offset"} for a in rows] for rows in alerts]
    assert unplaced[0] == unplaced[1]


def test_a_span_and_a_choice_of_cameras_leave_the_rest_out(
    tmp_path: Path, recorded: Path, frames: list[DetectionFrame]
) -> None:
    begin_us = frames[0].capture_us // 1_000_000 * 1_000_000 + 10_000_000
    chosen = [f for f in frames if f.camera == "a-1" and begin_us <= f.capture_us < begin_us + 20_000_000]
    write(tmp_path / "chosen.wire", map(encode, chosen))
    assert replay(tmp_path / "chosen.wire", recorded / "new.yaml", tmp_path / "one") == 0
    span = ["--from", iso(begin_us), "--to", iso(begin_us + 20_000_000), "--camera", "a-1"]
    assert replay(recorded / "in.wire", recorded / "new.yaml", tmp_path / "two", *span) == 0
    assert (tmp_path / "one" / "events.jsonl").read_bytes() == (tmp_path / "two" / "events.jsonl").read_bytes()
    assert (tmp_path / "one" / "windows.jsonl").read_bytes() == (tmp_path / "two" / "windows.jsonl").read_bytes()


def iso(at_us: int) -> str:
    return np.datetime64(at_us, "us").astype(str) + "Z"


# ---- the stage ----------------------------------------------------------------------------------------------------


def test_restored_at_any_record_both_sides_go_on_with_the_same_lines(frames: list[DetectionFrame]) -> None:
    mine = [f for f in frames if f.camera == "a-1"][:220]
    stage = ReplayStage([Side(NEW, (lowered(scene_settings()),)), Side(OLD, (scene_settings(),))])
    stage.open()

    def lines(restore_each: int, stage: ReplayStage = stage) -> list[Output]:
        logic, out = stage.logic("a-1"), []
        for i, f in enumerate(mine):
            out += logic.on_record(Input(encode(f), 0, i, f.capture_us // 1000))
            if restore_each and i % restore_each == 0:
                state, logic = logic.snapshot(), stage.logic("a-1")
                assert state is not None
                logic.restore(state)
        return out + logic.on_silence()

    whole = lines(0)
    assert {o.topic for o in whole} >= {
        f"{side}/{name}" for side in (NEW, OLD) for name in ("events", "alerts", "windows")
    }
    assert lines(1) == whole
    assert lines(37) == whole
    sent = pickle.loads(pickle.dumps(ReplayStage(stage.sides)))  # as it comes to a worker
    sent.open()
    assert lines(50, sent) == whole
    assert sum(int(o.value) for o in whole if o.topic == RECORDS) == len(mine)


def test_of_keys_that_no_side_knows_nothing_is_kept_but_each_record_is_counted() -> None:
    stage = ReplayStage([Side(NEW, (scene_settings(),)), Side(OLD, ())])
    stage.open()
    logic = stage.logic("nobody")
    out = [o for place in range(3) for o in logic.on_record(Input(b"x", -1, place, 0))]
    assert Counter(o.topic for o in out) == {RECORDS: 3, "new/dead-letters": 3, "old/dead-letters": 3}
    assert logic.snapshot() is None
    known = stage.logic("a-1")
    assert known.snapshot() is not None, "one side knows it"


# ---- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_held_bytes", [1, 2_000, 1 << 20])
def test_lines_are_sorted_however_little_memory_there_is(tmp_path: Path, max_held_bytes: int) -> None:
    rng = random.Random(max_held_bytes)
    lines = [b'{"n":%d,"x":%d}' % (rng.randint(0, 40), rng.randint(0, 9)) for _ in range(700)]
    made = SortedLines(lambda line: json.loads(line)["n"], tmp_path, max_held_bytes)
    for line in lines:
        made.add(line)
    assert list(made) == sorted(lines, key=lambda line: (json.loads(line)["n"], line))
    assert list(made) == list(made), "and again"


def test_of_a_window_the_last_revision_stays_whatever_came_first(tmp_path: Path) -> None:
    def point(revision: int, mean: float, at: int = 10) -> bytes:
        fields = {"present_mean": mean, "revision": revision}
        return json.dumps({"measurement": "m", "tags": {"b": "1", "a": "2"}, "at_ns": at, "fields": fields}).encode()

    for i, order in enumerate(([0, 10, 2, 1], [10, 2, 1, 0])):
        folder = tmp_path / str(i)
        outputs = Outputs(folder, [NEW])
        for revision in order:
            outputs.add("new/windows", point(revision, 0.5 * revision))
        outputs.add("new/windows", point(0, 7.0, at=11))
        files = outputs.finish()
        assert files["new/windows"].read_bytes() == point(10, 5.0) + b"\n" + point(0, 7.0, at=11) + b"\n"


def test_nothing_is_written_over_unless_told(tmp_path: Path, yard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wire = write(tmp_path / "in.wire", (encode(yard_frame(n)) for n in range(1, 121)))
    out = tmp_path / "out"
    assert replay(wire, yard, out, "--compare", str(yard)) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "alerts.jsonl", "dead-letters.jsonl", "events.jsonl", "old", "summary.json", "timeline.html", "windows.jsonl",
    ]  # fmt: skip
    before = bytes_of(out)
    (out / "notes.txt").write_text("mine")
    write(tmp_path / "less.wire", (encode(yard_frame(n)) for n in range(1, 40)))
    assert replay(tmp_path / "less.wire", yard, out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert bytes_of(out) == before
    assert replay(tmp_path / "less.wire", yard, out, "--overwrite") == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert bytes_of(out)["events.jsonl"] != before["events.jsonl"]
    assert not list((out / "old").glob("*")), "no side of another replay is left beside this one's"


def test_a_failed_replay_leaves_nothing(tmp_path: Path, yard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wire = write(tmp_path / "in.wire", (encode(yard_frame(n)) for n in range(1, 30)))
    wire.write_bytes(wire.read_bytes()[:-5])
    assert replay(wire, yard, tmp_path / "out") == 1
    assert "message 29 at byte" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_messages_and_unknown_cameras_are_counted_and_kept(tmp_path: Path, yard: Path) -> None:
    good = [encode(yard_frame(n)) for n in range(1, 121)]
    nan = msgspec.structs.replace(yard_frame(8), boxes=np.full((2, 4), np.nan, "<f4").tobytes())
    other = msgspec.structs.replace(yard_frame(9), site="elsewhere")
    bad = [b"\xc1garbage", encode(yard_frame(3, camera="shed")), encode(nan), encode(other), b"\x81\xa6camera\x07"]
    clean = write(tmp_path / "clean.wire", good)
    dirty = write(tmp_path / "dirty.wire", [*good[:60], *bad, *good[60:]])
    assert replay(clean, yard, tmp_path / "clean") == 0
    assert replay(dirty, yard, tmp_path / "dirty") == 0
    letters = rows_of(tmp_path / "dirty" / "dead-letters.jsonl")
    assert [(x["offset"], x["reason"]) for x in letters] == [
        (60, "not_messagepack"), (61, "unknown_camera"), (62, "bad_detection"), (63, "wrong_site"), (64, "invalid_field"),
    ]  # fmt: skip
    assert all(x["partition"] == -1 and x["topic"] == topics.DETECTIONS for x in letters)
    assert json.loads((tmp_path / "dirty" / "summary.json").read_text())["dead_letter_count"] == {"new": 5}
    assert (tmp_path / "dirty" / "events.jsonl").read_bytes() == (tmp_path / "clean" / "events.jsonl").read_bytes()


# ---- what is printed ----------------------------------------------------------------------------------------------


def test_the_table_says_what_the_summary_says(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(recorded / "in.wire", recorded / "new.yaml", None, "--compare", str(recorded / "old.yaml")) == 0
    said = capsys.readouterr()
    summary = json.loads((recorded / "out" / "summary.json").read_text())
    for r in summary["rules"]:
        counts = [*(r["alert_count"][s] for s in (OLD, NEW)), *(r["only_count"][s] for s in (OLD, NEW))]
        wanted = r"\s+".join([r["camera"], r["rule"], r["rule_type"], *map(str, counts)])
        assert re.search(rf"^  {wanted}$", said.out, re.M), wanted
    assert "frames/s" in said.err and f"{summary['record_count']:,} frames" in said.err
    assert not any("source_lost" in line and "window" in line for line in said.out.splitlines())


def test_counters_have_a_table_that_agrees_with_their_figures(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    totals: Counter[Any] = Counter()
    most: dict[str, int] = {}
    for row in rows_of(recorded / "out" / "windows.jsonl"):
        if row["measurement"] == "counter":
            camera = row["tags"]["camera"]
            totals[camera, "in"] += row["fields"]["in_count"]
            totals[camera, "out"] += row["fields"]["out_count"]
            most[camera] = max(most.get(camera, 0), row["fields"]["occupancy_max"])
    assert min(totals.values()) > 0
    assert replay(recorded / "in.wire", recorded / "new.yaml", None) == 0
    said = capsys.readouterr().out
    page_text = re.sub(r"<[^>]+>", " ", (recorded / "out" / "timeline.html").read_text())
    for camera in ("a-1", "a-2"):
        cells = [totals[camera, "in"], totals[camera, "out"], most[camera]]
        assert re.search(r"\s+".join([rf"^  {camera}", "people", *map(str, cells)]) + "$", said, re.M)
        twice = [str(n) for n in cells for _ in (OLD, NEW)]
        assert re.search(r"\s+".join([camera, "people", *twice]), page_text), "old and new are the same"


def test_one_side_alone_is_counted_without_a_difference(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(recorded / "in.wire", recorded / "old.yaml", None) == 0
    said = capsys.readouterr().out
    assert "alerts" in said and "only" not in said and "differ" not in said


def test_the_page_shows_both_sides_and_needs_nothing_else(recorded: Path) -> None:
    text = (recorded / "out" / "timeline.html").read_text()
    summary = json.loads((recorded / "out" / "summary.json").read_text())
    body = text[text.index("<body>") :]
    for r in summary["rules"]:
        assert f"{r['camera']} · {r['rule']}" in body
    alerts = body[body.index("Alerts over time") : body.index("Visits begun over time")]
    strips = re.findall(r'class="strip (\w+)".*?<b>([\d,]+)</b>', alerts, re.S)
    assert [side for side, _ in strips] == [OLD, NEW] * len(summary["rules"]), "old above new"
    assert sum(int(n) for side, n in strips if side == NEW) == sum(r["alert_count"][NEW] for r in summary["rules"])
    only = sum(r["only_count"][NEW] for r in summary["rules"])
    groups = re.findall(r"<g>.*?</g>", alerts)
    assert (
        sum('class="bar alone"' in g for g in groups) == only + sum(r["only_count"][OLD] for r in summary["rules"]) > 0
    )
    crossings = body[body.index("Crossings over time") : body.index("Alerts by rule")]
    counted = sum(int(n) for n in re.findall(r"<title>(\d+)</title>", crossings))
    assert counted == sum(
        p[s]["left_count"] + p[s]["right_count"] for p in summary["places"] if "tripwire" in p for s in (NEW, OLD)
    )
    assert not re.search(r"(src|href)=|https?://|@import|url\(|<script", text)
    assert "default-src 'none'" in text


def test_what_stands_in_a_message_stays_text_on_the_page(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    row = RuleRow("s", evil, evil, evil, count={NEW: 1, OLD: 0}, only={NEW: 1, OLD: 0})
    row.bars[NEW].append((Alert("", 10, 20, 30, evil), False))
    empty = tmp_path / "none"
    empty.write_bytes(b"")
    found = Comparison((NEW, OLD), [row], [], [], {NEW: 0, OLD: 0}, 5, 50)
    files = {f"{side}/{name}": empty for side in (NEW, OLD) for name in FILES}
    html = page.render(found, page.Facts(evil, {NEW: evil, OLD: evil}, 3), files)
    assert "<script" not in html and html.count("&lt;script&gt;") >= 4


def test_an_empty_comparison_is_a_page_too(tmp_path: Path) -> None:
    files = {}
    for name in FILES:
        files[f"new/{name}"] = tmp_path / name
        files[f"new/{name}"].write_bytes(b"")
    (tmp_path / "work").mkdir()
    found = compare(files, [Side(NEW, ())], tmp_path / "work")
    assert "nothing happened" in page.render(found, page.Facts("x", {NEW: ""}, 0), files)


# ---- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--input", "gone.wire"], "no such file or folder"),
        (["--input", "in.what"], "expected an extension"),
        (["--input", "in.wire", "--fps", "10"], "--fps: is for text files"),
        (["--input", "in.wire", "--start", "2026-01-01"], "--start: is for text files"),
        (["--input", "in.wire", "--in-process"], "are for topics"),
        (["--input", "in.wire", "--from", "yesterday"], "--from: expected a time"),
        (["--input", "in.wire", "--from", "2026-01-02", "--to", "2026-01-01"], "--to: expected a time after"),
        (["--input", "in.wire", "--from", "1999-01-02"], "a year from 2000"),
        (["--input", "in.wire", "--from", "2031-01-02"], "no records to replay"),
        (["--input", "in.wire", "--camera", "none"], "no records to replay"),
        (["--input", "in.wire", "--submitted", "yard.yaml"], "--submitted: is for replays of topics"),
        (["--input", "in.wire", "--compare", "bad.yaml"], "bad.yaml: cameras[0].zones[0].polygon"),
        (["--input", "in.txt", "in.txt"], "one text file"),
        (["--input", "in.txt"], "needs --size, and --fps"),
        (["--input", "in.txt", "--fps", "10", "--size", "9x9", "--camera", "shed"], "one of gate, got shed"),
        (["--input", "empty"], "an empty folder"),
        (["--input", "empty", "--out", "empty", "--overwrite"], "empty is read, and would be written over"),
        (["--input", "in.wire", "--compare", "a/../yard.yaml", "--out", "."], "expected a new or empty folder"),
        (
            ["--input", "o/events.jsonl", "--out", "o", "--overwrite"],
            "o/events.jsonl is read, and would be written over",
        ),
        (["--input", "topic:detections", "--parallelism", "0"], "--parallelism: expected at least 1"),
        (["--input", "kafka://host:1/a/b"], "expected kafka://HOST:PORT/TOPIC"),
        (["--input", "kafka:///detections"], "expected kafka://HOST:PORT/TOPIC"),
        (["--input", "topic:"], "expected kafka://HOST:PORT/TOPIC"),
        (["--input", "kafka://host:1/detections?since=1"], "expected from=TIME or to=TIME"),
        (["--input", "kafka://host:1/detections?from=2026-01-01", "--from", "2026-01-01"], "from is given twice"),
        (["--input", "topic:detections", "in.wire"], "expected one topic, or files"),
        (["--input", "topic:detections", "--run-dir", "nowhere"], "no stack runs"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    words: list[str], told: str, tmp_path: Path, yard: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.wire", [encode(yard_frame(1))])
    (tmp_path / "in.what").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "events.jsonl").touch()
    (tmp_path / "in.txt").write_text("1,-1,1,1,1,1,1\n")
    (tmp_path / "bad.yaml").write_bytes(YARD.replace(b"[[0.3, 0.0], [0.7, 0.0], [0.7, 1.0], [0.3, 1.0]]", b"[[0, 0]]"))
    assert cli.main(["replay", *words, "--settings", "yard.yaml"]) == 1
    assert told in capsys.readouterr().err


def test_files_need_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wire = write(tmp_path / "in.wire", [encode(yard_frame(1))])
    assert cli.main(["replay", "--input", str(wire)]) == 1
    assert "--settings: expected a site file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kafka://h:1/detections", topic.TopicSpan("h:1", "detections", Span())),
        ("kafka://h:1,g:2/x?from=2020-01-01T00:00Z", topic.TopicSpan("h:1,g:2", "x", Span(EPOCH_US // 1000))),
        ("kafka://h:1/x?to=2020-01-01T02:00%2B02:00", topic.TopicSpan("h:1", "x", Span(None, EPOCH_US // 1000))),
        ("kafka://h:1/x?to=2020-01-01T02:00+02:00", topic.TopicSpan("h:1", "x", Span(None, EPOCH_US // 1000))),
        ("topic:detections", topic.TopicSpan("", "detections", Span())),
    ],
)
def test_topics_and_spans_are_read(text: str, expected: topic.TopicSpan) -> None:
    assert topic.parse(text, None, None) == expected


def test_record_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "a.wire"
    taken.touch()
    for words, told in (
        (["--input", "file.wire", "--out", "b.wire"], "expected kafka://"),
        (["--input", "topic:x", "--out", "b.txt"], "a name that ends in .wire"),
        (["--input", "topic:x", "--out", str(taken)], "is there already"),
        (["--input", "topic:x", "--out", "b.wire", "--run-dir", str(tmp_path)], "no stack runs"),
        (["--input", "kafka://h:1/x", "--out", "b.wire", "--bootstrap-servers", "h:1"], "names Kafka already"),
    ):
        assert cli.main(["record", *words]) == 1
        assert told in capsys.readouterr().err


def test_a_recording_of_nothing_is_none(tmp_path: Path) -> None:
    with pytest.raises(SightflowError, match="no records there"), Progress() as silent:
        record.write(tmp_path / "a.wire", [], silent)
    assert list(tmp_path.iterdir()) == []
