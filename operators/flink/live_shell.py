"""Runs a `LiveStage`: a `KeyedShell` with a second input, settings, broadcast to every subtask.

The settings' topic is their state: it is compacted and keeps every version. Each (re)start reads it to its end before the
first record is taken, so that no record is ever worked on without a version that was sent before it was first read, however
the two sources race after a restart. The second input then brings what is sent later, and has the acknowledgements sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from operators.flink.keyed_shell import KeyedShell
from operators.flink.settings_log import read_to_end
from operators.stages.stage import Input, LiveStage

log = logging.getLogger(__name__)


class LiveShell(KeyedShell):
    """Inputs: as `KeyedShell`; broadcast (key, value or None, partition, offset)."""

    def __init__(self, stage: LiveStage, build: str, bootstrap_servers: str, topic: str, properties: dict[str, str]):
        super().__init__(stage, build)
        self._settings = stage
        self._topic = (bootstrap_servers, topic, properties)

    def open(self, context: Any) -> None:
        """Get the stage ready and hand it what the topic of settings holds."""
        super().open(context)
        self._speaks = context.getTaskInfo().getIndexOfThisSubtask() == 0
        count = 0
        for key, record in read_to_end(*self._topic):
            self._settings.on_settings(key, record)
            count += 1
        log.info("sightflow settings: %d records read", count)

    def take_broadcast(self, columns: Sequence[Any]) -> list[Any]:
        """Hand over one record of settings; one subtask answers for all, as all come to the same answer."""
        key, value, partition, offset = columns
        out = self._settings.on_settings(key, Input(value, partition, offset, 0))
        return self._flat(out) if self._speaks else []
