"""What really happened in a scene, worked out slowly and plainly from the objects' paths.

Nothing here knows detections, tracks or the code under test. Two views of the same semantics:

- `scene_truth(scene)`: continuous. Times are those at which a path meets an edge.
- `sampled_truth(scene)`: what a perfect observer sees who looks only at the cameras' frame times: a visit starts at the
  first frame inside and ends at the last frame inside; a crossing is dated between two frames, as by a straight walk.
  Both differ by at most one frame interval, where nothing hangs on a hair (`fragile_decisions`).

Semantics (design: zones, tripwires, rules):

- Inside: the anchor point of the box lies in the polygon, and the object is seen.
- Visit: from entering until the last moment inside before being outside or unseen for more than the zone's `gap_s`;
  shorter absences belong to the visit. `born_inside`: inside when first seen at all. Visits shorter than
  `min_inside_s` do not count.
- Crossing: the anchor's path meets the polyline; the direction is the side walked to, as seen when walking from the
  polyline's first to its last point in the picture (walking up, right is +x).
- Crowding: spells of `count` or more inside at the same moment (who is away for a short absence is away, though the
  visit goes on); spells apart by at most the rule's `gap_s` are one; it opens once a
  spell has lasted `hold_s`, ends at the last moment of the spell.
- Loitering: opens when a visit has lasted `since_s`; ends when the visit ends.
- Other rules: see `rule_truth.py`.
- Places on the ground are looked at as they are seen in the picture, by the foot point.
- After an alert's end there is no new one for the same zone (and object) for `cooldown_s`.
- Window figures: windows are [start, start + length), aligned to the Unix epoch. `enter_count` leaves out visits that
  were born inside; a visit's dwell counts where it ends.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from schemas.rules import Crowding, Loitering
from schemas.settings import Camera, Tripwire, Zone
from simulator.floor import in_picture
from simulator.geometry import ANCHOR_FRACTIONS, XY, is_inside, meeting_fraction, side_of
from simulator.objects import SceneObject
from simulator.scene import CameraScene, Scene

Span = tuple[int, int]
Direction = Literal["left", "right"]
ALL_LABELS = ""
"""Stands for all classes together in the keys of figures."""


@dataclass(frozen=True, order=True)
class Visit:
    """One object's stay in one zone."""

    camera: str
    zone: str
    enter_us: int
    exit_us: int
    object: str
    label: str
    born_inside: bool

    @property
    def dwell_s(self) -> float:
        """How long it stayed."""
        return (self.exit_us - self.enter_us) / 1e6


@dataclass(frozen=True, order=True)
class Crossing:
    """One object's passage over one tripwire. `direction` is the side walked to."""

    camera: str
    tripwire: str
    at_us: int
    object: str
    label: str
    direction: Direction


@dataclass(frozen=True, order=True)
class Alert:
    """One expected alert. `object` is empty for crowding. `end_us`: the last moment at which the condition held.

    A job can know of the end only after the rule's (or zone's) `gap_s` more.
    """

    camera: str
    rule: str
    start_us: int
    open_us: int
    end_us: int
    zone: str
    rule_type: str
    object: str = ""
    peak: float = 0.0  # most objects inside during it, or the visit's length in seconds


@dataclass(frozen=True, order=True)
class Inside:
    """A span in which an object was seen inside a zone; absences of any length end it."""

    camera: str
    zone: str
    label: str
    span: Span
    object: str


@dataclass(frozen=True)
class ZoneFigures:
    """One zone, one label (ALL_LABELS: all), one window."""

    enter_count: int = 0
    exit_count: int = 0
    occupancy_min: int = 0
    occupancy_mean: float = 0.0
    occupancy_max: int = 0
    dwells_s: tuple[float, ...] = ()  # of the visits that ended in the window, sorted


@dataclass(frozen=True)
class WireFigures:
    """One tripwire, one label (ALL_LABELS: all), one window."""

    left_count: int = 0
    right_count: int = 0


