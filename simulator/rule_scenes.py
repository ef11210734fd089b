"""A scene for each rule: what should raise its alert several times over, and what nearly does and should not.

A camera eight metres up looks down on a floor of about 12 × 11 m. Who walks there does so smoothly, in metres, and is seen
as large as people, suitcases and cars are. `rule_truth.rule_alerts` says from the paths which alerts there should be, and
RULE_SCENES names them once more, as they were meant: the two are tested against each other.

A seed moves everybody by a few tenths of a second and of a metre: the scene stays the same, its numbers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    DwellLimit,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    Proximity,
    QueueLength,
    QueueWait,
    Removed,
    RestrictedClass,
    Speeding,
    Stopped,
    Tailgating,
    WrongWay,
)
from schemas.settings import Camera, Sampling, SiteSettings, Tripwire, Zone
from schemas.settings_file import parse_settings
from simulator.floor import Floor, FloorPath, View, seen_object
from simulator.geometry import XY
from simulator.layout import settings_yaml
from simulator.objects import SceneObject
from simulator.scene import DEFAULT_START_US, CameraScene, DetectorModel, FrameClock, Scene

VIEW = View()
SIZES_M: dict[str, XY] = {
    "person": (0.55, 1.7), "suitcase": (0.45, 0.65), "box": (0.5, 0.6), "bicycle": (1.5, 1.3), "car": (3.6, 1.5),
    "truck": (1.3, 2.1),
}  # fmt: skip
"""Width and height as the camera sees them."""
WALK_MPS = 1.2
TAIL_S = 6.0
"""Nobody is left for so long at a scene's end: what is open ends."""
QUIET_S = 0.2  # an empty frame is sent this often, so that what is gone is known to be gone at any frame rate
MEMORY_S = 2.0
SHIFT_S, SHIFT_M = 0.15, 0.12  # by how much at most a seed moves somebody

BAY = ((-2.0, 7.0), (2.0, 7.0), (2.0, 11.0), (-2.0, 11.0))
ANNEX = ((3.5, 7.0), (6.5, 7.0), (6.5, 11.0), (3.5, 11.0))
GATE = ((0.0, 4.0), (0.0, 13.0))
REFERENCES_M = ((-4.0, 5.0), (4.0, 5.0), (-5.0, 13.0), (5.0, 13.0), (0.0, 9.0))

Leg = tuple[float, float] | tuple[float, float, float] | float
"""Where to go (m) at WALK_MPS or another speed (m/s), or how long to wait (s)."""


@dataclass(frozen=True)
class Walk:
    """Somebody's way: from the first leg, a place, at `start_s`; unseen in the `hidden` spans (s from the start)."""

    name: str
    label: str
    start_s: float
    legs: tuple[Leg, ...]
    hidden: tuple[tuple[float, float], ...] = ()

    def seen_by(self, view: View, shift: tuple[float, float, float]) -> SceneObject:
        """Return the object; `shift` moves it by so many seconds and metres."""
        at_s, (x, y) = self.start_s + shift[0], _place(self.legs[0])
        stops = [(at_s, x, y)]
        for leg in self.legs[1:]:
            if isinstance(leg, tuple):
                to_x, to_y = _place(leg)
                at_s += float(np.hypot(to_x - x, to_y - y)) / (leg[2] if len(leg) == 3 else WALK_MPS)
                x, y = to_x, to_y
            else:
                at_s += leg
            stops.append((at_s, x, y))
        moved = tuple((t, x + shift[1], y + shift[2]) for t, x, y in stops)
        hidden = tuple((stops[0][0] + a, stops[0][0] + b) for a, b in self.hidden)
        return seen_object(self.name, self.label, FloorPath(moved), SIZES_M[self.label], view, hidden)


def _place(leg: Leg) -> XY:
    if not isinstance(leg, tuple):
        raise ValueError(f"expected a way that begins with a place, got {leg}")
    return leg[0], leg[1]


