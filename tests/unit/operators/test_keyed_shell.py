"""The shell tells a silent source from a task that was held up. Flink's part is played by a small harness."""

from __future__ import annotations

from typing import Any

import pytest
from pyflink.common import Row

from operators.flink import keyed_shell
from operators.flink.keyed_shell import BACKLOG_MS, TIMER_GRAIN_MS, KeyedShell
from operators.stages.stage import Input, Output

SILENCE_MS = 10_000


class Logic:
    silence_ms = SILENCE_MS

    def on_record(self, record: Input) -> list[Output]:
        return [Output("dead-letters", "cam", b"letter")] if record.value == b"bad" else []

    def on_silence(self) -> list[Output]:
        return [Output("events", "cam", b"silent")]

    def snapshot(self) -> bytes | None:
        return b"state"

    def restore(self, data: bytes) -> None:
        assert data == b"state"


class OneKeyStage:
    def open(self) -> None: ...

    def logic(self, key: str) -> Logic:
        return Logic()


class Value:
    """A state value that counts how often it is written."""

    data: bytes | None = None
    writes = 0

    def value(self) -> bytes | None:
        return self.data

    def update(self, data: bytes) -> None:
        self.data, self.writes = data, self.writes + 1

    def clear(self) -> None:
        self.data = None


class ArchivingLogic(Logic):
    """Counts records, and keeps every third count."""

    def __init__(self) -> None:
        self.count = 0
        self.restored: list[bytes] = []

    def on_record(self, record: Input) -> list[Output]:
        self.count += 1
        return []

    def archive(self) -> bytes | None:
        return b"%d" % self.count if self.count % 3 == 0 else None

    def restore(self, data: bytes) -> None:
        self.restored.append(data)

    def restore_archive(self, data: bytes) -> None:
        self.restored.append(data)


class Harness:
    """One key of one task: a clock, timers, a state value, and the JVM's figures of back-pressure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 1_700_000_000_000
        self.held_total_ms, self.held_now = 0, False
        self.dead_letter_count = 0
        self.timers: set[int] = set()
        self.stored: bytes | None = None
        self.archived = Value()
        monkeypatch.setattr(keyed_shell.time, "time", lambda: self.now_ms / 1000)
        self.restart()

    def restart(self) -> None:
        self.shell = KeyedShell(OneKeyStage(), "test")
        self.shell.open(self)
        self.held_total_ms = 0

    def record(self, value: bytes = b"") -> None:
        self.shell.process_element(Row(value, 0, 0), self)

    def run(self, ms: int, held_up: bool = False) -> list[int]:
        """Let time pass; return the times (ms from now) at which the logic was told of silence."""
        begun_ms, told = self.now_ms, []
        self.held_now = held_up
        for _ in range(ms // 100):
            self.now_ms += 100
            self.held_total_ms += 100 * held_up
            told += [self.now_ms - begun_ms for _ in self.fire_due()]
        self.held_now = False
        return told

    def fire_due(self) -> list[Any]:
        due = sorted(t for t in self.timers if t <= self.now_ms)
        self.timers.difference_update(due)
        return [row for t in due for row in self.shell.on_timer(t, self)]

    # ---- what the shell asks of Flink ----

    _runtime_context = property(lambda self: self)
    getMetricGroup = getTaskIOMetricGroup = getSoftBackPressuredTimePerSecond = lambda self: self
    get_metrics_group = timer_service = lambda self: self

    def get_state(self, descriptor: Any) -> Any:
        return {keyed_shell.ARCHIVE_NAME: self.archived, keyed_shell.STATE_NAME: self}.get(descriptor.name, Value())

    get_list_state = get_state

    def getAccumulatedBackPressuredTimeMs(self) -> int:
        return self.held_total_ms

    def isMeasuring(self) -> bool:
        return self.held_now

    def counter(self, name: str) -> Harness:
        return self

    def inc(self, n: int) -> None:
        self.dead_letter_count += n

    def get_current_key(self) -> str:
        return "cam"

    def timestamp(self) -> int:
        return 0

    def register_processing_time_timer(self, at_ms: int) -> None:
        self.timers.add(at_ms)

    def value(self) -> bytes | None:
        return self.stored

    def update(self, data: bytes) -> None:
        self.stored = data


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


def test_a_source_that_says_nothing_is_silent_after_its_time(task: Harness) -> None:
    task.record()
    told = task.run(60_000)
    assert len(told) == 1
    assert SILENCE_MS <= told[0] <= SILENCE_MS + TIMER_GRAIN_MS


def test_a_source_that_goes_on_is_never_silent(task: Harness) -> None:
    for _ in range(20):
        task.record()
        assert task.run(SILENCE_MS - 1000) == []


@pytest.mark.parametrize("quiet_ms", [500, 5_000, 9_900])
@pytest.mark.parametrize("held_ms", [3_000, 9_900, 10_400, 35_000])
def test_time_in_which_the_task_was_held_up_does_not_count(task: Harness, quiet_ms: int, held_ms: int) -> None:
    task.record()
    assert task.run(quiet_ms) == []
    assert task.run(held_ms, held_up=True) == []
    assert task.run(BACKLOG_MS - 500) == [], "the backlog had no time to come"
    told = task.run(60_000)
    assert len(told) == 1
    assert told[0] <= SILENCE_MS + 2 * BACKLOG_MS + 2 * TIMER_GRAIN_MS


def test_records_that_come_after_a_hold_up_keep_the_source_alive(task: Harness) -> None:
    task.record()
    assert task.run(25_000, held_up=True) == []
    task.record()
    assert task.run(SILENCE_MS - 500) == []


def test_a_silent_source_is_noticed_by_a_task_that_is_often_held_up(task: Harness) -> None:
    task.record()
    told = []
    for _ in range(60):
        told += task.run(300, held_up=True)
        told += task.run(700)
    assert len(told) == 1


def test_a_late_timer_counts_as_a_hold_up(task: Harness) -> None:
    """A pause of the whole process, which no figure of back-pressure shows."""
    task.record()
    task.now_ms += 30_000
    assert task.fire_due() == []
    assert len(task.run(60_000)) == 1


def test_timers_from_before_a_restart_do_not_tell_of_silence_by_themselves(task: Harness) -> None:
    task.record()
    task.now_ms += 60_000
    task.restart()
    assert task.fire_due() == []
    assert len(task.run(60_000)) == 1


def test_dead_letters_are_counted(task: Harness) -> None:
    for value in (b"", b"bad", b"", b"bad"):
        task.record(value)
    assert task.dead_letter_count == 2


def test_what_seldom_changes_is_stored_when_it_has_and_taken_up_after_the_snapshot(
    task: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ArchivingLogic] = []

    def logic(self: OneKeyStage, key: str) -> ArchivingLogic:
        made.append(ArchivingLogic())
        return made[-1]

    monkeypatch.setattr(OneKeyStage, "logic", logic)
    for _ in range(7):
        task.record()
    assert (task.archived.data, task.archived.writes) == (b"6", 2)
    task.restart()
    task.record()
    assert made[-1].restored == [b"state", b"6"]