@dataclass(frozen=True)
class Steps:
    """A count over time, from spans during which it is one higher. A span holds at both of its ends."""

    spans: tuple[Span, ...]

    def at(self, at_us: int) -> int:
        """Return the count at one moment."""
        return sum(a <= at_us <= b for a, b in self.spans)

    def changes(self) -> list[tuple[int, int]]:
        """Return (time, count from then on), in order of time, starting from 0."""
        deltas: dict[int, int] = defaultdict(int)
        for a, b in self.spans:
            deltas[a] += 1
            deltas[b] -= 1
        level, curve = 0, []
        for at_us in sorted(deltas):
            level += deltas[at_us]
            curve.append((at_us, level))
        return curve

    def min_mean_max(self, from_us: int, to_us: int) -> tuple[int, float, int]:
        """Return the least, the time-weighted mean and the greatest count in [from, to), moments apart: a count that
        holds for no time at all (one comes at the microsecond at which another goes) is none."""
        within = [(max(a, from_us), min(b, to_us)) for a, b in self.spans if a < to_us and b > from_us]
        mean = sum(b - a for a, b in within) / (to_us - from_us)
        cuts = sorted({from_us, to_us, *(t for span in within for t in span)})
        levels = [sum(a <= t and u <= b for a, b in within) for t, u in pairwise(cuts)]
        return min(levels), mean, max(levels)

    def spells(self, count: int) -> list[Span]:
        """Return the spans during which the count is `count` or more; both ends of a span belong to it."""
        points = sorted({t for span in self.spans for t in span})
        found: list[Span] = [(t, t) for t in points if self.at(t) >= count]
        for t, u in pairwise(points):
            if sum(a <= t and u <= b for a, b in self.spans) >= count:
                found.append((t, u))
        return [(int(a), int(b)) for a, b in _join(found, 0)]


Key = tuple[str, str, str, int]
"""(camera, zone or tripwire, label, window's start in µs)."""


