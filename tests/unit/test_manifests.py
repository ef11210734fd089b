"""The Kubernetes manifest and the Grafana dashboard agree with the code that they speak of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightflow.places import Local

ROOT = Path(__file__).resolve().parents[2]


def _deployment() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "k8s/flinkdeployment.yaml").read_text())  # type: ignore[no-any-return]


def test_the_manifest_sets_no_flink_option_otherwise_than_the_shared_file() -> None:
    shared = yaml.safe_load((ROOT / "flink-conf/config.yaml").read_text())
    own = {
        "execution.checkpointing.dir",
        "execution.checkpointing.savepoint-dir",
        "high-availability.type",
        "high-availability.storageDir",
        "kubernetes.operator.job.restart.failed",
        "web.submit.enable",
    }
    options = _deployment()["spec"]["flinkConfiguration"]
    for name, value in options.items():
        if name not in own:
            assert str(shared[name]).lower() == str(value).lower(), name


def test_the_manifests_arguments_are_what_the_job_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    options = pytest.importorskip("jobs.options", reason="needs the jobs environment (PyFlink)")
    args = _deployment()["spec"]["job"]["args"]
    assert args[args.index("-pym") + 1] == "jobs.suite"
    own = args[args.index("jobs.suite") + 1 :]
    own[own.index("--settings") + 1] = str(ROOT / "sites/demo.yaml")
    parsed = options.parse("", settings=True, influx=True, argv=own)
    assert parsed.influx.token_file == "/run/secrets/sightflow/influx-token"


@pytest.mark.parametrize("path", ["k8s/Dockerfile", "docs/runbook.md"])
def test_flink_elsewhere_is_told_of_all_jars_that_ours_has(path: str) -> None:
    text = (ROOT / path).read_text()
    for jar in (Local.find().operator_jar.name, "flink-python-", "flink-sql-connector-kafka-"):
        assert jar in text


def test_the_dashboard_asks_for_measurements_and_fields_that_the_stage_writes() -> None:
    from operators.counters import CounterWindow
    from operators.heat_map import HeatReport
    from operators.stages import camera_figures
    from operators.windows import Report, SlidingReport, Span

    places = {"zone": "p", "tripwire": "p", "object": "", "flow": "p q"}
    spans = [Span(0, (kind, place, "person")) for kind, place in places.items()]
    points = camera_figures.window_points("s", "c", Report(0, 0, True, spans, [0] * camera_figures.TALLIES))
    points += camera_figures.heat_points("s", "c", HeatReport(0, 0, True, 1, {0: 1}))
    points += camera_figures.sliding_points("s", "c", SlidingReport(0, 30_000_000, 0, True, spans[:3]))
    interval = CounterWindow("shop", 0, 60_000_000, 1, 0, 0, 1, 0, 0, 1, 1, 0, True)
    points.append(camera_figures.counter_point("s", "c", interval))
    names = {p.measurement: set(p.fields) | set(p.tags) for p in points}
    names["visit"] = {"dwell_s", "born_inside", "subject", "camera", "class", "site", "zone"}
    names["alert"] = {
        "value", "reason", "severity", "cause", "zone", "tripwire", "subject", "acknowledged_by", "alert_id",
        "transition", "camera", "site", "rule", "rule_type",
    }  # fmt: skip
    dashboard = json.loads((ROOT / "dashboards/site.json").read_text())
    queries = [t["query"] for p in dashboard["panels"] for t in p["targets"]]
    assert len(queries) > 10
    assert {"counter", "heat_map", "flow_window", "zone_sliding"} <= {
        re.findall(r'FROM "(\w+)"', q)[0] for q in queries
    }
    for query in queries:
        found = re.search(r'FROM "(\w+)"', query)
        assert found, query
        used = set(re.findall(r'"(\w+)"', query)) - {found[1]}
        assert used <= names[found[1]], query
