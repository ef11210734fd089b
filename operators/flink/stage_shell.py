"""What the shells have in common: the stage, its start on the worker, and its outputs as rows."""

from __future__ import annotations

import logging
import sys
from typing import Generic, TypeVar

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext

from operators.stages.stage import BatchStage, Output, Stage
from schemas import topics

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Stage | BatchStage)

PYTHON_SWITCH_S = 0.0005
"""Operators of one TaskManager share Python's lock. A stage gives it up with each call to Flink; while another computes,
it would get it back only after Python's default of 5 ms."""

DEAD_LETTER_COUNTER = "sightflow_dead_letters"


class StageShell(KeyedProcessFunction, Generic[S]):
    """Holds a stage and names the build that it came with."""

    def __init__(self, stage: S, build: str) -> None:
        self._stage = stage
        self._build = build

    def _begin(self, runtime_context: RuntimeContext) -> None:
        """Register the counter, get the stage ready."""
        self._dead_letters = runtime_context.get_metrics_group().counter(DEAD_LETTER_COUNTER)
        sys.setswitchinterval(PYTHON_SWITCH_S)
        self._stage.open()
        log.info("sightflow build %s: %s ready", self._build, type(self._stage).__name__)

    def _rows(self, out: list[Output]) -> list[Row]:
        """Return outputs as rows (topic, key, value); count the dead letters among them."""
        letters = sum(o.topic == topics.DEAD_LETTERS for o in out)
        if letters:
            self._dead_letters.inc(letters)
        return [Row(*o) for o in out]
