"""`sightflow up` and `down` as processes, with the real servers: crashes, Ctrl-C, a second stack in the way.

What needs no real server is in tests/unit/test_stack_supervision.py and test_stack_refusals.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from schemas import topics
from sightflow.places import REPO_ROOT
from sightflow.stack import KAFKA, TASKMANAGER, Ports, Stack
from sightflow.stack.kafka import create_topics, is_ready
from sightflow.stack.leftovers import kill_all, processes_of
from sightflow.stack.ports import environment_name, is_free
from simulator.producer import send_records
from simulator.records import Record
from tests.integration.outcome import end_offset

WAIT_S = 120.0
"""For broken programs, not a measure."""


@dataclass(frozen=True)
class Shell:
    """Runs commands on a stack of its own, as a user would from a terminal."""

    run_dir: Path
    ports: Ports

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, which is what Ctrl-C reaches."""
        moved = {environment_name(name): str(port) for name, port in self.ports.as_dict().items()}
        own = {name: value for name, value in os.environ.items() if not name.startswith("INFLUXDB_V2_")}
        return subprocess.Popen(
            [sys.executable, "-m", "sightflow.cli", *words, "--run-dir", str(self.run_dir)],
            cwd=REPO_ROOT,
            env={**own, **moved},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command to its end; return its status and what it printed."""
        process = self.start(*words)
        printed, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, printed

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports.kafka}"

    def processes(self) -> set[int]:
        """Process ids of what carries the stack's mark."""
        return {process.pid for process in processes_of(self.run_dir)}

    def up(self, service: str) -> str:
        """Run `up` for one service, which must succeed; return what it printed."""
        status, printed = self.run("up", "--only", service)
        assert status == 0, printed
        return printed

    def kill_supervisor(self) -> int:
        """kill -9 the supervisor; return the process id of the only service, which stays."""
        supervisor = int((self.run_dir / "supervisord.pid").read_text())
        (orphan,) = self.processes() - {supervisor}
        os.kill(supervisor, signal.SIGKILL)
        until("the supervisor is gone", lambda: self.processes() == {orphan})
        return orphan


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path / "run", Ports.free())
    yield made
    left = made.processes()
    kill_all(made.run_dir)
    assert left == set(), "the test left processes behind"


def until(what: str, probe: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not probe():
        assert time.monotonic() < deadline_s, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Read a command's output up to a line; return what was read."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return "".join(lines)
    raise AssertionError(f"{word!r} was not printed:\n" + "".join(lines))


# ---- crashes --------------------------------------------------------------------------------------------------------


def test_a_killed_taskmanager_is_brought_back_by_itself_and_offers_its_slot(stack: Stack) -> None:
    before = stack.pid(TASKMANAGER)
    psutil.Process(before).kill()
    until("another TaskManager", lambda: stack.pid(TASKMANAGER) not in (0, before))
    stack.wait_ready(TASKMANAGER)
    until("its slot", lambda: stack.flink.overview()["slots-available"] == 1)


def test_whatever_died_the_next_up_makes_it_whole_and_the_data_is_still_there(shell: Shell) -> None:
    interrupted = shell.start("up", "--only", KAFKA)
    read_until(interrupted, f"start {KAFKA}")
    interrupted.kill()
    interrupted.communicate(timeout=WAIT_S)
    assert shell.processes(), "supervisor and broker go on"
    shell.up(KAFKA)
    assert create_topics(shell.bootstrap) == [], "up returned before the topics were made"
    send_records([Record(b"gate", b"kept", 1_700_000_000_000)], shell.bootstrap, progress=None)

    broker = shell.kill_supervisor()
    assert is_ready(shell.bootstrap), "the broker outlived its supervisor"
    assert "ended 1 processes that a crashed stack had left behind" in shell.up(KAFKA)
    assert broker not in shell.processes()
    assert end_offset(shell.bootstrap, topics.DETECTIONS) == 1

    assert shell.run("down")[0] == 0
    assert shell.processes() == set()
    assert is_free(shell.ports.kafka)


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "moment", "number"),
    [
        (["--only", KAFKA], "format Kafka's data folder", signal.SIGINT),
        (["--only", KAFKA], f"start {KAFKA}", signal.SIGHUP),
        ([], f"start {TASKMANAGER}", signal.SIGINT),
    ],
    ids=["ctrl-c-while-formatting", "the-terminal-is-closed", "ctrl-c-while-all-servers-start"],
)
def test_an_interrupted_up_leaves_no_process_and_can_be_repeated(
    shell: Shell, words: list[str], moment: str, number: int
) -> None:
    process = shell.start("up", *words)
    read = read_until(process, moment)
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, read + printed
    assert shell.processes() == set()
    _, left = psutil.wait_procs([p for p in psutil.process_iter() if _group(p.pid) == process.pid], timeout=WAIT_S)
    assert left == [], "what was interrupted too may take a moment to end"
    assert all(is_free(port) for port in shell.ports.as_dict().values())
    if "format" in moment:  # the most delicate moment for its data
        shell.up(KAFKA)
        assert shell.run("down")[0] == 0


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_second_ctrl_c_does_not_stop_the_taking_down(shell: Shell) -> None:
    process = shell.start("up", "--only", KAFKA)
    read_until(process, f"start {KAFKA}")
    os.killpg(process.pid, signal.SIGINT)
    read_until(process, "stop the servers")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert shell.processes() == set()


# ---- another stack in the way ---------------------------------------------------------------------------------------


def test_a_second_stack_on_the_same_ports_is_refused_by_the_name_of_the_first(shell: Shell, stack: Stack) -> None:
    second = Shell(shell.run_dir, stack.ports)
    status, printed = second.run("up")
    assert status == 1
    assert f"port {stack.ports.kafka} (needed for kafka) is taken by process {stack.pid(KAFKA)}" in printed
    assert f"of the sightflow stack in {stack.run_dir}" in printed
    assert "SIGHTFLOW_KAFKA_PORT=<free port>" in printed
    assert second.processes() == set()
    assert stack.is_up()
