"""The shell of input that ends: each key hears of the end once, from what it knew before a restart too."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.flink.bounded_shell import BoundedShell
from operators.stages.replay_stage import RECORDS, ReplayStage, Side
from operators.stages.stage import Input, Output
from tests.unit.operators.operator_harness import Clock, Operator
from tests.unit.operators.scenes import CAMERA, bounded, rich_scene
from tests.unit.operators.test_keyed_shell import Logic, Stage, record


class Counting(Logic):
    """Counts records."""

    silence_ms = 0

    def __init__(self, key: str) -> None:
        self.key, self.count = key, 0

    def on_record(self, record: Input) -> list[Output]:
        self.count += 1
        return []

    def on_silence(self) -> list[Output]:
        return [Output("events", self.key, b"%d" % self.count)]

    def snapshot(self) -> bytes | None:
        return b"%d" % self.count

    def restore(self, data: bytes) -> None:
        self.count = int(data)


def shell() -> BoundedShell:
    return BoundedShell(Stage(Counting, unknown="?"), "test")


def said(out: list[Output]) -> list[Any]:
    return [(o.key, int(o.value)) for o in out]


def test_the_end_is_told_once_to_each_key_in_their_order_and_nothing_is_kept() -> None:
    task = Operator(sizes=[64]).start(shell)
    for key in "babca":
        task.send(key, record())
    assert said(task.end()) == [("a", 2), ("b", 2), ("c", 1)]
    assert not task.shell._live
    task.checkpoint()
    assert task.state == {}


def test_no_clock_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.patch(monkeypatch)
    task = Operator().start(shell)
    task.send("a", record())
    for _ in range(1000):
        clock.go_on(1000)
        assert task.tick(clock.now_ms) == []


def test_after_a_restart_the_end_is_told_to_logic_that_knows_what_was_before() -> None:
    task = Operator().start(shell)
    task.send("a", record())
    task.send("b", record())
    task.checkpoint()
    task.kill()
    task.send("b", record())
    assert said(task.end()) == [("a", 1), ("b", 2)]


def test_a_task_that_is_killed_after_the_end_tells_of_it_once() -> None:
    task = Operator([("a", record())] * 5).start(shell)
    task.run_to(3)
    task.checkpoint()
    task.run_to(5)
    task.end()
    task.kill()  # it does not count: no checkpoint has come since
    task.run_to(5)
    assert said(task.end()) == [("a", 5)]
    assert task.checkpoint() == {"a"}
    assert task.checkpoint() == set()
    task.kill()  # others of its job have not ended, so it is made again
    assert task.end() == []
    task.checkpoint()
    assert said(task.counted) == [("a", 5)]


def test_a_key_that_is_not_known_is_not_kept_and_has_no_end() -> None:
    task = Operator().start(shell)
    task.send("?", record())
    assert not task.shell._live
    assert task.checkpoint() == set()
    assert task.end() == []


# ---- the stage that it runs ---------------------------------------------------------------------------------------


def _sides() -> ReplayStage:
    settings = rich_scene(1).scene.settings
    plain = msgspec.structs.replace(settings, cameras=(msgspec.structs.replace(settings.cameras[0], rules=()),))
    return ReplayStage([Side("new", (settings,)), Side("old", (plain,)), Side("none", ())])


SOURCE = [each for r in rich_scene(1).records for each in ((CAMERA, r), ("nobody", Input(b"x", 0, r.offset, 0)))]


def _lines(crashes: list[tuple[int, int]], sizes: list[int]) -> list[Output]:
    stage = pickle.dumps(_sides())
    task = Operator(SOURCE, sizes).start(lambda: BoundedShell(pickle.loads(stage), "test"))
    task.run(crashes)
    task.end()
    task.checkpoint()
    assert task.state == {}
    return task.counted


LINES = _lines([], [1])


def test_a_replay_counts_every_record_and_says_what_is_so_at_the_end() -> None:
    assert sum(int(o.value) for o in LINES if o.topic == RECORDS) == len(SOURCE)
    assert {o.topic for o in LINES} >= {f"{side}/{file}" for side in ("new", "old") for file in ("events", "windows")}


@bounded(25)
@given(
    st.lists(st.tuples(st.integers(0, len(SOURCE)), st.integers(0, 100)), max_size=4),
    st.lists(st.integers(1, 64), min_size=1, max_size=4),
)
def test_a_replay_that_is_killed_writes_the_same_lines(crashes: list[tuple[int, int]], sizes: list[int]) -> None:
    """Of sliding windows too, whose steps are in the archive."""
    pairs = sorted((saved, min(saved + more, len(SOURCE))) for saved, more in crashes)
    assert _lines(pairs, sizes) == LINES
