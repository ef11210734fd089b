"""What came out of one camera: figures from records and points, as plain data. No I/O, no clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from schemas.settings import Camera, SiteSettings
from schemas.wire import AlertTransition, DetectionFrame, Event, TrackFrame
from sightflow.report.points import Points, Row
from sightflow.report.records import Records, Span, Stamped

SOURCE_LOST = "source_lost"


class Latency(Struct, frozen=True):
    """How long something took, in ms, over `count` records; all zero where there were none."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


class Frames(Struct, frozen=True, kw_only=True):
    """Every frame's way, counted.

    `captured_count`, `skipped_count`, `dropped` and `sent_count` are the agent's own word (its heartbeats); None where
    the span does not cover the agent's whole run. The others are counted on the topics.
    """

    captured_count: int | None = None
    skipped_count: int | None = None  # not looked at: sampling, or nothing seen and an empty frame sent not long ago
    dropped: dict[str, int] = {}  # wanted, but the detector was busy …
    sent_count: int | None = None
    detection_count: int = 0  # distinct (boot, seq) on `detections`
    track_count: int = 0  # distinct (boot, seq) on `tracks`
    lost_count: int = 0  # sent, but not on `tracks`
    duplicate_count: int = 0  # on `tracks`: what a reader sees twice
    resent_count: int = 0  # on `detections`: removed by the intake
    fps: float = 0.0
    dead_letters: dict[str, int] = {}  # by reason


class Crossings(Struct, frozen=True):
    """Crossings of one tripwire by one class."""

    tripwire: str
    label: str
    left_count: int
    right_count: int


class Visits(Struct, frozen=True, kw_only=True):
    """Finished visits to one zone by one class."""

    zone: str
    label: str
    count: int
    born_inside_count: int  # first seen inside: dwell counts, entry does not
    dwells_s: tuple[float, ...]
    mean_dwell_s: float
    max_dwell_s: float


class Occupancy(Struct, frozen=True):
    """How many were inside a zone over time: `steps` are (time in µs, number from then on)."""

    zone: str
    steps: tuple[tuple[int, int], ...]
    mean_count: float
    max_count: int


class Flow(Struct, frozen=True):
    """Objects of one class that went from one zone to another, and how long they were on the way."""

    from_zone: str
    to_zone: str
    label: str
    count: int
    mean_s: float


class Incident(Struct, frozen=True, kw_only=True):
    """One alert with all its transitions folded."""

    alert_id: str
    rule: str
    rule_type: str
    rule_version: int
    zone: str
    label: str
    subjects: tuple[str, ...]
    start_us: int  # the condition began
    open_us: int  # the alert opened; 0: before the span
    close_us: int  # 0: still open
    reason: str
    close_reason: str
    value_max: float
    thresholds: dict[str, float]
    update_count: int
    evidence_from_us: int
    evidence_to_us: int
    settings: str
    model_sha: str
    latency_ms: float | None  # detection sent → written to `alerts`, of the opening; None: not caused by a frame
    tripwire: str
    severity: str  # in the end
    acknowledged_by: str


class Window(Struct, frozen=True, kw_only=True):
    """One row of the table of windows, from InfluxDB."""

    start_us: int
    complete: bool
    frame_count: int
    detection_count: int
    entered_count: int
    exited_count: int
    left_count: int
    right_count: int
    occupancy_mean: float
    occupancy_max: int
    dwell_mean_s: float | None


class Outcome(Struct, frozen=True, kw_only=True):
    """Everything that the page and the summary show."""

    site: str
    camera: str
    timezone: str
    since_us: int  # first and last frame
    until_us: int
    frames: Frames
    objects: dict[str, int]
    crossings: tuple[Crossings, ...]
    visits: tuple[Visits, ...]
    occupancy: tuple[Occupancy, ...]
    flows: tuple[Flow, ...]
    heat: tuple[tuple[int, int, float], ...]  # (row, column, object-seconds): cells with any, in order
    incidents: tuple[Incident, ...]
    windows: tuple[Window, ...]
    window_s: float
    detection_to_alert: Latency
    detection_to_track: Latency
    capture_to_track: Latency
    versions: dict[str, str]
    problems: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return (self.until_us - self.since_us) / 1e6


