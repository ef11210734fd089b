"""What the tests of operators share: scenes as records, and the camera stage driven without Flink."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import yaml
from hypothesis import HealthCheck, settings

from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.settings import Counter, CounterWire, HeatMap, SiteSettings, Sliding
from schemas.settings_file import parse_settings
from schemas.wire import AlertTransition, DeadLetter, DetectionFrame, Event, Figures, Point, decode, encode
from simulator.floor import Floor
from simulator.rule_scenes import ANNEX, BAY, GATE, VIEW, Walk
from simulator.scenario import build_scene
from simulator.scene import NOISY_DETECTOR, CameraScene, FrameClock, Scene

CAMERA = "cam-000"
START_US = 1_700_000_000_000_000


def bounded(examples: int) -> settings:
    """Return Hypothesis settings for a test whose time is bounded by its number of examples, the same in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


class Stored(NamedTuple):
    """All of a camera's state."""

    snapshot: bytes
    archive: bytes


def store(logic: KeyLogic) -> Stored:
    """Return all of its state, as the shell has stored it by now."""
    assert isinstance(logic, CameraLogic)
    return Stored(logic.snapshot(), logic._windows.archive_now())


def take_up(logic: KeyLogic, stored: Stored) -> None:
    """Restore as the shell does."""
    assert isinstance(logic, CameraLogic)
    logic.restore(stored.snapshot)
    logic.restore_archive(stored.archive)


class Prepared(NamedTuple):
    """A scene, its records and a stage for it."""

    scene: Scene
    stage: CameraStage
    records: tuple[Input, ...]

    def __repr__(self) -> str:
        return f"Prepared({self.scene.settings.site}, seed {self.scene.seed})"

    def fresh(self) -> KeyLogic:
        """Return logic that has seen nothing."""
        return self.stage.logic(CAMERA)

    def restored(self, stored: Stored) -> KeyLogic:
        """Return another object that has taken up what was stored."""
        logic = self.fresh()
        take_up(logic, stored)
        return logic


@functools.cache
def noisy_scene(seed: int, duration_s: float = 15.0, fps: float = 10.0) -> Prepared:
    """Return a scene with missed and false detections in which every frame is sent, the empty ones too."""
    scene = build_scene(seed, duration_s=duration_s, detector=NOISY_DETECTOR, clock=FrameClock(fps))
    scene = replace(scene, cameras=tuple(replace(c, quiet_s=1e-3) for c in scene.cameras))
    return Prepared(scene, open_stage(with_figures(scene.settings)), scene_inputs(scene))


def with_figures(site: SiteSettings) -> SiteSettings:
    """Return settings under which every kind of figure is made."""
    cameras = tuple(
        msgspec.structs.replace(
            c,
            heat_map=HeatMap(columns=12, rows=9, report_s=4.0),
            counters=(Counter(id="all", wires=tuple(CounterWire(tripwire=w.id) for w in c.tripwires), report_s=5.0),)
            if c.tripwires
            else (),
        )
        for c in site.cameras
    )
    length_s = site.windows.length_s
    sliding = (Sliding(length_s=3 * length_s, step_s=length_s), Sliding(length_s=4 * length_s, step_s=2 * length_s))
    windows = msgspec.structs.replace(site.windows, sliding=sliding)
    return msgspec.structs.replace(site, cameras=cameras, windows=windows)


RICH_START_US = 1_700_000_030_000_000
"""23:13:50 in Vienna: ten seconds into the scene, schedules begin and end and counters are reset."""
RICH_WALKS = (
    Walk("stays", "person", 0.5, ((-5, 8), (-1, 8), 9.0, (-5, 8))),
    Walk("goes-first", "person", 1.0, ((-4, 6), (5, 6))),
    Walk("follows", "person", 2.0, ((-4, 6.1), (5, 6.1))),
    Walk("comes-back", "person", 12.0, ((5, 6.1), (-4, 6.1))),
    Walk("runs", "person", 6.0, ((-6, 12.5), (6, 12.5, 4.0))),
    Walk("goes-against", "person", 3.0, ((5, 10.4), (-5, 10.4)), ((3.0, 4.0),)),
    Walk("stands", "truck", 1.0, ((1.5, 9), 18.0)),
    Walk("stands-beside", "person", 2.0, ((5, 9), (2.9, 9), 6.0, (5, 9))),
    Walk("is-left", "suitcase", 1.0, ((-4, 9.5), 17.0)),
    Walk("is-taken", "box", 1.0, ((4, 11.3), 8.0)),
    Walk("drives", "car", 12.0, ((-4, 8), (4, 8, 2.0))),
)  # fmt: skip


