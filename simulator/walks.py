"""Who walks where: random but sensible paths for a camera, laid around its zones and tripwires.

In the exact arrangement each object keeps to a lane of its own, so that boxes never overlap and a right tracker keeps
each object as one track; turns and pauses keep clear of the edges of zones and of tripwires, so that what happens does
not hang on a hair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from schemas.settings import Camera
from simulator.geometry import is_inside, polyline_distance
from simulator.objects import SceneObject, Shape, Waypoint

CLEARANCE = 0.035
"""How far from every edge and tripwire an object pauses, turns, appears and vanishes, as a ratio of the frame."""
_TOP_Y, _BOTTOM_Y = 0.14, 0.93
_KIN_DISTANCE = 0.35
_GRID = tuple(i / 400 for i in range(401))
BEHAVIOURS = ("pass", "loiter", "return", "born_inside", "vanish_inside", "dip", "leave")
"""What objects do: walk through; pause inside; turn back; appear inside; vanish inside; leave the zone for less than
its `gap_s`; leave it for more."""
ASPECTS = {"person": 0.40, "bicycle": 0.7, "car": 1.3}


@dataclass(frozen=True)
class WalkPlan:
    """How busy and how varied a camera's scene is.

    lane_count: as many objects can be there at once. speed_max: ratios of the frame's width per second; it is lowered
    so that an object moves at most 0.35 of its width a frame (`fps_min`). pause_max_s: longest pause in the zone.
    hidden_ratio: share of objects that are unseen for a moment (half of the camera's `track_memory_s`).
    crowded: two objects to a lane, which meet and overlap.
    """

    lane_count: int = 6
    labels: tuple[str, ...] = ("person", "car")
    behaviours: tuple[str, ...] = BEHAVIOURS
    speed_max: float = 0.14
    pause_max_s: float = 14.0
    rest_s: tuple[float, float] = (5.0, 9.0)
    hidden_ratio: float = 0.15
    fps_min: float = 5.0
    crowded: bool = False


@dataclass(frozen=True)
class _Lane:
    """A band of the picture; `y` is where feet go, `sway` how far they may stray from it."""

    y: float
    sway: float
    shape: Shape


def lanes(count: int) -> list[_Lane]:
    """Lay `count` lanes below one another, nearer ones higher, with boxes as tall as fit without touching."""
    low, high = 0.0, 1.0
    for _ in range(40):  # by bisection: 40 halvings are exact to a float's precision
        scale = (low + high) / 2
        ys = _lane_ys(count, scale)
        low, high = (scale, high) if ys[-1] <= _BOTTOM_Y else (low, scale)
    shape = Shape(height=0.04 * low, height_per_y=0.16 * low)
    return [_Lane(y, 0.04 * shape.size(y)[1], shape) for y in _lane_ys(count, low)]


def _lane_ys(count: int, scale: float) -> list[float]:
    base, slope, air = 0.04 * scale, 0.16 * scale, 0.2
    ys = [_TOP_Y + 0.1 * scale]
    for _ in range(count - 1):  # y - (1 + air)·height(y) = the lane above
        ys.append((ys[-1] + (1 + air) * base) / (1 - (1 + air) * slope))
    return ys


def plan_objects(camera: Camera, plan: WalkPlan, duration_s: float, rng: np.random.Generator) -> list[SceneObject]:
    """Fill `duration_s` of one camera's scene. The same arguments and generator state give the same objects."""
    objects: list[SceneObject] = []
    tracks = lanes(plan.lane_count) * (2 if plan.crowded else 1)
    for number, lane in enumerate(tracks):
        at_s = float(rng.uniform(0.3, plan.rest_s[1]))
        while at_s < duration_s:
            made = _Walk(camera, plan, lane, rng).make(f"{camera.id}-{number}-{len(objects)}", at_s)
            if made.end_s > duration_s:
                break
            if not plan.crowded and any(_could_be_one(made, other, camera.track_memory_s) for other in objects):
                at_s += 0.5
                continue
            objects.append(made)
            at_s = made.end_s + float(rng.uniform(*plan.rest_s))
    return objects


def _could_be_one(a: SceneObject, b: SceneObject, memory_s: float) -> bool:
    """Whether one appears so soon after the other vanished, and so near, that a tracker may take them for one."""
    first, second = (a, b) if a.end_s <= b.end_s else (b, a)
    if not 0 <= second.start_s - first.end_s < memory_s + 1.0:
        return False
    end, start = first.path[-1], second.path[0]
    return math.hypot(end.x - start.x, end.y - start.y) < _KIN_DISTANCE


class _Walk:
    """One object's way along its lane."""

    def __init__(self, camera: Camera, plan: WalkPlan, lane: _Lane, rng: np.random.Generator) -> None:
        self._camera, self._plan, self._lane, self._rng = camera, plan, lane, rng
        self._label = str(rng.choice(plan.labels))
        aspect = ASPECTS.get(self._label, 0.6)
        self._shape = Shape(lane.shape.height, lane.shape.height_per_y, aspect)
        width = self._shape.size(lane.y)[0]
        self._left, self._right = width / 2 + 0.012, 1 - width / 2 - 0.012
        self._speed = float(rng.uniform(0.5, 1.0)) * min(plan.speed_max, 0.35 * width * plan.fps_min)

    def make(self, name: str, start_s: float) -> SceneObject:
        """Choose a behaviour that the lane allows and walk it."""
        inside, outside = self._spots()
        behaviour = str(self._rng.choice(self._plan.behaviours))
        if not inside:
            behaviour = "pass"
        stops = self._stops(behaviour, inside, outside)
        if self._rng.random() < 0.5 and behaviour not in ("dip", "leave", "born_inside", "vanish_inside"):
            stops = [(self._left + self._right - x, p) if i in (0, len(stops) - 1) else (x, p)
                     for i, (x, p) in enumerate(stops)]  # fmt: skip
        return self._walk(name, start_s, stops)

    def _spots(self) -> tuple[list[float], list[float]]:
        """Return x of the lane inside the first zone, and outside of it, that are clear of everything."""
        xs = [x for x in _GRID if self._left <= x <= self._right and self._is_clear(x)]
        if not self._camera.zones:
            return [], xs
        zone = self._camera.zones[0]
        flags = [is_inside(self._shape.anchor(x, self._lane.y, zone.anchor), zone.polygon) for x in xs]
        return [x for x, f in zip(xs, flags, strict=True) if f], [x for x, f in zip(xs, flags, strict=True) if not f]

    def _is_clear(self, x: float) -> bool:
        def anchor(name: str) -> tuple[float, float]:
            return self._shape.anchor(x, self._lane.y, name)

        return all(
            polyline_distance(anchor(z.anchor), (*z.polygon, z.polygon[0])) > CLEARANCE for z in self._camera.zones
        ) and all(
            polyline_distance(anchor(w.anchor), w.points) > CLEARANCE + w.band_ratio for w in self._camera.tripwires
        )

    def _stops(self, behaviour: str, inside: list[float], outside: list[float]) -> list[tuple[float, float]]:
        """Return (x, pause in s) of each stop; the first and last are where the object appears and vanishes."""
        ends = [(self._left, 0.0), (self._right, 0.0)]
        pause_s = float(self._rng.uniform(2.0, max(2.1, self._plan.pause_max_s)))
        short_s = float(self._rng.uniform(1.0, 3.0))
        if behaviour == "loiter":
            return [ends[0], (self._pick(inside), pause_s), ends[1]]
        if behaviour == "return":
            return [ends[0], (self._pick(inside + outside), short_s), ends[0]]
        if behaviour == "born_inside":
            return [(self._pick(inside), 0.0), ends[int(self._rng.integers(2))]]
        if behaviour == "vanish_inside":
            return [ends[int(self._rng.integers(2))], (self._pick(inside), short_s), (self._pick(inside), short_s)]
        if behaviour in ("dip", "leave"):
            loiter = [ends[0], (self._pick(inside), pause_s), ends[1]]
            return self._stops_of_excursion(behaviour, inside, short_s) or loiter
        return ends

    def _stops_of_excursion(
        self, behaviour: str, inside: list[float], short_s: float
    ) -> list[tuple[float, float]] | None:
        """Inside, out over the zone's left edge for half its gap (dip) or for twice (leave), and in again."""
        zone = self._camera.zones[0]
        spot = inside[0]
        edge = self._edge_left_of(spot)
        away_s = zone.gap_s * (0.5 if behaviour == "dip" else 2.0)
        reach = min(0.25 * away_s * self._speed, edge - self._left)
        if reach <= 0.002:
            return None
        pause_s = away_s - 2 * reach / self._speed
        return [(self._right, 0.0), (spot, short_s), (edge - reach, pause_s), (spot, short_s), (self._right, 0.0)]

    def _edge_left_of(self, spot: float) -> float:
        zone = self._camera.zones[0]
        outside, inside = self._left, spot
        for _ in range(40):
            middle = (outside + inside) / 2
            if is_inside(self._shape.anchor(middle, self._lane.y, zone.anchor), zone.polygon):
                inside = middle
            else:
                outside = middle
        return inside

    def _pick(self, xs: list[float]) -> float:
        return xs[int(self._rng.integers(len(xs)))]

    def _walk(self, name: str, start_s: float, stops: list[tuple[float, float]]) -> SceneObject:
        at_s = start_s
        points: list[Waypoint] = []
        pauses: list[tuple[float, float]] = []
        for x, pause_s in stops:
            y = self._lane.y + float(self._rng.uniform(-1, 1)) * self._lane.sway
            if points:
                at_s += max(0.05, abs(x - points[-1].x) / self._speed)
            points.append(Waypoint(at_s, x, y))
            if pause_s > 0:
                pauses.append((at_s, at_s + pause_s))
                at_s += pause_s
                points.append(Waypoint(at_s, x, y))
        return SceneObject(name, self._label, tuple(points), self._shape, self._hidden(pauses))

    def _hidden(self, pauses: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
        """Hide the object for a moment of one of its pauses, so that nothing happens unseen."""
        length_s = 0.5 * self._camera.track_memory_s
        fit = [(a, b) for a, b in pauses if b - a > length_s + 1.0]
        if not fit or self._rng.random() >= self._plan.hidden_ratio:
            return ()
        start_s = fit[0][0] + 0.5
        return ((start_s, start_s + length_s),)
