"""Runs a `LiveStage` as a Flink keyed process function with a second input: settings, broadcast to every subtask.

The settings' topic is their state: it is compacted and keeps every version. Each (re)start reads it to its end before the
first record is taken, so that no record is ever worked on without a version that was sent before it was first read, however
the two sources race after a restart. The second input then brings what is sent later, and has the acknowledgements sent.
"""

from __future__ import annotations

import logging
from typing import Any

from pyflink.datastream import KeyedBroadcastProcessFunction, RuntimeContext

from operators.flink.keyed_shell import KeyedShell
from operators.flink.settings_log import read_to_end
from operators.stages.stage import Input, LiveStage

log = logging.getLogger(__name__)


class LiveShell(KeyedShell, KeyedBroadcastProcessFunction):
    """Inputs: as `KeyedShell`; broadcast Row(key, value bytes or null, partition, offset). Output: Row(topic, key, value)."""

    def __init__(self, stage: LiveStage, build: str, bootstrap_servers: str, topic: str, properties: dict[str, str]):
        super().__init__(stage, build)
        self._settings = stage
        self._topic = (bootstrap_servers, topic, properties)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Get the stage ready and hand it what the topic of settings holds."""
        super().open(runtime_context)
        # PyFlink's own way (2.3.0) asks Java for a method that is no longer there.
        self._speaks = runtime_context._runtime_context.getTaskInfo().getIndexOfThisSubtask() == 0
        count = 0
        for key, record in read_to_end(*self._topic):
            self._settings.on_settings(key, record)
            count += 1
        log.info("sightflow settings: %d records read", count)

    def process_broadcast_element(self, value: Any, ctx: KeyedBroadcastProcessFunction.Context) -> Any:
        """Hand over one record of settings; one subtask answers for all, as all come to the same answer."""
        out = self._settings.on_settings(value[0], Input(value[1], value[2], value[3], 0))
        return self._rows(out) if self._speaks else []
