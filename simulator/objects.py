"""Objects of a scene: who walks where and when, as exact piecewise-linear paths."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

from simulator.geometry import ANCHOR_FRACTIONS, XY

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Waypoint:
    """Where an object's foot (bottom centre of its box) is at a time, in seconds from the scene's start."""

    at_s: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a box as a linear function of its foot's y: `height_per_y` 0 is a constant size, > 0 a perspective."""

    height: float
    height_per_y: float = 0.0
    aspect: float = 0.4  # width / height, both as ratios of the frame

    def size(self, y: float) -> XY:
        """Return width and height of a box whose foot is at `y`."""
        height = self.height + self.height_per_y * y
        return self.aspect * height, height

    def box(self, x: float, y: float) -> Box:
        """Return x1 y1 x2 y2 of a box whose foot is at (x, y)."""
        width, height = self.size(y)
        return x - width / 2, y - height, x + width / 2, y

    def anchor(self, x: float, y: float, anchor: str) -> XY:
        """Return the anchor point of a box whose foot is at (x, y)."""
        x1, y1, x2, y2 = self.box(x, y)
        fx, fy = ANCHOR_FRACTIONS[anchor]
        return x1 + fx * (x2 - x1), y1 + fy * (y2 - y1)


@dataclass(frozen=True)
class SceneObject:
    """One object: seen from its first to its last waypoint, save in the `hidden` spans (start and end in seconds)."""

    name: str
    label: str
    path: tuple[Waypoint, ...]
    shape: Shape
    hidden: tuple[tuple[float, float], ...] = ()
    _times_s: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        times = tuple(w.at_s for w in self.path)
        if len(times) < 2 or any(b <= a for a, b in pairwise(times)):
            raise ValueError(f"object {self.name!r}: expected two or more waypoints in order of time, got {times}")
        object.__setattr__(self, "_times_s", times)

    @property
    def start_s(self) -> float:
        """When it is seen first."""
        return self.path[0].at_s

    @property
    def end_s(self) -> float:
        """When it is seen last."""
        return self.path[-1].at_s

    def is_visible(self, at_s: float) -> bool:
        """Whether a perfect detector sees it then."""
        return self.start_s <= at_s <= self.end_s and not any(a < at_s < b for a, b in self.hidden)

    def foot(self, at_s: float) -> XY:
        """Return where its foot is (held at the ends outside of its life)."""
        i = min(max(bisect_right(self._times_s, at_s), 1), len(self.path) - 1)
        a, b = self.path[i - 1], self.path[i]
        done = min(1.0, max(0.0, (at_s - a.at_s) / (b.at_s - a.at_s)))
        return a.x + done * (b.x - a.x), a.y + done * (b.y - a.y)

    def box(self, at_s: float) -> Box:
        """Return its box."""
        return self.shape.box(*self.foot(at_s))

    def anchor_path(self, anchor: str) -> list[tuple[float, XY]]:
        """Return its anchor point at each waypoint; between them it moves in a straight line, exactly.

        Width and height are linear in y, so every anchor is an affine map of the foot.
        """
        return [(w.at_s, self.shape.anchor(w.x, w.y, anchor)) for w in self.path]