def summarise(
    site: SiteSettings, camera: Camera, records: Records, points: Points, span: Span, *,
    whole_run: bool = False, versions: dict[str, str] | None = None,
) -> Outcome:  # fmt: skip
    """Work out all figures.

    Args:
        site: settings of the site.
        camera: the camera's part of them.
        records: from Kafka.
        points: from InfluxDB.
        span: what was asked for.
        whole_run: the span covers every frame that the agent ever sent, so its own counts can be held against ours.
        versions: what else is known of versions.
    """
    tracks = fold(records.tracks, frame_key)
    times = [t.message.capture_us for t in tracks] or [f.message.capture_us for f in records.detections]
    since_us, until_us = (min(times), max(times)) if times else (span.since_us, span.since_us)
    events = [e.message for e in fold(records.events, lambda e: e.id)]
    alerts = fold(records.alerts, lambda a: a.id)
    found = Outcome(
        site=site.site,
        camera=camera.id,
        timezone=site.timezone,
        since_us=since_us,
        until_us=until_us,
        frames=count_frames(records, whole_run),
        objects=count_objects([t.message for t in tracks]),
        crossings=sum_crossings(camera, points.tripwire_windows),
        visits=sum_visits(points.visits),
        occupancy=tuple(occupancy(zone.id, events, since_us, until_us) for zone in camera.zones),
        flows=sum_flows(points.flow_windows),
        heat=sum_heat(points.heat_cells),
        incidents=fold_alerts(alerts),
        windows=list_windows(points, site.windows.length_s),
        window_s=site.windows.length_s,
        detection_to_alert=latency(a.record_us - a.message.detection_sent_us for a in alerts if _by_frame(a.message)),
        detection_to_track=latency(t.record_us - t.message.sent_us for t in tracks),
        capture_to_track=latency(t.record_us - t.message.capture_us for t in tracks),
        versions={**_versions(records, alerts), **(versions or {})},
    )
    problems = find_problems(found) + (
        find_disagreements(found, events, len(alerts), len(points.alerts)) if whole_run else []
    )
    return msgspec.structs.replace(found, problems=tuple(problems))


def frame_key(frame: DetectionFrame | TrackFrame) -> tuple[int, int]:
    """What makes a camera's frame one frame."""
    return frame.boot, frame.seq


def fold(records: Sequence[Stamped[Any]], key: Callable[[Any], Any]) -> list[Stamped[Any]]:
    """Return the first record of each key, in order of arrival: repeats say nothing new."""
    kept: dict[Any, Stamped[Any]] = {}
    for record in records:
        kept.setdefault(key(record.message), record)
    return list(kept.values())


# --- frames --------------------------------------------------------------------------------------------------------


def count_frames(records: Records, whole_run: bool) -> Frames:
    """Follow the frames from the agent's word to `tracks`."""
    sent = Counter(frame_key(f.message) for f in records.detections)
    tracked = Counter(frame_key(t.message) for t in records.tracks)
    agent = _agents_word(records) if whole_run else None
    expected = agent["sent"] if agent else _span_of_numbers(list(sent))
    times = sorted({f.message.capture_us for f in records.detections})
    duration_s = (times[-1] - times[0]) / 1e6 if len(times) > 1 else 0.0
    return Frames(
        captured_count=agent["captured"] if agent else None,
        skipped_count=agent["skipped"] if agent else None,
        dropped=agent["dropped"] if agent else {},
        sent_count=agent["sent"] if agent else None,
        detection_count=len(sent),
        track_count=len(tracked),
        lost_count=max(0, expected - len(tracked)),
        duplicate_count=tracked.total() - len(tracked),
        resent_count=sent.total() - len(sent),
        fps=(len(times) - 1) / duration_s if duration_s else 0.0,
        dead_letters=dict(Counter(d.message.reason for d in records.dead_letters)),
    )


