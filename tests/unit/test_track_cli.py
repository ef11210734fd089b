"""`sightflow track`: the camera stage over files."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from operators.stages.camera_stage import CameraStage
from operators.stages.stage import Input
from schemas import topics
from schemas.settings import Camera, SiteSettings
from schemas.wire import DetectionFrame, TrackFrame, decode, encode, unpack_boxes
from sightflow import cli
from sightflow.pose_file import read_pose
from sightflow.track import mot_file
from sightflow.track.source import EPOCH_US, Tally, View
from sightflow.track.wire_file import read_messages, write_message

WIDTH, HEIGHT, FPS = 1000, 500, 10.0
FRAMES = 30
Row = tuple[int, float, float, float, float, float]  # frame, left, top, width, height, score


def walkers(frames: Sequence[int] = range(1, FRAMES + 1)) -> list[Row]:
    """Two people who walk towards each other in lanes of their own."""
    rows: list[Row] = []
    for n in frames:
        rows.append((n, 100.0 + 12 * n, 60.0, 40.0, 100.0, 0.9))
        rows.append((n, 700.0 - 12 * n, 300.0, 42.0, 110.0, 0.8))
    return rows


def mot(rows: Sequence[Row]) -> str:
    return "".join(f"{n},-1,{x:.3f},{y:.3f},{w:.3f},{h:.3f},{s:.4f},-1,-1,-1\n" for n, x, y, w, h, s in rows)


def track(
    folder: Path, text: str | bytes, *more: str, form: str = "mot", out: str = "out.txt", fps: str = "10"
) -> Path:
    source = folder / f"in.{form}"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = ["track", "--detections", str(source), "--format", form, "--fps", fps, "--size", f"{WIDTH}x{HEIGHT}"]
    assert cli.main([*words, "--out", str(folder / out), *more]) == 0
    return folder / out


def rows_of(path: Path) -> list[list[float]]:
    return [[float(word) for word in line.split(",")] for line in path.read_text().splitlines()]


def frames_of(path: Path) -> list[TrackFrame]:
    return [decode(raw, TrackFrame) for _, raw in read_messages(path)]


def detection_frame(n: int, rows: Sequence[Row], camera: str = "file") -> DetectionFrame:
    """One frame as an agent would send it, made without the code under test."""
    here = [r for r in rows if r[0] == n]
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes = np.array([[x, y, x + w, y + h] for _, x, y, w, h, _ in here]).reshape(-1, 4) / size
    at_us = EPOCH_US + round((n - 1) * 1e6 / FPS)
    return DetectionFrame(
        site="file", camera=camera, boot=EPOCH_US, seq=n - 1, capture_us=at_us, clock="file", recv_us=at_us, sent_us=at_us,
        width_px=WIDTH, height_px=HEIGHT, labels=("person",), boxes=boxes.astype("<f4").tobytes(),
        scores=np.array([r[5] for r in here], "<f4").tobytes(), classes=bytes(len(here)),
    )  # fmt: skip


def packed(frames: Sequence[DetectionFrame]) -> bytes:
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in map(encode, frames))


def test_two_walkers_get_two_ids_that_they_keep(tmp_path: Path) -> None:
    rows = rows_of(track(tmp_path, mot(walkers())))
    assert {len(row) for row in rows} == {10}
    assert {int(row[1]) for row in rows} == {1, 2}
    for who in (1, 2):
        lanes = {row[3] > 200 for row in rows if row[1] == who}
        assert len(lanes) == 1  # never both lanes
    last = [row for row in rows if row[0] == FRAMES]
    assert sorted((round(row[2]), round(row[4])) for row in last) == [(340, 42), (460, 40)]
    assert all(row[7:] == [-1, -1, -1] for row in rows)
    assert {round(row[6], 4) for row in rows} == {0.9, 0.8}


def test_the_result_is_what_the_camera_stage_publishes(tmp_path: Path) -> None:
    stage = CameraStage([SiteSettings(version=1, site="file", cameras=(msgspec.convert({"id": "file"}, Camera),))])
    stage.open()
    logic = stage.logic("file")
    expected = []
    for n in range(1, FRAMES + 1):
        frame = detection_frame(n, walkers())
        for output in logic.on_record(Input(encode(frame), 0, n, frame.capture_us // 1000)):
            if output.topic == topics.TRACKS:
                expected.append(decode(output.value, TrackFrame))
    found = frames_of(track(tmp_path, mot(walkers()), out="out.wire"))
    assert len(found) == FRAMES
    for one, other in zip(found, expected, strict=True):
        assert (one.capture_us, one.ordinals, one.states) == (other.capture_us, other.ordinals, other.states)
        assert np.allclose(unpack_boxes(one), unpack_boxes(other), atol=1e-6)


def test_nothing_depends_on_a_later_frame(tmp_path: Path) -> None:
    whole = track(tmp_path, mot(walkers()), out="whole.txt").read_text().splitlines()
    for cut in (8, 15, 22):
        part = track(tmp_path, mot(walkers(range(1, cut + 1))), out="part.txt").read_text().splitlines()
        assert part == [line for line in whole if int(line.split(",")[0]) <= cut]


def test_missing_frames_are_empty_frames_up_to_the_last_one_present(tmp_path: Path) -> None:
    present = [n for n in range(3, FRAMES + 1) if n not in (15, 16, 17)]
    found = frames_of(track(tmp_path, mot(walkers(present)), out="out.wire"))
    assert [frame.seq + 1 for frame in found] == list(range(1, FRAMES + 1))
    assert all(set(found[n - 1].states) <= {1} for n in (1, 2, 15, 16, 17))  # nothing, or predicted
    text = rows_of(track(tmp_path, mot(walkers(present))))
    assert not {row[0] for row in text} & {1, 2, 15, 16, 17}


def test_predicted_places_are_written_on_demand(tmp_path: Path) -> None:
    present = [n for n in range(1, FRAMES + 1) if n not in (15, 16, 17)]
    rows = rows_of(track(tmp_path, mot(walkers(present)), "--predicted"))
    assert {15.0, 16.0, 17.0} <= {row[0] for row in rows}


def test_order_of_rows_and_packing_do_not_matter(tmp_path: Path) -> None:
    text = mot(walkers())
    expected = track(tmp_path, text).read_bytes()
    halves = text.splitlines(keepends=True)
    shuffled = "".join(halves[::2] + halves[1::2])  # each frame keeps its order, frames do not
    assert not mot_file.measure(_written(tmp_path / "s.txt", shuffled)).in_order
    assert track(tmp_path, shuffled).read_bytes() == expected
    assert track(tmp_path, gzip.compress(text.encode())).read_bytes() == expected
    assert track(tmp_path, "\ufeff" + text.replace("\n", "\r\n")).read_bytes() == expected
    zipped = track(tmp_path, text, out="out.txt.gz")
    assert gzip.decompress(zipped.read_bytes()) == expected


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_fractional_rates_give_fractional_times(tmp_path: Path) -> None:
    found = frames_of(track(tmp_path, mot(walkers()), fps="29.97", out="out.wire"))
    assert [f.capture_us for f in found] == [EPOCH_US + round(n * 1e6 / 29.97) for n in range(FRAMES)]


def test_bad_rows_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = mot(walkers())
    expected = track(tmp_path, good).read_bytes()
    bad = [
        "5,-1,nan,60,40,100,0.9", "5,-1,160,inf,40,100,0.9", "6,-1,160,60,0,100,0.9", "6,-1,160,60,40,-3,0.9",
        "7,-1,160,60,40,100,nan", "7,-1,1e300,60,40,100,0.9", "8,-1,-600,60,40,100,0.9",
    ]  # fmt: skip
    capsys.readouterr()
    found = track(tmp_path, "\n".join(bad) + "\n" + good)
    assert found.read_bytes() == expected
    said = capsys.readouterr().err
    assert "refused, not a finite number: 3 (first: line 1)" in said
    assert "refused, no width or height: 2 (first: line 3)" in said
    assert "outside it: 2 (first: line 6)" in said


def test_scores_outside_their_range_are_clipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(n, x, y, w, h, 37.5) for n, x, y, w, h, _ in walkers()]
    found = rows_of(track(tmp_path, mot(rows)))
    assert {row[6] for row in found} == {1.0}
    assert f"clipped, score outside 0 to 1: {2 * FRAMES}" in capsys.readouterr().err


def test_more_boxes_than_a_message_may_hold_leave_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = [(4, 10.0 + i % 100, 400.0, 5.0, 9.0, 0.01) for i in range(100_000)]
    clean = track(tmp_path, mot(walkers())).read_bytes()
    found = track(tmp_path, mot(sorted(walkers() + noise)))
    assert found.read_bytes() == clean
    assert "refused, beyond the 1,000 best of a frame: 99,002" in capsys.readouterr().err


def test_objects_beyond_the_trackers_room_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(
        f"{frame},-1,{1 + 31 * (i % 20)},{1 + 15 * (i // 20)},25,12,0.9\n" for frame in range(2, 6) for i in range(600)
    )
    track(tmp_path, text)
    said = capsys.readouterr().err
    assert "not tracked, beyond 512 objects at a time: 352 (first: message 2)" in said
    assert re.search(r"^5 frames in [\d.]+ s \([\d,]+ frames/s\), 1,536 boxes: ", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,-1,10,10,5,5,0.9\nframe,id\n", "in.mot, line 2: expected frame,id,left,top,width,height,score"),
        ("0,-1,10,10,5,5,0.9\n", "with a frame number from 1, got '0,-1,10,10,5,5,0.9'"),
        ("1.5,-1,10,10,5,5,0.9\n", "line 1: expected"),
        ("1,-1,10,10,5,5\n", "line 1: expected at least 7 columns"),
        ("1,-1,10,ten,5,5,1\n", "line 1: expected numbers"),
        ("1,-1,1,1,5,5,1\n99000000,-1,1,1,5,5,1\n", "line 2: expected a frame at most 10,000,000 after frame 1"),
        ("1" * 5000, "line 1: expected at most 4096 bytes"),
        ("\x1f\x8bgarbage", "in.mot"),
        ("\x00\x01\x02", "line 1: expected frame"),
    ],
)
def test_what_is_no_such_file_is_refused_by_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.mot", tmp_path / "out.txt"
    source.write_bytes(text.encode("latin-1"))
    words = [
        "track",
        "--detections",
        str(source),
        "--format",
        "mot",
        "--fps",
        "10",
        "--size",
        "100x100",
        "--out",
        str(out),
    ]
    assert cli.main(words) == 1
    assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.mot"]  # no half result


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--fps": "0"}, "--fps: expected a number from 0.001 to 1000"),
        ({"--fps": "1e-300"}, "--fps: expected a number from 0.001 to 1000"),
        ({"--fps": "1e300"}, "--fps: expected a number from 0.001 to 1000"),
        ({"--fps": "nan"}, "--fps: expected a number from 0.001 to 1000"),
        ({"--size": "1920"}, "--size: expected WIDTHxHEIGHT"),
        ({"--size": "0x10"}, "--size: expected WIDTHxHEIGHT"),
        ({"--out": "x.json"}, "name the format: --out-format"),
        ({"--detections": "nowhere.txt"}, "nowhere.txt: expected a file that can be read, got No such file"),
        ({"--tracker": "magic"}, "--tracker: expected one of default, sort, got 'magic'"),
        ({"--class": "x" * 65}, "--class: expected 1 to 64 characters"),
        ({"--class": "per\nson"}, "--class: expected 1 to 64 characters without line breaks"),
        ({"--render": "x.mp4"}, "--video and --render go together"),
        ({"--camera-pose": "nowhere.txt"}, "the camera pose nowhere.txt cannot be read"),
    ],
)
def test_wrong_arguments_are_explained(
    change: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "--detections": str(_written(tmp_path / "in.txt", mot(walkers()))), "--format": "mot", "--fps": "10",
        "--size": "100x100", "--out": str(tmp_path / "out.txt"),
    } | change  # fmt: skip
    assert cli.main(["track", *(word for pair in words.items() for word in pair)]) == 1
    assert said in capsys.readouterr().err


def names_one_file(folder: Path, how: str) -> dict[str, str]:
    """Options that would write over an input, or two results to one file."""
    source, video = folder / "in.txt", folder / "in.mp4"
    (folder / "soft").symlink_to(source)
    (folder / "hard").hardlink_to(source)
    (folder / "folder").symlink_to(folder)
    (folder / "dangling.mp4").symlink_to(folder / "both.txt")
    return {
        "out is in": {"--out": str(source)},
        "out is in by a soft link": {"--out": str(folder / "soft")},
        "out is in by a hard link": {"--out": str(folder / "hard")},
        "out is in by another way": {"--out": str(folder / "folder" / "in.txt")},
        "out is the video": {"--out": str(video), "--video": str(video), "--render": str(folder / "o.mp4")},
        "render is the video": {"--video": str(video), "--render": str(video)},
        "render is in": {"--video": str(video), "--render": str(source)},
        "both results": {"--out": str(folder / "both.txt"), "--video": str(video), "--render": str(folder / "folder" / "both.txt")},
        "both results, dangling": {"--out": str(folder / "both.txt"), "--video": str(video), "--render": str(folder / "dangling.mp4")},
        "in is the part of out": {"--detections": str(folder / ".x.txt.part"), "--out": str(folder / "x.txt")},
        "out is the pose": {"--camera-pose": str(source), "--out": str(source), "--detections": str(video)},
    }[how]  # fmt: skip


@pytest.mark.parametrize(
    "how",
    [
        "out is in", "out is in by a soft link", "out is in by a hard link", "out is in by another way",
        "out is the video", "render is the video", "render is in", "both results", "both results, dangling",
        "in is the part of out", "out is the pose",
    ],
)  # fmt: skip
def test_no_input_is_written_over(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = mot(walkers())
    for name in ("in.txt", "in.mp4", ".x.txt.part"):
        _written(tmp_path / name, text)
    (tmp_path / "in.mp4").chmod(0o400)
    named = names_one_file(tmp_path, how)
    before = sorted(p.name for p in tmp_path.iterdir())
    words = {
        "--detections": str(tmp_path / "in.txt"), "--format": "mot", "--fps": "10", "--size": "100x100",
        "--out": str(tmp_path / "o.txt"), "--out-format": "mot",
    } | named  # fmt: skip
    assert cli.main(["track", *(word for pair in words.items() for word in pair)]) == 1
    assert "is also the file of --" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert all((tmp_path / name).read_text() == text for name in ("in.txt", "in.mp4", ".x.txt.part"))


@pytest.mark.parametrize("out", [".", "..", "/", "", "folder"])
def test_a_folder_is_no_result(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    _written(tmp_path / "in.txt", mot(walkers()))
    words = ["track", "--detections", "in.txt", "--format", "mot", "--fps", "10", "--size", "100x100"]
    assert cli.main([*words, "--out", out, "--out-format", "mot"]) == 1
    assert "expected the name of a file, got a folder" in capsys.readouterr().err


def test_an_empty_file_gives_an_empty_result(tmp_path: Path) -> None:
    assert track(tmp_path, "").read_text() == ""


def test_a_file_in_order_is_not_held_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    source = _written(tmp_path / "long.txt", mot(walkers(range(1, 20_001))))
    extent = mot_file.measure(source)
    assert (extent.row_count, extent.frame_count, extent.in_order) == (40_000, 20_000, True)
    tracemalloc.start()
    count = sum(1 for _ in mot_file.read(source, extent, View(WIDTH, HEIGHT, FPS), "person", Tally()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 500_000  # the rows alone would be 2 MB


# --- JSON lines ----------------------------------------------------------------------------------------------------


def as_jsonl(rows: Sequence[Row], **more: object) -> str:
    lines = []
    for n in sorted({row[0] for row in rows}):
        found = [{"box": list(r[1:5]), "score": r[5], **more} for r in rows if r[0] == n]
        lines.append(json.dumps({"frame": n, "detections": found}))
    return "\n".join(lines) + "\n"


def test_json_lines_give_the_same_tracks(tmp_path: Path) -> None:
    expected = track(tmp_path, mot(walkers())).read_bytes()
    assert track(tmp_path, as_jsonl(walkers()), form="jsonl").read_bytes() == expected
    alone = "\n".join(json.dumps({"frame": r[0], "box": r[1:5], "score": r[5]}) for r in walkers())
    assert track(tmp_path, alone, form="jsonl").read_bytes() == expected


def test_a_class_is_kept_and_the_others_are_left_out(tmp_path: Path) -> None:
    people = as_jsonl(walkers()[::2], **{"class": "person"})
    cars = as_jsonl(walkers()[1::2], **{"class": "car"})
    both = "\n".join(line for pair in zip(people.splitlines(), cars.splitlines(), strict=True) for line in pair)
    rows = rows_of(track(tmp_path, both, "--class", "car", form="jsonl"))
    assert rows and all(row[3] > 200 for row in rows)
    found = frames_of(track(tmp_path, both, "--class", "car", form="jsonl", out="out.wire"))
    assert found[-1].labels == ("car",)
    assert set(frames_of(track(tmp_path, both, form="jsonl", out="out.wire"))[-1].labels) == {"person", "car"}


def test_times_in_the_file_replace_the_rate(tmp_path: Path) -> None:
    times = [0.1 * n + (5.0 if n > 20 else 0.0) for n in range(1, FRAMES + 1)]
    rows = walkers()
    text = "\n".join(
        json.dumps({"frame": n, "time_s": t, "detections": [{"box": r[1:5], "score": r[5]} for r in rows if r[0] == n]})
        for n, t in enumerate(times, 1)
    )
    found = frames_of(track(tmp_path, text, form="jsonl", out="out.wire"))
    assert [f.capture_us for f in found] == [EPOCH_US + round((t - times[0]) * 1e6) for t in times]


def test_with_times_frame_numbers_may_jump_and_no_rate_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = walkers()
    numbers = [n + 1000 * (n > 5) + 10**9 * (n > 20) for n in range(1, FRAMES + 1)]
    frames = [
        {"frame": number, "time_s": 7 + n * n / 900, "detections": [{"box": r[1:5], "score": r[5]} for r in rows if r[0] == n]}
        for n, number in enumerate(numbers, 1)
    ]  # fmt: skip
    source = _written(tmp_path / "in.jsonl", "\n".join(map(json.dumps, frames)))
    words = ["track", "--detections", str(source), "--format", "jsonl", "--size", f"{WIDTH}x{HEIGHT}"]
    assert cli.main([*words, "--out", str(tmp_path / "out.txt")]) == 0
    assert "refused" not in capsys.readouterr().err
    found = rows_of(tmp_path / "out.txt")
    assert sorted({int(row[0]) for row in found})[-20:] == numbers[-20:]
    assert {int(row[1]) for row in found} == {1, 2}
    assert cli.main([*words, "--out", str(tmp_path / "out.wire")]) == 0
    assert [f.seq for f in frames_of(tmp_path / "out.wire")] == list(range(FRAMES))


def test_without_times_a_rate_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _written(tmp_path / "in.jsonl", as_jsonl(walkers()))
    words = [
        "track",
        "--detections",
        str(source),
        "--format",
        "jsonl",
        "--size",
        "9x9",
        "--out",
        str(tmp_path / "o.txt"),
    ]
    assert cli.main(words) == 1
    assert "--fps where the file has no time_s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"frame": 2, "detections": []}\n{"frame": 1, "detections": []}', "line 2: expected frames in order"),
        ('{"frame": 1, "detections": [{"box": [1, 2, 3], "score": 1}]}', "line 1: expected"),
        ('{"frame": 0, "detections": []}', "line 1: expected"),
        ('{"frame": 1', "line 1: expected"),
        (
            '{"frame": 1, "time_s": 2.0}\n{"frame": 2, "time_s": 1.0}',
            "line 2: expected a time_s after the frame before",
        ),
        ('{"frame": 1, "time_s": 2.0}\n{"frame": 2}', "line 2: expected time_s, as the first frame has it"),
    ],
)
def test_bad_json_lines_are_refused_by_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _written(tmp_path / "in.jsonl", text)
    words = ["track", "--detections", str(source), "--format", "jsonl", "--fps", "10", "--size", "100x100"]
    assert cli.main([*words, "--out", str(tmp_path / "out.txt")]) == 1
    assert said in capsys.readouterr().err


# --- wire ----------------------------------------------------------------------------------------------------------


def test_wire_messages_give_the_same_tracks_without_rate_and_size(tmp_path: Path) -> None:
    expected = rows_of(track(tmp_path, mot(walkers())))
    messages = packed([detection_frame(n, walkers(), camera="gate") for n in range(1, FRAMES + 1)])
    source = tmp_path / "in.wire"
    source.write_bytes(messages)
    out = tmp_path / "wire.txt"
    assert cli.main(["track", "--detections", str(source), "--format", "wire", "--out", str(out)]) == 0
    assert np.allclose(rows_of(out), expected, atol=0.011)
    assert {f.camera for f in frames_of(track(tmp_path, messages, form="wire", out="out.wire"))} == {"gate"}


def test_a_lost_and_a_bad_message_are_bridged_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [detection_frame(n, walkers()) for n in range(1, FRAMES + 1) if n != 12]
    bad = struct.pack("<I", 5) + b"\xc1\xc1\xc1\xc1\xc1"
    found = frames_of(track(tmp_path, packed(frames[:5]) + bad + packed(frames[5:]), form="wire", out="out.wire"))
    assert [f.seq + 1 for f in found] == [n for n in range(1, FRAMES + 1) if n != 12]
    assert "frame refused, not_messagepack: 1 (first: message 6" in capsys.readouterr().err


def test_several_cameras_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [detection_frame(n, walkers(), camera) for n in range(1, FRAMES + 1) for camera in ("east", "west")]
    source = tmp_path / "in.wire"
    source.write_bytes(packed(frames))
    words = ["track", "--detections", str(source), "--format", "wire", "--out", str(tmp_path / "out.wire")]
    assert cli.main(words) == 1
    assert "east and west" in capsys.readouterr().err
    assert cli.main([*words, "--camera", "west"]) == 0
    assert {f.camera for f in frames_of(tmp_path / "out.wire")} == {"west"}


def test_a_cut_off_wire_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.wire"
    source.write_bytes(packed([detection_frame(n, walkers()) for n in (1, 2)])[:-3])
    assert cli.main(["track", "--detections", str(source), "--format", "wire", "--out", str(tmp_path / "o.wire")]) == 1
    assert "message 2 at byte" in capsys.readouterr().err


def test_length_prefixed_messages_round_trip(tmp_path: Path) -> None:
    sent = [b"a", b"b" * 70_000, encode(detection_frame(1, walkers()))]
    with (tmp_path / "m.wire").open("wb") as file:
        for message in sent:
            write_message(file, message)
    assert [raw for _, raw in read_messages(tmp_path / "m.wire")] == sent


# --- pose and pictures ---------------------------------------------------------------------------------------------

POSE = """RotationMatrices
1 0 0
0 0 -1
0 1 0

