"""Scenes: repeatable, orderly, and without overlaps unless asked."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from schemas.settings_file import parse_settings
from schemas.wire import check_detections, decode_detections, encode, unpack_boxes
from simulator.layout import SPARE_CAMERA, scene_settings, settings_yaml
from simulator.load import Load, LoadPlan
from simulator.records import Record, to_records, with_disorder, with_duplicates, with_poison
from simulator.scenario import build_scene
from simulator.scene import NOISY_DETECTOR, DetectorModel, FrameClock
from simulator.walks import WalkPlan, lanes


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    def sent(seed: int) -> list[bytes]:
        return [encode(f) for f in build_scene(seed, cameras=2, duration_s=20, detector=NOISY_DETECTOR).frames()]

    assert sent(1) == sent(1)
    assert sent(1) != sent(2)


@pytest.mark.parametrize("detector", [DetectorModel(), NOISY_DETECTOR])
def test_every_message_is_one_that_a_job_accepts(detector):
    for frame in build_scene(5, duration_s=40, detector=detector).frames():
        f = decode_detections(encode(frame))
        boxes, scores = unpack_boxes(f), np.frombuffer(f.scores, "<f4")
        assert check_detections(boxes, scores, np.frombuffer(f.classes, np.uint8), len(f.labels)) == ""
        assert len(set(f.classes)) == len(f.labels)  # only labels that are present


def test_cameras_come_in_order_of_capture_time_with_sequences_without_gaps():
    frames = list(build_scene(0, cameras=3, duration_s=20, clock=FrameClock(12.0, 0.8, 0.1)).frames())
    assert all(a.capture_us <= b.capture_us for a, b in pairwise(frames))
    for camera in {f.camera for f in frames}:
        own = [f for f in frames if f.camera == camera]
        assert [f.seq for f in own] == list(range(len(own)))
        assert all(a.capture_us < b.capture_us for a, b in pairwise(own))


def test_a_quiet_camera_sends_one_empty_frame_a_second():
    own = list(build_scene(0, duration_s=30).frames())
    for before, after in pairwise(own):
        assert after.capture_us - before.capture_us <= 1_100_000
        if not after.classes:
            assert after.capture_us - before.capture_us >= 1_000_000
    assert any(not f.classes for f in own)


def test_a_restart_of_the_agent_gives_a_later_boot_and_starts_from_zero():
    frames = list(build_scene(0, duration_s=20, restarts_s=(5.0, 9.0)).frames())
    boots = sorted({f.boot for f in frames})
    assert len(boots) == 3
    for boot in boots:
        assert [f.seq for f in frames if f.boot == boot] == list(range(sum(f.boot == boot for f in frames)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lane_count", [6, 12])
def test_boxes_never_touch_in_the_exact_mode_and_stay_in_the_frame(seed, lane_count):
    for frame in build_scene(seed, duration_s=40, plan=WalkPlan(lane_count=lane_count)).frames():
        boxes = unpack_boxes(frame)
        assert (boxes >= 0).all() and (boxes <= 1).all()
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_crowded_scenes_overlap():
    overlaps = 0
    for frame in build_scene(0, duration_s=40, plan=WalkPlan(crowded=True)).frames():
        boxes = unpack_boxes(frame)
        overlaps += sum(
            bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
            for i, a in enumerate(boxes)
            for b in boxes[i + 1 :]
        )
    assert overlaps > 10


def test_objects_move_little_enough_from_frame_to_frame_to_be_followed():
    scene = build_scene(0, duration_s=60)
    for obj in scene.cameras[0].objects:
        for a, b in pairwise(obj.path):
            width = obj.shape.size(a.y)[0]
            assert abs(b.x - a.x) / (b.at_s - a.at_s) / 5.0 <= 0.36 * width


def test_nearer_objects_are_larger():
    heights = [lane.shape.size(lane.y)[1] for lane in lanes(6)]
    assert heights == sorted(heights) and heights[-1] > 1.5 * heights[0]


def test_a_noisy_detector_misses_and_invents_about_as_often_as_told():
    model = DetectorModel(miss_ratio=0.2, false_count=0.5)
    exact = sum(len(f.classes) for f in build_scene(0, duration_s=60).frames())
    scene = build_scene(0, duration_s=60, detector=model)
    frame_count = sum(1 for _ in scene.frame_times_us("cam-000"))
    noisy = sum(len(f.classes) for f in scene.frames())
    assert noisy == pytest.approx(0.8 * exact + 0.5 * frame_count, rel=0.1)


def test_settings_text_reads_back_as_the_same_settings():
    settings = scene_settings(3, spare=True, since_s=5.5)
    assert parse_settings(settings_yaml(settings).encode()) == settings
    assert settings.cameras[-1].id == SPARE_CAMERA
    assert [c.camera for c in build_scene(0, settings=settings, duration_s=5).cameras] == [
        "cam-000", "cam-001", "cam-002"
    ]  # fmt: skip


def test_duplicates_come_after_what_they_repeat():
    records = list(to_records(build_scene(0, duration_s=20).frames()))
    doubled = list(with_duplicates(records, 0.3, 1))
    seen: Counter[bytes] = Counter()
    firsts = []
    for record in doubled:
        seen[record.value] += 1
        if seen[record.value] == 1:
            firsts.append(record)
    assert firsts == records
    assert len(doubled) - len(records) == pytest.approx(0.3 * len(records), rel=0.3)


def test_disorder_loses_nothing_and_moves_records_a_few_places_at_most():
    records = [Record(b"c%d" % (i % 3), b"%d" % i, i) for i in range(600)]
    mixed = list(with_disorder(records, 0.2, 1, distance_count=3))
    assert sorted(mixed, key=lambda r: r.timestamp_ms) == records
    assert mixed != records
    for key in (b"c0", b"c1", b"c2"):
        own = [r.timestamp_ms for r in mixed if r.key == key]
        right = sorted(own)
        assert all(abs(i - right.index(t)) <= 3 for i, t in enumerate(own))


def test_poison_between_records_leaves_them_in_order():
    from simulator.poison import poison_messages

    frames = list(build_scene(0, duration_s=20).frames())
    records = list(to_records(frames))
    mixed = list(with_poison(records, poison_messages(0, 100, frames[0]), 0, 0.2))
    assert len(mixed) == len(records) + 100
    assert [r for r in mixed if r in set(records)] == records


@pytest.mark.parametrize("detection_count", [1, 10, 50])
def test_load_is_made_of_good_frames_and_goes_on_where_it_stopped(detection_count):
    load = Load(LoadPlan(camera_count=3, detection_count=detection_count, loop_count=20))
    whole = list(load.records(150))
    assert whole == [*load.records(70), *load.records(80, first=70)]
    last: dict[str, tuple[int, int]] = {}
    for record in whole:
        frame = decode_detections(record.value)
        assert (frame.camera.encode(), len(frame.classes)) == (record.key, detection_count)
        assert frame.capture_us // 1000 == record.timestamp_ms
        boxes, scores = unpack_boxes(frame), np.frombuffer(frame.scores, "<f4")
        assert check_detections(boxes, scores, np.frombuffer(frame.classes, np.uint8), len(frame.labels)) == ""
        seq, capture_us = last.get(frame.camera, (-1, 0))
        assert frame.seq == seq + 1 and frame.capture_us > capture_us
        last[frame.camera] = (frame.seq, frame.capture_us)


def test_a_load_that_would_not_fit_in_memory_is_refused():
    with pytest.raises(ValueError, match="pool of at most"):
        Load(LoadPlan(camera_count=10_000, detection_count=1000))