def rich_site() -> SiteSettings:
    """Return a site with everything on: both planes, counters, heat map, sliding windows, schedules, a rule of each type."""
    floor = Floor.of_pose(VIEW.pose, VIEW.width_px, VIEW.height_px)
    common: dict[str, Any] = {"gap_s": 1.0, "update_s": 3.0}
    hours: dict[str, Any] = {"schedule": "evening", "off_hours": {"since_s": 4.0}}
    rules: list[dict[str, Any]] = [
        {
            "id": "line",
            "type": "line_crossing",
            "tripwire": "gate",
            "direction": "right",
            "grouped": True,
            "regroup_s": 5.0,
        },
        {"id": "tailgating", "type": "tailgating", "tripwire": "door", "within_s": 2.0, "schedule": "evening"},
        {"id": "intrusion", "type": "intrusion", "zone": "bay", "classes": ["person"], "cooldown_s": 2.0},
        {"id": "vehicles", "type": "restricted_class", "zone": "bay", "classes": ["car", "truck"], "grouped": True},
        {"id": "loitering", "type": "loitering", "zone": "bay", "since_s": 6.0, **hours},
        {"id": "dwell", "type": "dwell", "zone": "picture", "limit_s": 5.0, "schedule": "night"},
        {"id": "wait", "type": "queue_wait", "zone": "bay", "wait_s": 4.0, "regroup_s": 10.0},
        {"id": "crowd", "type": "crowding", "zone": "bay", "count": 2, "hold_s": 1.0, "severity": "info"},
        {"id": "queue", "type": "queue_length", "zone": "bay", "count": 2, "settled_s": 2.0, "hold_s": 1.0},
        {"id": "empty", "type": "empty", "zone": "annex", "since_s": 4.0, **hours},
        {"id": "stopped", "type": "stopped", "since_s": 3.0, "grouped": True, **hours},
        {"id": "speed", "type": "speeding", "limit_mps": 2.5, "hold_s": 0.3},
        {"id": "way", "type": "wrong_way", "plane": "ground", "allowed": [[-2, 9], [2, 9]], "cooldown_s": 3.0},
        {"id": "arrow", "type": "wrong_way", "allowed": [[0.4, 0.4], [0.6, 0.4]], "zone": "picture"},
        {"id": "luggage", "type": "abandoned", "since_s": 5.0, "owner_m": 2.0},
        {"id": "exhibit", "type": "removed", "since_s": 4.0, "classes": ["box", "suitcase"]},
        {"id": "near", "type": "proximity", "distance_m": 1.8, "hold_s": 2.0, "other_classes": ["truck"]},
    ]
    escalate = [{"after_s": 2.0, "severity": "warning"}, {"after_s": 4.0, "severity": "critical"}]
    camera = {
        "id": CAMERA, "pose": msgspec.to_builtins(VIEW.pose), "track_memory_s": 1.5,
        "zones": [
            {"id": "bay", "polygon": BAY, "plane": "ground", "gap_s": 1.0, "band_m": 0.2},
            {"id": "annex", "polygon": ANNEX, "plane": "ground", "gap_s": 0.5, "min_inside_s": 0.5},
            {"id": "picture", "polygon": [floor.to_image(p) for p in BAY], "gap_s": 1.0, "band_ratio": 0.01},
        ],
        "tripwires": [
            {"id": "gate", "points": GATE, "plane": "ground"},
            {"id": "door", "points": [floor.to_image(p) for p in GATE], "classes": ["person"]},
        ],
        "counters": [{"id": "hall", "wires": [{"tripwire": "gate"}], "report_s": 5.0, "reset": ["23:14"]}],
        "heat_map": {"plane": "ground", "columns": 12, "rows": 10, "from_m": [-6, 4], "to_m": [6, 14], "report_s": 7.0},
        "rules": [{**common, **r, "escalate": escalate if i % 2 else []} for i, r in enumerate(rules)],
    }  # fmt: skip
    site = {
        "version": 1, "site": "rich", "timezone": "Europe/Vienna",
        "windows": {"length_s": 5.0, "lateness_s": 60.0, "sliding": [{"length_s": 10.0, "step_s": 5.0}]},
        "schedules": [
            {"id": "evening", "periods": [{"start": "20:00", "end": "23:14"}]},
            {"id": "night", "periods": [{"start": "23:14", "end": "06:00"}]},
        ],
        "cameras": [camera],
    }  # fmt: skip
    return parse_settings(yaml.safe_dump(msgspec.to_builtins(site)).encode(), "rich site")


