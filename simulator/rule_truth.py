"""Which alerts a scene's rules should raise, worked out from the objects' true paths.

Nothing here knows detections, tracks or the code under test. Every object's true place is looked at each `TICK_S`, whatever
the cameras' clocks, in the picture and, where the camera's settings know it, on the floor in metres. What a rule asks for
is then true or false at each moment, and:

- An object that is not seen does nothing: what is asked of it is false.
- Spells in which it is true and that are apart by at most the rule's `gap_s` are one. A spell opens an alert at the first
  moment at which it is true and has lasted `hold_s`; the alert ends with the spell's last moment.
- Visits are those of `truth.py`: absences of up to the zone's `gap_s` belong to them.
- Loitering, dwell, queue wait: the visit has lasted that long, and the object is inside. The alert starts with the visit.
- Still: since the object was last farther than `still_m` (on the floor; else `still_ratio` of its box's height, in the
  picture) from where it is now. Being unseen does not end it.
- Abandoned: still, seen, and no owner was nearer than `owner_m` since then (`owner_ratio` of the owner's height).
- Empty: no visit is under way; who has left is taken for inside until the zone's `gap_s` has passed.
- Removed: an object that had been still for `since_s` is not seen again, or leaves its place. The alert starts at the
  first moment at which it is gone or away; that an object is gone is known a `track_memory_s` later.
- Line crossing and tailgating: moments. `start_s` and `end_s` are when the path meets the tripwire, `open_s` is when the object
  is seen next.
- Speed and direction are those of the path, over `SPEED_S`.

Schedules, cool-downs, grouping and uncertainty (`sure_sd`) are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    DwellLimit,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    PlaceRule,
    Proximity,
    QueueLength,
    QueueWait,
    Removed,
    RestrictedClass,
    Speeding,
    Stopped,
    Tailgating,
    WrongWay,
    ZoneRule,
)
from schemas.settings import Camera, Tripwire, Zone
from simulator.floor import Floor
from simulator.geometry import ANCHOR_FRACTIONS, XY
from simulator.objects import SceneObject
from simulator.scene import CameraScene, Scene

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
TICK_S = 0.005
SPEED_S = 0.05
STILL_TICKS = 4  # who stands still is looked at each so many ticks


@dataclass(frozen=True, order=True)
class RuleAlert:
    """One alert that should be raised. Times in seconds from the scene's start.

    start_s: since when what the rule asks for is true. open_s: when it has been so for long enough. end_s: the last moment at
    which it is true. subjects: names of the objects it is about; none where it is about a place.
    """

    camera: str
    rule: str
    start_s: float
    open_s: float
    end_s: float
    subjects: tuple[str, ...] = ()


def rule_alerts(scene: Scene) -> tuple[RuleAlert, ...]:
    """Return the alerts of every camera and rule, in order of camera, rule and time."""
    cameras = {c.id: c for c in scene.settings.cameras}
    return tuple(
        sorted(alert for view in scene.cameras for alert in _CameraTruth(scene, view, cameras[view.camera]).alerts())
    )


class _Path:
    """One object's true places at the moments of the scene."""

    def __init__(self, obj: SceneObject, times_s: F64, aspect: float, floor: Floor | None) -> None:
        self.obj, self._times_s, self._floor = obj, times_s, floor
        self._aspect = aspect
        self.there: Flags = (times_s >= obj.start_s) & (times_s <= obj.end_s)
        hidden: Flags = np.zeros(len(times_s), bool)
        for a, b in obj.hidden:
            hidden |= (times_s > a) & (times_s < b)
        self.seen: Flags = self.there & ~hidden
        way = np.array([(w.at_s, w.x, w.y) for w in obj.path])
        self.foot = np.column_stack(
            [np.interp(times_s, way[:, 0], way[:, 1]), np.interp(times_s, way[:, 0], way[:, 2])]
        )
        self.height: F64 = obj.shape.height + obj.shape.height_per_y * self.foot[:, 1]

    @cached_property
    def ground_m(self) -> F64:
        """Return its places on the floor (N×2)."""
        assert self._floor is not None, "settings are checked: rules in metres have a ground"
        return self._floor.to_ground(self.foot)

    @cached_property
    def feet(self) -> F64:
        """Return its places in the picture, in frame heights (N×2): lengths there are the same in all directions."""
        return self.foot * (self._aspect, 1.0)

    def anchor(self, name: str) -> F64:
        """Return an anchor point of its box in the picture (N×2, ratios)."""
        fx, fy = ANCHOR_FRACTIONS[name]
        width = self.obj.shape.aspect * self.height
        return np.column_stack(
            [self.foot[:, 0] + (fx - 0.5) * width, self.foot[:, 1] + (fy - 1.0) * self.height]
        )  # fmt: skip

    def velocity(self, places: F64) -> F64:
        """Return how fast the places change (per s, N×2), over SPEED_S around each moment."""
        reach = max(1, round(SPEED_S / TICK_S / 2))
        i = np.arange(len(places))
        first, last = int(self.there.argmax()), len(places) - 1 - int(self.there[::-1].argmax())
        low, high = np.clip(i - reach, first, last), np.clip(i + reach, first, last)
        taken = np.maximum(self._times_s[high] - self._times_s[low], TICK_S)
        return np.asarray((places[high] - places[low]) / taken[:, None])


