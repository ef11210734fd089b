"""What the shells have in common: a stage, its start on the worker, and its outputs.

A shell is the Python side of `java/sightflow/flink/BatchOperator.java`, which makes it on the worker and calls its methods, all
from one thread. Records come in batches, as one flat tuple; outputs go back as one flat list (topic, key, value, topic, …).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from operators.stages.stage import BatchStage, Output, Stage
from schemas import topics

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Stage | BatchStage)

PYTHON_SWITCH_S = 0.0005
"""Operators of one TaskManager share Python's lock. A stage gives it up with each call to Flink; while another computes,
it would get it back only after Python's default of 5 ms."""

DEAD_LETTER_COUNTER = "sightflow_dead_letters"

UNCHANGED = None
NOTHING = b""
"""What a shell says of a part of a key's state that need not be stored, and of one that is to be deleted."""


class StageShell(Generic[S]):
    """Holds a stage and names the build that it came with. Pickled into the job graph."""

    state_names: tuple[str, ...] = ()
    """The parts of a key's state, the first of which every key with state has."""
    max_count = 64
    max_wait_ms = 2
    """A batch is taken when it has this many records, or when its first has waited this long."""
    tick_ms = 1000
    """How often `tick` is called, in processing time."""

    def __init__(self, stage: S, build: str) -> None:
        self._stage = stage
        self._build = build

    def open(self, context: Any) -> None:
        """Get the stage ready. `context`: the operator's runtime context in Java."""
        self._dead_letters = context.getMetricGroup().counter(DEAD_LETTER_COUNTER)
        sys.setswitchinterval(PYTHON_SWITCH_S)
        self._stage.open()
        log.info("sightflow build %s: %s ready", self._build, type(self._stage).__name__)

    def restore(self, parts: Sequence[Any]) -> None:
        """Take up the state of a key: (key, part, …), None for a part that was never stored. Before the first record."""
        raise NotImplementedError

    def take(self, columns: Sequence[Any]) -> list[Any]:
        """Take a batch: (key, ms, value, partition, offset, …) one record after the other; return the outputs."""
        raise NotImplementedError

    def take_broadcast(self, columns: Sequence[Any]) -> list[Any]:
        """Take one record of the second input; return the outputs."""
        raise NotImplementedError

    def tick(self, due_ms: int) -> list[Any]:
        """Look at the clock, at the time that this was due or later; return the outputs."""
        return []

    def finish(self) -> list[Any]:
        """Hear that the first input has ended; return the outputs."""
        return []

    def changed_states(self) -> list[Any]:
        """Return (key, part, …) of each key whose state has changed since last asked: a checkpoint is about to be taken."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the stage release what it holds."""
        close = getattr(self._stage, "close", None)
        if close is not None:
            close()

    def _flat(self, out: Sequence[Output]) -> list[Any]:
        """Return outputs as one flat list; count the dead letters among them."""
        letters = sum(o.topic == topics.DEAD_LETTERS for o in out)
        if letters:
            self._dead_letters.inc(letters)
        return [column for o in out for column in o]


def hold_up_meter(context: Any) -> Callable[[], tuple[int, bool]]:
    """Return a meter of back-pressure on this task: ms in all, and whether it is held up now.

    Flink calls `tick` on a task that back-pressure keeps from its input too, so its being on time tells nothing.
    """
    figures = context.getMetricGroup().getTaskIOMetricGroup()
    soft = figures.getSoftBackPressuredTimePerSecond()
    return lambda: (figures.getAccumulatedBackPressuredTimeMs(), soft.isMeasuring())
