"""Plays Flink and `BatchOperator.java` for one shell: batches, ticks, checkpoints, kills, and a source that goes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from operators.flink import keyed_shell, live_shell
from operators.flink.live_shell import LiveShell
from operators.flink.stage_shell import StageShell
from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Input, Output
from schemas.settings import SiteSettings

Records = Sequence[tuple[str, Input]]


class Clock:
    """Processing time, and what it is by a clock that is never set."""

    def __init__(self) -> None:
        self.now_ms, self.uptime_ms = 1_700_000_000_000, 5_000_000

    def go_on(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms
        self.uptime_ms += ms

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have shells look at this clock."""
        monkeypatch.setattr(keyed_shell, "now_ms", lambda: self.now_ms)
        monkeypatch.setattr(keyed_shell, "uptime_ms", lambda: self.uptime_ms)


class Jvm:
    """What a shell asks of the operator's runtime context, whoever of its parts is asked."""

    getMetricGroup = getTaskIOMetricGroup = getSoftBackPressuredTimePerSecond = getTaskInfo = lambda self: self

    def __init__(self) -> None:
        self.held_ms, self.is_held_up, self.letter_count = 0, False, 0

    def getAccumulatedBackPressuredTimeMs(self) -> int:
        return self.held_ms

    def isMeasuring(self) -> bool:
        return self.is_held_up

    def getIndexOfThisSubtask(self) -> int:
        return 0

    def counter(self, name: str) -> Jvm:
        assert name == "sightflow_dead_letters"
        return self

    def inc(self, n: int) -> None:
        self.letter_count += n


class Operator:
    """One subtask. `start` it first.

    Args:
        source: records that `run_to` sends, and sends again after a kill.
        sizes: of the batches, over and over.
    """

    def __init__(self, source: Records = (), sizes: Iterable[int] = (1,)) -> None:
        self.source = source
        self.state: dict[str, list[bytes | None]] = {}
        self.counted: list[Output] = []  # what readers see: outputs up to the last checkpoint
        self.pending: list[Output] = []  # since then: a kill takes them back
        self.position = 0
        self.topic: list[tuple[str, Input]] = []  # of settings
        self.arrivals: dict[int, list[tuple[str, Input]]] = {}  # what is sent to it before so many records
        self._sizes = itertools.cycle(sizes)
        self._saved: tuple[dict[str, list[bytes | None]], int] = ({}, 0)

    def start(self, make: Callable[[], StageShell[Any]]) -> Operator:
        """Start with such a shell, from the last checkpoint if there is one."""
        self._make = make
        self.kill()
        return self

    def kill(self) -> None:
        """Start again from the last checkpoint."""
        state, self.position = self._saved
        self.state = {k: list(v) for k, v in state.items()}
        self.pending.clear()
        self._held: list[Any] = []
        self._held_count, self._size = 0, next(self._sizes)
        self.jvm = Jvm()
        self.shell = self._make()
        self.shell.open(self.jvm)
        for key, parts in reversed(self.state.items()):  # in any order
            if parts[0] is not None:
                self.shell.restore((key, *parts))

    @property
    def out(self) -> list[Output]:
        """All outputs."""
        return self.counted + self.pending

    # ---- what comes -----------------------------------------------------------------------------------------------

    def send(self, key: str, record: Input, *more: Any) -> None:
        """Take a record."""
        self._held += (key, record.time_ms, record.value, record.partition, record.offset, *more)
        self._held_count += 1
        if self._held_count >= self._size:
            self.flush()

    def flush(self) -> None:
        """Hand the batch over, full or not."""
        if self._held:
            held, self._held, self._held_count, self._size = tuple(self._held), [], 0, next(self._sizes)
            self._emit(self.shell.take(held))

    def run_to(self, end: int) -> None:
        """Take the source's records up to this one."""
        while self.position < end:
            for settings in self.arrivals.pop(self.position, ()):
                self.tell(*settings)
            self.send(*self.source[self.position])
            self.position += 1

    def tell(self, key: str, record: Input) -> None:
        """Take one record of the topic of settings. What comes of it is left out: its source goes back by itself."""
        if (key, record) not in self.topic:
            self.topic.append((key, record))
        self.flush()
        self.shell.take_broadcast((key, record.value, record.partition, record.offset))

    def tick(self, due_ms: int) -> list[Output]:
        """Have the shell look at its clock; return what comes of that."""
        self.flush()
        return self._emit(self.shell.tick(due_ms))

    def end(self) -> list[Output]:
        """Let the input end; return what comes of that."""
        self.flush()
        return self._emit(self.shell.finish())

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> set[str]:
        """Take a checkpoint that succeeds; return the keys of which a state came."""
        self.flush()
        columns, width = self.shell.changed_states(), 1 + len(self.shell.state_names)
        assert len(columns) % width == 0
        for at in range(0, len(columns), width):
            values = self.state.setdefault(columns[at], [None] * (width - 1))
            for i, value in enumerate(columns[at + 1 : at + width]):
                if value is not None:
                    values[i] = value or None  # empty: deleted
        self.state = {k: v for k, v in self.state.items() if any(v)}
        self._saved = ({k: list(v) for k, v in self.state.items()}, self.position)
        self.counted += self.pending
        self.pending.clear()
        return set(columns[::width])

    def run(self, crashes: Iterable[tuple[int, int]]) -> list[Output]:
        """Take all records; for each pair a checkpoint before so many and a kill before so many. Return what counts."""
        for saved, killed in crashes:
            self.run_to(saved)
            self.checkpoint()
            self.run_to(killed)
            self.kill()
        self.run_to(len(self.source))
        self.checkpoint()
        return self.counted

    def _emit(self, columns: list[Any]) -> list[Output]:
        assert len(columns) % 3 == 0
        out = [Output(*columns[at : at + 3]) for at in range(0, len(columns), 3)]
        self.pending += out
        return out


class LiveOperator(Operator):
    """One with a `LiveShell`, which reads the topic of settings when it opens (`patch_topic`).

    Args:
        sites: what the job is submitted with.
        topic: what the topic of settings holds at first.
    """

    def __init__(
        self, sites: Sequence[SiteSettings], source: Records, sizes: Iterable[int] = (1,), topic: Records = ()
    ) -> None:
        super().__init__(source, sizes)
        self.topic = list(topic)
        self.submit(sites)

    def submit(self, sites: Sequence[SiteSettings]) -> None:
        """Start from the last checkpoint, if there is one, with other settings."""
        topic: Any = {"topic": self.topic}
        self.start(lambda: LiveShell(LiveCameraStage(sites), "test", "", "", topic))


def patch_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have shells of `LiveOperator` read their topics."""
    monkeypatch.setattr(live_shell, "read_to_end", lambda servers, name, properties: list(properties["topic"]))