@functools.cache
def rich_scene(seed: int, fps: float = 10.0) -> Prepared:
    """Return twenty seconds in which every rule has something to say, seen by a detector that errs, with everything on."""
    rng = np.random.default_rng([seed, 17])
    objects = tuple(w.seen_by(VIEW, tuple(rng.uniform(-0.3, 0.3, 3).tolist())) for w in RICH_WALKS)
    view = CameraScene(CAMERA, objects, FrameClock(fps), NOISY_DETECTOR, 1e-3)
    scene = Scene(rich_site(), (view,), 22.0, seed, RICH_START_US, VIEW.width_px, VIEW.height_px)
    return Prepared(scene, open_stage(scene.settings), scene_inputs(scene))


def open_stage(site: SiteSettings) -> CameraStage:
    """Return a stage that is ready to make logic."""
    stage = CameraStage([site])
    stage.open()
    return stage


def to_input(frame: DetectionFrame, offset: int) -> Input:
    """Return the frame as the stage gets it."""
    return Input(encode(frame), 0, offset, frame.capture_us // 1000)


def scene_inputs(scene: Scene) -> tuple[Input, ...]:
    """Return the records of CAMERA, and last a frame so much later that every window is closed by it."""
    frames = list(scene.camera_frames(CAMERA))
    later_us = frames[-1].capture_us + 60_000_000
    last = msgspec.structs.replace(
        frames[-1], seq=frames[-1].seq + 1, capture_us=later_us, recv_us=later_us, sent_us=later_us,
        labels=(), boxes=b"", scores=b"", classes=b"",
    )  # fmt: skip
    return tuple(to_input(f, i) for i, f in enumerate([*frames, last]))


def make_frame(
    seq: int,
    at_us: int,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    *,
    label: str = "person",
    site: str = "s",
    boot: int = START_US - 5_000_000,
    **changes: object,
) -> DetectionFrame:
    """Return a frame of CAMERA with one label and scores of 0.9."""
    n = len(boxes)
    frame = DetectionFrame(
        site=site, camera=CAMERA, boot=boot, seq=seq, capture_us=at_us, clock="file", recv_us=at_us, sent_us=at_us,
        width_px=1600, height_px=1000, model_sha="51f0117e5ce4e000", labels=(label,) if n else (),
        boxes=np.array(boxes, "<f4").tobytes(), scores=np.full(n, 0.9, "<f4").tobytes(), classes=bytes(n),
    )  # fmt: skip
    return msgspec.structs.replace(frame, **changes) if changes else frame


def feed(logic: KeyLogic, records: Iterable[Input]) -> list[Output]:
    """Hand over records; return all outputs."""
    return [output for record in records for output in logic.on_record(record)]


def events_of(outputs: Iterable[Output]) -> list[Event]:
    """Return the events among outputs."""
    return [decode(o.value, Event) for o in outputs if o.topic == topics.EVENTS]


def alerts_of(outputs: Iterable[Output]) -> list[AlertTransition]:
    """Return the alert transitions among outputs."""
    return [decode(o.value, AlertTransition) for o in outputs if o.topic == topics.ALERTS]


def letters_of(outputs: Iterable[Output]) -> list[DeadLetter]:
    """Return the dead letters among outputs."""
    return [decode(o.value, DeadLetter) for o in outputs if o.topic == topics.DEAD_LETTERS]


def points_of(outputs: Iterable[Output]) -> list[Point]:
    """Return the points among outputs, in order."""
    return [p for o in outputs if o.topic == topics.FIGURES for p in decode(o.value, Figures).points]


def stored(points: Iterable[Point]) -> dict[tuple[object, ...], dict[str, bool | int | float | str]]:
    """Return what InfluxDB would hold: the last point of each measurement, tags and time."""
    return {(p.measurement, tuple(sorted(p.tags.items())), p.at_ns): p.fields for p in points}
