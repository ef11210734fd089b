"""The replay as a bounded job on Flink: submitted, watched until it has finished, its lines read back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import msgspec

from operators.stages.replay_stage import Side
from sightflow.errors import CheckFailed, JobFailed, StackNotRunning
from sightflow.progress import Progress
from sightflow.replay.outputs import Outputs
from sightflow.replay.topic import TopicSpan
from sightflow.stack import Stack
from sightflow.stack.jobs import JOBS_DIR

OPERATOR = "replay"
"""Name of the operator whose records are counted, in jobs/replay.py."""
_POLL_S = 0.5
_PREFIX = "file="


@dataclass(frozen=True)
class Job:
    """What is to be replayed.

    settings, compare: site files of the new side and of the old one.
    versions: records of the topic `settings` for the new side.
    """

    wanted: TopicSpan
    bootstrap: str
    settings: tuple[Path, ...]
    compare: tuple[Path, ...]
    side: Side
    cameras: frozenset[str]
    kafka_properties: Path | None
    parallelism: int


def run(stack: Stack, asked: Job, outputs: Outputs, progress: Progress) -> float:
    """Run the job to its end; return the seconds that it ran.

    Raises:
        StackNotRunning, CheckFailed: no Flink, or no slot of it, is free for the job.
        JobFailed: with what Flink says.
    """
    if not stack.is_up():
        raise StackNotRunning(
            f"no stack runs in {stack.run_dir}, and a topic is replayed by a job on its Flink",
            "start it: sightflow up; or replay in this process: --in-process",
        )
    free = int(stack.flink.overview()["slots-available"])
    if free < asked.parallelism:
        raise CheckFailed(
            f"--parallelism: expected {asked.parallelism} free slots of Flink, found {free}: other jobs take the rest",
            "add TaskManagers: sightflow up --taskmanagers N; or replay in this process: --in-process",
        )
    lines = (outputs.folder / "lines").absolute()
    job_id = stack.submit(
        JOBS_DIR / "replay.py", extra_args=_arguments(asked, outputs.folder, lines), parallelism=asked.parallelism,
        flink_args=["-Drestart-strategy.type=fixed-delay", "-Drestart-strategy.fixed-delay.attempts=5"], progress=progress,
    )  # fmt: skip
    try:
        _await_end(stack, job_id, progress)
        took_s = float(stack.flink.job(job_id)["duration"]) / 1000
    except BaseException:
        if stack.is_up() and stack.job_state(job_id) not in ("FINISHED", "CANCELED", "FAILED"):
            stack.cancel(job_id)
        raise
    for file, line in _lines(lines):
        outputs.add(file, line)
    return took_s


def _arguments(asked: Job, folder: Path, lines: Path) -> list[str]:
    words = ["--bootstrap-servers", asked.bootstrap, "--topic", asked.wanted.topic, "--out", lines.as_uri()]
    for option, at_ms in (("--from-ms", asked.wanted.span.from_ms), ("--to-ms", asked.wanted.span.to_ms)):
        words += [] if at_ms is None else [option, str(at_ms)]
    for option, paths in (("--settings", asked.settings), ("--compare", asked.compare)):
        words += [option, *(str(path.absolute()) for path in paths)] if paths else []
    if asked.side.versions:
        file = folder / "versions.msgpack"
        file.write_bytes(msgspec.msgpack.encode([(key, *record) for key, record in asked.side.versions]))
        words += ["--versions", str(file.absolute())]
    if asked.cameras:
        words += ["--camera", *sorted(asked.cameras)]
    if asked.kafka_properties:
        words += ["--kafka-properties", str(asked.kafka_properties.absolute())]
    return words


def _await_end(stack: Stack, job_id: str, progress: Progress) -> None:
    """Wait until the job has finished, and show how it gets on."""
    step = f"job {job_id}"
    begun_s = time.monotonic()
    with progress.step(step):
        while (state := stack.job_state(job_id)) != "FINISHED":
            if state in ("FAILED", "CANCELED", "SUSPENDED"):
                reason = "\n".join(stack.flink.root_exception(job_id).splitlines()[:12])
                raise JobFailed(f"job {job_id} is {state}:\n{reason}", "see: sightflow logs")
            count = _taken(stack, job_id)
            rate_hz = count / max(time.monotonic() - begun_s, 1e-3)
            progress.detail(step, f"{count:,} frames, {rate_hz:,.0f} frames/s")
            time.sleep(_POLL_S)


def _taken(stack: Stack, job_id: str) -> int:
    """Return how many records have come to the stage since the job was last started."""
    vertices = stack.flink.job(job_id)["vertices"]
    return sum(v["metrics"]["read-records"] for v in vertices if OPERATOR in v["name"])


def _lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob(f"{_PREFIX}*/part-*")):
        file = unquote(path.parent.name.removeprefix(_PREFIX))
        with path.open("rb") as opened:
            for line in opened:
                yield file, line[:-1]