class _CameraTruth:
    """One camera's rules over its objects' paths."""

    def __init__(self, scene: Scene, view: CameraScene, camera: Camera) -> None:
        self._camera = camera
        self._times_s: F64 = np.arange(0.0, scene.duration_s, TICK_S)
        floor = Floor.of_camera(camera, scene.width_px, scene.height_px)
        self._on_ground = floor is not None
        self._aspect = scene.width_px / scene.height_px
        self._paths = [_Path(o, self._times_s, self._aspect, floor) for o in view.objects]
        self._zones = {z.id: z for z in camera.zones}
        self._wires = {w.id: w for w in camera.tripwires}
        self._inside: dict[tuple[str, str], Flags] = {}

    def alerts(self) -> Iterator[RuleAlert]:
        """Yield the alerts of all rules."""
        for rule in self._camera.rules:
            yield from self._of_rule(rule)

    def _of_rule(self, rule: AnyRule) -> Iterator[RuleAlert]:
        match rule:
            case LineCrossing():
                return self._line_crossings(rule)
            case Tailgating():
                return self._tailgating(rule)
            case Crowding() | QueueLength() | Empty():
                return self._of_place(rule)
            case Proximity():
                return self._of_pairs(rule)
            case Loitering() | DwellLimit() | QueueWait():
                return self._long_visits(rule)
            case Removed():
                return self._removed(rule)
            case _:
                return self._of_objects(rule)

    def _alert(
        self, rule: AnyRule, start_s: float, open_s: float, end_s: float, subjects: tuple[str, ...]
    ) -> RuleAlert:
        return RuleAlert(
            self._camera.id,
            rule.id,
            round(float(start_s), 3),
            round(float(open_s), 3),
            round(float(end_s), 3),
            subjects,
        )

    def _runs(
        self, rule: AnyRule, flags: Flags, subjects: tuple[str, ...], hold_s: float | None = None
    ) -> Iterator[RuleAlert]:
        """Yield an alert for each spell that has lasted long enough."""
        for first, last in _joined(_spells(flags), rule.gap_s):
            held = first + round((rule.hold_s if hold_s is None else hold_s) / TICK_S)
            true_from_then = np.flatnonzero(flags[held : last + 1])
            if len(true_from_then):
                opened = held + int(true_from_then[0])
                yield self._alert(rule, first * TICK_S, opened * TICK_S, last * TICK_S, subjects)

    # ---- who is inside --------------------------------------------------------------------------------------------

    def _wanted(self, rule: AnyRule) -> list[_Path]:
        return [p for p in self._paths if not rule.classes or p.obj.label in rule.classes]

    def _inside_place(self, path: _Path, rule: ZoneRule | PlaceRule) -> Flags:
        """Whether it is seen, and inside the rule's zone where it names one."""
        return self._inside_zone(path, self._zones[rule.zone]) if rule.zone else path.seen

    def _inside_zone(self, path: _Path, zone: Zone) -> Flags:
        key = (path.obj.name, zone.id)
        if key not in self._inside:
            if zone.classes and path.obj.label not in zone.classes:
                self._inside[key] = np.zeros(len(self._times_s), bool)
            else:
                places = path.ground_m if zone.plane == "ground" else path.anchor(zone.anchor)
                self._inside[key] = path.seen & _in_polygon(places, zone.polygon)
        return self._inside[key]

    def _visits(self, path: _Path, zone: Zone) -> list[tuple[int, int]]:
        spells = _joined(_spells(self._inside_zone(path, zone)), zone.gap_s)
        return [(a, b) for a, b in spells if (b - a) * TICK_S >= zone.min_inside_s]

    # ---- rules about one object -----------------------------------------------------------------------------------

    def _of_objects(self, rule: AnyRule) -> Iterator[RuleAlert]:
        for path in self._wanted(rule):
            match rule:
                case Intrusion() | RestrictedClass():
                    flags = self._inside_place(path, rule)
                case Stopped():
                    flags = self._inside_place(path, rule) & (self._still_s(path) >= rule.since_s)
                    for alert in self._runs(rule, flags, (path.obj.name,)):
                        yield self._started_earlier(alert, rule.since_s)
                    continue
                case Abandoned():
                    flags = self._inside_place(path, rule) & (self._alone_s(path, rule) >= rule.since_s)
                    for alert in self._runs(rule, flags, (path.obj.name,)):
                        yield self._started_earlier(alert, rule.since_s)
                    continue
                case Speeding():
                    speed = np.hypot(*path.velocity(path.ground_m).T)
                    flags = self._inside_place(path, rule) & (speed > rule.limit_mps)
                case WrongWay():
                    flags = self._inside_place(path, rule) & self._goes_against(path, rule)
                case _:
                    raise AssertionError(f"no truth for rules like {rule}")
            yield from self._runs(rule, flags, (path.obj.name,))

    def _started_earlier(self, alert: RuleAlert, by_s: float) -> RuleAlert:
        """Date an alert to when the time began that it asks for."""
        return RuleAlert(
            alert.camera, alert.rule, round(alert.start_s - by_s, 3), alert.open_s, alert.end_s, alert.subjects
        )

    def _long_visits(self, rule: Loitering | DwellLimit | QueueWait) -> Iterator[RuleAlert]:
        match rule:
            case Loitering():
                limit_s = rule.since_s
            case DwellLimit():
                limit_s = rule.limit_s
            case QueueWait():
                limit_s = rule.wait_s
        asked = round(limit_s / TICK_S)
        for path in self._wanted(rule):
            inside = self._inside_zone(path, self._zones[rule.zone])
            for first, last in self._visits(path, self._zones[rule.zone]):
                late = np.flatnonzero(inside[first + asked : last + 1])
                if len(late):
                    opened = first + asked + int(late[0])
                    yield self._alert(rule, first * TICK_S, opened * TICK_S, last * TICK_S, (path.obj.name,))

    def _still_s(self, path: _Path) -> F64:
        """Return for each moment how long it has stayed where it is then; 0 where it is not there."""
        return _stay_s(*self._places(path), path.there)

    def _places(self, path: _Path) -> tuple[F64, F64]:
        """Return its places and the radius within which it is still, per moment."""
        if self._on_ground:
            return path.ground_m, np.full(len(self._times_s), self._camera.still_m)
        return path.feet, self._camera.still_ratio * path.height

    def _alone_s(self, path: _Path, rule: Abandoned) -> F64:
        """Return for each moment how long it has been still without an owner near it."""
        near: Flags = np.zeros(len(self._times_s), bool)
        for owner in self._paths:
            if owner is path or owner.obj.label not in rule.owner_classes:
                continue
            if self._on_ground:
                close = np.hypot(*(owner.ground_m - path.ground_m).T) < rule.owner_m
            else:
                close = np.hypot(*(owner.feet - path.feet).T) < rule.owner_ratio * owner.height
            near |= owner.seen & close
        i = np.arange(len(near))
        last_near = np.maximum.accumulate(np.where(near, i, -1))
        since_near = np.where(last_near < 0, np.inf, (i - last_near) * TICK_S)
        return np.minimum(self._still_s(path), since_near)

    def _goes_against(self, path: _Path, rule: WrongWay) -> Flags:
        arrow = np.array(rule.allowed[1]) - np.array(rule.allowed[0])
        if rule.plane == "ground":
            velocity, slowest = path.velocity(path.ground_m), np.full(len(self._times_s), rule.slowest_mps)
        else:
            velocity, slowest = path.velocity(path.feet), rule.slowest_ratio * path.height
            arrow = arrow * (self._aspect, 1.0)
        speed = np.hypot(*velocity.T)
        cosine = -(velocity @ arrow) / np.maximum(speed * np.hypot(*arrow), 1e-12)
        return np.asarray((speed > slowest) & (cosine >= np.cos(np.radians(rule.tolerance_deg))))

    def _removed(self, rule: Removed) -> Iterator[RuleAlert]:
        memory_s = self._camera.track_memory_s
        for path in self._wanted(rule):
            seen = np.flatnonzero(path.seen)
            still_s = np.where(self._inside_place(path, rule), self._still_s(path), 0.0)
            last = int(seen[-1]) if len(seen) else -1
            # While it keeps still, the time it has been so rises; where that falls, it has left its place.
            for i in np.flatnonzero((still_s[:-1] >= rule.since_s) & (self._still_s(path)[1:] < rule.since_s)).tolist():
                if i != last:
                    yield self._alert(rule, i * TICK_S, i * TICK_S, i * TICK_S, (path.obj.name,))
            if last >= 0 and last + 1 < len(self._times_s) and still_s[last] >= rule.since_s:
                at_s = last * TICK_S
                yield self._alert(rule, at_s, at_s + memory_s, at_s, (path.obj.name,))

    # ---- rules about a place, about pairs, about tripwires ---------------------------------------------------------

    def _of_place(self, rule: Crowding | QueueLength | Empty) -> Iterator[RuleAlert]:
        zone = self._zones[rule.zone]
        count = np.zeros(len(self._times_s), int)
        for path in self._wanted(rule):
            inside = self._inside_zone(path, zone)
            if isinstance(rule, Empty):
                inside = inside.copy()
                for first, last in self._visits(path, zone):
                    inside[first : last + 1 + round(zone.gap_s / TICK_S)] = True
            if isinstance(rule, QueueLength):
                settled: Flags = np.zeros(len(inside), bool)
                for first, last in self._visits(path, zone):
                    settled[first + round(rule.settled_s / TICK_S) : last + 1] = True
                inside = inside & settled
            count += inside
        if isinstance(rule, Empty):
            yield from self._runs(rule, count == 0, (), rule.since_s)
        else:
            yield from self._runs(rule, count >= rule.count, ())

    def _of_pairs(self, rule: Proximity) -> Iterator[RuleAlert]:
        def fits(label: str, classes: Sequence[str]) -> bool:
            return not classes or label in classes

        for a, b in combinations(self._paths, 2):
            one, other = a.obj.label, b.obj.label
            if not (fits(one, rule.classes) and fits(other, rule.other_classes)) and not (
                fits(other, rule.classes) and fits(one, rule.other_classes)
            ):
                continue
            near = np.hypot(*(a.ground_m - b.ground_m).T) < rule.distance_m
            flags = near & self._inside_place(a, rule) & self._inside_place(b, rule)
            yield from self._runs(rule, np.asarray(flags), (a.obj.name, b.obj.name))

    def _line_crossings(self, rule: LineCrossing) -> Iterator[RuleAlert]:
        for at_s, seen_s, name, _ in self._crossings(rule):
            yield self._alert(rule, at_s, seen_s, at_s, (name,))

    def _tailgating(self, rule: Tailgating) -> Iterator[RuleAlert]:
        """The second of two is the one who tailgates; the first of `subjects`."""
        before: dict[str, tuple[float, str]] = {}
        for at_s, seen_s, name, side in self._crossings(rule):
            if side in before and at_s - before[side][0] <= rule.within_s and before[side][1] != name:
                yield self._alert(rule, at_s, seen_s, at_s, (name, before[side][1]))
            before[side] = (at_s, name)

    def _crossings(self, rule: LineCrossing | Tailgating) -> list[tuple[float, float, str, str]]:
        """Return (s, when seen next in s, name, side walked to) in order of time."""
        wire = self._wires[rule.tripwire]
        found = []
        for path in self._wanted(rule):
            if wire.classes and path.obj.label not in wire.classes:
                continue
            places = path.ground_m if wire.plane == "ground" else path.anchor(wire.anchor)
            for i, side in _passages(places, path.there, wire):
                if rule.direction in ("any", side):
                    seen = i + int(path.seen[i:].argmax())
                    found.append((i * TICK_S, seen * TICK_S, path.obj.name, side))
        return sorted(found)


