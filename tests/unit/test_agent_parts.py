"""The small parts of the agent, each by what it promises."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agent_clock import AgentClock, is_plausible
from edge_agent.backoff import Backoff
from edge_agent.boot import next_boot
from edge_agent.capture_time import (
    RETURN_AFTER_US,
    CaptureClock,
    ntp64_unix_us,
    rtp_unix_us,
    unix_us,
)
from edge_agent.cli import main as agent_main
from edge_agent.counts import CameraCounts
from edge_agent.delivery import UplinkError, check_properties, read_properties
from edge_agent.frame_message import QuietRule, make_message, pack_objects
from edge_agent.log_format import JsonFormatter, PlainFormatter
from edge_agent.newest_frames import CapturedFrame, NewestFrames
from edge_agent.plan import PlanError, Wishes, make_plan
from edge_agent.redaction import redact
from edge_agent.sampling import Sampler
from edge_agent.source import SourceError, derive_camera_id, split_url
from schemas.wire import MAX_DETECTIONS, check_detections, decode_detections, encode, unpack_boxes

NOW_US = 1_800_000_000_000_000


# -- sampling


@given(
    source_fps=st.floats(1, 60), target_fps=st.floats(0.5, 60), seconds=st.integers(5, 60), seed=st.integers(0, 1 << 30)
)
def test_sampling_keeps_the_rate_within_a_frame(source_fps: float, target_fps: float, seconds: int, seed: int) -> None:
    noise = random.Random(seed)
    sampler = Sampler(target_fps)
    frame_count = int(seconds * source_fps)
    jitter_us = min(0.2 / source_fps, 0.2 / target_fps) * 1e6
    times_us = [NOW_US + int(i * 1e6 / source_fps + noise.uniform(-jitter_us, jitter_us)) for i in range(frame_count)]
    taken_count = sum(sampler.take(t) for t in times_us)
    expected_count = min(frame_count, (frame_count - 1) / source_fps * target_fps + 1)
    # A jittered source that is hardly faster than the target has no frame for a few of the slots.
    assert abs(taken_count - expected_count) <= 2 + 0.02 * expected_count


def test_no_frame_is_skipped_where_the_camera_is_as_fast_as_wanted() -> None:
    noise = random.Random(1)
    sampler = Sampler(10)
    assert all(sampler.take(NOW_US + i * 100_000 + noise.randint(-30_000, 30_000)) for i in range(1000))


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    sampler = Sampler(5)
    assert sampler.take(NOW_US)
    after_us = NOW_US + 60_000_000
    assert sum(sampler.take(after_us + i * 40_000) for i in range(25)) <= 6


def test_a_step_back_in_time_starts_anew() -> None:
    sampler = Sampler(1)
    assert sampler.take(NOW_US)
    assert not sampler.take(NOW_US + 40_000)
    assert sampler.take(NOW_US - 3_600_000_000)


# -- time


def test_ntp_times_become_unix_times_also_after_2036() -> None:
    assert unix_us(2_208_988_800 * 10**9) == 0
    assert ntp64_unix_us((2_208_988_800 + 100) << 32 | 1 << 31) == 100_500_000
    assert unix_us(5 * 10**9) == (2**32 - 2_208_988_800 + 5) * 1_000_000  # 2036-02-07


@given(ticks=st.integers(-(1 << 30), 1 << 30), report_rtp=st.integers(0, (1 << 32) - 1))
def test_rtp_times_follow_the_report_over_the_wrap(ticks: int, report_rtp: int) -> None:
    report_ntp64 = (2_208_988_800 + 1_800_000_000) << 32
    found_us = rtp_unix_us((report_rtp + ticks) % (1 << 32), report_rtp, report_ntp64, 90_000)
    assert found_us == NOW_US + ticks * 1_000_000 // 90_000


def test_capture_time_is_the_cameras_where_it_tells_it() -> None:
    clock = CaptureClock()
    assert clock.stamp(0, NOW_US) == (NOW_US, "arrival")
    assert clock.stamp(NOW_US - 20_000, NOW_US) == (NOW_US - 20_000, "rtcp_sr")
    assert clock.offset_us == -20_000


def test_a_wrong_camera_clock_is_not_believed_until_it_was_right_for_a_while() -> None:
    clock = CaptureClock()
    assert clock.stamp(NOW_US - 3_600_000_000, NOW_US) == (NOW_US, "arrival")
    assert clock.offset_us == -3_600_000_000
    assert clock.stamp(NOW_US, NOW_US) == (NOW_US, "arrival")
    later_us = NOW_US + RETURN_AFTER_US
    assert clock.stamp(later_us - 5, later_us) == (later_us - 5, "rtcp_sr")


def test_the_agents_time_line_never_runs_back() -> None:
    wall_us, mono_us = NOW_US, 5_000_000
    clock = AgentClock(0, lambda: wall_us, lambda: mono_us)
    assert clock.now_us() == NOW_US
    mono_us += 1_000_000
    wall_us -= 3_600_000_000  # set back by an hour
    assert clock.now_us() == NOW_US + 1_000_000
    assert clock.ahead_s == pytest.approx(3601)
    wall_us = NOW_US + 86_400_000_000  # set forward by a day
    assert clock.now_us() == wall_us
    assert clock.at_us(mono_us - 40_000) == wall_us - 40_000


def test_a_clock_of_1970_is_not_plausible() -> None:
    assert not is_plausible(86_400_000_000)
    assert is_plausible(NOW_US)


def test_boot_numbers_rise_also_where_the_clock_went_back(tmp_path: Path) -> None:
    first = next_boot(tmp_path, NOW_US)
    second = next_boot(tmp_path, NOW_US - 60_000_000)
    third = next_boot(tmp_path, NOW_US + 60_000_000)
    assert first == NOW_US and second == NOW_US + 1 and third == NOW_US + 60_000_000
    (tmp_path / "boot").write_text("garbage")
    assert next_boot(tmp_path, NOW_US) == NOW_US


def test_backoff_grows_to_its_cap_and_starts_again() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(0))
    waits = [[Backoff(1.0, 60.0, random.Random(seed)).next_delay_s() for seed in range(50)]]
    assert max(waits[0]) <= 1.0
    later = [backoff.next_delay_s() for _ in range(200)]
    assert 30 < max(later[10:]) <= 60
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0


# -- hand-over


def make_frame(camera: str, number: int, released: list[int]) -> CapturedFrame:
    pixels = np.zeros((4, 6, 3), np.uint8)
    return CapturedFrame(camera, pixels, NOW_US + number, "arrival", NOW_US + number, lambda: released.append(number))


def test_the_newest_frame_wins_and_the_older_is_released_and_counted() -> None:
    released: list[int] = []
    replaced: list[str] = []
    frames = NewestFrames(replaced.append)
    for number in range(3):
        frames.put(make_frame("a", number, released))
    taken = frames.take(0)
    assert taken is not None and taken.capture_us == NOW_US + 2
    assert released == [0, 1] and replaced == ["a", "a"]
    assert frames.take(0) is None and frames.is_empty()


def test_cameras_take_turns() -> None:
    frames = NewestFrames(lambda camera: None)
    order = []
    for number in range(6):
        for camera in "abc":
            frames.put(make_frame(camera, number, []))
        frame = frames.take(0)
        assert frame is not None
        order.append(frame.camera)
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_a_file_played_fast_loses_no_frame() -> None:
    frames = NewestFrames(lambda camera: None)
    for number in range(3):
        frames.put(make_frame("a", number, []), keep_all=True)
    taken = [cast(CapturedFrame, frames.take(0)).capture_us - NOW_US for _ in range(3)]
    assert taken == [0, 1, 2]


def test_taking_ends_when_the_hand_over_is_closed() -> None:
    frames = NewestFrames(lambda camera: None)
    thread = threading.Thread(target=frames.take, args=(60.0,))
    thread.start()
    frames.close()
    thread.join(5)
    assert not thread.is_alive()


# -- messages


def test_while_nothing_is_seen_one_empty_frame_a_second_is_sent() -> None:
    quiet = QuietRule(1.0)
    sent = [i for i in range(100) if quiet.is_wanted(int(20 <= i < 30), NOW_US + i * 100_000)]
    assert set(range(20, 30)) <= set(sent)
    assert 30 in sent  # the scene has cleared
    assert len([i for i in sent if i < 20]) == 2
    gaps = np.diff(sent)
    assert gaps.max() <= 10


@given(seed=st.integers(0, 1 << 30), count=st.integers(0, 1200))
def test_whatever_a_detector_answers_the_message_is_one_that_jobs_accept(seed: int, count: int) -> None:
    noise = np.random.default_rng(seed)
    boxes = noise.uniform(-0.3, 1.3, (count, 4)).astype(np.float32)
    boxes[noise.random(count) < 0.05] = np.nan
    boxes[noise.random(count) < 0.05] = np.inf
    scores = noise.uniform(-0.1, 1.1, count).astype(np.float32)
    classes = noise.integers(0, 80, count).astype(np.uint16)
    labels = tuple(f"label {i}" for i in range(80))
    objects = pack_objects(boxes, scores, classes, labels)
    frame = make_frame("cam", 0, [])
    message = make_message("site", NOW_US, 0, frame, NOW_US, "model", "0" * 16, objects)
    found = decode_detections(encode(message))
    index = np.frombuffer(found.classes, np.uint8)
    kept_scores = np.frombuffer(found.scores, "<f4")
    assert check_detections(unpack_boxes(found), kept_scores, index, len(found.labels)) == ""
    assert len(index) <= MAX_DETECTIONS
    assert set(index.tolist()) == set(range(len(found.labels)))
    assert (found.width_px, found.height_px) == (6, 4)


def test_labels_stay_with_their_boxes() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.1, 0.1, 0.4, 0.4], [0.2, 0.2, 0.9, 0.9]], np.float32)
    objects = pack_objects(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([7, 2, 7]), tuple("abcdefgh"))
    labels, index = cast(tuple[str, ...], objects["labels"]), cast(bytes, objects["classes"])
    assert [labels[i] for i in index] == ["h", "c", "h"]


def test_counts_add_up() -> None:
    counts = CameraCounts()
    counts.add("sent_count", 3)
    counts.drop("detector_busy", 2)
    counts.drop("detector_busy")
    assert counts.snapshot()["sent_count"] == 3
    assert counts.drops() == {"detector_busy": 3}


# -- signals

SIGNALLED = """
import signal, sys, time
from edge_agent.wake import Wake
wake, count = Wake(), 0
def on_signal(*_):
    global count
    count += 1
    wake.set()
