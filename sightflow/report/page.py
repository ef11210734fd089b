"""The report page: one self-contained HTML file, without scripts and without anything fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from schemas.rules import Crowding, Loitering
from schemas.settings import Camera
from schemas.wire import Event, TrackFrame
from sightflow.report import drawing
from sightflow.report.moments import Moment, all_trails
from sightflow.report.outcome import SOURCE_LOST, Incident, Latency, Outcome, Visits

MAX_SUBJECTS = 12
MAX_TRAIL_FRAMES = 6000


@dataclass(frozen=True)
class Shot:
    """One moment with its picture; `jpeg` is None where no footage shows it."""

    moment: Moment
    jpeg: bytes | None


@dataclass(frozen=True)
class Material:
    """What the page is made of. `events` and `tracks` are distinct and in order of time."""

    outcome: Outcome
    camera: Camera
    events: Sequence[Event] = ()
    tracks: Sequence[TrackFrame] = ()
    shots: Sequence[Shot] = field(default=())


def render(material: Material) -> str:
    """Return the page as HTML text."""
    environment = Environment(
        loader=PackageLoader("sightflow", "report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(_context(material))


def _context(m: Material) -> dict[str, Any]:
    o = m.outcome
    return {
        "o": o,
        "day": drawing.clock(o.since_us, o.timezone, "%-d %B %Y"),
        "clock": lambda at_us: drawing.clock(at_us, o.timezone),
        "tiles": _tiles(o),
        **_shots(m),
        "occupancy_charts": _occupancy_charts(m),
        "crossings": _crossings(o),
        "visits": [_visit(v, m.camera) for v in o.visits],
        "heat": _heat(m),
        "flows": o.flows,
        "incidents": [_incident(i, o) for i in o.incidents],
        "pipeline": _pipeline(o),
        "windows": [_window(w, o.timezone) for w in o.windows],
        "versions": sorted(o.versions.items()),
    }


# --- at a glance ---------------------------------------------------------------------------------------------------


def _tiles(o: Outcome) -> list[dict[str, str]]:
    left, right = sum(c.left_count for c in o.crossings), sum(c.right_count for c in o.crossings)
    visits = sum(v.count for v in o.visits)
    dwell_s = sum(sum(v.dwells_s) for v in o.visits)
    most = max((c.max_count for c in o.occupancy), default=0)
    alerts = [i for i in o.incidents if i.rule_type != SOURCE_LOST]
    rules = ", ".join(f"{sum(i.rule == r for i in alerts)} {r}" for r in dict.fromkeys(i.rule for i in alerts))
    return [
        _tile("Objects seen", sum(o.objects.values()), ", ".join(f"{n} {label}" for label, n in o.objects.items()) or "none"),
        _tile("Crossings", left + right, f"{left} left, {right} right"),
        _tile("Mean dwell", f"{dwell_s / visits:.1f} s" if visits else "–", f"over {visits} visits"),
        _tile("Most inside", most, "at one time"),
        _tile("Alerts", len(alerts), rules or "none"),
        _tile("Detection to alert", f"{o.detection_to_alert.p50_ms:.0f} ms" if o.detection_to_alert.count else "–",
              f"median; p99 {o.detection_to_alert.p99_ms:.0f} ms" if o.detection_to_alert.count else "no alert by a frame"),
        _tile("Frames per second", f"{o.frames.fps:.1f}", f"{o.frames.track_count} frames"),
        _tile("Frames lost", o.frames.lost_count, f"{o.frames.duplicate_count} doubled"),
    ]  # fmt: skip


def _tile(name: str, value: object, note: str) -> dict[str, str]:
    return {"name": name, "value": str(value), "note": note}


# --- pictures ------------------------------------------------------------------------------------------------------


def _shots(m: Material) -> dict[str, Any]:
    zone = m.outcome.timezone
    pictured = [s for s in m.shots if s.jpeg is not None]
    key = "Solid box: seen in this frame. Dashed: expected by the tracker, not seen. Red: who the alert is about. "
    key += "Lines: where each one’s feet were in the last 8 s."
    if pictured:
        shots = [_shot(s, m.camera, zone) for s in pictured]
        return {"shots": shots, "shots_title": "Moments, on the frames themselves", "shots_key": key}
    if not m.shots:
        return {"shots": [], "shots_title": "", "shots_key": ""}
    shots = [_map(m)] + [_shot(s, m.camera, zone) for s in m.shots]
    missing = " Without the footage and its push log the frames themselves cannot be shown: video stays at the site."
    return {"shots": shots, "shots_title": "Moments, drawn from the tracks", "shots_key": key + missing}


def _shot(shot: Shot, camera: Camera, zone: str) -> dict[str, Any]:
    when = drawing.clock(shot.moment.capture_us, zone)
    seen = sum(not b.predicted for b in shot.moment.boxes)
    inside = "; ".join(f"{n} inside {name}" for name, n in shot.moment.inside.items())
    alt = f"Frame at {when}: {shot.moment.title}. {seen} objects in view" + (f"; {inside}." if inside else ".")
    svg = drawing.picture(shot.moment, camera, shot.jpeg, alt)
    return {"svg": Markup(svg), "time": when, "caption": _sentence(shot.moment.title)}


def _map(m: Material) -> dict[str, Any]:
    trails = all_trails(list(m.tracks[-MAX_TRAIL_FRAMES:]))
    last = m.shots[-1].moment
    alt = f"Map of the ways of {len(trails)} tracks over the whole span, on a blank frame"
    svg = drawing.trail_map(trails, last, m.camera, alt)
    return {"svg": Markup(svg), "time": "", "caption": f"All {len(trails)} ways"}


def _heat(m: Material) -> dict[str, Any] | None:
    grid, cells = m.camera.heat_map, m.outcome.heat
    if grid is None or not cells or not m.tracks:
        return None
    cells = tuple(
        c for c in cells if c[0] < grid.rows and c[1] < grid.columns
    )  # of another grid before a change of settings
    last = m.tracks[-1]
    blank = Moment(last.capture_us, "", last.width_px, last.height_px, (), {}, {})
    jpeg = next((s.jpeg for s in m.shots if s.jpeg is not None), None)
    most_s = max((seconds for _, _, seconds in cells), default=0.0)
    total_s = sum(seconds for _, _, seconds in cells)
    alt = f"Heat map: {total_s:.0f} object-seconds in {len(cells)} of {grid.rows * grid.columns} cells, at most {most_s:.1f} in one"
    svg = drawing.heat_picture(grid, cells, blank, m.camera, jpeg, alt)
    return {"svg": Markup(svg), "most": most_s, "total": total_s, "on_ground": grid.plane == "ground"}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- charts --------------------------------------------------------------------------------------------------------


def _occupancy_charts(m: Material) -> list[dict[str, Any]]:
    return [_occupancy_chart(m, curve.zone) for curve in m.outcome.occupancy]


def _occupancy_chart(m: Material, zone: str) -> dict[str, Any]:
    o = m.outcome
    curve = next(c for c in o.occupancy if c.zone == zone)
    thresholds = [(r.id, float(r.count)) for r in m.camera.rules if isinstance(r, Crowding) and r.zone == zone]
    incidents = [i for i in o.incidents if i.zone == zone]
    crossings = [(e.at_us, e.direction) for e in m.events if e.kind == "crossing"]
    alt = f"Number of people inside {zone} over time: mean {curve.mean_count:.1f}, at most {curve.max_count}, {len(incidents)} alerts"
    svg = drawing.occupancy_chart(curve, o.since_us, o.until_us, thresholds, incidents, crossings, o.timezone, alt)
    return {
        "zone": zone, "svg": Markup(svg), "mean": curve.mean_count, "max": curve.max_count, "crossings": bool(crossings),
    }  # fmt: skip


def _crossings(o: Outcome) -> list[dict[str, Any]]:
    most = max([n for c in o.crossings for n in (c.left_count, c.right_count)], default=0) or 1
    return [
        {
            "tripwire": c.tripwire, "label": c.label, "left": c.left_count, "right": c.right_count,
            "left_share": round(100 * c.left_count / most), "right_share": round(100 * c.right_count / most),
        }
        for c in o.crossings
    ]  # fmt: skip


def _visit(v: Visits, camera: Camera) -> dict[str, Any]:
    rule = next((r for r in camera.rules if isinstance(r, Loitering) and r.zone == v.zone), None)
    mark = (rule.id, rule.since_s) if rule else None
    alt = (
        f"Distribution of {v.count} dwell times in {v.zone}: mean {v.mean_dwell_s:.1f} s, longest {v.max_dwell_s:.1f} s"
    )
    svg = drawing.dwell_chart(v.dwells_s, mark, alt)
    return {
        "zone": v.zone, "label": v.label, "count": v.count, "mean": v.mean_dwell_s, "max": v.max_dwell_s,
        "born_inside": v.born_inside_count, "svg": Markup(svg),
    }  # fmt: skip


# --- tables --------------------------------------------------------------------------------------------------------


def _incident(i: Incident, o: Outcome) -> dict[str, Any]:
    def at(us: int) -> str:
        return drawing.clock(us, o.timezone)

    opened = f"opened {at(i.open_us)}" if i.open_us else "opened before this span"
    closed = (
        f"closed {at(i.close_us)} ({i.close_reason}), {(i.close_us - i.start_us) / 1e6:.1f} s in all"
        if i.close_us
        else "still open"
    )
    names = [f"#{s.rsplit('/', 1)[-1]}" for s in i.subjects[:MAX_SUBJECTS]]
    more = len(i.subjects) - len(names)
    return {
        "rule": i.rule, "rule_type": i.rule_type, "zone": i.zone, "tripwire": i.tripwire, "severity": i.severity,
        "acknowledged_by": i.acknowledged_by, "reason": _sentence(i.reason) or "–",
        "when": f"condition since {at(i.start_us)} · {opened} · {closed}",
        "thresholds": thresholds_text(i.thresholds),
        "subjects": ", ".join(names) + (f" and {more} more" if more > 0 else ""),
        "evidence": f"{o.camera}, {at(i.evidence_from_us)} to {at(i.evidence_to_us)}",
        "latency": f"{i.latency_ms:.0f} ms" if i.latency_ms is not None else "",
        "alert_id": i.alert_id, "rule_version": i.rule_version, "settings": i.settings, "model_sha": i.model_sha,
    }  # fmt: skip


def thresholds_text(thresholds: Mapping[str, float]) -> str:
    """Return thresholds in words, with units: {'count': 4.0, 'hold_s': 2.0} → 'count 4, hold 2 s'."""
    units = {"s": " s", "m": " m", "mps": " m/s", "deg": "°", "sd": " deviations"}
    parts = ((*name.rpartition("_"), value) for name, value in thresholds.items())
    return ", ".join(
        f"{name} {value:g}{units[unit]}" if name and unit in units else f"{name}{line}{unit} {value:g}"
        for name, line, unit, value in parts
    )


def _pipeline(o: Outcome) -> list[dict[str, str]]:
    f = o.frames
    rows: list[tuple[str, str, str]] = []
    if f.captured_count is not None:
        dropped = ", ".join(f"{n} {reason}" for reason, n in f.dropped.items())
        rows += [
            (
                "captured by the agent",
                str(f.captured_count),
                f"{f.skipped_count} not looked at by sampling, {dropped or 0} dropped",
            ),
            ("sent by the agent", str(f.sent_count), "its own count, from its heartbeats"),
        ]
    rows += [
        ("on topic detections", str(f.detection_count), f"distinct (boot, seq); {f.resent_count} sent again and removed"),
        ("on topic tracks", str(f.track_count), f"distinct (boot, seq); {f.duplicate_count} doubled"),
        ("lost from end to end", str(f.lost_count), "sent, but not on tracks"),
        ("dead letters", str(sum(f.dead_letters.values())), ", ".join(f"{n} {r}" for r, n in f.dead_letters.items())),
        ("frame rate", f"{f.fps:.2f} /s", "frames per second of video time"),
        ("detection to alert", _latency(o.detection_to_alert), "from sending the detections to the alert’s record on Kafka"),
        ("detection to tracks", _latency(o.detection_to_track), "from sending the detections to the record on tracks, every frame"),
        ("capture to tracks", _latency(o.capture_to_track), "from the camera’s capture time: network, decoding and detector included"),
    ]  # fmt: skip
    return [{"name": name, "value": value, "note": note} for name, value, note in rows]


def _latency(x: Latency) -> str:
    return f"p50 {x.p50_ms:.0f} ms, p99 {x.p99_ms:.0f} ms (n={x.count})" if x.count else "–"


def _window(w: Any, timezone: str) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.structs.asdict(w)
    row["time"] = drawing.clock(w.start_us, timezone)
    row["dwell"] = f"{w.dwell_mean_s:.1f} s" if w.dwell_mean_s is not None else "–"
    return row