def _spells(flags: Flags) -> list[tuple[int, int]]:
    """Return first and last index of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def _joined(spells: Iterable[tuple[int, int]], gap_s: float) -> list[tuple[int, int]]:
    """Join spells that are at most `gap_s` apart."""
    joined: list[tuple[int, int]] = []
    for a, b in spells:
        if joined and (a - joined[-1][1]) * TICK_S <= gap_s:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return joined


def _in_polygon(places: F64, polygon: Sequence[XY]) -> Flags:
    """Even-odd rule, as `geometry.is_inside`, for many points."""
    inside: Flags = np.zeros(len(places), bool)
    x, y = places.T
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def _stay_s(places: F64, radius: F64, there: Flags) -> F64:
    """Return for each moment since how long all places were within that moment's radius of its place."""
    coarse = slice(None, None, STILL_TICKS)
    at, reach, present = places[coarse], radius[coarse], there[coarse]
    stay = np.zeros(len(at))
    begin = int(present.argmax())
    for i in np.flatnonzero(present).tolist():
        outside = np.flatnonzero(np.hypot(*(at[begin : i + 1] - at[i]).T) > reach[i])
        if len(outside):
            begin += int(outside[-1]) + 1
        stay[i] = (i - begin) * STILL_TICKS * TICK_S
    return np.where(there, np.repeat(stay, STILL_TICKS)[: len(places)], 0.0)


def _passages(places: F64, there: Flags, wire: Tripwire) -> Iterator[tuple[int, str]]:
    """Yield index and side walked to, each time the path meets a piece of the polyline.

    In the picture y points down, on the floor up: what is right of a walk has the other sign.
    """
    sign = 1.0 if wire.plane == "image" else -1.0
    p, q = places[:-1], places[1:]
    for (ax, ay), (bx, by) in zip(wire.points, wire.points[1:], strict=False):

        def side(of: F64, ax: float = ax, ay: float = ay, bx: float = bx, by: float = by) -> F64:
            return np.asarray(sign * ((bx - ax) * (of[:, 1] - ay) - (by - ay) * (of[:, 0] - ax)))

        before, after = side(p), side(q)
        dx, dy = (q - p).T
        across_a = dx * (ay - p[:, 1]) - dy * (ax - p[:, 0])
        across_b = dx * (by - p[:, 1]) - dy * (bx - p[:, 0])
        met = (before > 0) != (after > 0)
        met &= across_a * across_b <= 0
        met &= there[:-1] & there[1:]
        for i in np.flatnonzero(met).tolist():
            yield i, "right" if after[i] > 0 else "left"
