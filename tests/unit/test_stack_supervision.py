"""Supervision of real processes: restart, kill for good, recovery after a crash of the supervisor itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightflow.errors import CheckFailed
from sightflow.places import Local
from sightflow.progress import Progress
from sightflow.stack import Ports, Program, Stack, leftovers, services


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "run", Ports.free()) as made:
        made.add_program(Program("sleeper", ("sleep", "600")))
        made.add_program(Program("stubborn", ("sh", "-c", "trap '' TERM; sleep 600 & wait; sleep 600"), stop_wait_s=1))
        yield made
    assert not leftovers.processes_of(made.run_dir)


def _await(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come in time"
        time.sleep(0.05)


def test_a_killed_process_comes_back(stack: Stack) -> None:
    stack.up(["sleeper"])
    before = stack.pid("sleeper")
    stack.kill("sleeper")
    _await(lambda: stack.pid("sleeper") not in (0, before))


def test_a_process_killed_for_good_stays_dead_until_it_is_started(stack: Stack) -> None:
    stack.up(["sleeper"])
    stack.kill("sleeper", restart=False)
    time.sleep(1.5)
    assert stack.pid("sleeper") == 0
    stack.start("sleeper")
    assert stack.pid("sleeper") != 0


def test_a_stubborn_process_with_children_ends_with_the_stack(stack: Stack) -> None:
    stack.up(["stubborn"])
    deadline_s = time.monotonic() + 20
    while len(leftovers.processes_of(stack.run_dir)) < 3:  # supervisord, the shell, its child
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    stack.down()
    assert not leftovers.processes_of(stack.run_dir)


def test_up_again_leaves_running_processes_alone(stack: Stack) -> None:
    stack.up(["sleeper"])
    before = stack.pid("sleeper")
    stack.up(["sleeper"])
    assert stack.pid("sleeper") == before


def test_up_recovers_from_a_killed_supervisor(stack: Stack) -> None:
    stack.up(["sleeper", "stubborn"])
    orphan = stack.pid("sleeper")
    os.kill(int((stack.run_dir / "supervisord.pid").read_text()), signal.SIGKILL)
    _await(lambda: not stack.is_up())
    assert orphan in {process.pid for process in leftovers.processes_of(stack.run_dir)}
    stack.up(["sleeper"])
    assert stack.pid("sleeper") not in (0, orphan)
    assert orphan not in {process.pid for process in leftovers.processes_of(stack.run_dir)}


def test_down_works_without_a_supervisor(stack: Stack) -> None:
    stack.up(["sleeper"])
    os.kill(int((stack.run_dir / "supervisord.pid").read_text()), signal.SIGKILL)
    stack.down()
    assert not leftovers.processes_of(stack.run_dir)


def test_down_works_with_a_supervisor_that_hangs(stack: Stack) -> None:
    stack.up(["sleeper"])
    os.kill(int((stack.run_dir / "supervisord.pid").read_text()), signal.SIGSTOP)
    stack.down()
    assert not leftovers.processes_of(stack.run_dir)


def test_another_process_finds_the_ports_of_a_running_stack(stack: Stack) -> None:
    stack.up(["sleeper"])
    assert Stack(stack.run_dir).ports == stack.ports


def taskmanagers(made: Stack, count: int) -> Stack:
    """The same stack as another command finds it, which asks for so many TaskManagers; they are stand-ins that sleep."""
    other = Stack(made.run_dir, taskmanagers=count)
    for name in services.taskmanager_names(count):
        other.add_program(Program(name, ("sleep", "600")))
    return other


def test_a_running_stack_takes_more_taskmanagers_but_not_fewer(stack: Stack) -> None:
    stack.up(["sleeper"])
    for count in (1, 3):
        other = taskmanagers(stack, count)
        names = [name for name in other.default_services() if name.startswith(services.TASKMANAGER)]
        assert len(names) == count
        other.up(names)
        assert len([s for s in other.status() if s.name in names and s.pid]) == count
        assert Stack(stack.run_dir).default_services() == other.default_services()
    with pytest.raises(CheckFailed, match="runs 3 TaskManagers, expected at most 2") as refused:
        taskmanagers(stack, 2).up(["flink-taskmanager"])
    assert "sightflow down first" in refused.value.text()
    stack.start("sleeper")  # knows of one TaskManager only, and asks for none
    assert len(Stack(stack.run_dir).default_services()) == len(other.default_services())
    assert Stack(stack.run_dir).ports == stack.ports


def test_a_running_stack_is_not_moved_to_other_ports(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.up(["sleeper"])
    monkeypatch.setenv("SIGHTFLOW_KAFKA_PORT", str(stack.ports.kafka))
    same = Stack(stack.run_dir)
    same.add_program(Program("sleeper", ("sleep", "600")))
    same.up(["sleeper"])
    monkeypatch.setenv("SIGHTFLOW_FLINK_PORT", "8082")
    with pytest.raises(CheckFailed, match="than SIGHTFLOW_FLINK_PORT=8082") as refused:
        Stack(stack.run_dir).up()
    assert "sightflow down first" in refused.value.text()
    assert Stack(stack.run_dir).status()  # asking is no change


def test_wipe_forgets_everything(stack: Stack) -> None:
    stack.up(["sleeper"])
    stack.down(wipe=True)
    assert not stack.run_dir.exists()


def test_flink_that_is_older_than_our_operator_is_started_anew_unless_a_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {"a": "FINISHED"}
    monkeypatch.setattr(Stack, "flink", SimpleNamespace(jobs=lambda: jobs))
    names = ["flink-jobmanager", "flink-taskmanager"]
    with Stack(tmp_path / "run", Ports.free(), local=Local(tmp_path / "local")) as stack:
        jar = stack.local.operator_jar
        jar.parent.mkdir(parents=True)
        jar.touch()
        os.utime(jar, (1, 1))
        for name in names:
            stack.add_program(Program(name, ("sleep", "600")))
        stack.up(names)
        first = [stack.pid(name) for name in names]
        stack._renew_flink(Progress())
        assert [stack.pid(name) for name in names] == first
        built_s = time.time() + 1
        os.utime(jar, (built_s, built_s))
        jobs["b"] = "RUNNING"
        stack._renew_flink(Progress())
        assert [stack.pid(name) for name in names] == first
        jobs["b"] = "CANCELED"
        stack._renew_flink(Progress())
        assert not {stack.pid(name) for name in names} & {0, *first}
