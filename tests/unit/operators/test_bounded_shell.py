"""The shell of input that ends: each key hears of the end once, from what it knew before a restart too."""

from __future__ import annotations

from typing import Any

import pytest

from operators.flink.bounded_shell import END_OF_TIME_MS, BoundedShell
from operators.stages.stage import Input, Output
from tests.unit.operators.test_keyed_shell import Harness


class Counting:
    """Counts records; has no state before the first good one."""

    silence_ms = 0

    def __init__(self) -> None:
        self.count = 0

    def on_record(self, record: Input) -> list[Output]:
        self.count += record.value == b"good"
        return []

    def on_silence(self) -> list[Output]:
        return [Output("events", "cam", b"%d" % self.count)]

    def snapshot(self) -> bytes | None:
        return b"%d" % self.count if self.count else None

    def restore(self, data: bytes) -> None:
        self.count = int(data)


class Stage:
    def open(self) -> None: ...

    def logic(self, key: str) -> Counting:
        return Counting()


class Bounded(Harness):
    def restart(self) -> None:
        self.shell = BoundedShell(Stage(), "test")
        self.shell.open(self)

    def register_event_time_timer(self, at_ms: int) -> None:
        self.timers.add(at_ms)

    def register_processing_time_timer(self, at_ms: int) -> None:
        pytest.fail("no clock is looked at")

    def clear(self) -> None:
        self.stored = None

    def end(self) -> list[Any]:
        """Let the input end; return what is said."""
        due, self.timers = sorted(self.timers), set()
        return [row[2] for at_ms in due for row in self.shell.on_timer(at_ms, self)]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Bounded:
    return Bounded(monkeypatch)


def test_the_end_is_told_once_and_nothing_is_kept(task: Bounded) -> None:
    for _ in range(3):
        task.record(b"good")
    assert task.timers == {END_OF_TIME_MS}
    assert task.end() == [b"3"]
    assert task.stored is None
    assert not task.shell._live


def test_after_a_restart_the_end_is_told_to_logic_that_knows_what_was_before(task: Bounded) -> None:
    task.record(b"good")
    task.restart()  # timers are Flink's and stay
    assert task.end() == [b"1"]
    task.record(b"good")
    task.restart()
    task.record(b"good")
    assert task.end() == [b"2"]


def test_a_key_without_state_is_not_kept_and_has_no_end(task: Bounded) -> None:
    task.record(b"bad")
    assert not task.shell._live
    assert task.timers == set()
    assert task.end() == []
