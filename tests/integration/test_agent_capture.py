"""Capture from a real RTSP server: passwords, sender reports read in both ways, a picture that changes its size."""

from __future__ import annotations

import bisect
import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightflow.places import REPO_ROOT, Local

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
PYTHON = str(Local.find().venv_agent / "bin" / "python")
FOOTAGE = Local.find().footage

# Runs in the agent's environment: captures for a while and prints a line for each frame.
CAPTURE = """
import json, sys, threading, time
from edge_agent.agent_clock import AgentClock
from edge_agent.backoff import Backoff
from edge_agent.capture import CameraCapture, CapturePlan
from edge_agent.counts import CameraCounts
from edge_agent.newest_frames import NewestFrames
from edge_agent.source import split_url
url, route, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
frames, counts = NewestFrames(lambda camera: None), CameraCounts()
plan = CapturePlan("c", split_url(url), target_fps=100, time_route=route)
capture = CameraCapture(plan, AgentClock(), frames, counts, Backoff(0.1, 0.1))
thread = threading.Thread(target=capture.run)
thread.start()
end_s = time.monotonic() + seconds
while time.monotonic() < end_s:
    frame = frames.take(0.2)
    if frame is not None:
        line = {"capture_us": frame.capture_us, "clock": frame.clock, "recv_us": frame.recv_us,
                "shape": frame.bgr.shape, "mean": float(frame.bgr.mean()), "restarts": counts.reconnect_count}
        frame.release()
        print(json.dumps(line), flush=True)
capture.stop()
thread.join(5)
"""

# Writes an H.264 file of two seconds, of which the second has another size.
TWO_SIZES = """
import sys
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
out = open(sys.argv[1], "wb")
for width, height in ((320, 240), (480, 352)):
    pipeline = Gst.parse_launch(
        f"videotestsrc num-buffers=20 ! video/x-raw,width={width},height={height},framerate=10/1 ! "
        "x264enc key-int-max=10 tune=zerolatency ! video/x-h264,stream-format=byte-stream,alignment=au ! "
        "appsink name=s sync=false")
    pipeline.set_state(Gst.State.PLAYING)
    sink = pipeline.get_by_name("s")
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        out.write(buffer.extract_dup(0, buffer.get_size()))
    pipeline.set_state(Gst.State.NULL)
"""

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start RTSP servers; ends them."""
    running: list[subprocess.Popen[bytes]] = []

    def start(footage: Path, *more: str) -> str:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        command = [PYTHON, "-m", "simulator.rtsp_camera", "--port", str(port), "--mount", f"cam={footage}", *more]
        running.append(subprocess.Popen(command, cwd=REPO_ROOT, stdout=subprocess.DEVNULL))
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return f"127.0.0.1:{port}/cam"
            time.sleep(0.1)
        raise AssertionError("the RTSP server does not listen")

    yield start
    for process in running:
        process.terminate()
        assert process.wait(10) == 0  # SIGTERM is a clean end


def capture(url: str, route: str = "auto", seconds: float = 4.0) -> list[dict[str, object]]:
    """Capture in the agent's environment and return what came."""
    command = [PYTHON, "-c", CAPTURE, url, route, str(seconds)]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("route", ["meta", "reports"])
def test_capture_times_are_the_servers_push_times(serve: Serve, tmp_path: Path, route: str) -> None:
    url = "rtsp://" + serve(FOOTAGE, "--log", str(tmp_path / "log"))
    frames = capture(url, route)
    reported = [int(str(f["capture_us"])) for f in frames if f["clock"] == "rtcp_sr"]
    assert len(reported) > len(frames) / 2 > 5
    pushes_us = sorted(json.loads(line)["capture_us"] for line in (tmp_path / "log").read_text().splitlines())
    off_us = []
    for at_us in reported:
        i = bisect.bisect(pushes_us, at_us)
        off_us.append(min(abs(at_us - p) for p in pushes_us[max(0, i - 1) : i + 1]))
    assert statistics.median(off_us) < 10_000
    assert all(float(str(f["mean"])) > 10 for f in frames)  # pictures, not black


def test_a_picture_that_changes_its_size_is_followed(serve: Serve, tmp_path: Path) -> None:
    footage = tmp_path / "two.h264"
    subprocess.run([PYTHON, "-c", TWO_SIZES, str(footage)], check=True, timeout=60)
    frames = capture("rtsp://" + serve(footage, "--fps", "10"), seconds=6.0)
    shapes = {tuple(f["shape"]) for f in frames}  # type: ignore[arg-type]
    assert shapes == {(240, 320, 3), (352, 480, 3)}
    assert max(int(str(f["restarts"])) for f in frames) >= 1


def agent_check(url: str, *more: str) -> str:
    """The lines of `sightflow-agent check` for one camera."""
    command = [PYTHON, "-m", "edge_agent", "check", "--camera", url, "--bootstrap-servers", "127.0.0.1:1", *more]
    environment = {**os.environ, "SIGHTFLOW_MODELS_DIR": str(Local.find().models)}
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1  # no broker there
    return done.stdout + done.stderr


def test_a_camera_with_a_password(serve: Serve, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    address = serve(FOOTAGE, "--username", "viewer", "--password-file", str(password))
    more = ("--state-dir", str(tmp_path / "state"))
    good = agent_check(f"rtsp://{address}", "--username", "viewer", "--password-file", str(password), *more)
    assert "768x576" in good and "FAIL  camera" not in good
    wrong = agent_check(f"rtsp://viewer:wr0ng-one@{address}", *more)
    assert "FAIL  camera" in wrong and "nauthorized" in wrong
    assert not any(secret in text for text in (good, wrong) for secret in ("s3cret", "wr0ng-one"))


def test_the_camera_refuses_footage_it_cannot_play(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for mount in (f"cam={tmp_path / 'missing.mp4'}", f"cam={text}"):
        command = [PYTHON, "-m", "simulator.rtsp_camera", "--port", "0", "--mount", mount]
        done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1 and "rtsp_camera:" in done.stderr
        assert "Traceback" not in done.stderr
