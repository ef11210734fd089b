"""The shell of live keys: what it makes of batches, checkpoints and kills, and how it tells a silent source from a task that
was held up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.flink.keyed_shell import BACKLOG_MS, KeyedShell
from operators.stages.stage import Input, KeyLogic, Output
from tests.unit.operators.operator_harness import Clock, Operator
from tests.unit.operators.scenes import bounded

SILENCE_MS = 10_000
TICK_MS = KeyedShell.tick_ms


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


class Stage:
    """Makes the same logic for every key, save for those that it does not know."""

    def __init__(self, logic: Callable[[str], KeyLogic] = lambda key: Logic(), unknown: str = "") -> None:
        self.make, self.unknown = logic, unknown

    def open(self) -> None: ...

    def logic(self, key: str) -> KeyLogic:
        return Unknown() if self.unknown and key.startswith(self.unknown) else self.make(key)


class Unknown(Logic):
    silence_ms = 0

    def on_record(self, record: Input) -> list[Output]:
        return [Output("dead-letters", "", b"unknown")]

    def on_silence(self) -> list[Output]:
        raise AssertionError

    def snapshot(self) -> bytes | None:
        return None

    def restore(self, data: bytes) -> None:
        raise AssertionError


class Sums:
    """What comes out says what came before, in order; every third count is archived, the last is among the terms."""

    silence_ms = SILENCE_MS

    def __init__(self, key: str) -> None:
        self.key, self.seen, self.kept, self.last = key, b"", b"", b""
        self.kept_asked = self.last_asked = b""
        self.taken_up: list[str] = []

    def on_record(self, record: Input) -> list[Output]:
        self.last = record.value or b"-"
        self.seen += self.last
        if len(self.seen) % 3 == 0:
            self.kept += self.last
        return [Output("sums", self.key, b"|".join((self.seen, self.kept, self.last)))] * (len(self.seen) % 2 + 1)

    def on_silence(self) -> list[Output]:
        return []

    def snapshot(self) -> bytes | None:
        return b"s" + self.seen

    def restore(self, data: bytes) -> None:
        self.taken_up.append("snapshot")
        self.seen = data[1:]

    def archive(self) -> bytes | None:
        if self.kept == self.kept_asked:
            return None
        self.kept_asked = self.kept
        return b"a" + self.kept

    def restore_archive(self, data: bytes) -> None:
        self.taken_up.append("archive")
        self.kept = self.kept_asked = data[1:]

    def terms(self) -> bytes | None:
        if self.last == self.last_asked:
            return None
        self.last_asked = self.last
        return b"t" + self.last

    def restore_terms(self, data: bytes) -> None:
        self.taken_up.append("terms")
        self.last = self.last_asked = data[1:]


def record(value: bytes | None = b"") -> Input:
    return Input(value, 0, 0, 0)


# ---- silence ------------------------------------------------------------------------------------------------------


class Task(Operator):
    """One task with a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        super().__init__()
        self.start(lambda: KeyedShell(Stage(), "test"))
        self.due_ms = clock.now_ms + TICK_MS

    def record(self, key: str = "cam") -> None:
        self.send(key, record())

    def pass_time(self, ms: int, held_up: bool = False, told_each_ms: int = 100) -> list[int]:
        """Let time pass; return when, from now, the logic was told of silence.

        The figure of how long the task was held up goes on now and then, and when that ends.
        """
        begun_ms, told, untold_ms = self.clock.uptime_ms, [], 0
        self.jvm.is_held_up = held_up
        for _ in range(ms // 100):
            self.clock.go_on(100)
            untold_ms += 100 * held_up
            if untold_ms >= told_each_ms:
                self.jvm.held_ms, untold_ms = self.jvm.held_ms + untold_ms, 0
            told += [self.clock.uptime_ms - begun_ms for _ in self.tick_if_due()]
        self.jvm.is_held_up = False
        self.jvm.held_ms += untold_ms
        return told

    def tick_if_due(self) -> list[Output]:
        if self.clock.now_ms < self.due_ms:
            return []
        due_ms, self.due_ms = self.due_ms, self.clock.now_ms - self.clock.now_ms % TICK_MS + TICK_MS
        return self.tick(due_ms)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.patch(monkeypatch)
    return clock


@pytest.fixture
def task(clock: Clock) -> Task:
    return Task(clock)


@pytest.mark.parametrize("after_ms", [0, 100, 500, 900])
def test_a_source_that_says_nothing_is_silent_after_its_time(task: Task, after_ms: int) -> None:
    assert task.pass_time(after_ms) == []
    task.record()
    told = task.pass_time(60_000)
    assert len(told) == 1
    assert SILENCE_MS <= told[0] <= SILENCE_MS + TICK_MS


def test_a_source_that_goes_on_is_never_silent(task: Task) -> None:
    for _ in range(20):
        task.record()
        assert task.pass_time(SILENCE_MS - 1000) == []


def test_a_source_that_is_back_can_be_silent_again_and_each_key_has_a_time_of_its_own(task: Task) -> None:
    task.record("a")
    assert task.pass_time(5_000) == []
    task.record("b")
    assert [t // TICK_MS for t in task.pass_time(20_000)] == [6, 11]
    task.record("a")
    assert len(task.pass_time(60_000)) == 1


@pytest.mark.parametrize("told_each_ms", [100, 5_000, 1_000_000])
@pytest.mark.parametrize("quiet_ms", [500, 5_000, 9_900])
@pytest.mark.parametrize("held_ms", [3_000, 9_900, 10_400, 35_000])
def test_time_in_which_the_task_was_held_up_does_not_count(
    task: Task, quiet_ms: int, held_ms: int, told_each_ms: int
) -> None:
    task.record()
    assert task.pass_time(quiet_ms) == []
    assert task.pass_time(held_ms, True, told_each_ms) == []
    assert task.pass_time(BACKLOG_MS - 500) == [], "the backlog had no time to come"
    told = task.pass_time(60_000)
    assert len(told) == 1
    assert told[0] <= SILENCE_MS + 2 * BACKLOG_MS + 2 * TICK_MS
    assert quiet_ms + BACKLOG_MS - 500 + told[0] >= SILENCE_MS + BACKLOG_MS


def test_records_that_come_after_a_hold_up_keep_the_source_alive(task: Task) -> None:
    task.record()
    assert task.pass_time(25_000, held_up=True) == []
    task.record()
    assert task.pass_time(SILENCE_MS - 500) == []


@pytest.mark.parametrize("held_ms", [300, 900, 35_000, 300_000])
def test_a_source_whose_last_record_came_right_after_a_hold_up_is_silent_no_later_than_others(
    task: Task, held_ms: int
) -> None:
    task.record()
    task.pass_time(held_ms, True)
    task.record()
    told = task.pass_time(60_000)
    assert len(told) == 1
    assert SILENCE_MS <= told[0] <= SILENCE_MS + BACKLOG_MS + TICK_MS


@pytest.mark.parametrize("after_ms", [0, 400, 600])
def test_a_silent_source_is_noticed_by_a_task_that_is_often_held_up(task: Task, after_ms: int) -> None:
    task.pass_time(after_ms)
    task.record()
    told = []
    for _ in range(60):
        told += task.pass_time(300, held_up=True)
        told += task.pass_time(700)
    assert len(told) == 1


def test_hold_ups_of_one_task_do_not_add_up_without_end(task: Task) -> None:
    """What it needs for its backlog is so much after the last of them, not after each."""
    task.record()
    for _ in range(100):
        task.pass_time(5_000, held_up=True)
        task.pass_time(100)
    told = task.pass_time(60_000)
    assert len(told) == 1 and told[0] <= SILENCE_MS + BACKLOG_MS + 2 * TICK_MS


@pytest.mark.parametrize("quiet_ms", [0, 5_000])
def test_a_late_tick_counts_as_a_hold_up(task: Task, quiet_ms: int) -> None:
    """A pause of the whole process, which no figure of back-pressure shows."""
    task.record()
    task.pass_time(quiet_ms)
    task.clock.go_on(30_000)
    assert task.tick_if_due() == []
    assert task.pass_time(SILENCE_MS - quiet_ms) == []
    assert len(task.pass_time(60_000)) == 1


def test_a_pause_right_before_back_pressure_counts_as_both(task: Task) -> None:
    task.record()
    task.clock.go_on(30_000)
    task.jvm.is_held_up = True
    assert task.tick_if_due() == []
    assert task.pass_time(3_000, held_up=True) == []
    assert task.pass_time(SILENCE_MS) == []
    assert len(task.pass_time(60_000)) == 1


def test_ticks_that_come_all_at_once_after_a_pause_tell_nothing(task: Task) -> None:
    task.record()
    begun_ms = task.clock.now_ms
    task.clock.go_on(30_000)
    for i in range(30):
        assert task.tick(begun_ms + i * TICK_MS) == []
    assert task.pass_time(SILENCE_MS) == []
    assert len(task.pass_time(60_000)) == 1


@pytest.mark.parametrize("step_ms", [-3_600_000, -5_000, 5_000, 3_600_000])
@pytest.mark.parametrize("comes_after", [False, True])
def test_a_clock_that_is_set_does_not_make_a_source_silent_or_keep_it_from_it(
    task: Task, step_ms: int, comes_after: bool
) -> None:
    task.record()
    task.pass_time(3_500)
    task.clock.now_ms += step_ms
    if step_ms < 0:
        task.due_ms += step_ms  # timers wait for so long, not until then
    if comes_after:
        task.record()
    told = task.pass_time(60_000)
    assert len(told) == 1
    quiet_ms = told[0] + (0 if comes_after else 3_500)
    assert SILENCE_MS <= quiet_ms <= SILENCE_MS + BACKLOG_MS + 2 * TICK_MS


def test_after_a_restart_silence_is_told_of_keys_that_nothing_more_comes_of_and_not_at_once(task: Task) -> None:
    task.record()
    task.checkpoint()
    task.clock.go_on(60_000)
    task.kill()
    task.clock.go_on(60_000)  # to take up the other keys takes long
    task.due_ms = task.clock.now_ms
    assert task.tick_if_due() == []
    assert task.pass_time(SILENCE_MS - 1000) == []
    assert len(task.pass_time(60_000)) == 1


def test_a_silence_belongs_to_the_state(task: Task) -> None:
    task.record()
    assert task.checkpoint() == {"cam"}
    assert task.checkpoint() == set()
    task.pass_time(60_000)
    assert task.checkpoint() == {"cam"}


# ---- batches, checkpoints, kills ----------------------------------------------------------------------------------


def sums(unknown: str = "?") -> Callable[[], KeyedShell]:
    return lambda: KeyedShell(Stage(Sums, unknown), "test")


@bounded(200)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "?"]), st.sampled_from([b"x", b"y", b"z", None])), max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=5),
    st.lists(st.integers(1, 64), min_size=1, max_size=5),
)
def test_nothing_is_lost_or_doubled_whatever_the_batches_checkpoints_and_kills(
    keyed: list[tuple[str, bytes | None]], crashes: list[tuple[int, int]], sizes: list[int]
) -> None:
    source = [(key, record(value)) for key, value in keyed]
    logics = {key: Stage(Sums, "?").logic(key) for key in "abc?"}
    expected = [o for key, r in source for o in logics[key].on_record(r)]
    n = len(source)
    pairs = sorted((min(saved, n), min(saved + more, n)) for saved, more in crashes)
    assert Operator(source, sizes).start(sums()).run(pairs) == expected