@dataclass(frozen=True)
class RuleScene:
    """One camera's rule, those who walk there, and the subjects of the alerts that are meant, in order of time.

    plane: what the camera's settings know: `pose`, `ground_points`, or `image`: nothing of the floor.
    """

    rule: AnyRule
    walks: tuple[Walk, ...]
    meant: tuple[tuple[str, ...], ...]
    duration_s: float
    zones: tuple[Zone, ...] = ()
    wires: tuple[Tripwire, ...] = ()
    plane: str = "pose"

    def camera(self, name: str) -> Camera:
        """Return the camera's settings."""
        camera = Camera(
            id=name, sampling=Sampling(quiet_s=QUIET_S), track_memory_s=MEMORY_S, zones=self.zones,
            tripwires=self.wires, rules=(self.rule,),
        )  # fmt: skip
        if self.plane == "image":
            return camera
        if self.plane == "pose":
            return msgspec.structs.replace(camera, pose=VIEW.pose)
        return msgspec.structs.replace(camera, ground_points=VIEW.ground_points(REFERENCES_M))


def rules_scene(names: Sequence[str] = (), seed: int = 0, **how: Any) -> Scene:
    """Return a site with a camera for each of these RULE_SCENES (default: all), named as they are.

    `how`: as `film` has it. Raises ValueError for a name that there is not.
    """
    for name in names:
        if name not in RULE_SCENES:
            raise ValueError(f"expected one of {', '.join(RULE_SCENES)}, got {name!r}")
    return film({name: RULE_SCENES[name]() for name in names or RULE_SCENES}, seed, **how)


def film(
    scenes: Mapping[str, RuleScene],
    seed: int = 0,
    *,
    clock: FrameClock | None = None,
    detector: DetectorModel | None = None,
    start_us: int = DEFAULT_START_US,
) -> Scene:
    """Return a site with a camera for each of the scenes, by name. Seed 0 leaves everybody where the scene has them."""
    settings = SiteSettings(version=1, site="rules", cameras=tuple(s.camera(name) for name, s in scenes.items()))
    views = tuple(
        CameraScene(name, _objects(name, s, seed), clock or FrameClock(), detector or DetectorModel(), QUIET_S)
        for name, s in scenes.items()
    )
    return Scene(
        parse_settings(settings_yaml(settings).encode(), "rule scenes"), views,
        max(s.duration_s for s in scenes.values()), seed, start_us, VIEW.width_px, VIEW.height_px,
    )  # fmt: skip


def _objects(name: str, scene: RuleScene, seed: int) -> tuple[SceneObject, ...]:
    objects = []
    for number, walk in enumerate(scene.walks):
        rng = np.random.default_rng([seed, number, *name.encode()])
        dt, dx, dy = rng.uniform(-1, 1, 3) * (SHIFT_S, SHIFT_M, SHIFT_M) if seed else (0.0, 0.0, 0.0)
        objects.append(walk.seen_by(VIEW, (float(dt), float(dx), float(dy))))
    return tuple(objects)


# ---- one scene per rule ------------------------------------------------------------------------------------------------


def _bay(**more: object) -> tuple[Zone, ...]:
    return (Zone(id="bay", polygon=BAY, plane="ground", **more),)  # type: ignore[arg-type]


def _bay_and_annex(**more: object) -> tuple[Zone, ...]:
    return (*_bay(**more), Zone(id="annex", polygon=ANNEX, plane="ground", **more))  # type: ignore[arg-type]


def _seen_bay() -> tuple[Zone, ...]:
    """Return the bay as a zone of the picture."""
    floor = Floor.of_pose(VIEW.pose, VIEW.width_px, VIEW.height_px)
    return (Zone(id="bay", polygon=tuple(floor.to_image(p) for p in BAY)),)


def _gate() -> tuple[Tripwire, ...]:
    return (Tripwire(id="gate", points=GATE, plane="ground"),)


