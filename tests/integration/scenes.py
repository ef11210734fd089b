"""The scene that the integration tests send: two sites, four cameras, two minutes, all of it known."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import msgspec

from schemas.settings import Camera, HeatMap, SiteSettings, Sliding, Windows
from schemas.settings_file import parse_settings
from schemas.wire import DetectionFrame
from simulator.layout import SPARE_CAMERA, scene_camera, settings_yaml
from simulator.records import Record, to_records
from simulator.scenario import build_robust_scene
from simulator.scene import FrameClock, Scene

SILENCE_S = 6.0
"""Shorter than the default: a run's end is noticed by it, and a recovery that took it for silence would show."""


@dataclass(frozen=True)
class Sites:
    """Scenes of several sites, seen as one input."""

    scenes: tuple[Scene, ...]

    @property
    def sites(self) -> list[SiteSettings]:
        """Settings of each site."""
        return [scene.settings for scene in self.scenes]

    @property
    def cameras(self) -> list[str]:
        """Cameras that send frames."""
        return [view.camera for scene in self.scenes for view in scene.cameras]

    def frames(self) -> Iterator[DetectionFrame]:
        """Yield every frame in order of capture time."""
        return heapq.merge(*(scene.frames() for scene in self.scenes), key=lambda f: f.capture_us)

    def records(self) -> list[Record]:
        """Return every frame as a record of `detections`."""
        return list(to_records(self.frames()))


def _site(name: str, cameras: list[str], spare: bool) -> SiteSettings:
    heat_map = HeatMap(columns=16, rows=9)
    views = [msgspec.structs.replace(scene_camera(c), silence_s=SILENCE_S, heat_map=heat_map) for c in cameras]
    if spare:
        views.append(Camera(id=SPARE_CAMERA, silence_s=SILENCE_S))
    windows = Windows(length_s=10.0, sliding=(Sliding(length_s=30.0, step_s=10.0),))
    settings = SiteSettings(version=1, site=name, windows=windows, cameras=tuple(views))
    return parse_settings(settings_yaml(settings).encode(), name)


@cache
def two_sites() -> Sites:
    """Return two sites at 10 and 12 frames/s, with jitter; the second loses frames and its agent restarts."""
    north, _ = build_robust_scene(
        1, settings=_site("north", ["north-1", "north-2"], spare=True), duration_s=105.0, clock=FrameClock(10.0, 0.5)
    )
    south, _ = build_robust_scene(
        2,
        settings=_site("south", ["south-1", "south-2"], spare=False),
        duration_s=105.0,
        clock=FrameClock(12.0, 0.5, 0.05),
        restarts_s=(50.3,),
    )
    return Sites((north, south))
