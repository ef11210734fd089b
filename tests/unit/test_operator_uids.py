"""State is found again by the uid of its operator: what Flink would run today has the uids that are on record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sightflow.places import REPO_ROOT, Local

pytestmark = pytest.mark.timeout(300)
"""A JVM and Flink's planner: ten seconds on a quiet machine, thirty on a busy one."""

RECORDED = REPO_ROOT / "tests" / "data" / "operator_uids.json"
_WHAT_TO_DO = """
The operators of a job are not those on record in tests/data/operator_uids.json.
A savepoint of a released version finds its state by uid: an operator whose uid changed starts EMPTY (Flink refuses the
savepoint, or drops that state with --allowNonRestoredState), open transactions of a renamed sink are never committed.
  - A uid changed or is gone, and nobody wants that: give the operator its old uid (operators/flink/streams.py, jobs/).
    A uid that ends in a number was counted from the end of its branch: a new operator in there moves the others.
  - It is wanted, or an operator is new: record it (see below), and name it in CHANGELOG.md under
    "State compatibility", with what an upgrade loses and how to do it.
To record: FLINK_HOME=.local/flink .local/venv/bin/python -m tests.unit.stream_graph prints them, under "jobs".
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Flink's own generator makes of each job, in a JVM without a cluster."""
    local = Local.find()
    if not local.flink.exists():
        pytest.skip(f"not installed: {local.flink}; run `make setup`")
    env = {
        **os.environ,
        "FLINK_HOME": str(local.flink),
        "FLINK_LOG_DIR": str(tmp_path_factory.mktemp("log")),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPO_ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.stream_graph"], cwd=REPO_ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def difference(recorded: dict[str, str], found: dict[str, str]) -> list[str]:
    """Tell uids that are gone, new, or on another operator."""
    gone = [f"gone: {uid} ({recorded[uid]})" for uid in sorted(recorded.keys() - found.keys())]
    new = [f"new: {uid} ({found[uid]})" for uid in sorted(found.keys() - recorded.keys())]
    shared = sorted(recorded.keys() & found.keys())
    other = [f"moved: {uid} was {recorded[uid]}, is {found[uid]}" for uid in shared if recorded[uid] != found[uid]]
    return gone + new + other


@pytest.mark.parametrize("job", ["suite", "camera_stage", "influx_writer", "replay"])
def test_operators_have_the_uids_that_are_on_record(built: dict[str, Any], job: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert set(recorded) == set(built["jobs"])
    found = difference(recorded[job], built["jobs"][job])
    assert found == [], f"{job}: " + "; ".join(found) + "\n" + _WHAT_TO_DO


def test_a_stage_keeps_its_state_between_the_suite_and_a_job_of_its_own(built: dict[str, Any]) -> None:
    """The camera stage takes up its part of the suite's savepoint: source and stage have the same uids there."""
    suite, alone = built["jobs"]["suite"], built["jobs"]["camera_stage"]
    shared = {uid for uid in suite.keys() & alone.keys() if suite[uid] == alone[uid]}
    settings = {"settings-0", "settings-1", "settings-2", "settings-idle"}
    assert shared == {"camera", "detections-0", "detections-1", "detections-2", *settings}
    assert "influx" in built["jobs"]["influx_writer"].keys() & suite.keys()
    # The suite has no source there: the writer's offsets must not be handed to whatever it has.
    assert not {uid for uid in built["jobs"]["influx_writer"] if uid.startswith("figures-")} & suite.keys()


def test_flink_refuses_an_operator_without_a_uid(built: dict[str, Any]) -> None:
    assert "Auto generated UIDs have been disabled" in built["without_uid"]


def test_a_changed_uid_is_told() -> None:
    recorded = {"camera": "camera", "in-0": "Calc", "in-1": "Source"}
    found = {"camara": "camera", "in-0": "Source", "in-1": "Source"}
    assert difference(recorded, found) == [
        "gone: camera (camera)",
        "new: camara (camera)",
        "moved: in-0 was Calc, is Source",
    ]