def _line_crossing() -> RuleScene:
    """Who walks up the gate has its right at +x."""
    return RuleScene(
        LineCrossing(id="no-entry", tripwire="gate", direction="right", classes=("person",)),
        (
            Walk("over", "person", 1.0, ((-5, 6), (5, 6))),
            Walk("there-and-back", "person", 2.0, ((-5, 9), (3, 9), 2.0, (-5, 9))),
            Walk("other-way", "person", 1.5, ((6, 11.5), (-6, 11.5))),
            Walk("runs", "person", 14.0, ((-6, 12), (6, 12, 4.0))),
            Walk("unseen-at-the-gate", "person", 13.0, ((-5, 6), (5, 6)), ((3.4, 4.6),)),
            Walk("turns-before-it", "person", 24.0, ((-5, 7), (-0.7, 7), 1.0, (-5, 7))),
            Walk("drives", "car", 24.0, ((-5, 10.5), (5, 10.5, 2.5))),
            Walk("passes-beyond-its-end", "person", 22.0, ((-5, 14.2), (5, 14.2))),
            Walk("comes-again", "person", 36.0, ((-4, 8), (2, 8), 1.0, (-2, 8), 1.0, (4, 8))),
        ),
        (("over",), ("there-and-back",), ("runs",), ("unseen-at-the-gate",), ("comes-again",), ("comes-again",)),
        58.0, wires=_gate(),
    )  # fmt: skip


def _tailgating() -> RuleScene:
    return RuleScene(
        Tailgating(id="two-on-one-card", tripwire="gate", direction="right", within_s=2.0, classes=("person",)),
        (
            Walk("a1", "person", 1.0, ((-4, 6), (5, 6))),
            Walk("a2", "person", 2.0, ((-4, 6.1), (5, 6.1))),
            Walk("far-1", "person", 6.5, ((-4, 9), (5, 9))),
            Walk("far-2", "person", 9.9, ((-4, 9), (5, 9))),
            Walk("out", "person", 15.5, ((4, 11), (-5, 11))),
            Walk("in", "person", 15.0, ((-4, 9), (5, 9))),
            Walk("walks", "person", 19.6, ((-4, 6), (5, 6))),
            Walk("drives-behind", "car", 20.0, ((-6, 12), (5, 12, 1.5))),
            Walk("b1", "person", 27.0, ((-4, 8), (5, 8))),
            Walk("b2", "person", 28.1, ((-4, 8.1), (5, 8.1))),
            Walk("b3", "person", 29.2, ((-4, 8), (5, 8))),
        ),
        (("a2", "a1"), ("b2", "b1"), ("b3", "b2")),
        46.0, wires=_gate(),
    )  # fmt: skip


def _intrusion() -> RuleScene:
    return RuleScene(
        Intrusion(id="off-limits", zone="bay", classes=("person",), hold_s=1.0),
        (
            Walk("through", "person", 1.0, ((-5, 8), (5, 8))),
            Walk("unseen-inside", "person", 2.0, ((-5, 10), (0, 10), 3.0, (5, 10)), ((5.0, 6.2),)),
            Walk("along-the-edge", "person", 3.0, ((-5, 6.2), (5, 6.2))),
            Walk("cuts-the-corner", "person", 14.0, ((-4.2, 9), (-0.2, 13))),
            Walk("out-for-a-moment", "person", 15.0, ((0, 4.5), (0, 8), 2.0, (0, 6.6), (0, 8), 2.0, (0, 4.5))),
            Walk("drives", "car", 30.0, ((-5, 9), (5, 9, 2.0))),
            Walk("twice", "person", 36.0, ((4, 8), (0, 8), 2.0, (4, 8), 4.0, (0, 8), 2.0, (4, 8))),
            Walk("begins-inside", "person", 38.0, ((-1, 10), 2.0, (-5, 10))),
            Walk("in-the-annex", "person", 62.0, ((5, 8), 4.0, (5, 12))),
        ),
        (("through",), ("unseen-inside",), ("out-for-a-moment",), ("twice",), ("begins-inside",), ("twice",)),
        74.0, zones=_bay_and_annex(),
    )  # fmt: skip