signal.signal(signal.SIGVTALRM, on_signal)
signal.setitimer(signal.ITIMER_VIRTUAL, 1e-3, 1e-3)
while count < 300:
    wake.wait(0.0)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
wake.set()
begun = time.monotonic()
wake.wait(60.0)
assert time.monotonic() - begun < 30
begun = time.monotonic()
wake.wait(0.05)
assert time.monotonic() - begun > 0.04
print(count)
"""


def test_a_signal_wakes_the_agent_whatever_it_interrupts() -> None:
    """`threading.Event` fails this: its `set` waits for the lock that the interrupted `wait` or `clear` holds."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "") and int(done.stdout) >= 300


# -- secrets and settings


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:s3cret@10.0.0.5:554/stream1",
        "cannot open rtsps://admin:s3cret@cam/x?y=1 (404)",
        "rtsp://admin:ab/s3cret@cam/x",
        "rtsp://admin:s3cret@cd@cam:99999/x",
        "rtsp://admin:ab@s3cret@cam/x",
        "rtsp://admin:ab?c#d/s3cret@cam/x",
        "rtsp://10.0.0.5/user=admin_password=s3cret_channel=1_stream=0.sdp",
        "rtsp://10.0.0.5/live?usr=admin&pwd=s3cret&ch=1",
        "Authorization: Basic s3cret\r\nCSeq: 2",
        "the camera said s3cret",
    ],
)
def test_secrets_are_blotted_out(text: str) -> None:
    assert "s3cret" not in redact(text, ("s3cret",) if "said" in text else ())
    for formatter in (PlainFormatter(("s3cret",)), JsonFormatter(("s3cret",))):
        line = formatter.format(logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None))
        assert "s3cret" not in line


