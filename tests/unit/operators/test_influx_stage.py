"""The InfluxDB stage and the shell that batches for it. Flink's part and InfluxDB's are played by small harnesses."""

from __future__ import annotations

from typing import Any

import pytest
from pyflink.common import Row

from operators.flink import batch_shell
from operators.flink.batch_shell import BatchShell
from operators.influx.writer import BadLine, InfluxTarget
from operators.stages.influx_stage import InfluxStage
from operators.stages.stage import Input
from schemas import topics
from schemas.wire import DeadLetter, Figures, Point, decode, encode

TARGET = InfluxTarget("http://127.0.0.1:1", "o", "b", "/nowhere")


class Database:
    """Takes lines as a `Writer` does: refuses those that it is told to, keeps the last of each series and time."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.refused: set[str] = set()

    def write(self, lines: list[str]) -> list[BadLine]:
        self.requests.append(lines)
        return [BadLine(line, "no such field") for line in lines if line in self.refused]

    def close(self) -> None: ...

    @property
    def lines(self) -> list[str]:
        return [line for request in self.requests for line in request]


def figures(camera: str, *at_ns: int, value: float = 1.0) -> bytes:
    points = tuple(Point("camera_window", {"camera": camera}, at, {"frame_count": value}) for at in at_ns)
    return encode(Figures(site="s", camera=camera, points=points))


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr("operators.stages.influx_stage.Writer", lambda *_: database)
    return database


@pytest.fixture
def stage(database: Database) -> InfluxStage:
    stage = InfluxStage(TARGET)
    stage.open()
    return stage


def record(value: bytes | None, offset: int = 7) -> Input:
    return Input(value, 3, offset, 1_700_000_000_000)


# ---- the stage -------------------------------------------------------------------------------------------------


def test_lines_of_many_cameras_go_out_in_one_request_and_in_order(stage: InfluxStage, database: Database) -> None:
    held = [stage.take(f"cam-{i}", record(figures(f"cam-{i}", 10, 20)))[0] for i in range(5)]
    assert database.requests == []
    assert stage.write([piece for piece in held if piece]) == {}
    assert database.requests == [
        [f"camera_window,camera=cam-{i} frame_count=1.0 {at}" for i in range(5) for at in (10, 20)]
    ]


def test_what_is_not_figures_is_a_dead_letter_at_once(stage: InfluxStage) -> None:
    held, out = stage.take("cam", record(b"\xc1"))
    assert held is None
    [letter] = [decode(o.value, DeadLetter) for o in out]
    assert (letter.topic, letter.partition, letter.offset, letter.key) == (topics.FIGURES, 3, 7, "cam")
    assert letter.raw == b"\xc1"


def test_a_point_that_makes_no_line_leaves_the_others_alone(stage: InfluxStage, database: Database) -> None:
    good = Point("m", {"camera": "cam"}, 1, {"f": 1})
    bad = Point("m", {"camera": ""}, 1, {"f": 1})
    held, out = stage.take("cam", record(encode(Figures(site="s", camera="cam", points=(bad, good)))))
    assert held is not None
    stage.write([held])
    assert database.lines == ["m,camera=cam f=1i 1"]
    assert [decode(o.value, DeadLetter).reason for o in out] == ["bad_point"]


def test_a_refused_line_names_the_record_that_it_came_from(stage: InfluxStage, database: Database) -> None:
    held = [stage.take(f"cam-{i}", record(figures(f"cam-{i}", 1), offset=i))[0] for i in range(9)]
    database.refused = {"camera_window,camera=cam-4 frame_count=1.0 1"}
    out = stage.write([piece for piece in held if piece])
    assert list(out) == [4]
    [letter] = [decode(o.value, DeadLetter) for o in out[4]]
    assert (letter.reason, letter.key, letter.offset) == ("refused_by_influxdb", "cam-4", 4)
    assert letter.raw.decode() in database.refused


# ---- the shell -------------------------------------------------------------------------------------------------


class Task:
    """One subtask: a clock, keyed timers, keyed list state."""

    def __init__(self, stage: InfluxStage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms, self.key = 1_700_000_000_000, ""
        self.timers: set[tuple[int, str]] = set()
        self.state: dict[str, list[bytes]] = {}
        self.out: list[Any] = []
        self.letter_count = 0
        monkeypatch.setattr(batch_shell.time, "time", lambda: self.now_ms / 1000)
        self.start(stage)

    def start(self, stage: InfluxStage) -> None:
        self.shell = BatchShell(stage, "test")
        self.shell.open(self)

    def send(self, shard: str, camera: str, value: bytes) -> None:
        self.key = shard
        self.out += self.shell.process_element(Row(value, 3, 7, camera), self)

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        for at_ms, key in sorted(t for t in self.timers if t[0] <= self.now_ms):
            self.timers.discard((at_ms, key))
            self.key = key
            self.out += self.shell.on_timer(at_ms, self)

    def checkpoint(self) -> tuple[Any, Any]:
        return {k: list(v) for k, v in self.state.items()}, set(self.timers)

    def recover(self, stage: InfluxStage, checkpoint: tuple[Any, Any]) -> None:
        self.state, self.timers = checkpoint
        self.start(stage)

    # ---- what the shell asks of Flink ----

    def get_list_state(self, descriptor: Any) -> Task:
        return self

    def timer_service(self) -> Task:
        return self

    def get_metrics_group(self) -> Task:
        return self

    def counter(self, name: str) -> Task:
        return self

    def inc(self, n: int) -> None:
        self.letter_count += n

    def register_processing_time_timer(self, at_ms: int) -> None:
        self.timers.add((at_ms, self.key))

    def get_current_key(self) -> str:
        return self.key

    def timestamp(self) -> int:
        return self.now_ms

    def get(self) -> list[bytes]:
        return self.state.get(self.key, [])

    def add(self, piece: bytes) -> None:
        self.state.setdefault(self.key, []).append(piece)

    def clear(self) -> None:
        self.state.pop(self.key, None)


@pytest.fixture
def task(stage: InfluxStage, monkeypatch: pytest.MonkeyPatch) -> Task:
    return Task(stage, monkeypatch)


def test_a_batch_is_written_when_its_first_record_has_waited(task: Task, database: Database) -> None:
    for i in range(10):
        task.send("a", f"cam-{i}", figures(f"cam-{i}", 1))
        task.wait(InfluxStage.max_wait_ms // 10 - 1)
    assert database.requests == []
    task.wait(20)
    assert [len(lines) for lines in database.requests] == [10]
    assert task.state == {}
    task.wait(10_000)
    assert len(database.requests) == 1


def test_a_batch_that_is_large_enough_does_not_wait(task: Task, database: Database) -> None:
    task.shell._stage.max_bytes = 200
    for i in range(10):
        task.send("a", "cam", figures("cam", i))
    assert 1 < len(database.requests) < 10
    task.wait(InfluxStage.max_wait_ms)
    assert database.lines == [f"camera_window,camera=cam frame_count=1.0 {i}" for i in range(10)]


def test_after_a_crash_what_was_held_is_written_and_no_later_value_is_overwritten_by_an_earlier(
    task: Task, database: Database
) -> None:
    task.send("a", "cam", figures("cam", 1, value=1.0))
    saved = task.checkpoint()
    task.send("a", "cam", figures("cam", 1, value=2.0))
    task.wait(InfluxStage.max_wait_ms)
    stage = InfluxStage(TARGET)
    task.recover(stage, saved)
    task.send("a", "cam", figures("cam", 1, value=2.0))  # the source goes back to the checkpoint
    task.wait(InfluxStage.max_wait_ms)
    one, two = (f"camera_window,camera=cam frame_count={value} 1" for value in ("1.0", "2.0"))
    assert database.lines == [one, two, one, two]


def test_a_shard_that_gets_nothing_more_after_a_crash_is_written_too(task: Task, database: Database) -> None:
    task.send("a", "cam", figures("cam", 1))
    saved = task.checkpoint()
    task.recover(InfluxStage(TARGET), saved)
    task.wait(InfluxStage.max_wait_ms)
    assert len(database.lines) == 1
    assert task.state == {}


def test_shards_go_out_in_one_request_and_dead_letters_come_out(task: Task, database: Database) -> None:
    task.send("a", "cam-a", figures("cam-a", 1))
    task.wait(100)
    task.send("b", "cam-b", b"junk")
    task.send("b", "cam-b", figures("cam-b", 1))
    task.wait(InfluxStage.max_wait_ms)
    assert [len(lines) for lines in database.requests] == [2]
    assert task.state == {}
    assert [row[0] for row in task.out] == [topics.DEAD_LETTERS]
    task.send("b", "cam-b", figures("cam-b", 2))
    task.wait(InfluxStage.max_wait_ms)
    assert [len(lines) for lines in database.requests] == [2, 1]


def test_a_crash_between_the_write_and_another_shards_turn_loses_and_keeps_nothing(
    task: Task, database: Database
) -> None:
    task.send("a", "cam-a", figures("cam-a", 1))
    task.send("b", "cam-b", figures("cam-b", 1))
    task.now_ms += InfluxStage.max_wait_ms
    at_ms, task.key = first = min(task.timers)
    task.timers.remove(first)
    task.shell.on_timer(at_ms, task)
    assert len(database.lines) == 2
    saved = task.checkpoint()
    task.recover(InfluxStage(TARGET), saved)
    task.wait(InfluxStage.max_wait_ms)
    assert len(set(database.lines)) == 2
    assert database.lines[2:] == database.lines[1:2]
    assert task.state == {}


def test_a_letter_of_a_refused_line_comes_out_with_its_own_shard_and_once(task: Task, database: Database) -> None:
    database.refused = {"camera_window,camera=cam-b frame_count=1.0 1"}
    task.shell._stage.max_bytes = 100
    task.send("b", "cam-b", figures("cam-b", 1))
    task.send("a", "cam-a", figures("cam-a", 1))  # enough: both are written
    assert len(database.lines) == 2
    assert task.out == [], "the state of b still holds what the letter is about"
    saved = task.checkpoint()
    task.wait(InfluxStage.max_wait_ms)
    assert [row[1] for row in task.out] == ["cam-b"]
    task.out.clear()  # the transaction that held it was aborted
    task.recover(InfluxStage(TARGET), saved)
    task.wait(InfluxStage.max_wait_ms)
    assert [row[1] for row in task.out] == ["cam-b"]
    assert task.letter_count == 2
    assert task.state == {}
