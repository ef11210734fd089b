"""What a stack refuses before anything is half started, and that it then leaves nothing behind."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from sightflow.errors import CheckFailed, PortTaken, ServiceFailed, StackNotRunning
from sightflow.places import Local
from sightflow.stack import Ports, Program, Stack, leftovers
from sightflow.stack import stack as stack_module


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "run", Ports.free(), local=Local(tmp_path / "local"))


def _pretend_installed(stack: Stack) -> None:
    for part in (stack.local.kafka_lib, stack.local.influxd, stack.local.operator_jar):
        part.mkdir(parents=True)


def _nothing_runs(stack: Stack) -> bool:
    return not stack.is_up() and not leftovers.processes_of(stack.run_dir)


def test_parts_that_are_not_installed(stack: Stack) -> None:
    with pytest.raises(CheckFailed, match="not installed yet") as refused:
        stack.up()
    assert "make setup" in refused.value.remedy
    assert _nothing_runs(stack)


def test_a_taken_port(stack: Stack) -> None:
    _pretend_installed(stack)
    with socket.create_server(("127.0.0.1", stack.ports.flink)), pytest.raises(PortTaken, match=str(stack.ports.flink)):
        stack.up()
    assert _nothing_runs(stack)


def test_too_little_memory(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_installed(stack)
    monkeypatch.setitem(stack_module.MEMORY_MIN_MIB, "kafka", psutil.virtual_memory().total // 2**20)
    with pytest.raises(CheckFailed, match=r"needs \d+ MiB of free memory, found \d+ MiB"):
        stack.up()
    assert _nothing_runs(stack)


def test_too_little_disk(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_installed(stack)
    monkeypatch.setattr(stack_module, "DISK_MIN_MIB", 1 << 40)
    with pytest.raises(CheckFailed, match="MiB of free disk"):
        stack.up()
    assert _nothing_runs(stack)


def test_a_server_that_ends_at_once_is_told_with_its_last_words(stack: Stack) -> None:
    stack.add_program(Program("broken", ("sh", "-c", "echo no such luck; exit 3")), is_ready=lambda: False)
    with pytest.raises(ServiceFailed, match="no such luck"):
        stack.up(["broken"])
    assert _nothing_runs(stack)


def test_a_server_that_never_answers_is_given_up(stack: Stack) -> None:
    stack.add_program(Program("mute", ("sleep", "600")), is_ready=lambda: False, ready_timeout_s=1.5)
    with pytest.raises(ServiceFailed, match="did not answer within 2 s"):
        stack.up(["mute"])
    assert _nothing_runs(stack)


def test_an_interrupt_while_it_starts_leaves_nothing(stack: Stack) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    stack.add_program(Program("slow", ("sleep", "600")), is_ready=interrupt)
    with pytest.raises(KeyboardInterrupt):
        stack.up(["slow"])
    assert _nothing_runs(stack)


def test_a_failed_start_leaves_the_running_ones_alone(stack: Stack) -> None:
    with stack:
        stack.add_program(Program("good", ("sleep", "600")))
        stack.up(["good"])
        pid = stack.pid("good")
        stack.add_program(Program("broken", ("false",)), is_ready=lambda: False)
        with pytest.raises(ServiceFailed):
            stack.start("broken")
        assert stack.pid("good") == pid
    assert _nothing_runs(stack)


def test_an_unknown_service_lists_the_known_ones(stack: Stack) -> None:
    with pytest.raises(CheckFailed) as refused:
        stack.up(["kafak"])
    assert "kafka" in refused.value.remedy


def test_commands_on_a_stack_that_does_not_run_say_so(stack: Stack) -> None:
    for call in (lambda: stack.pid("kafka"), lambda: stack.stop("kafka"), lambda: stack.submit("suite")):
        with pytest.raises(StackNotRunning, match="no stack runs"):
            call()
    assert stack.status() == []
    stack.down()
