"""What InfluxDB holds of one camera in one span of time, queried back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from schemas.settings import Camera
from sightflow.errors import SightflowError
from sightflow.report.records import Span
from sightflow.stack.influx import InfluxTarget

Row = dict[str, Any]
"""One point: its tags and fields by name, and `at_us`."""

_TIMEOUT_MS = 30_000
_WINDOWS = ("camera_window", "flow_window", "object_window", "tripwire_window", "zone_window")


@dataclass
class Points:
    """Points by measurement, oldest first. Windows are stamped with their start, visits with their end."""

    camera_windows: list[Row] = field(default_factory=list)
    object_windows: list[Row] = field(default_factory=list)
    tripwire_windows: list[Row] = field(default_factory=list)
    zone_windows: list[Row] = field(default_factory=list)
    flow_windows: list[Row] = field(default_factory=list)
    heat_cells: list[Row] = field(default_factory=list)
    visits: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)


def query_points(target: InfluxTarget, camera: Camera, span: Span, window_s: float) -> Points:
    """Query the points of `camera`: windows and periods of the heat map that overlap the span, visits and alerts inside it.

    Raises:
        SightflowError: the server does not answer, or refuses.
    """

    def points(measurement: str, length_s: float = 0.0) -> list[Row]:
        early_us = span.since_us % round(length_s * 1e6) if length_s else 0
        return query(target, flux(target.bucket, measurement, camera.id, Span(span.since_us - early_us, span.until_us)))

    windows = {name: points(name, window_s) for name in _WINDOWS}
    return Points(
        camera_windows=windows["camera_window"],
        object_windows=windows["object_window"],
        tripwire_windows=windows["tripwire_window"],
        zone_windows=windows["zone_window"],
        flow_windows=windows["flow_window"],
        heat_cells=points("heat_map", camera.heat_map.report_s) if camera.heat_map else [],
        visits=points("visit"),
        alerts=points("alert"),
    )


def flux(bucket: str, measurement: str, camera: str, span: Span) -> str:
    """Return the Flux query of one measurement: one row a point, one column a field."""
    return (
        f"from(bucket: {_text(bucket)})"
        f" |> range(start: time(v: {span.since_us * 1000}), stop: time(v: {span.until_us * 1000}))"
        f" |> filter(fn: (r) => r._measurement == {_text(measurement)} and r.camera == {_text(camera)})"
        ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        ' |> group() |> sort(columns: ["_time"])'
    )


def _text(text: str) -> str:
    """Return a Flux string literal; `${` would start an interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


def query(target: InfluxTarget, text: str) -> list[Row]:
    """Run one Flux query. Raises SightflowError."""
    from influxdb_client import InfluxDBClient
    from influxdb_client.rest import ApiException
    from urllib3.exceptions import HTTPError

    try:
        with InfluxDBClient(url=target.url, token=target.token(), org=target.org, timeout=_TIMEOUT_MS) as client:
            tables = client.query_api().query(text)
    except (ApiException, HTTPError, OSError) as error:
        reason = getattr(error, "message", None) or error
        raise SightflowError(
            f"InfluxDB at {target.url} did not answer the query: {reason}",
            f"is it up, and may the token in {target.token_file} read the bucket {target.bucket!r}?",
        ) from error
    return [_row(record.values, record.get_time()) for table in tables for record in table.records]


def _row(values: Row, at: Any) -> Row:
    kept = {
        name: value for name, value in values.items() if not name.startswith("_") and name not in ("result", "table")
    }
    kept["at_us"] = round(at.timestamp() * 1e6)
    return kept
