"""The replay stage in this process: the code of the job, without Flink."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from operators.stages.replay_stage import ReplayStage
from operators.stages.stage import KeyLogic, Output
from sightflow.replay.records import Keyed

SHOW_EACH = 256
"""Records between two looks at the clock."""


def run(
    stage: ReplayStage, records: Iterable[Keyed], add: Callable[[str, bytes], None], show: Callable[[int], None]
) -> None:
    """Take every record, then the end of the input.

    Args:
        stage: opened.
        add: takes (side/file, line).
        show: is told now and then how many records have been taken.
    """
    cameras: dict[str, KeyLogic] = {}

    def write(out: list[Output]) -> None:
        for o in out:
            add(o.topic, o.value)

    for count, (key, record) in enumerate(records, 1):
        logic = cameras.get(key)
        if logic is None:
            logic = stage.logic(key)
            if logic.snapshot() is not None:  # keys that anybody can make up must not pile up here
                cameras[key] = logic
        write(logic.on_record(record))
        if count % SHOW_EACH == 0:
            show(count)
    for logic in cameras.values():
        write(logic.on_silence())