def _restricted_class() -> RuleScene:
    return RuleScene(
        RestrictedClass(id="no-vehicles", zone="bay", classes=("car", "bicycle")),
        (
            Walk("car", "car", 1.0, ((-4, 9), (4.5, 9, 2.0))),
            Walk("person", "person", 8.0, ((-5, 9), (5, 9))),
            Walk("car-outside", "car", 8.0, ((-4, 12.6), (4.5, 12.6, 2.0))),
            Walk("cyclist", "bicycle", 18.0, ((-5, 8), (5, 8, 2.5))),
            Walk("bicycle-parked-outside", "bicycle", 18.0, ((-5, 12), (-3.6, 12), 6.0, (-5, 12))),
            Walk("two-people-1", "person", 27.0, ((-5, 8), (0, 8), 4.0, (5, 8))),
            Walk("two-people-2", "person", 27.4, ((-5, 10), (0, 10), 4.0, (5, 10))),
            Walk("car-that-waits", "car", 42.0, ((-4, 9), (0, 9, 2.0), 5.0, (4.5, 9, 2.0))),
        ),
        (("car",), ("cyclist",), ("car-that-waits",)),
        60.0, zones=_bay(),
    )  # fmt: skip


def _loitering() -> RuleScene:
    return RuleScene(
        Loitering(id="loiterer", zone="bay", since_s=10.0),
        (
            Walk("waits", "person", 1.0, ((-5, 8), (-1, 8), 11.0, (-5, 8))),
            Walk("leaves-in-time", "person", 2.0, ((5, 10), (1, 10), 4.5, (5, 10))),
            Walk("waits-in-the-annex", "person", 3.0, ((5, 13), (5, 9), 14.0, (5, 13))),
            Walk("strolls", "person", 24.0, ((-5, 8), (1.2, 8), (1.2, 10), (-1.2, 10), (-1.2, 8), (1.2, 8), 1.5, (5, 8))),
            Walk("steps-out-for-a-moment", "person", 40.0, ((0, 4.5), (0, 8), 4.0, (0, 6.6), (0, 8), 6.0, (0, 4.5))),
            Walk("stays-away-in-between", "person", 60.0, ((5, 9), (1, 9), 4.0, (3, 9), 3.0, (1, 9), 4.0, (5, 9))),
            Walk("unseen-in-between", "person", 62.0, ((-5, 8), (-1, 8), 11.0, (-5, 8)), ((7.0, 8.2),)),
            Walk("parks", "car", 84.0, ((-4, 9), (0, 9, 2.0), 13.0, (4.5, 9, 2.0))),
        ),
        (("waits",), ("strolls",), ("steps-out-for-a-moment",), ("unseen-in-between",)),
        112.0, zones=_bay_and_annex(classes=("person",)),
    )  # fmt: skip


def _dwell() -> RuleScene:
    return RuleScene(
        DwellLimit(id="parked-too-long", zone="bay", limit_s=12.0, classes=("car",)),
        (
            Walk("parks-long", "car", 1.0, ((-4, 8), (0, 8, 2.0), 14.0, (4.5, 8, 2.0))),
            Walk("leaves-in-time", "car", 25.0, ((-4, 9), (0, 9, 2.0), 6.5, (4.5, 9, 2.0))),
            Walk("stands-about", "person", 3.0, ((-5, 10.3), (-1, 10.3), 15.0, (-5, 10.3))),
            Walk("parks-outside", "car", 26.0, ((-4.4, 12.6), (-3.4, 12.6, 2.0), 16.0, (-4.4, 12.6, 2.0))),
            Walk("parks-unseen-for-a-moment", "car", 44.0, ((4, 9), (0, 9, 2.0), 14.0, (-4.5, 9, 2.0)), ((8.0, 9.2),)),
        ),
        (("parks-long",), ("parks-unseen-for-a-moment",)),
        74.0, zones=_bay(),
    )  # fmt: skip


