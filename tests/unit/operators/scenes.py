"""What the tests of operators share: scenes as records, and the camera stage driven without Flink."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from hypothesis import HealthCheck, settings

from operators.stages.camera_stage import CameraLogic, CameraStage
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.settings import Counter, CounterWire, HeatMap, SiteSettings, Sliding
from schemas.wire import AlertTransition, DeadLetter, DetectionFrame, Event, Figures, Point, decode, encode
from simulator.scenario import build_scene
from simulator.scene import NOISY_DETECTOR, FrameClock, Scene

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
            heat_map=HeatMap(columns=12, rows=9),
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
