"""The same figures leave the same database, in whatever order cameras come and however often batches are repeated."""

from __future__ import annotations

import random
from collections.abc import Iterable
from uuid import uuid4

import pytest

from operators.influx.line_protocol import line
from operators.influx.writer import InfluxTarget, Writer
from operators.stages.stage import Output
from schemas import topics
from schemas.wire import Figures, decode
from tests.integration.outcome import Points, read_points
from tests.integration.pipeline import Pipeline
from tests.unit.operators.scenes import feed, noisy_scene

CAMERAS = 4


@pytest.fixture(scope="module")
def batches() -> list[list[list[str]]]:
    """Lines of each message of `figures`, by camera: four scenes with a loss of the source and a late frame in each."""
    return [_batches(n) for n in range(CAMERAS)]


def _batches(n: int) -> list[list[str]]:
    scene = noisy_scene(n, duration_s=40.0)
    half = len(scene.records) // 2
    logic, late = scene.fresh(), scene.records[half // 2]
    out: list[Output] = feed(logic, [r for r in scene.records[:half] if r != late])
    out += logic.on_silence() + feed(logic, scene.records[half:]) + feed(logic, [late])
    figures = [decode(o.value, Figures) for o in out if o.topic == topics.FIGURES]
    return [[line(p).replace("camera=cam-000", f"camera=cam-{n}") for p in f.points] for f in figures]


def _written(pipeline: Pipeline, lines: Iterable[list[str]]) -> Points:
    influx = pipeline.stack.influx
    pipeline.bucket = f"test-{uuid4().hex[:12]}"
    pipeline._make_bucket()
    writer = Writer(InfluxTarget(influx.url, influx.org, pipeline.bucket, str(influx.token_file)))
    for batch in lines:
        assert writer.write(batch) == []
    writer.close()
    return read_points(influx, pipeline.bucket)


def _disturbed(batches: list[list[list[str]]], chance: random.Random) -> list[list[str]]:
    """Mix cameras, keep each one's own order, and after crashes repeat what came since a checkpoint; batches are cut anew."""
    at, checkpoint, written = [0] * len(batches), [0] * len(batches), []
    while any(n < len(b) for n, b in zip(at, batches, strict=True)):
        camera = chance.choice([c for c, n in enumerate(at) if n < len(batches[c])])
        written.append(batches[camera][at[camera]])
        at[camera] += 1
        if chance.random() < 0.05:
            checkpoint = list(at)
        if chance.random() < 0.05:
            at = list(checkpoint)
    return [
        piece
        for batch in written
        for piece in ([batch[: len(batch) // 2], batch[len(batch) // 2 :]] if chance.random() < 0.5 else [batch])
        if piece
    ]


def test_other_orders_and_repeats_leave_the_same_database(
    pipeline: Pipeline, batches: list[list[list[str]]]
) -> None:
    golden = _written(pipeline, (b for mine in batches for b in mine))
    assert len({k.measurement for k in golden}) == 12
    assert any(f.get("revision", 0) > 0 for f in golden.values())
    for seed in range(2):
        disturbed = _disturbed(batches, random.Random(seed))
        assert sum(map(len, disturbed)) > sum(len(b) for mine in batches for b in mine)
        assert _written(pipeline, disturbed) == golden