def _queue_wait() -> RuleScene:
    """People move up towards +x, where they are served; the second and third wait for longer than the limit."""
    return RuleScene(
        QueueWait(id="waits-long", zone="bay", wait_s=15.0, classes=("person",)),
        (
            Walk("first", "person", 1.0, ((-5, 8), (1.5, 8), 7.0, (5, 8))),
            Walk("second", "person", 3.0, ((-5, 8), (0.4, 8), 6.5, (1.5, 8), 8.5, (5, 8))),
            Walk("third", "person", 5.0, ((-5, 8), (-0.7, 8), 6.5, (0.4, 8), 8.5, (1.5, 8), 6.0, (5, 8))),
            Walk("passes-by", "person", 6.0, ((5, 10), (-5, 10))),
            Walk("gives-up", "person", 20.0, ((-5, 9.4), (-1, 9.4), 9.0, (-5, 9.4))),
            Walk("hidden-in-the-queue", "person", 44.0, ((-5, 8), (0, 8), 16.0, (5, 8)), ((9.0, 10.2),)),
            Walk("waits-outside", "person", 44.0, ((5, 12), (4, 12), 18.0, (5, 12))),
        ),
        (("second",), ("third",), ("hidden-in-the-queue",)),
        74.0, zones=_bay(),
    )  # fmt: skip


def _crowding() -> RuleScene:
    return RuleScene(
        Crowding(id="crowd", zone="bay", count=3, hold_s=2.0, gap_s=2.0, classes=("person",)),
        (
            Walk("a1", "person", 1.0, ((-5, 7.6), (-1, 7.6), 9.0, (-5, 7.6))),
            Walk("a2", "person", 2.0, ((-5, 10), (0, 10), 6.0, (-5, 10))),
            Walk("a3", "person", 3.0, ((5, 8.5), (1, 8.5), 4.0, (5, 8.5))),
            Walk("b1", "person", 20.0, ((-5, 7.6), (-1, 7.6), 7.0, (-5, 7.6))),
            Walk("b2", "person", 20.4, ((-5, 10), (0, 10), 6.0, (-5, 10))),
            Walk("b3-looks-in", "person", 25.0, ((5, 8.5), (1.4, 8.5, 1.5), (5, 8.5, 1.5))),
            Walk("c1", "person", 38.0, ((-5, 7.6), (-1, 7.6), 6.0, (-5, 7.6))),
            Walk("c2", "person", 38.4, ((-5, 10.4), (-1, 10.4), 6.0, (-5, 10.4))),
            Walk("c3-drives", "car", 40.0, ((5, 9), (1, 9, 2.0), 5.0, (5, 9, 2.0))),
            Walk("d1", "person", 56.0, ((-5, 7.6), (-1, 7.6), 13.0, (-5, 7.6))),
            Walk("d2", "person", 56.4, ((-5, 10), (-1, 10), 12.0, (-5, 10))),
            Walk("d3-in-and-out", "person", 58.0, ((5, 8.5), (1, 8.5), 3.0, (2.6, 8.5), (1, 8.5), 3.0, (5, 8.5))),
            Walk("d4-outside", "person", 58.0, ((6, 11), (3, 11), 8.0, (6, 11))),
        ),
        ((), ()),
        88.0, zones=_bay(),
    )  # fmt: skip


