"""How the agent starts, ends and answers: service manager, signals, wrong wishes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.spool import Spool
from schemas.wire import decode_detections
from sightflow.places import REPO_ROOT, Local

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
LOCAL = Local.find()
AGENT = [str(LOCAL.venv_agent / "bin" / "python"), "-m", "edge_agent"]
NOBODY = "127.0.0.1:1"
HEAD_BYTES = 16  # of a segment without records


def until(what: str, is_true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.1)


def stored(spool_dir: Path) -> list[tuple[int, int]]:
    """(boot, seq) of what is stored, in order."""
    spool = Spool(spool_dir, 1 << 30)
    found: list[tuple[int, int]] = []
    position = 0
    while True:
        records, _, position = spool.read(position, 1000)
        if not records:
            break
        found += [(f.boot, f.seq) for f in (decode_detections(r.value) for r in records)]
    spool.close()
    return found


def stored_bytes(spool_dir: Path) -> int:
    """How much of the spool's segments is not zeros: an agent holds it, so it is not opened here."""
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in spool_dir.glob("segment-*"))


def until_stored(spool_dir: Path, more_than_bytes: int) -> None:
    until("a frame is stored", lambda: stored_bytes(spool_dir) > more_than_bytes)


def test_without_kafka_it_stores_tells_systemd_and_ends_in_time(tmp_path: Path) -> None:
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(60)
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}
    command = [
        *AGENT, "run", "--camera", f"file://{LOCAL.footage}", "--bootstrap-servers", NOBODY, "--models-dir",
        str(LOCAL.models), "--state-dir", str(tmp_path / "state"), "--metrics-port", "0", "--log-format", "json",
    ]  # fmt: skip
    said: list[str] = []
    spool = tmp_path / "state" / "spool"
    for _ in range(2):  # the second start finds what the first has stored
        more_than = stored_bytes(spool) + HEAD_BYTES
        process = subprocess.Popen(command, cwd=REPO_ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        told = {notices.recv(200).decode() for _ in range(4)}
        assert {"READY=1", "WATCHDOG=1"} <= told
        until_stored(spool, more_than)
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=30)
        assert process.returncode == 0
        lines = [json.loads(line) for line in text.splitlines()]
        said.append(lines[-1]["text"])
        assert any("Kafka" in line["text"] and line["level"] == "warning" for line in lines)
    notices.close()
    frames = stored(spool)
    assert said[1] == f"stopped; {len(frames)} message(s) wait in the spool for the next start"
    assert frames == sorted(frames)
    boots = sorted({boot for boot, _ in frames})
    assert len(boots) == 2
    for boot in boots:
        assert [s for b, s in frames if b == boot] == list(range(sum(b == boot for b, _ in frames)))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--camera", "rtsp://cam/1", "--model", "no-such-model"], "no-such-model"),
        (["--camera", "http://cam/1"], "rtsp://"),
        ([], "--settings FILE or --camera"),
        (["--settings", "/no/such.yaml"], "cannot be read"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_in_one_sentence(tmp_path: Path, more: list[str], says: str) -> None:
    command = [*AGENT, "run", *more, "--state-dir", str(tmp_path), "--models-dir", str(LOCAL.models)]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


def test_two_agents_on_one_state_folder_are_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    command = [
        *AGENT, "run", "--camera", f"file://{LOCAL.footage}", "--bootstrap-servers", NOBODY, "--models-dir",
        str(LOCAL.models), "--state-dir", str(tmp_path), "--metrics-port", "0",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=60)
    spool.close()
    assert done.returncode == 2 and "another agent" in done.stderr