def _agents_word(records: Records) -> dict[str, Any] | None:
    """Return the totals of each boot's last heartbeat, added up; None where no agent was heard."""
    camera = records.detections[0].message.camera if records.detections else ""
    last = {h.message.boot: h.message for h in sorted(records.health, key=lambda h: h.message.seq)}
    totals = [c for health in last.values() for c in health.cameras if c.camera == camera]
    if not totals:
        return None
    dropped: Counter[str] = Counter()
    for total in totals:
        dropped.update(total.dropped)
    return {
        "captured": sum(c.captured_count for c in totals),
        "skipped": sum(c.skipped_count for c in totals),
        "sent": sum(c.sent_count for c in totals),
        "dropped": dict(dropped),
    }


def _span_of_numbers(keys: list[tuple[int, int]]) -> int:
    """Sequence numbers have no gaps, so each boot's first and last in the span say how many there should be."""
    by_boot: dict[int, list[int]] = defaultdict(list)
    for boot, seq in keys:
        by_boot[boot].append(seq)
    return sum(max(numbers) - min(numbers) + 1 for numbers in by_boot.values())


# --- what was seen -------------------------------------------------------------------------------------------------


def count_objects(tracks: Iterable[TrackFrame]) -> dict[str, int]:
    """Count distinct tracks by the class that they had last."""
    label_of: dict[tuple[int, int], str] = {}
    for frame in tracks:
        born = np.frombuffer(frame.born_us, "<i8").tolist()
        ordinals = np.frombuffer(frame.ordinals, "<u4").tolist()
        for key, label in zip(zip(born, ordinals, strict=True), frame.classes, strict=True):
            label_of[key] = frame.labels[label]
    return dict(Counter(label_of.values()).most_common())


def sum_crossings(camera: Camera, rows: list[Row]) -> tuple[Crossings, ...]:
    """Add up the windows of each tripwire and class; a tripwire that nobody crossed is listed with zeros."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        pair = sums.setdefault((row["tripwire"], row["class"]), [0, 0])
        pair[0] += row["left_count"]
        pair[1] += row["right_count"]
    for wire in camera.tripwires:
        if not any(key[0] == wire.id for key in sums):
            sums[wire.id, ", ".join(wire.classes) or "all"] = [0, 0]
    return tuple(Crossings(*key, *pair) for key, pair in sorted(sums.items()))


def sum_visits(rows: list[Row]) -> tuple[Visits, ...]:
    """Gather finished visits by zone and class."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["zone"], row["class"]].append(row)
    return tuple(
        Visits(
            zone=zone,
            label=label,
            count=len(group),
            born_inside_count=sum(bool(r["born_inside"]) for r in group),
            dwells_s=tuple(sorted(float(r["dwell_s"]) for r in group)),
            mean_dwell_s=sum(r["dwell_s"] for r in group) / len(group),
            max_dwell_s=max(r["dwell_s"] for r in group),
        )
        for (zone, label), group in sorted(groups.items())
    )


def occupancy(zone: str, events: list[Event], since_us: int, until_us: int) -> Occupancy:
    """Draw the exact curve from enter and exit events; a visit that began before the span is known by its dwell."""
    changes: list[tuple[int, int]] = []
    inside: dict[str, int] = {}
    for e in sorted((e for e in events if e.zone == zone), key=lambda e: e.at_us):
        if e.kind == "enter":
            inside[e.subject] = e.at_us
        elif e.kind == "exit":
            entered_us = inside.pop(e.subject, e.at_us - round(e.dwell_s * 1e6))
            changes += [(max(entered_us, since_us), +1), (e.at_us, -1)]
    changes += [(at_us, +1) for at_us in inside.values()]
    steps, level = [(since_us, 0)], 0
    for at_us, by in sorted(changes):
        if at_us >= until_us:  # visits that end with the span, such as those that the end of the source closes
            break
        level += by
        if steps[-1][0] == at_us:
            steps[-1] = (at_us, level)
        else:
            steps.append((at_us, level))
    return Occupancy(zone, tuple(steps), _mean_level(steps, until_us), max(n for _, n in steps))