def test_a_checkpoint_asks_of_changed_keys_only_and_of_a_part_only_where_it_has_changed() -> None:
    task = Operator().start(sums())
    for value in (b"x", b"x"):
        task.send("a", record(value))
    task.send("b", record(b"x"))
    assert task.checkpoint() == {"a", "b"}
    assert task.state == {"a": [b"sxx", None, b"tx"], "b": [b"sx", None, b"tx"]}
    task.send("a", record(b"x"))
    assert task.shell.changed_states() == ["a", b"sxxx", b"ax", None]
    task.send("a", record(b"x"))
    assert task.shell.changed_states() == ["a", b"sxxxx", None, None]
    assert task.shell.changed_states() == []


def test_terms_are_taken_up_before_the_snapshot_and_the_archive_after_it() -> None:
    made: list[Sums] = []

    def logic(key: str) -> Sums:
        made.append(Sums(key))
        return made[-1]

    task = Operator().start(lambda: KeyedShell(Stage(logic), "test"))
    for _ in range(7):
        task.send("a", record(b"x"))
    task.checkpoint()
    task.kill()
    assert made[-1].taken_up == ["terms", "snapshot", "archive"]
    assert (made[-1].seen, made[-1].kept, made[-1].last) == (b"xxxxxxx", b"xx", b"x")
    task.send("b", record(b"x"))
    task.checkpoint()
    task.kill()
    assert {m.key: m.taken_up for m in made[-2:]} == {"a": ["terms", "snapshot", "archive"], "b": ["terms", "snapshot"]}