TranslationVectors
0 1000 3000
IntrinsicMatrix
1000 0 500
0 1000 250
0 0 1
"""


def test_a_pose_projects_the_world_to_pixels(tmp_path: Path) -> None:
    pose = read_pose(_written(tmp_path / "pose.txt", POSE))
    seen = pose.projection @ np.array([500.0, 2000.0, 0.0, 1.0])  # half a metre right, two ahead, on the ground
    assert np.allclose(seen[:2] / seen[2], [500 + 1000 * 500 / 5000, 250 + 1000 * 1000 / 5000])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0 1000 3000\n", "0 1000\n", "section TranslationVectors: expected 3 numbers, got 2"),
        ("1 0 0\n", "1 0 x\n", "line 2: expected a number, got 'x'"),
        ("1 0 0\n", "2 0 0\n", "expected a rotation"),
        ("1000 0 500", "-1 0 500", "positive focal lengths"),
        (
            "0 1000 250",
            "0 1000 -250",
            "intrinsic: expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with fx, fy, cy > 0",
        ),
        ("1000 0 500", "1e300 0 500", "expected finite numbers up to 1e+09"),
        ("0 1000 3000", "0 0 0", "expected a camera at least 10 mm above the floor"),
        ("RotationMatrices\n", "", "line 1: expected the name of a section"),
        ("IntrinsicMatrix", "TranslationVectors", "comes twice"),
    ],
)
def test_what_is_no_pose_is_refused(
    old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _written(tmp_path / "in.txt", mot(walkers()))
    pose = _written(tmp_path / "pose.txt", POSE.replace(old, new, 1))
    words = ["track", "--detections", str(source), "--format", "mot", "--fps", "10", "--size", "100x100"]
    assert cli.main([*words, "--camera-pose", str(pose), "--out", str(tmp_path / "o.txt")]) == 1
    assert said in capsys.readouterr().err


def test_json_lines_say_where_tracks_stand_and_how_fast_they_are_where_the_pose_is_known(tmp_path: Path) -> None:
    # Ten metres ahead of the camera a metre is 100 pixels wide, and somebody walks at 1 m/s.
    rows = [(n, 170.0 + 10 * n, 180.0, 60.0, 170.0, 0.9) for n in range(1, 41)]
    pose = _written(tmp_path / "pose.txt", POSE)
    out = track(tmp_path, mot(rows), "--camera-pose", str(pose), out="out.jsonl")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["frame"], line["time_s"]) for line in lines] == [(n, (n - 1) / 10) for n in range(1, 41)]
    (last,) = lines[-1]["tracks"]
    assert (last["id"], last["class"], last["predicted"]) == (1, "person", False)
    assert last["box"] == pytest.approx([570.0, 180.0, 60.0, 170.0], abs=2.0)
    assert last["ground_m"] == pytest.approx([1.0, 7.0], abs=0.2)
    assert last["speed_mps"] == pytest.approx(1.0, abs=0.1) and 0.1 < last["speed_sd_mps"] < 1.0
    without = track(tmp_path, mot(rows), out="plain.jsonl").read_text().splitlines()
    assert "speed_mps" not in without[-1] and len(without) == 40


def test_the_pose_file_of_the_data_set_is_read(shared_data: Path) -> None:
    pose = read_pose(shared_data / "mot" / "MOT17-09" / "cam_para_ucmc.txt")
    assert pose.translation_mm.tolist() == [-2, 1088, 2845]
    assert pose.intrinsic[0, 0] == 1265


def test_the_tracks_are_drawn_on_the_video(tmp_path: Path) -> None:
    import cv2

    video, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for _ in range(FRAMES):
        writer.write(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    writer.release()
    track(tmp_path, mot(walkers()), "--video", str(video), "--render", str(out))
    made = cv2.VideoCapture(str(out))
    pictures = []
    while (read := made.read())[0]:
        pictures.append(read[1].astype(int))
    made.release()
    assert len(pictures) == FRAMES
    left, top = 100 + 12 * FRAMES, 60
    border = pictures[-1][top - 2 : top + 3, left : left + 40]
    assert np.abs(border - 90).max() > 60  # the box
    assert np.abs(pictures[-1][150:280, 880:990] - 90).max() < 12  # nothing elsewhere
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mot", "in.mp4", "out.mp4", "out.txt"]


def test_a_video_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _written(tmp_path / "in.txt", mot(walkers()))
    words = ["track", "--detections", str(source), "--format", "mot", "--fps", "10", "--size", "100x100"]
    video = tmp_path / "in.mp4"
    video.write_bytes(bytes(range(256)) * 40)
    more = ["--out", str(tmp_path / "o.txt"), "--video", str(video), "--render", str(tmp_path / "o.mp4")]
    assert cli.main([*words, *more]) == 1
    assert "expected a video that OpenCV can read" in capsys.readouterr().err
