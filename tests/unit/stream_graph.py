"""Prints, as JSON, the operators that Flink would run for each job: job → uid → operator. Submits nothing.

A process of its own, as it needs a JVM: `FLINK_HOME=.local/flink python -m tests.unit.stream_graph`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import yaml
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from jobs import camera_stage, influx_writer, replay, suite
from sightflow.stack.flink_conf import SHARED_CONF_DIR, flatten

SETTINGS = ["--settings", "sites/demo.yaml"]
INFLUX = ["--influx-url", "http://127.0.0.1:1", "--influx-org", "o", "--influx-bucket", "b", "--influx-token-file", "t"]
JOBS: dict[str, tuple[Callable[[], None], list[str]]] = {
    "suite": (suite.main, [*SETTINGS, *INFLUX]),
    "camera_stage": (camera_stage.main, SETTINGS),
    "influx_writer": (influx_writer.main, INFLUX),
    "replay": (replay.main, [*SETTINGS, "--from-ms", "1", "--to-ms", "2", "--out", "file:///tmp/none"]),
}


def environment() -> StreamExecutionEnvironment:
    """Return an environment as `flink run` makes it: without it PyFlink reads no configuration file."""
    options = flatten(yaml.safe_load((SHARED_CONF_DIR / "config.yaml").read_text()))
    configuration = Configuration()
    for key, value in options.items():
        configuration.set_string(key, value)
    return _make_environment(configuration)


_make_environment = StreamExecutionEnvironment.get_execution_environment


def operators(env: StreamExecutionEnvironment) -> dict[str, str]:
    """Return uid → operator of what has been built, as Flink's own generator makes it. Raises where one has no uid."""
    graph = env._generate_stream_graph(clear_transformations=True, job_name="dry run")
    nodes: list[Any] = list(get_gateway().jvm.java.util.ArrayList(graph.getStreamNodes()))
    # The planner numbers its operators over the whole life of a process: "Calc[8]" is a Calc.
    named = [(node.getTransformationUID(), re.sub(r"\[\d+\]", "", node.getOperatorName())) for node in nodes]
    return dict(sorted(named))


def graph_of(main: Callable[[], None], arguments: list[str]) -> dict[str, str]:
    """Run a job's `main` up to where it would be submitted."""
    made: dict[str, str] = {}

    def execute(env: StreamExecutionEnvironment, name: str) -> None:
        made.update(operators(env))

    StreamExecutionEnvironment.execute = execute
    StreamExecutionEnvironment.get_execution_environment = staticmethod(environment)
    sys.argv = ["job.py", *arguments]
    main()
    return made


def refusal_without_uid() -> str:
    """Return what Flink says of an operator without a uid; '' if it takes it."""
    env = environment()
    env.from_collection([1]).map(str).print()
    try:
        operators(env)
    except Exception as refused:  # noqa: BLE001 - whatever Java raised
        return "\n".join(str(refused).splitlines()[:2])
    return ""


if __name__ == "__main__":
    graphs = {name: graph_of(main, arguments) for name, (main, arguments) in JOBS.items()}
    json.dump({"jobs": graphs, "without_uid": refusal_without_uid()}, sys.stdout, indent=1)