@dataclass(frozen=True)
class Truth:
    """All that happened."""

    start_us: int
    end_us: int
    window_us: int
    labels: tuple[str, ...]
    visits: tuple[Visit, ...]
    crossings: tuple[Crossing, ...]
    alerts: tuple[Alert, ...]
    inside: tuple[Inside, ...]
    seen: tuple[tuple[str, str, str, tuple[Span, ...]], ...]  # camera, object, label, spans in which it was seen
    zones: tuple[tuple[str, str], ...]  # camera, zone
    tripwires: tuple[tuple[str, str], ...]  # camera, tripwire

    def windows_us(self) -> Iterator[int]:
        """Yield the starts of all windows that the scene touches."""
        return iter(range(self.start_us // self.window_us * self.window_us, self.end_us, self.window_us))

    def occupancy(self, camera: str, zone: str, label: str = ALL_LABELS, *, gaps_filled: bool = True) -> Steps:
        """Return how many objects are in a zone: by visits under way, or (`gaps_filled=False`) by anchors inside."""
        if gaps_filled:
            spans = [(v.enter_us, v.exit_us) for v in self.visits
                     if (v.camera, v.zone) == (camera, zone) and label in (ALL_LABELS, v.label)]  # fmt: skip
        else:
            spans = [i.span for i in self.inside
                     if (i.camera, i.zone) == (camera, zone) and label in (ALL_LABELS, i.label)]  # fmt: skip
        return Steps(tuple(sorted(spans)))

    def zone_figures(self, *, gaps_filled: bool = True) -> dict[Key, ZoneFigures]:
        """Return the figures of every zone, label (and ALL_LABELS) and window, empty ones too."""
        figures: dict[Key, ZoneFigures] = {}
        for camera, zone in self.zones:
            for label in (ALL_LABELS, *self.labels):
                visits = [v for v in self.visits
                          if (v.camera, v.zone) == (camera, zone) and label in (ALL_LABELS, v.label)]  # fmt: skip
                steps = self.occupancy(camera, zone, label, gaps_filled=gaps_filled)
                for start_us in self.windows_us():
                    figures[camera, zone, label, start_us] = self._zone_window(visits, steps, start_us)
        return figures

    def _zone_window(self, visits: list[Visit], steps: Steps, start_us: int) -> ZoneFigures:
        end_us = start_us + self.window_us
        ended = [v for v in visits if start_us <= v.exit_us < end_us]
        least, mean, most = steps.min_mean_max(start_us, end_us)
        return ZoneFigures(
            enter_count=sum(start_us <= v.enter_us < end_us and not v.born_inside for v in visits),
            exit_count=len(ended),
            occupancy_min=least,
            occupancy_mean=mean,
            occupancy_max=most,
            dwells_s=tuple(sorted(v.dwell_s for v in ended)),
        )

    def wire_figures(self) -> dict[Key, WireFigures]:
        """Return the counts of every tripwire, label (and ALL_LABELS) and window, empty ones too."""
        figures: dict[Key, WireFigures] = {}
        for camera, wire in self.tripwires:
            for label in (ALL_LABELS, *self.labels):
                for start_us in self.windows_us():
                    directions = [
                        c.direction for c in self.crossings
                        if (c.camera, c.tripwire) == (camera, wire) and label in (ALL_LABELS, c.label)
                        and start_us <= c.at_us < start_us + self.window_us
                    ]  # fmt: skip
                    figures[camera, wire, label, start_us] = WireFigures(
                        directions.count("left"), directions.count("right")
                    )
        return figures

    def distinct_counts(self) -> dict[tuple[str, str, int], int]:
        """Return how many objects were seen at all: key (camera, label or ALL_LABELS, window's start in µs)."""
        counts: dict[tuple[str, str, int], int] = {}
        for camera in sorted({c for c, *_ in self.seen} | {c for c, _ in self.zones}):
            for label in (ALL_LABELS, *self.labels):
                for start_us in self.windows_us():
                    counts[camera, label, start_us] = sum(
                        any(a < start_us + self.window_us and b >= start_us for a, b in spans)
                        for c, _, of, spans in self.seen
                        if c == camera and label in (ALL_LABELS, of)
                    )
        return counts


@dataclass(frozen=True)
class _Sightings:
    """When one object was seen, was inside each zone and crossed each tripwire: all that differs between the views."""

    seen: tuple[Span, ...]
    inside: dict[str, list[Span]]
    crossings: list[tuple[str, int, Direction]]


def scene_truth(scene: Scene) -> Truth:
    """Return what happened, from the continuous paths."""
    return _assemble(scene, lambda view, camera, obj: _continuous(scene, camera, obj))


def sampled_truth(scene: Scene, frame_times_us: dict[str, list[int]] | None = None) -> Truth:
    """Return what a perfect observer sees at the frame times (default: those of the scene's cameras)."""
    times = frame_times_us or {c.camera: list(scene.frame_times_us(c.camera)) for c in scene.cameras}
    return _assemble(scene, lambda view, camera, obj: _sampled(scene, camera, obj, times[view.camera]))


def _us(scene: Scene, at_s: float) -> int:
    return scene.start_us + round(at_s * 1e6)


def _covers(place: Zone | Tripwire, label: str) -> bool:
    return not place.classes or label in place.classes


# ---------------------------------------------------------------------------------------------- continuous


def _continuous(scene: Scene, camera: Camera, obj: SceneObject) -> _Sightings:
    seen_s = _seen_spans_s(obj)
    inside: dict[str, list[Span]] = {}
    for zone in camera.zones:
        if _covers(zone, obj.label):
            spans = _intersect(_inside_spans_s(obj, zone), seen_s)
            inside[zone.id] = [(_us(scene, a), _us(scene, b)) for a, b in spans]
    crossings = [
        (wire.id, _us(scene, at_s), direction)
        for wire in camera.tripwires
        if _covers(wire, obj.label)
        for at_s, direction in _crossings(obj.anchor_path(wire.anchor), wire)
    ]
    return _Sightings(tuple((_us(scene, a), _us(scene, b)) for a, b in seen_s), inside, crossings)


def _seen_spans_s(obj: SceneObject) -> list[tuple[float, float]]:
    spans, start = [], obj.start_s
    for a, b in sorted(obj.hidden):
        spans.append((start, a))
        start = b
    return [(a, b) for a, b in [*spans, (start, obj.end_s)] if b > a]


def _inside_spans_s(obj: SceneObject, zone: Zone) -> list[tuple[float, float]]:
    """Cut the path wherever it meets an edge; each piece is inside or outside as its middle is."""
    path = obj.anchor_path(zone.anchor)
    edges = list(zip(zone.polygon, (*zone.polygon[1:], zone.polygon[0]), strict=True))
    spans: list[tuple[float, float]] = []
    for (t0, p), (t1, q) in pairwise(path):
        cuts = {0.0, 1.0} | {f for a, b in edges if (f := meeting_fraction(p, q, a, b)) is not None}
        for f0, f1 in zip(sorted(cuts), sorted(cuts)[1:], strict=False):
            middle = (f0 + f1) / 2
            if is_inside((p[0] + middle * (q[0] - p[0]), p[1] + middle * (q[1] - p[1])), zone.polygon):
                spans.append((t0 + f0 * (t1 - t0), t0 + f1 * (t1 - t0)))
    return _join(spans, 1e-9)


def _crossings(path: list[tuple[float, XY]], wire: Tripwire) -> list[tuple[float, Direction]]:
    """A point exactly on the tripwire counts as left of it, so that who stops there is not counted twice."""
    found: dict[float, Direction] = {}
    for (t0, p), (t1, q) in pairwise(path):
        for a, b in pairwise(wire.points):
            from_right, to_right = side_of(a, b, p) > 0, side_of(a, b, q) > 0
            along = meeting_fraction(p, q, a, b)
            if along is not None and from_right != to_right:
                found[t0 + along * (t1 - t0)] = "right" if to_right else "left"
    return sorted(found.items())


def _join(spans: Iterable[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Join spans that are at most `gap` apart."""
    joined: list[tuple[float, float]] = []
    for a, b in sorted(spans):
        if joined and a - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
        else:
            joined.append((a, b))
    return joined


def _intersect(left: list[tuple[float, float]], right: list[tuple[float, float]]) -> list[tuple[float, float]]:
    both = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    return sorted((a, b) for a, b in both if b > a)


# ------------------------------------------------------------------------------------------------- sampled


def _sampled(scene: Scene, camera: Camera, obj: SceneObject, times_us: list[int]) -> _Sightings:
    """Look at the object at the frame times only, with the numbers that a message would carry (float32)."""
    frames = [t for t in times_us if obj.is_visible((t - scene.start_us) / 1e6)]
    boxes = [np.array(obj.box((t - scene.start_us) / 1e6), dtype=np.float32).astype(float) for t in frames]
    alive = [t for t in times_us if obj.start_s <= (t - scene.start_us) / 1e6 <= obj.end_s]
    seen = _runs(alive, [obj.is_visible((t - scene.start_us) / 1e6) for t in alive])
    inside: dict[str, list[Span]] = {}
    for zone in camera.zones:
        if _covers(zone, obj.label):
            flags = dict(zip(frames, (is_inside(_anchor(b, zone.anchor), zone.polygon) for b in boxes), strict=True))
            inside[zone.id] = _runs(alive, [flags.get(t, False) for t in alive])
    crossings: list[tuple[str, int, Direction]] = []
    for wire in camera.tripwires:
        if _covers(wire, obj.label):
            path = [(float(t), _anchor(b, wire.anchor)) for t, b in zip(frames, boxes, strict=True)]
            crossings += [(wire.id, round(at_us), direction) for at_us, direction in _crossings(path, wire)]
    return _Sightings(tuple(seen), inside, crossings)


def _anchor(box: np.ndarray[tuple[int], np.dtype[np.float64]], anchor: str) -> XY:
    fx, fy = ANCHOR_FRACTIONS[anchor]
    return float(box[0] + fx * (box[2] - box[0])), float(box[1] + fy * (box[3] - box[1]))


def _runs(times: list[int], flags: list[bool]) -> list[Span]:
    """Return first and last time of each run of true flags."""
    runs: list[Span] = []
    before = False
    for at, flag in zip(times, flags, strict=True):
        if flag:
            runs[-1:] = [(runs[-1][0], at)] if before else [*runs[-1:], (at, at)]
        before = flag
    return runs


# ------------------------------------------------------------------------------------- common to both views


def _assemble(scene: Scene, look: Callable[[CameraScene, Camera, SceneObject], _Sightings]) -> Truth:
    views = [(view, _camera(scene, view)) for view in scene.cameras]
    visits: list[Visit] = []
    crossings: list[Crossing] = []
    inside: list[Inside] = []
    seen: list[tuple[str, str, str, tuple[Span, ...]]] = []
    for view, camera in views:
        for obj in view.objects:
            sightings: _Sightings = look(view, camera, obj)
            if not sightings.seen:
                continue
            seen.append((view.camera, obj.name, obj.label, sightings.seen))
            crossings += [Crossing(view.camera, w, t, obj.name, obj.label, d) for w, t, d in sightings.crossings]
            for zone in camera.zones:
                spans = sightings.inside.get(zone.id, [])
                inside += [Inside(view.camera, zone.id, obj.label, span, obj.name) for span in spans]
                visits += _visits(view.camera, zone, obj, spans, sightings.seen[0][0])
    visits.sort()
    alerts = [alert for view, camera in views for alert in _alerts(camera, visits, inside)]
    return Truth(
        start_us=scene.start_us,
        end_us=scene.end_us,
        window_us=round(scene.settings.windows.length_s * 1e6),
        labels=scene.labels,
        visits=tuple(visits),
        crossings=tuple(sorted(crossings)),
        alerts=tuple(sorted(alerts)),
        inside=tuple(sorted(inside)),
        seen=tuple(seen),
        zones=tuple((view.camera, zone.id) for view, camera in views for zone in camera.zones),
        tripwires=tuple((view.camera, wire.id) for view, camera in views for wire in camera.tripwires),
    )


def _camera(scene: Scene, view: CameraScene) -> Camera:
    camera = next(c for c in scene.settings.cameras if c.id == view.camera)
    return in_picture(camera, scene.width_px, scene.height_px)


def _visits(camera: str, zone: Zone, obj: SceneObject, spans: list[Span], first_seen_us: int) -> Iterator[Visit]:
    for enter_us, exit_us in _join(spans, zone.gap_s * 1e6):
        if exit_us - enter_us >= zone.min_inside_s * 1e6:
            yield Visit(
                camera, zone.id, int(enter_us), int(exit_us), obj.name, obj.label, born_inside=enter_us == first_seen_us
            )


def _alerts(camera: Camera, visits: list[Visit], inside: list[Inside]) -> Iterator[Alert]:
    for rule in camera.rules:
        if isinstance(rule, Crowding):
            yield from _crowding_alerts(camera, rule, _crowd(camera, rule, inside))
        elif isinstance(rule, Loitering):
            within = [v for v in visits if (v.camera, v.zone) == (camera.id, rule.zone)]
            yield from _loitering_alerts(camera, rule, within)


def _crowd(camera: Camera, rule: Crowding, inside: Iterable[Inside]) -> Steps:
    """Who is in the rule's zone at each moment: who is away for less than the zone's gap is away."""
    return Steps(tuple(i.span for i in inside if (i.camera, i.zone) == (camera.id, rule.zone)))


def _crowd_spells(rule: Crowding, crowd: Steps) -> list[Span]:
    return [(int(a), int(b)) for a, b in _join(crowd.spells(rule.count), rule.gap_s * 1e6)]


def _crowding_alerts(camera: Camera, rule: Crowding, crowd: Steps) -> Iterator[Alert]:
    free_us = -math.inf
    for start_us, end_us in _crowd_spells(rule, crowd):
        open_us = max(start_us + round(rule.hold_s * 1e6), free_us)
        if open_us <= end_us:
            peak = max(crowd.at(a) for a, _ in crowd.spans if start_us <= a <= end_us)
            yield Alert(camera.id, rule.id, start_us, int(open_us), end_us, rule.zone, "crowding", "", float(peak))
            free_us = end_us + rule.cooldown_s * 1e6


def _loitering_alerts(camera: Camera, rule: Loitering, visits: list[Visit]) -> Iterator[Alert]:
    free_us: dict[str, float] = {}
    for visit in sorted(visits, key=lambda v: v.enter_us):
        open_us = max(visit.enter_us + round(rule.since_s * 1e6), free_us.get(visit.object, -math.inf))
        if open_us <= visit.exit_us:
            yield Alert(
                camera.id, rule.id, visit.enter_us, int(open_us), visit.exit_us,
                rule.zone, "loitering", visit.object, visit.dwell_s,
            )  # fmt: skip
            free_us[visit.object] = visit.exit_us + rule.cooldown_s * 1e6


# ------------------------------------------------------------------------------------------------ fragility


@dataclass(frozen=True)
class Fragile:
    """A decision that hangs on a hair, and an object without which it would not."""

    camera: str
    object: str
    why: str


def fragile_decisions(scene: Scene, tolerance_s: float) -> list[Fragile]:
    """Name what would change if observed times moved by up to `tolerance_s`: thresholds that are only just met or
    missed, gaps near their limits, spells that touch. An empty list means that counts and alerts are safe."""
    truth = scene_truth(scene)
    found: list[Fragile] = []
    for view in scene.cameras:
        camera = _camera(scene, view)
        for obj in view.objects:
            found += [Fragile(view.camera, obj.name, why) for why in _fragile_gaps(camera, obj, tolerance_s)]
        for rule in camera.rules:
            if isinstance(rule, Crowding):
                whys = _fragile_crowding(camera, rule, truth.inside, tolerance_s)
                found += [Fragile(view.camera, name, why) for name, why in whys]
            if not isinstance(rule, Loitering):
                continue
            for visit in truth.visits:
                close = abs(visit.dwell_s - rule.since_s) < 2 * tolerance_s
                if close and (visit.camera, visit.zone) == (camera.id, rule.zone):
                    why = f"dwell {visit.dwell_s:.2f} s, loitering since {rule.since_s} s"
                    found.append(Fragile(view.camera, visit.object, why))
    return found


def _fragile_gaps(camera: Camera, obj: SceneObject, tolerance_s: float) -> Iterator[str]:
    for zone in camera.zones:
        if not _covers(zone, obj.label):
            continue
        spans = _intersect(_inside_spans_s(obj, zone), _seen_spans_s(obj))
        for (_, b), (c, _) in pairwise(spans):
            if abs(c - b - zone.gap_s) < 2 * tolerance_s:
                yield f"{c - b:.2f} s outside of {zone.id}, gap {zone.gap_s} s"
        for a, b in spans:
            if b - a < 2 * tolerance_s:
                yield f"only {b - a:.2f} s inside {zone.id}"
            if 0 < a - obj.start_s < 2 * tolerance_s:
                yield f"enters {zone.id} {a - obj.start_s:.2f} s after it is first seen"


def _fragile_crowding(
    camera: Camera, rule: Crowding, inside: Iterable[Inside], tolerance_s: float
) -> Iterator[tuple[str, str]]:
    """Yield (object, why)."""
    near_us = 2 * tolerance_s * 1e6
    within = [i for i in inside if (i.camera, i.zone) == (camera.id, rule.zone)]
    entering = {i.span[0]: i.object for i in within}
    crowd = _crowd(camera, rule, inside)
    for (_, b), (c, _) in pairwise(crowd.spells(rule.count)):
        if abs(c - b - rule.gap_s * 1e6) < near_us:
            yield entering[c], f"{rule.id}: spells {(c - b) / 1e6:.2f} s apart, gap {rule.gap_s} s"
    for a, b in _crowd_spells(rule, crowd):
        if abs(b - a - rule.hold_s * 1e6) < near_us:
            yield entering[a], f"{rule.id}: spell of {(b - a) / 1e6:.2f} s, hold {rule.hold_s} s"
    # One that leaves just before another enters: were times to move, there would be a spell, or an earlier one.
    changes = sorted([(i.span[0], 1, i.object) for i in within] + [(i.span[1], -1, i.object) for i in within])
    level = 0
    for (at_us, step, _), (next_us, next_step, name) in pairwise(changes):
        level += step
        if level == rule.count - 1 and step < 0 < next_step and next_us - at_us < near_us:
            yield name, f"{rule.id}: enters {(next_us - at_us) / 1e6:.2f} s after another left"
