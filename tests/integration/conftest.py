"""The real parts for every integration test of a run: one stack, started once, on free ports and in a folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightflow.stack import TASKMANAGER, Ports, Stack
from tests.integration.outcome import Outcome
from tests.integration.pipeline import Pipeline
from tests.integration.scenes import two_sites

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 600
"""Of one test, with the fixtures that it is the first to ask for; for broken programs, not a measure."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here as integration tests, with time enough for a busy machine."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Kafka, InfluxDB and Flink with one TaskManager. Tests leave it as they found it: no job runs, every server does.

    Set SIGHTFLOW_TEST_STACK to a folder to keep the stack and its logs after the run, and to use it again in the next.
    """
    for name in [n for n in os.environ if n.startswith("INFLUXDB_V2_")]:
        del os.environ[name]  # tests make and drop buckets: never on a server of the user's
    kept = os.environ.get("SIGHTFLOW_TEST_STACK")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="sightflow-test-"))
    known = Stack(folder)
    one = known if known.is_up() else Stack(folder, Ports.free())
    try:
        one.up()
        if known.is_up() and kept:  # what runs may have imported yesterday's code
            one.kill(TASKMANAGER)
            one.wait_ready(TASKMANAGER)
        yield one
    finally:
        if not kept:
            one.down()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pipeline(stack: Stack, tmp_path: Path) -> Iterator[Pipeline]:
    """Empty topics, an empty bucket and no job, for one test."""
    with Pipeline.fresh(stack, tmp_path) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def undisturbed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the suite makes of `two_sites()` when nothing goes wrong; it is compared with the truth in test_suite.py."""
    with Pipeline.fresh(stack, tmp_path_factory.mktemp("undisturbed")) as fresh:
        scene = two_sites()
        job = fresh.submit("suite", scene.sites)
        fresh.feed(scene.records())
        fresh.await_silence(scene.cameras)
        python_processes, libraries = fresh.python_inside_taskmanager()
        fresh.stop()
        outcome = fresh.collect()
        outcome.notes.update(
            failures=fresh.stack.job_exceptions(job), python_processes=python_processes, python_libraries=libraries
        )
        return outcome