def _queue_length() -> RuleScene:
    return RuleScene(
        QueueLength(id="long-queue", zone="bay", count=3, settled_s=4.0, hold_s=5.0, classes=("person",)),
        (
            Walk("a1", "person", 1.0, ((-5, 8), (1.2, 8), 14.0, (5, 8))),
            Walk("a2", "person", 2.0, ((-5, 8), (0, 8), 14.0, (5, 8))),
            Walk("a3", "person", 3.0, ((-5, 8), (-1.2, 8), 14.0, (5, 8))),
            Walk("w1", "person", 30.0, ((-5, 8), (5, 8, 1.5))),
            Walk("w2", "person", 30.8, ((5, 9.4), (-5, 9.4, 1.5))),
            Walk("w3", "person", 31.4, ((-5, 10.6), (5, 10.6, 1.5))),
            Walk("w4", "person", 33.0, ((-5, 8), (5, 8, 1.5))),
            Walk("b1", "person", 44.0, ((-5, 8), (1.2, 8), 9.0, (5, 8))),
            Walk("b2", "person", 45.0, ((-5, 9.3), (0, 9.3), 7.0, (5, 9.3))),
            Walk("b3-stays-briefly", "person", 47.0, ((-5, 10.6), (-1.0, 10.6), 4.0, (-5, 10.6))),
            Walk("c1", "person", 66.0, ((-5, 8), (1.2, 8), 15.0, (5, 8)), ((12.0, 13.0),)),
            Walk("c2", "person", 67.0, ((-5, 8), (0, 8), 15.0, (5, 8))),
            Walk("c3", "person", 68.0, ((-5, 8), (-1.2, 8), 15.0, (5, 8))),
        ),
        ((), ()),
        104.0, zones=_bay(),
    )  # fmt: skip


def _empty() -> RuleScene:
    return RuleScene(
        Empty(id="nobody-at-the-desk", zone="bay", since_s=8.0, classes=("person",)),
        (
            Walk(
                "clerk", "person", 0.4,
                ((0, 9), 6.0, (4, 9), 1.5, (0, 9), 6.0, (5, 9), 10.0, (0, 9), 6.0, (5, 9), 14.0, (0, 9), 12.0),
            ),
            Walk("passes-quickly", "person", 58.0, ((-2.5, 6), (-1.2, 8.2, 2.0), (-2.5, 10.4, 2.0), (-4.5, 12, 2.0))),
            Walk("drives-through", "car", 52.5, ((-4, 9), (1.2, 9, 2.0), (-4, 9, 2.0))),
        ),
        ((), ()),
        84.0, zones=_bay(),
    )  # fmt: skip


def _stopped_walks() -> tuple[Walk, ...]:
    return (
        Walk("stops", "person", 1.0, ((-5, 8), (-1, 8), 10.0, (5, 8))),
        Walk("stops-briefly", "person", 2.0, ((5, 10), (1, 10), 3.0, (-5, 10))),
        Walk("stops-outside", "person", 3.0, ((5, 13), (4, 13), 12.0, (5, 13))),
        Walk("paces", "person", 22.0, ((-5, 10), (-1.2, 10), (1.2, 10), (-1.2, 10), (1.2, 10), (-1.2, 10), (1.2, 10),
                                       (-1.2, 10), (5, 10))),
        Walk("sways", "person", 23.0, ((5, 8), (0.6, 8), (0.5, 8, 0.1), (0.6, 8, 0.1), (0.5, 8, 0.1), (0.6, 8, 0.1),
                                       (0.5, 8, 0.1), (0.6, 8, 0.1), (0.5, 8, 0.1), (0.6, 8, 0.1), (0.5, 8, 0.1),
                                       (0.6, 8, 0.1), (5, 8))),
        Walk("creeps", "person", 46.0, ((-5, 9), (-1.8, 9), (1.8, 9, 0.2), (5, 9))),
        Walk("stops-unseen-for-a-moment", "person", 78.0, ((-5, 8), (0, 8), 9.0, (5, 8)), ((7.0, 8.2),)),
        Walk("parks", "car", 97.0, ((-4, 9), (0, 9, 2.0), 9.0, (4.5, 9, 2.0))),
    )  # fmt: skip


_STOPPED = (("stops",), ("sways",), ("stops-unseen-for-a-moment",))


def _stopped() -> RuleScene:
    rule = Stopped(id="stopped", zone="bay", since_s=6.0, classes=("person",))
    return RuleScene(rule, _stopped_walks(), _STOPPED, 118.0, zones=_bay())


def _stopped_image() -> RuleScene:
    """The same where nothing is known of the floor."""
    rule = Stopped(id="stopped", zone="bay", since_s=6.0, classes=("person",))
    return RuleScene(rule, _stopped_walks(), _STOPPED, 118.0, zones=_seen_bay(), plane="image")