def test_an_error_with_a_trace_is_one_json_line() -> None:
    try:
        raise ValueError("rtsp://a:s3cret@cam/")
    except ValueError as e:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broke", (), (ValueError, e, e.__traceback__))
    line = json.loads(JsonFormatter().format(record))
    assert line["level"] == "error" and "ValueError" in line["error"] and "s3cret" not in line["error"]


def test_name_and_password_leave_the_url() -> None:
    source = split_url("rtsp://ad%40min:p%3Ass@10.0.0.5:8554/a/b?c=d")
    assert (source.url, source.username, source.password) == ("rtsp://10.0.0.5:8554/a/b?c=d", "ad@min", "p:ss")
    assert "p:ss" not in repr(source)


@pytest.mark.parametrize("url", ["http://cam/", "rtsp:///x", "rtsp://cam/ ! filesink", "file:///no/such/file", "cam"])
def test_what_is_no_camera_is_refused(url: str) -> None:
    with pytest.raises(SourceError):
        split_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:s3cret/w@host/x", "rtsp://u:ab/s3cret@host/x", "rtsp://u:s3cret@ret@127.0.0.1:99999/x",
        "rtsp://u:ab@s3cret@127.0.0.1:99999/x", "rtsp://u:12/s3cret@host/x", "rtsp://u:12?s3cret@host/x",
        "rtsp://u:12#s3cret@host/x", "rtsp://[u:s3cret@host/x", "http://u:s3cret@host/x", "rtsp://u:s3cret@/x",
        "u:s3cret@host/x", "rtsp:/u:s3cret@host/x", "1://u:s3cret@host/x",
    ],
)  # fmt: skip
def test_no_refusal_of_a_camera_tells_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        split_url(url)
    assert "s3cret" not in str(refused.value)
    settings = write_site(tmp_path, "{id: a, source: {url: 'rtsp://cam/1'}}")
    for wishes in (Wishes(cameras=[url]), Wishes(cameras=[url], settings=settings)):
        with pytest.raises(PlanError) as unplanned:
            make_plan(wishes)
        assert "s3cret" not in str(unplanned.value)


