"""From a running stack to the page: read, work out, choose pictures, render, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from schemas.settings import Camera, SiteSettings
from schemas.wire import DetectionFrame
from sightflow.report import moments, page
from sightflow.report.footage import PushLog, read_pictures
from sightflow.report.outcome import fold, frame_key, summarise
from sightflow.report.page import Material, Shot
from sightflow.report.points import query_points
from sightflow.report.records import Records, Span, read_records
from sightflow.stack.influx import InfluxTarget


@dataclass(frozen=True)
class Question:
    """What a report is about, and where the answers are.

    `whole_run` says that the span covers all that the agent ever sent. `versions` are what else is known of them.
    """

    site: SiteSettings
    camera: Camera
    span: Span
    bootstrap: str
    influx: InfluxTarget
    whole_run: bool = False
    versions: dict[str, str] | None = None
    footage: Path | None = None
    push_log: Path | None = None
    mount: str = ""


def gather(q: Question) -> Material:
    """Read everything back and work it out. Raises SightflowError."""
    records = read_records(q.bootstrap, q.camera.id, q.span)
    points = query_points(q.influx, q.camera, q.span, q.site.windows.length_s)
    outcome = summarise(q.site, q.camera, records, points, q.span, whole_run=q.whole_run, versions=q.versions)
    events = sorted((e.message for e in fold(records.events, lambda e: e.id)), key=lambda e: e.at_us)
    tracks = sorted((t.message for t in fold(records.tracks, frame_key)), key=lambda t: t.capture_us)
    found = Material(outcome=outcome, camera=q.camera, events=events, tracks=tracks)
    return Material(outcome, q.camera, events, tracks, _shots(q, found, records))


def write(material: Material, path: Path) -> Path:
    """Write the page whole or not at all; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(page.render(material), encoding="utf-8")
    return draft.replace(path)


def _shots(q: Question, found: Material, records: Records) -> list[Shot]:
    drawn = [
        moments.draw_up(at_us, title, subjects, list(found.tracks), list(found.events), found.outcome, q.camera)
        for at_us, title, subjects in moments.choose_moments(found.outcome, list(found.events))
    ]
    kept = [m for m in drawn if m is not None]
    if q.footage is None or q.push_log is None:
        return [Shot(m, None) for m in kept]
    log = PushLog.read(q.push_log, q.mount or q.camera.id)
    clocks = {f.message.capture_us: f.message for f in records.detections}
    numbers = {m.capture_us: _frame_number(log, clocks.get(m.capture_us)) for m in kept}
    pictures = read_pictures(q.footage, [n for n in numbers.values() if n is not None])
    return [Shot(m, _picture(pictures, numbers[m.capture_us])) for m in kept]


def _frame_number(log: PushLog, frame: DetectionFrame | None) -> int | None:
    """Only the camera's own clock says which frame it was; an arrival time could belong to the one before."""
    return log.frame_at(frame.capture_us) if frame is not None and frame.clock == "rtcp_sr" else None


def _picture(pictures: dict[int, bytes], number: int | None) -> bytes | None:
    return None if number is None else pictures.get(number)