def _speeding() -> RuleScene:
    return RuleScene(
        Speeding(id="too-fast", zone="bay", limit_mps=2.5, classes=("person", "bicycle")),
        (
            Walk("walks", "person", 1.0, ((-5, 8), (5, 8))),
            Walk("jogs", "person", 2.0, ((-6, 10.5), (6, 10.5, 1.9))),
            Walk("runs", "person", 13.0, ((-6, 9), (6, 9, 3.8))),
            Walk("cycles", "bicycle", 20.0, ((6, 8), (-6, 8, 4.2))),
            Walk("drives", "car", 26.0, ((-5, 9), (5, 9, 4.0))),
            Walk("runs-outside", "person", 31.0, ((-6, 13), (6, 13, 3.8))),
            Walk("runs-towards-the-camera", "person", 37.0, ((0.5, 14), (0.5, 4.5, 3.6))),
        ),
        (("runs",), ("cycles",), ("runs-towards-the-camera",)),
        52.0, zones=_bay(), plane="ground_points",
    )  # fmt: skip


def _wrong_way_walks() -> tuple[Walk, ...]:
    return (
        Walk("along", "person", 1.0, ((-5, 8), (5, 8))),
        Walk("against", "person", 2.0, ((5, 10), (-5, 10))),
        Walk("across", "person", 13.0, ((-1, 13.5), (-1, 4.5))),
        Walk("slantwise-against", "person", 14.0, ((4.5, 7.4), (-3.5, 10.6))),
        Walk("creeps-against", "person", 24.0, ((1.5, 9), (-1.5, 9, 0.3), (-1.5, 13))),
        Walk("against-outside", "person", 25.0, ((5, 13), (-5, 13))),
        Walk("drives-against", "car", 42.0, ((5, 9), (-5, 9, 2.0))),
        Walk("turns-back", "person", 51.0, ((-5, 8), (1, 8), 1.0, (-5, 8))),
    )


_WRONG_WAY = (("against",), ("slantwise-against",), ("turns-back",))


def _wrong_way() -> RuleScene:
    rule = WrongWay(
        id="against-the-arrow", zone="bay", allowed=((-2.0, 9.0), (2.0, 9.0)), plane="ground", classes=("person",)
    )
    return RuleScene(rule, _wrong_way_walks(), _WRONG_WAY, 68.0, zones=_bay())


def _wrong_way_image() -> RuleScene:
    """The same where nothing is known of the floor."""
    rule = WrongWay(id="against-the-arrow", zone="bay", allowed=((0.4, 0.4), (0.6, 0.4)), classes=("person",))
    return RuleScene(rule, _wrong_way_walks(), _WRONG_WAY, 68.0, zones=_seen_bay(), plane="image")


def _abandoned() -> RuleScene:
    return RuleScene(
        Abandoned(id="left-luggage", since_s=12.0, owner_m=3.0),
        (
            Walk("owner-who-leaves", "person", 1.0, ((-6, 8.6), (-1, 8.6), 3.0, (-6, 8.6))),
            Walk("left", "suitcase", 1.0, ((-5.3, 8), (-0.3, 8), 34.0)),
            Walk("owner-who-stays", "person", 44.0, ((-6, 8.6), (0, 8.6), 20.0, (-6, 8.6))),
            Walk("attended", "suitcase", 44.0, ((-5.3, 8), (0.7, 8), 20.0, (-5.3, 8))),
            Walk("owner-who-returns", "person", 78.0, ((-6, 8.6), (-1, 8.6), 2.0, (-6, 8.6), 1.0, (-1, 8.6), 2.0,
                                                       (-6, 8.6))),
            Walk("fetched", "suitcase", 78.0, ((-5.3, 8), (-0.3, 8), 13.33, (-5.3, 8))),
            Walk("owner-of-a-box", "person", 104.0, ((6, 11), (1, 11), 2.0, (6, 11))),
            Walk("no-luggage", "box", 104.0, ((5.3, 10.5), (0.3, 10.5), 24.0)),
            Walk("owner-of-the-second", "person", 142.0, ((6, 9.6), (1, 9.6), 2.0, (6, 9.6))),
            Walk("passed-by", "suitcase", 142.0, ((5.3, 9), (0.3, 9), 34.0), ((24.0, 25.2),)),
            Walk("passer-by", "person", 155.5, ((-5.5, 10.5), (-1, 10.5), (-5.5, 10.5))),
        ),
        (("left",), ("passed-by",)),
        192.0,
    )  # fmt: skip