def test_a_checkpoint_that_fails_costs_nothing() -> None:
    """Flink keeps what it was given and stores it with the next one."""
    task = Operator([("a", record(b"x"))] * 20).start(sums())
    task.run_to(5)
    task.checkpoint()
    task.run_to(9)
    pending, saved = list(task.pending), task._saved
    task.checkpoint()
    task.counted, task.pending, task._saved = task.counted[: -len(pending)], pending, saved  # it was declined
    task.run_to(12)
    assert task.run([(12, 17)]) == Operator(task.source).start(sums()).run([])


def test_dead_letters_are_counted() -> None:
    task = Operator(sizes=[3]).start(lambda: KeyedShell(Stage(), "test"))
    for value in (b"", b"bad", b"", b"bad"):
        task.send("cam", record(value))
    task.flush()
    assert task.jvm.letter_count == 2
    assert Counter(o.topic for o in task.out) == {"dead-letters": 2}


def test_an_error_ends_the_task_and_what_was_begun_does_not_count() -> None:
    class Fragile(Sums):
        def on_record(self, record: Input) -> list[Output]:
            out = super().on_record(record)
            if record.value == b"!" and is_broken:
                raise ValueError("broken")
            return out

    is_broken = True
    source = [("a", record(v)) for v in (b"x", b"y", b"z", b"!", b"x")]
    task = Operator(source, sizes=[2]).start(lambda: KeyedShell(Stage(Fragile), "test"))
    task.run_to(2)
    task.checkpoint()
    with pytest.raises(ValueError, match="broken"):
        task.run_to(5)
    is_broken = False
    task.kill()
    assert task.run([]) == Operator(source).start(sums()).run([])


# ---- keys that are not known --------------------------------------------------------------------------------------


def test_keys_that_nobody_knows_do_not_pile_up(clock: Clock) -> None:
    task = Operator(sizes=[64]).start(sums())
    for i in range(1000):
        task.send(f"?{i}", record())
    assert task.checkpoint() == set()
    assert not task.shell._live and not task.shell._unnamed and not task.state
    assert len(task.counted) == 1000
    clock.go_on(60_000)
    assert task.tick(clock.now_ms) == []


def test_the_state_of_a_key_that_is_not_known_any_more_stays_until_it_is_again(clock: Clock) -> None:
    task = Operator().start(sums())
    for value in (b"x", b"y", b"z"):
        task.send("a", record(value))
    task.checkpoint()
    before = task.state["a"]
    for _ in range(2):
        task.start(sums(unknown="a"))
        task.send("a", record(b"lost"))
        clock.go_on(60_000)
        assert task.tick(clock.now_ms) == []
        assert task.checkpoint() == set()
        assert task.state["a"] == before
    task.shell._stage.unknown = ""  # settings name it again
    task.send("a", record(b"x"))
    assert task.pending[-1].value == b"xyzx|z|x"
    assert not task.shell._unnamed
    assert task.checkpoint() == {"a"}
