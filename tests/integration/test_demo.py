"""`sightflow demo` as a user runs it: a process of its own, real parts, short stretch, figures, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sightflow.places import REPO_ROOT, Local
from sightflow.stack import Ports
from sightflow.stack.leftovers import processes_of
from sightflow.stack.ports import environment_name

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(420)]

_PARTS = (Local.find().footage, Local.find().models, Local.find().flink, Local.find().venv_agent)
_WATCHED_S = 22


@pytest.fixture(autouse=True)
def _set_up() -> None:
    missing = [str(part) for part in _PARTS if not part.exists()]
    if missing:
        pytest.skip(f"not installed: {missing[0]}; run `make setup`")


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """Start the demo on free ports, beside whatever runs on this machine."""
    ports = {environment_name(name): str(port) for name, port in Ports.free().as_dict().items()}
    command = [
        sys.executable, "-m", "sightflow.cli", "demo", "--run-dir", str(tmp_path / "run"),
        "--report", str(tmp_path / "demo.html"), "--json", str(tmp_path / "figures.json"), *words,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=REPO_ROOT, env={**os.environ, **ports}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_the_demo_shows_people_crossings_and_no_loss_and_leaves_no_process(tmp_path: Path) -> None:
    process = start(tmp_path, "--seconds", str(_WATCHED_S))
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    figures: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
    assert figures["problems"] == []
    assert (figures["lost_count"], figures["duplicate_count"]) == (0, 0)
    assert figures["frames"]["sent_count"] == figures["frames"]["track_count"] > 50
    assert figures["object_count"] > 3
    assert figures["crossing_count"] > 0
    assert figures["visit_count"] > 0
    assert figures["detection_to_alert"]["count"] > 0
    _check_printed(printed, tmp_path)
    _check_report((tmp_path / "demo.html").read_text())
    assert processes_of(tmp_path / "run") == []


def _check_printed(printed: str, tmp_path: Path) -> None:
    assert "$ flink run" in printed
    assert re.search(r"lost end to end +0\n", printed)
    assert (tmp_path / "demo.html").as_uri() in printed
    assert "\r" not in printed  # a log, not a terminal


def _check_report(html: str) -> None:
    assert html.count("data:image/jpeg;base64,") >= 2
    assert "people inside" in html
    assert "west-arm" in html


def test_ctrl_c_in_the_middle_leaves_no_process(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "flink run: build the job graph" in line:
            break
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert processes_of(tmp_path / "run") == []
    assert not (tmp_path / "demo.html").exists()