def _mean_level(steps: list[tuple[int, int]], until_us: int) -> float:
    ends = [at_us for at_us, _ in steps[1:]] + [until_us]
    total = sum(n * max(0, end - at_us) for (at_us, n), end in zip(steps, ends, strict=True))
    return total / (until_us - steps[0][0]) if until_us > steps[0][0] else 0.0


def level_at(curve: Occupancy, at_us: int) -> int:
    """Return how many were inside at `at_us`."""
    level = 0
    for step_us, count in curve.steps:
        if step_us > at_us:
            break
        level = count
    return level


# --- alerts --------------------------------------------------------------------------------------------------------


def fold_alerts(alerts: Sequence[Stamped[AlertTransition]]) -> tuple[Incident, ...]:
    """Fold transitions (repeats already removed) to incidents, by start."""
    groups: dict[str, list[Stamped[AlertTransition]]] = defaultdict(list)
    for alert in alerts:
        groups[alert.message.alert_id].append(alert)
    return tuple(
        sorted((_incident(group) for group in groups.values()), key=lambda i: (i.open_us or i.start_us, i.rule))
    )


def _incident(group: list[Stamped[AlertTransition]]) -> Incident:
    said = {a.message.transition: a for a in group}
    first = said.get("open", group[0])
    close = said["close"].message if "close" in said else None
    a = first.message
    by_frame = "open" in said and _by_frame(a)
    return Incident(
        alert_id=a.alert_id,
        rule=a.rule,
        rule_type=a.rule_type,
        rule_version=a.rule_version,
        zone=a.zone,
        label=a.label,
        subjects=a.subjects,
        start_us=a.start_us,
        open_us=a.at_us if "open" in said else 0,
        close_us=close.at_us if close else 0,
        reason=a.reason if "open" in said or close is None else "",
        close_reason=close.reason if close else "",
        value_max=max(x.message.value for x in group),
        thresholds=a.thresholds,
        update_count=sum(x.message.transition == "update" for x in group),
        evidence_from_us=min(x.message.evidence_from_us for x in group),
        evidence_to_us=max(x.message.evidence_to_us for x in group),
        settings=a.settings,
        model_sha=a.model_sha,
        latency_ms=(first.record_us - a.detection_sent_us) / 1000 if by_frame else None,
        tripwire=a.tripwire,
        severity=group[-1].message.severity,
        acknowledged_by=next((x.message.acknowledged_by for x in group if x.message.acknowledged_by), ""),
    )


def _by_frame(alert: AlertTransition) -> bool:
    """Whether a frame caused this transition; silence is noticed by a clock, so it has no such latency."""
    return alert.detection_sent_us > 0


def latency(spans_us: Iterable[int]) -> Latency:
    """Return the percentiles (linear interpolation between ranks) of these times."""
    values = np.asarray(list(spans_us), np.float64) / 1000
    if not len(values):
        return Latency()
    p50, p99 = np.percentile(values, [50, 99])
    return Latency(len(values), round(float(p50), 3), round(float(p99), 3), round(float(values.max()), 3))


# --- windows, versions, problems -----------------------------------------------------------------------------------