@given(st.text(min_size=1, max_size=40).filter(lambda t: not set(t) & set("/?#@[]:\\%") and t.isprintable()))
def test_a_derived_camera_id_is_a_valid_name(path: str) -> None:
    import msgspec

    from schemas.wire import Name

    try:
        source = split_url(f"rtsp://10.0.0.5/{path}")
    except SourceError:
        return
    msgspec.convert(derive_camera_id(source), Name)


def write_site(folder: Path, camera: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(f"version: 1\nsite: s\ncameras:\n  - {camera}\n")
    return path


def test_a_plan_from_settings_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret\n")
    settings = write_site(
        tmp_path,
        "{id: a, source: {url: 'rtsp://cam/1', username: u, password_file: pw}, detector: {classes: [person]}}",
    )
    plan = make_plan(Wishes(settings=settings, bootstrap_servers="k:1", fps=3, model="m", state_dir=tmp_path))
    camera, source = plan.cameras[0]
    assert (plan.site, plan.bootstrap_servers, camera.sampling.target_fps) == ("s", "k:1", 3)
    assert (camera.detector.model, camera.detector.classes) == ("m", ("person",))
    assert source.password == "s3cret" and "s3cret" not in repr(plan)


def test_a_plan_from_a_url_alone() -> None:
    plan = make_plan(Wishes(cameras=["rtsp://u:p@10.0.0.5:554/stream1"]))
    camera, source = plan.cameras[0]
    assert (plan.site, camera.id) == ("default", "10.0.0.5-stream1")
    assert (source.url, source.username, source.password) == ("rtsp://10.0.0.5:554/stream1", "u", "p")


@pytest.mark.parametrize(
    ("camera", "wishes", "says"),
    [
        ("{id: a, source: {url: 'rtsp://u:s3cret@cam/1'}}", Wishes(), "cameras[0].source.url"),
        ("{id: a}", Wishes(), "no camera has a source"),
        ("{id: a, source: {url: 'rtsp://cam/1'}}", Wishes(cameras=["b"]), "has the cameras ['a']"),
        ("{id: a, source: {url: 'rtsp://cam/1', password_file: nope}}", Wishes(), "password file"),
        ("{id: a, fps: 3}", Wishes(), "cameras[0]"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_the_place(
    tmp_path: Path, camera: str, wishes: Wishes, says: str
) -> None:
    settings = write_site(tmp_path, camera)
    with pytest.raises(PlanError) as caught:
        make_plan(Wishes(settings=settings, cameras=wishes.cameras))
    assert says in str(caught.value) and "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--fps", "-5"), ("--fps", "nan"), ("--fps", "0"), ("--fps", "inf"), ("--fps", "1e9"), ("--score-min", "nan"),
        ("--score-min", "1.5"), ("--metrics-port", "70000"), ("--metrics-port", "-1"), ("--agent-id", "bad id"),
        ("--agent-id", ""), ("--bootstrap-servers", ""), ("--bootstrap-servers", " "),
        ("--bootstrap-servers", "x" * 2000),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_in_a_sentence(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--camera", "rtsp://cam/1", "--model", "no-such-model", "--state-dir", str(tmp_path)]
    assert agent_main([*words, f"{option}={value}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"sightflow-agent: {option}") and "xpected" in said and len(said.splitlines()) == 1


def test_the_bounds_of_options_belong_to_them() -> None:
    wishes = Wishes(
        cameras=["rtsp://cam/1"], fps=240, score_min=0.0, bootstrap_servers="k:1", agent="a.b-c", metrics_port=65535
    )
    plan = make_plan(wishes)
    assert (plan.cameras[0][0].sampling.target_fps, plan.agent, plan.metrics_port) == (240, "a.b-c", 65535)


def test_properties_that_break_the_guarantee_are_refused(tmp_path: Path) -> None:
    check_properties({"linger.ms": "20", "sasl.username": "u"})
    for name in ("acks", "request.required.acks", "enable.idempotence", "message.timeout.ms", "delivery.timeout.ms"):
        with pytest.raises(UplinkError, match="fixed by the agent"):
            check_properties({name: "1"})
    path = tmp_path / "p"
    path.write_text("# secrets\nsasl.password = a=b\n\nssl.ca.location=/x\n")
    assert read_properties(path) == {"sasl.password": "a=b", "ssl.ca.location": "/x"}
    path.write_text("oops\n")
    with pytest.raises(UplinkError, match="line 1"):
        read_properties(path)
