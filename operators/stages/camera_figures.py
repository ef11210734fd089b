"""The camera stage's InfluxDB points. Measurements, tags and fields are listed in docs/influxdb.md.

Every point of a measurement has all its fields, so that a later revision replaces an earlier one whole.
"""

from __future__ import annotations

from operators.windows import Report, Span
from operators.zones import Visit
from schemas.wire import AlertTransition, Point

ENTERED, BORN_INSIDE, EXITED, LEFT, RIGHT = range(5)  # what windows count per series
FRAMES, DETECTIONS, DUPLICATES, MISSING, REFUSED, UNTRACKED = range(6)  # what they tally per camera
TALLIES = 6

Fields = dict[str, bool | int | float | str]


def window_points(site: str, camera: str, report: Report) -> list[Point]:
    """Return the points of one window, stamped with its start."""
    at_ns = report.start_us * 1000
    stamp: Fields = {"revision": report.revision, "complete": report.complete}
    t = report.tally
    frames: Fields = {
        "frame_count": t[FRAMES],
        "detection_count": t[DETECTIONS],
        "duplicate_count": t[DUPLICATES],
        "missing_count": t[MISSING],
        "refused_count": t[REFUSED],
        "untracked_count": t[UNTRACKED],
    }
    points = [Point("camera_window", {"camera": camera, "site": site}, at_ns, frames | stamp)]
    for span in report.spans:
        kind, place, label = span.key
        tags = {"camera": camera, "class": label, "site": site}
        if kind == "zone":
            points.append(Point("zone_window", tags | {"zone": place}, at_ns, _zone_fields(span) | stamp))
        elif kind == "tripwire":
            counts: Fields = {"left_count": span.counts.get(LEFT, 0), "right_count": span.counts.get(RIGHT, 0)}
            points.append(Point("tripwire_window", tags | {"tripwire": place}, at_ns, counts | stamp))
        else:
            points.append(Point("object_window", tags, at_ns, _object_fields(span) | stamp))
    return points


def _zone_fields(s: Span) -> Fields:
    return {
        "enter_count": s.counts.get(ENTERED, 0),
        "born_inside_count": s.counts.get(BORN_INSIDE, 0),
        "exit_count": s.counts.get(EXITED, 0),
        "occupancy_min": s.level_min,
        "occupancy_mean": round(s.level_mean, 6),
        "occupancy_max": s.level_max,
        "visit_count": s.ended_count,
        "dwell_sum_s": round(s.dwell_sum_s, 6),
        "dwell_max_s": round(s.dwell_max_s, 6),
    }


def _object_fields(s: Span) -> Fields:
    return {
        "seen_count": s.seen_count,
        "present_min": s.level_min,
        "present_mean": round(s.level_mean, 6),
        "present_max": s.level_max,
    }


def visit_point(site: str, camera: str, zone: str, label: str, subject: str, visit: Visit, dwell_s: float) -> Point:
    """Return the point of one ended visit, stamped with its end; ends in one microsecond are set apart by ns."""
    tags = {"camera": camera, "class": label, "site": site, "zone": zone}
    fields: Fields = {"dwell_s": round(dwell_s, 6), "born_inside": bool(visit.born_inside), "subject": subject}
    return Point("visit", tags, visit.at_us * 1000 + visit.ordinal % 1000, fields)


def alert_point(t: AlertTransition) -> Point:
    """Return the point of one alert transition; alerts of several subjects at one time are set apart by ns."""
    tags = {"camera": t.camera, "rule": t.rule, "rule_type": t.rule_type, "site": t.site, "transition": t.transition}
    subject = t.subjects[0] if len(t.subjects) == 1 else ""
    ordinal = int(subject.rsplit("/", 1)[-1]) if subject else 0
    fields: Fields = {
        "alert_id": t.alert_id,
        "zone": t.zone,
        "subject": subject,
        "class": t.label,
        "value": t.value,
        "start_us": t.start_us,
        "rule_version": t.rule_version,
        "reason": t.reason,
    }
    return Point("alert", tags, t.at_us * 1000 + ordinal % 1000, fields)