def sum_flows(rows: list[Row]) -> tuple[Flow, ...]:
    """Add up the flows of all windows, most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    seconds: dict[tuple[str, str, str], float] = defaultdict(float)
    for row in rows:
        key = row["from"], row["to"], row["class"]
        counts[key] += row["count"]
        seconds[key] += row["transit_sum_s"]
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return tuple(Flow(*key, counts[key], seconds[key] / counts[key]) for key in ordered)


def sum_heat(rows: list[Row]) -> tuple[tuple[int, int, float], ...]:
    """Add up the cells of all periods."""
    cells: dict[tuple[int, int], float] = defaultdict(float)
    for row in rows:
        cells[int(row["row"]), int(row["column"])] += row["seconds"]
    return tuple((row, column, seconds) for (row, column), seconds in sorted(cells.items()))


def list_windows(points: Points, window_s: float) -> tuple[Window, ...]:
    """Bring the windows of zones and tripwires together, by start. Sums run over all zones, tripwires and classes."""
    zones, wires = _by_start(points.zone_windows), _by_start(points.tripwire_windows)
    return tuple(
        _window(row, zones.get(row["at_us"], []), wires.get(row["at_us"], []))
        for row in sorted(points.camera_windows, key=lambda r: r["at_us"])
    )


def _by_start(rows: list[Row]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["at_us"]].append(row)
    return groups


def _window(row: Row, zones: list[Row], wires: list[Row]) -> Window:
    visits = sum(z["visit_count"] for z in zones)
    return Window(
        start_us=row["at_us"],
        complete=bool(row["complete"]),
        frame_count=row["frame_count"],
        detection_count=row["detection_count"],
        entered_count=sum(z["enter_count"] + z["born_inside_count"] for z in zones),
        exited_count=sum(z["exit_count"] for z in zones),
        left_count=sum(w["left_count"] for w in wires),
        right_count=sum(w["right_count"] for w in wires),
        occupancy_mean=sum(z["occupancy_mean"] for z in zones),
        occupancy_max=max((z["occupancy_max"] for z in zones), default=0),
        dwell_mean_s=sum(z["dwell_sum_s"] for z in zones) / visits if visits else None,
    )


def _versions(records: Records, alerts: Sequence[Stamped[AlertTransition]]) -> dict[str, str]:
    found: dict[str, str] = {}
    if records.detections:
        frame = records.detections[-1].message
        found |= {"model": frame.model, "model fingerprint": frame.model_sha, "clock of capture times": frame.clock}
    if records.tracks:
        found["settings fingerprint"] = records.tracks[-1].message.settings
    if records.health:
        health = records.health[-1].message
        found |= {"detector backend": health.backend, "agent": health.agent}
        found |= {f"agent's {name}": version for name, version in sorted(health.versions.items())}
    return {name: value for name, value in found.items() if value}


def find_problems(outcome: Outcome) -> list[str]:
    """Say in words what is wrong with the way of the frames."""
    frames = outcome.frames
    found = []
    if not frames.detection_count:
        return ["no detections arrived on Kafka"]
    if frames.lost_count:
        expected = frames.track_count + frames.lost_count
        found.append(f"{frames.lost_count} of {expected} frames were lost on their way to `tracks`")
    if frames.duplicate_count:
        found.append(f"{frames.duplicate_count} frames appear twice on `tracks`")
    if frames.dead_letters:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(frames.dead_letters.items()))
        found.append(f"dead letters: {reasons}")
    return found


def find_disagreements(outcome: Outcome, events: list[Event], alerts: int, alert_points: int) -> list[str]:
    """Compare InfluxDB with Kafka; only fair once every window is closed and every event committed."""
    kinds = Counter(e.kind for e in events)
    pairs = [
        ("frames", sum(w.frame_count for w in outcome.windows), outcome.frames.track_count),
        ("crossings", sum(c.left_count + c.right_count for c in outcome.crossings), kinds["crossing"]),
        ("visits", sum(v.count for v in outcome.visits), kinds["exit"]),
        ("alert transitions", alert_points, alerts),
    ]
    return [
        f"InfluxDB has {in_influx} {what}, Kafka has {in_kafka}"
        for what, in_influx, in_kafka in pairs
        if in_influx != in_kafka
    ]
