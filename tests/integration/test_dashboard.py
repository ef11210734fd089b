"""Every query of the Grafana dashboard finds what the camera stage writes, in a real InfluxDB, asked as Grafana asks."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from operators.counters import CounterWindow
from operators.heat_map import HeatReport
from operators.influx.line_protocol import line
from operators.influx.writer import InfluxTarget, Writer
from operators.stages import camera_figures as figures
from operators.windows import Report, SlidingReport, Span
from operators.zones import Visit, Zones
from schemas.ids import alert_id, transition_id
from schemas.wire import AlertTransition, Point
from tests.integration.pipeline import Pipeline

DASHBOARD = Path(__file__).resolve().parents[2] / "dashboards" / "site.json"
AT_US = 1_700_000_000_000_000
ALERT = alert_id("s", "r", 1, "c", "p", "-", AT_US)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _points() -> list[Point]:
    places = {"zone": "p", "tripwire": "p", "object": "", "flow": "p q"}
    spans = [
        Span(
            AT_US, (kind, place, "person"), level_mean=0.5, level_max=1, ended_count=1, dwell_sum_s=4.0, dwell_max_s=4.0,
            dwell_s=(4.0,) * 4,
        )
        for kind, place in places.items()
    ]  # fmt: skip
    visit = Visit(Zones.EXIT, 0, 0, 7, AT_US, AT_US, AT_US + 4_000_000, 0, 0)
    alert = AlertTransition(
        id=transition_id(ALERT, "open", 0), alert_id=ALERT, transition="open", site="s", camera="c", rule="r", rule_version=1,
        rule_type="crowding", start_us=AT_US, at_us=AT_US, reason="3 inside",
    )  # fmt: skip
    return [
        *figures.window_points("s", "c", Report(AT_US, 0, True, spans, [1] * figures.TALLIES)),
        *figures.heat_points("s", "c", HeatReport(AT_US, 0, True, 4, {5: 1_500_000})),
        *figures.sliding_points("s", "c", SlidingReport(AT_US, 300_000_000, 0, True, spans[:3])),
        figures.counter_point(
            "s", "c", CounterWindow("shop", AT_US, AT_US + 60_000_000, 2, 1, 0, 2, 1, 0, 1, 2, 0, True)
        ),
        figures.visit_point("s", "c", "p", "person", "s/c/1/7", visit, 4.0),
        figures.alert_point(alert),
    ]


def _ask(pipeline: Pipeline, query: str) -> Any:
    influx = pipeline.stack.influx
    request = urllib.request.Request(
        f"{influx.url}/query?" + urllib.parse.urlencode({"db": pipeline.bucket, "q": query}),
        headers={"Authorization": "Token " + influx.token_file.read_text().strip()},
    )
    with _DIRECT.open(request, timeout=30) as response:
        return json.load(response)["results"][0]


def _filled(query: str) -> str:
    """Put values where Grafana puts them."""
    values = {
        "$timeFilter": f"time >= {AT_US - 60_000_000}u AND time < {AT_US + 60_000_000}u",
        "$__interval": "10s",
        "$site": ".*",
        "$camera": ".*",
        "$zone": ".*",
    }
    for name, value in values.items():
        query = query.replace(name, value)
    return query


def test_every_query_of_the_dashboard_finds_what_the_stage_writes(pipeline: Pipeline) -> None:
    influx = pipeline.stack.influx
    writer = Writer(InfluxTarget(influx.url, influx.org, pipeline.bucket, str(influx.token_file)))
    assert writer.write([line(p) for p in _points()]) == []
    writer.close()
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [t["query"] for p in dashboard["panels"] for t in p["targets"]]
    queries += [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    queries += [a["query"] for a in dashboard["annotations"]["list"]]
    assert len(queries) > 15
    for query in queries:
        answer = _ask(pipeline, _filled(query))
        assert answer.get("series"), f"{query}: {answer}"