def _abandoned_image() -> RuleScene:
    """Where nothing is known of the floor: 1.5 heights of the owner's box, about 2.5 m here."""
    scene = _abandoned()
    return replace(scene, rule=Abandoned(id="left-luggage", since_s=12.0, owner_ratio=2.0), plane="image")


def _removed() -> RuleScene:
    return RuleScene(
        Removed(id="exhibit", zone="bay", since_s=10.0, classes=("suitcase", "box")),
        (
            Walk("taken", "box", 1.0, ((-1, 8), 16.0)),
            Walk("gone-too-soon", "box", 2.0, ((1.3, 10), 6.0)),
            Walk("stays-to-be-seen", "box", 3.0, ((1.3, 8), 50.0, (1.3, 4.5)), ((16.0, 17.2), (30.0, 31.2))),
            Walk("taken-elsewhere", "box", 3.0, ((4.5, 9), 16.0)),
            Walk("carried-off", "suitcase", 24.0, ((-1, 10), 14.0, (-5, 10))),
            Walk("visitor", "person", 24.0, ((0, 9.2), 14.0, (5, 13))),
        ),
        (("taken",), ("carried-off",), ("stays-to-be-seen",)),
        70.0, zones=_bay(),
    )  # fmt: skip


def _proximity() -> RuleScene:
    return RuleScene(
        Proximity(id="too-near", distance_m=1.6, hold_s=5.0, gap_s=2.0, classes=("person",), other_classes=("truck",)),
        (
            Walk("truck-1", "truck", 1.0, ((0, 8), 30.0, (0, 4.5))),
            Walk("works-beside-it", "person", 2.0, ((5, 8), (1.25, 8), 9.0, (5, 8))),
            Walk("keeps-away", "person", 2.0, ((-5, 8), (-2.3, 8), 12.0, (-5, 8))),
            Walk("passes-by", "person", 22.0, ((-5, 9.1), (5, 9.1))),
            Walk("friend-1", "person", 3.0, ((-3, 12), 14.0, (-5, 12))),
            Walk("friend-2", "person", 3.0, ((-2, 12), 14.0, (5, 12))),
            Walk("truck-2", "truck", 42.0, ((1, 9), 24.0, (5, 9))),
            Walk("steps-back-for-a-moment", "person", 43.0, ((-4, 9), (-0.25, 9), 2.5, (-1.1, 9), (-0.25, 9), 5.5,
                                                             (-4, 9))),
        ),
        (("truck-1", "works-beside-it"), ("truck-2", "steps-back-for-a-moment")),
        76.0, plane="ground_points",
    )  # fmt: skip


RULE_SCENES: dict[str, Callable[[], RuleScene]] = {
    "line-crossing": _line_crossing,
    "tailgating": _tailgating,
    "intrusion": _intrusion,
    "restricted-class": _restricted_class,
    "loitering": _loitering,
    "dwell": _dwell,
    "queue-wait": _queue_wait,
    "crowding": _crowding,
    "queue-length": _queue_length,
    "empty": _empty,
    "stopped": _stopped,
    "speeding": _speeding,
    "wrong-way": _wrong_way,
    "abandoned": _abandoned,
    "removed": _removed,
    "proximity": _proximity,
    "stopped-image": _stopped_image,
    "wrong-way-image": _wrong_way_image,
    "abandoned-image": _abandoned_image,
}
"""One per rule, and those rules again that also work where nothing is known of the floor."""
