"""Which moments of a span are worth a picture, and what is to be seen in each."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

import numpy as np

from schemas.ids import track_id
from schemas.settings import Camera
from schemas.wire import Event, TrackFrame, unpack_boxes
from sightflow.report.outcome import SOURCE_LOST, Outcome, level_at

TRAIL_S = 8.0
MAX_MOMENTS = 6
APART_S = 1.5
"""Two pictures are at least so far apart."""


@dataclass(frozen=True)
class Box:
    """One track in one frame. `corners` are x1 y1 x2 y2 as ratios of the frame; `trail` are foot points, oldest first."""

    ordinal: int
    label: str
    corners: tuple[float, float, float, float]
    predicted: bool
    subject: bool  # of the alert that the moment is about
    trail: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Moment:
    """One frame to be drawn. Counts are those that were known at this frame: nothing of what came later."""

    capture_us: int
    title: str
    width_px: int
    height_px: int
    boxes: tuple[Box, ...]
    inside: dict[str, int]
    crossed: dict[str, tuple[int, int]]


def choose_moments(outcome: Outcome, events: list[Event]) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return (time, title, subjects) of at most MAX_MOMENTS: alerts first, then the fullest moments, then crossings."""
    wanted: list[tuple[int, str, tuple[str, ...]]] = []
    opened = [i for i in outcome.incidents if i.open_us and i.rule_type != SOURCE_LOST]
    seen: Counter[str] = Counter()
    for incident in opened:  # the first ones of each rule before further ones of any
        seen[incident.rule] += 1
    ranked = sorted(opened, key=lambda i: [o.alert_id for o in opened if o.rule == i.rule].index(i.alert_id))
    wanted += [(i.open_us, f"alert “{i.rule}” opens: {i.reason}", i.subjects) for i in ranked[:4]]
    for curve in outcome.occupancy:
        if curve.max_count:
            at_us = next(t for t, n in curve.steps if n == curve.max_count)
            wanted.append((at_us, f"most people in {curve.zone}: {curve.max_count}", ()))
    crossings = [e for e in events if e.kind == "crossing"]
    for e in crossings[len(crossings) // 2 :] + crossings[: len(crossings) // 2]:
        wanted.append((e.at_us, f"{e.label} crosses {e.tripwire} to the {e.direction}", (e.subject,)))
    chosen: list[tuple[int, str, tuple[str, ...]]] = []
    for moment in wanted:
        if all(abs(moment[0] - other[0]) >= APART_S * 1e6 for other in chosen):
            chosen.append(moment)
        if len(chosen) == MAX_MOMENTS:
            break
    return sorted(chosen)


def draw_up(
    at_us: int, title: str, subjects: tuple[str, ...], tracks: list[TrackFrame], events: list[Event], outcome: Outcome,
    camera: Camera,
) -> Moment | None:  # fmt: skip
    """Gather what is to be drawn of the last frame captured at or before `at_us`; None where there is none.

    Args:
        tracks: all frames of the span, each once, by capture time.
    """
    times = [t.capture_us for t in tracks]
    i = bisect_right(times, at_us) - 1
    if i < 0:
        return None
    frame = tracks[i]
    first = bisect_right(times, frame.capture_us - int(TRAIL_S * 1e6))
    trails = _trails(tracks[first : i + 1])
    return Moment(
        capture_us=frame.capture_us,
        title=title,
        width_px=frame.width_px,
        height_px=frame.height_px,
        boxes=tuple(_boxes(frame, trails, set(subjects))),
        inside={curve.zone: level_at(curve, frame.capture_us) for curve in outcome.occupancy},
        crossed={wire.id: _crossed(wire.id, events, frame.capture_us) for wire in camera.tripwires},
    )


def _boxes(frame: TrackFrame, trails: dict[int, list[tuple[float, float]]], subjects: set[str]) -> list[Box]:
    born = np.frombuffer(frame.born_us, "<i8").tolist()
    ordinals = np.frombuffer(frame.ordinals, "<u4").tolist()
    return [
        Box(
            ordinal=ordinal,
            label=frame.labels[frame.classes[i]],
            corners=tuple(unpack_boxes(frame)[i].tolist()),
            predicted=frame.states[i] != 0,
            subject=track_id(frame.site, frame.camera, born[i], ordinal) in subjects,
            trail=tuple(trails.get(ordinal, ())),
        )
        for i, ordinal in enumerate(ordinals)
    ]


def _trails(frames: list[TrackFrame]) -> dict[int, list[tuple[float, float]]]:
    """Return each track's observed foot points; what was only predicted is no evidence."""
    trails: dict[int, list[tuple[float, float]]] = {}
    for frame in frames:
        boxes = unpack_boxes(frame).tolist()
        for ordinal, (x1, _, x2, y2), state in zip(
            np.frombuffer(frame.ordinals, "<u4").tolist(), boxes, frame.states, strict=True
        ):
            if state == 0:
                trails.setdefault(ordinal, []).append(((x1 + x2) / 2, y2))
    return trails


def all_trails(frames: list[TrackFrame]) -> list[tuple[int, list[tuple[float, float]]]]:
    """Return (ordinal, foot points) of every track of the span."""
    return sorted(_trails(frames).items())


def _crossed(tripwire: str, events: list[Event], until_us: int) -> tuple[int, int]:
    past = [e.direction for e in events if e.kind == "crossing" and e.tripwire == tripwire and e.at_us <= until_us]
    return past.count("left"), past.count("right")
