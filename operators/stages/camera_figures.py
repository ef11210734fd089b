"""The camera stage's InfluxDB points. Measurements, tags and fields are listed in docs/influxdb.md.

Every point of a measurement has all its fields, so that a later revision replaces an earlier one whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from operators.counters import CounterWindow
from operators.heat_map import HeatReport
from operators.windows import Report, SlidingReport, Span
from operators.zones import Visit
from schemas.wire import AlertTransition, Point

ENTERED, BORN_INSIDE, EXITED, LEFT, RIGHT = range(5)  # what windows count per series
FRAMES, DETECTIONS, DUPLICATES, MISSING, REFUSED, LATE, UNTRACKED, REFUSED_CHANGES, REFUSED_ALERTS, REFUSED_PAIRS = (
    range(10)
)
TALLIES = 10
"""What they tally per camera."""

Fields = dict[str, bool | int | float | str]


def flow_place(from_zone: str, to_zone: str) -> str:
    """Return what names a flow among the series of windows; names of zones hold no spaces."""
    return f"{from_zone} {to_zone}"


def window_points(site: str, camera: str, report: Report) -> list[Point]:
    """Return the points of one tumbling window, stamped with its start."""
    at_ns = report.start_us * 1000
    stamp: Fields = {"revision": report.revision, "complete": report.complete}
    t = report.tally
    frames: Fields = {
        "frame_count": t[FRAMES],
        "detection_count": t[DETECTIONS],
        "duplicate_count": t[DUPLICATES],
        "missing_count": t[MISSING],
        "refused_count": t[REFUSED],
        "late_count": t[LATE],
        "refused_change_count": t[REFUSED_CHANGES],
        "untracked_count": t[UNTRACKED],
        "refused_alert_count": t[REFUSED_ALERTS],
        "refused_pair_count": t[REFUSED_PAIRS],
    }
    tags = {"camera": camera, "site": site}
    points = [Point("camera_window", tags, at_ns, frames | stamp)]
    return points + _span_points(site, camera, report.spans or [], "window", {}, at_ns, stamp)


def heat_points(site: str, camera: str, report: HeatReport) -> list[Point]:
    """Return the points of one period of a heat map, stamped with its start; cells are set apart by ns."""
    tags, at_ns = {"camera": camera, "site": site}, report.start_us * 1000
    stamp: Fields = {"revision": report.revision, "complete": report.complete}
    points = []
    for cell, us in sorted(report.cells_us.items()):
        row, column = divmod(cell, report.columns)
        fields: Fields = {"row": row, "column": column, "seconds": round(us * 1e-6, 6)}
        points.append(Point("heat_map", tags, at_ns + cell, fields | stamp))
    return points


def sliding_points(site: str, camera: str, report: SlidingReport) -> list[Point]:
    """Return the points of one sliding window, stamped with its start; `window` is its length."""
    stamp: Fields = {"revision": report.revision, "complete": report.complete}
    window = {"window": f"{report.length_us * 1e-6:g}s"}
    return _span_points(site, camera, report.spans, "sliding", window, report.start_us * 1000, stamp)


def _span_points(
    site: str, camera: str, spans: Sequence[Span], suffix: str, window: dict[str, str], at_ns: int, stamp: Fields
) -> list[Point]:
    points = []
    for span in spans:
        kind, place, label = span.key
        tags = {"camera": camera, "class": label, "site": site, **window}
        if kind == "zone":
            tags, fields = tags | {"zone": place}, _zone_fields(span)
        elif kind == "tripwire":
            tags = tags | {"tripwire": place}
            fields = {"left_count": span.counts.get(LEFT, 0), "right_count": span.counts.get(RIGHT, 0)}
        elif kind == "flow":
            from_zone, to_zone = place.split(" ")
            tags, fields = tags | {"from": from_zone, "to": to_zone}, _flow_fields(span)
        else:
            fields = _object_fields(span)
        points.append(Point(f"{kind}_{suffix}", tags, at_ns, fields | stamp))
    return points


def _zone_fields(s: Span) -> Fields:
    p50, p90, p95, p99 = s.dwell_s
    speed_p50, speed_p85 = s.speed_mps
    return {
        "enter_count": s.counts.get(ENTERED, 0),
        "born_inside_count": s.counts.get(BORN_INSIDE, 0),
        "exit_count": s.counts.get(EXITED, 0),
        "occupancy_min": s.level_min,
        "occupancy_mean": round(s.level_mean, 6),
        "occupancy_max": s.level_max,
        "occupancy": s.level_end,
        "visit_count": s.ended_count,
        "dwell_sum_s": round(s.dwell_sum_s, 6),
        "dwell_max_s": round(s.dwell_max_s, 6),
        "dwell_p50_s": round(p50, 6),
        "dwell_p90_s": round(p90, 6),
        "dwell_p95_s": round(p95, 6),
        "dwell_p99_s": round(p99, 6),
        "speed_count": s.speed_count,
        "speed_mean_mps": round(s.speed_mean_mps, 6),
        "speed_max_mps": round(s.speed_max_mps, 6),
        "speed_p50_mps": round(speed_p50, 6),
        "speed_p85_mps": round(speed_p85, 6),
    }


def _flow_fields(s: Span) -> Fields:
    return {
        "count": s.ended_count,
        "transit_sum_s": round(s.dwell_sum_s, 6),
        "transit_mean_s": round(s.dwell_sum_s / s.ended_count, 6) if s.ended_count else 0.0,
        "transit_max_s": round(s.dwell_max_s, 6),
    }


def _object_fields(s: Span) -> Fields:
    return {
        "seen_count": s.seen_count,
        "present_min": s.level_min,
        "present_mean": round(s.level_mean, 6),
        "present_max": s.level_max,
    }


def counter_point(site: str, camera: str, w: CounterWindow) -> Point:
    """Return the point of one interval of a counter, stamped with its start."""
    fields: Fields = {
        "in_count": w.in_count,
        "out_count": w.out_count,
        "correction_count": w.correction_count,
        "in_total": w.in_total,
        "out_total": w.out_total,
        "correction_total": w.correction_total,
        "occupancy": w.occupancy,
        "occupancy_max": w.occupancy_max,
        "revision": w.revision,
        "complete": w.complete,
    }
    return Point("counter", {"camera": camera, "counter": w.counter, "site": site}, w.start_us * 1000, fields)


def visit_point(site: str, camera: str, zone: str, label: str, subject: str, visit: Visit, dwell_s: float) -> Point:
    """Return the point of one ended visit, stamped with its end; ends in one microsecond are set apart by ns."""
    tags = {"camera": camera, "class": label, "site": site, "zone": zone}
    fields: Fields = {"dwell_s": round(dwell_s, 6), "born_inside": bool(visit.born_inside), "subject": subject}
    return Point("visit", tags, visit.at_us * 1000 + visit.ordinal % 1000, fields)


def alert_point(t: AlertTransition) -> Point:
    """Return the point of one alert transition; alerts of several subjects at one time are set apart by ns."""
    tags = {"camera": t.camera, "rule": t.rule, "rule_type": t.rule_type, "site": t.site, "transition": t.transition}
    is_pair = "+" in t.alert_id.rsplit("/", 2)[-2]
    named = t.subjects if is_pair or len(t.subjects) == 1 else ()
    number = 0
    for subject in named:
        number = 31 * number + int(subject.rsplit("/", 1)[-1])
    fields: Fields = {
        "alert_id": t.alert_id,
        "zone": t.zone,
        "subject": " ".join(named),
        "class": t.label,
        "value": t.value,
        "start_us": t.start_us,
        "rule_version": t.rule_version,
        "reason": t.reason,
        "severity": t.severity,
        "cause": t.cause,
        "incident": t.incident,
        "tripwire": t.tripwire,
        "subject_count": t.subject_count,
        "acknowledged_by": t.acknowledged_by,
        "muted": t.muted,
        "off_hours": t.off_hours,
    }
    return Point("alert", tags, t.at_us * 1000 + number % 1000, fields)
