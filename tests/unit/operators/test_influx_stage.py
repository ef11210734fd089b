"""The InfluxDB stage and the shell that batches for it. Flink's part and InfluxDB's are played by small harnesses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.flink.batch_shell import BatchShell
from operators.influx.writer import BadLine, InfluxTarget
from operators.stages.influx_stage import InfluxStage
from operators.stages.stage import Input
from schemas import topics
from schemas.wire import DeadLetter, Figures, Point, decode, encode
from tests.unit.operators.operator_harness import Operator
from tests.unit.operators.scenes import bounded

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


WAIT_MS = InfluxStage.max_wait_ms


class Task(Operator):
    """One subtask, with a clock that ticks."""

    def __init__(self, sizes: Iterable[int] = (1,)) -> None:
        self.now_ms, self.max_bytes = 0, InfluxStage.max_bytes
        super().__init__(sizes=sizes)
        self.start(self.fresh)

    def fresh(self) -> BatchShell:
        stage = InfluxStage(TARGET)
        stage.max_bytes = self.max_bytes
        return BatchShell(stage, "test")

    def put(self, shard: str, camera: str, value: bytes, offset: int = 7) -> None:
        self.send(shard, record(value, offset), camera)

    def wait(self, ms: int) -> None:
        end_ms = self.now_ms + ms
        while self.now_ms + self.shell.tick_ms - self.now_ms % self.shell.tick_ms <= end_ms:
            self.now_ms += self.shell.tick_ms - self.now_ms % self.shell.tick_ms
            self.tick(self.now_ms)
        self.now_ms = end_ms


@pytest.fixture
def task(database: Database) -> Task:
    return Task()


def point(camera: str, at: int = 1, value: float = 1.0) -> str:
    return f"camera_window,camera={camera} frame_count={value} {at}"


def test_a_batch_is_written_when_its_first_record_has_waited(task: Task, database: Database) -> None:
    for i in range(10):
        task.put("a", f"cam-{i}", figures(f"cam-{i}", 1))
        task.wait(WAIT_MS // 10 - 1)
    assert database.requests == []
    task.wait(20)
    assert [len(lines) for lines in database.requests] == [10]
    task.checkpoint()
    assert task.state == {}
    task.wait(10_000)
    assert len(database.requests) == 1


@pytest.mark.parametrize("size", [1, 7, 256])
def test_a_batch_that_is_large_enough_does_not_wait(database: Database, size: int) -> None:
    task = Task([size])
    task.shell._stage.max_bytes = 200
    for i in range(10):
        task.put("a", "cam", figures("cam", i))
    task.flush()
    assert 1 < len(database.requests) < 10
    task.wait(WAIT_MS)
    assert database.lines == [point("cam", i) for i in range(10)]


def test_what_is_held_is_bounded_and_counted_afresh_after_each_write(task: Task, database: Database) -> None:
    task.shell._stage.max_bytes = 1000
    for i in range(500):
        task.put(str(i % 16), f"cam-{i % 16}", figures(f"cam-{i % 16}", i))
        assert sum(len(p) for pieces in task.shell._held.values() for p in pieces) == task.shell._byte_count < 1000
    assert len({len(lines) for lines in database.requests}) <= 3


def test_after_a_crash_what_was_held_is_written_and_no_later_value_is_overwritten_by_an_earlier(
    task: Task, database: Database
) -> None:
    task.put("a", "cam", figures("cam", 1, value=1.0))
    assert task.checkpoint() == {"a"}
    task.put("a", "cam", figures("cam", 1, value=2.0))
    task.wait(WAIT_MS)
    task.kill()
    task.put("a", "cam", figures("cam", 1, value=2.0))  # the source goes back to the checkpoint
    task.wait(WAIT_MS)
    one, two = (point("cam", value=value) for value in (1.0, 2.0))
    assert database.lines == [one, two, one, two]


def test_a_shard_that_gets_nothing_more_after_a_crash_is_written_too_and_then_forgotten(
    task: Task, database: Database
) -> None:
    task.put("a", "cam", figures("cam", 1))
    task.checkpoint()
    task.kill()
    task.wait(WAIT_MS)
    assert len(database.lines) == 1
    assert task.checkpoint() == {"a"}
    assert task.state == {}
    assert task.checkpoint() == set()
    task.kill()
    task.wait(WAIT_MS)
    assert len(database.lines) == 1


def test_what_more_than_a_batch_of_shards_held_at_a_crash_is_written_with_the_next_record(database: Database) -> None:
    """Where the tasks are fewer than before, one takes up what several held."""
    task = Task()
    for shard in "abcd":
        task.put(shard, f"cam-{shard}", figures(f"cam-{shard}", 1))
    task.checkpoint()
    task.max_bytes = 150
    task.kill()
    task.put("a", "cam-a", figures("cam-a", 2))
    assert [len(lines) for lines in database.requests] == [5]


def test_shards_go_out_in_one_request_and_dead_letters_come_out(task: Task, database: Database) -> None:
    task.put("a", "cam-a", figures("cam-a", 1))
    task.wait(100)
    task.put("b", "cam-b", b"junk")
    task.put("b", "cam-b", figures("cam-b", 1))
    task.wait(WAIT_MS)
    assert [len(lines) for lines in database.requests] == [2]
    assert [(o.topic, o.key) for o in task.out] == [(topics.DEAD_LETTERS, "cam-b")]
    assert task.jvm.letter_count == 1
    task.put("b", "cam-b", figures("cam-b", 2))
    task.wait(WAIT_MS)
    assert [len(lines) for lines in database.requests] == [2, 1]


def test_a_crash_after_the_write_loses_nothing_and_writes_the_same_again(task: Task, database: Database) -> None:
    task.put("a", "cam-a", figures("cam-a", 1))
    task.put("b", "cam-b", figures("cam-b", 1))
    task.checkpoint()
    task.wait(WAIT_MS)
    assert len(database.lines) == 2
    task.kill()
    task.wait(WAIT_MS)
    assert sorted(database.lines[2:]) == database.lines[:2]
    task.checkpoint()
    assert task.state == {}


def test_a_letter_of_a_refused_line_counts_once_over_a_crash(task: Task, database: Database) -> None:
    database.refused = {point("cam-b")}
    task.put("b", "cam-b", figures("cam-b", 1))
    task.put("a", "cam-a", figures("cam-a", 1))
    task.checkpoint()
    task.wait(WAIT_MS)
    assert [o.key for o in task.pending] == ["cam-b"]
    task.kill()  # the transaction that held it is aborted
    task.wait(WAIT_MS)
    task.checkpoint()
    task.wait(WAIT_MS)
    assert [decode(o.value, DeadLetter).reason for o in task.counted] == ["refused_by_influxdb"]
    assert task.pending == []


def test_a_write_that_fails_ends_the_task_and_is_done_again(
    task: Task, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lines: list[str]) -> list[BadLine]:
        raise OSError("away")

    task.put("a", "cam", figures("cam", 1))
    task.checkpoint()
    with monkeypatch.context() as broken:
        broken.setattr(database, "write", fail)
        with pytest.raises(OSError, match="away"):
            task.wait(WAIT_MS)
    task.kill()
    task.wait(WAIT_MS)
    assert database.lines == [point("cam")]


def test_what_is_held_when_the_input_ends_is_written(task: Task, database: Database) -> None:
    task.put("a", "cam", figures("cam", 1))
    task.checkpoint()
    assert task.end() == []
    assert database.lines == [point("cam")]
    task.checkpoint()
    assert task.state == {}


@bounded(150)
@given(
    st.lists(st.sampled_from(["other", "good", "bad", "junk"]), max_size=80),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 40)), max_size=4),
    st.lists(st.integers(1, 256), min_size=1, max_size=4),
    st.integers(50, 600),
)
def test_over_any_crashes_the_database_ends_up_the_same_and_each_letter_counts_once(
    kinds: list[str], crashes: list[tuple[int, int]], sizes: list[int], max_bytes: int
) -> None:
    database = Database()
    cameras = [f"cam-{i % 3}" for i in range(len(kinds))]
    values = {"good": 2.0, "bad": -1.0}
    made = [
        (camera, b"junk" if kind == "junk" else figures(camera, i // 9, value=values.get(kind, float(i))))
        for i, (kind, camera) in enumerate(zip(kinds, cameras, strict=True))
    ]
    points = {(c, i // 9): "" for i, c in enumerate(cameras)}
    for i, (kind, camera) in enumerate(zip(kinds, cameras, strict=True)):
        if kind != "junk":
            points[camera, i // 9] = point(camera, i // 9, values.get(kind, float(i)))
    database.refused = {point(c, at, -1.0) for c, at in points}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.stages.influx_stage.Writer", lambda *_: database)
        task = Task(sizes)
        task.max_bytes = max_bytes
        task.kill()
        n = len(made)
        for saved, killed in [*sorted((min(a, n), min(a + b, n)) for a, b in crashes), (n, n)]:
            for end in (saved, killed):
                while task.position < end:
                    camera, value = made[task.position]
                    task.put(camera[-1], camera, value, offset=task.position)
                    if task.position % 11 == 0:
                        task.wait(WAIT_MS)
                    task.position += 1
                if end == saved:
                    task.checkpoint()
            task.kill()
        task.end()
        task.checkpoint()
    last = {_series(line): line for line in database.lines}
    assert last == {_series(line): line for line in points.values() if line}
    letters = Counter(decode(o.value, DeadLetter).offset for o in task.counted if b"junk" in o.value)
    assert letters == {i: 1 for i, kind in enumerate(kinds) if kind == "junk"}
    assert task.state == {}


def _series(line: str) -> tuple[str, str]:
    head, _, at = line.rpartition(" ")
    return head.split(" ")[0], at
