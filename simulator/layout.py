"""Site settings that suit the simulator's scenes, and settings as YAML text."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from schemas.rules import Crowding, Loitering
from schemas.settings import Camera, SiteSettings, Tripwire, Windows, Zone
from schemas.settings_file import parse_settings

SPARE_CAMERA = "poison-spare"
"""The camera to which legal oddities of the poison corpus belong, so that they disturb no other."""

HALL = ((0.30, 0.06), (0.70, 0.04), (0.80, 0.99), (0.22, 0.985))
SIDE = ((0.81, 0.30), (0.895, 0.30), (0.895, 0.99), (0.825, 0.99))
GATE = ((0.48, 0.03), (0.52, 0.50), (0.50, 1.0))
STUB = ((0.62, 1.0), (0.62, 0.60))  # walked upwards, and shorter than the picture: some pass beyond its end


def camera_name(index: int) -> str:
    """Name the `index`-th simulated camera."""
    return f"cam-{index:03d}"


def scene_camera(
    name: str,
    *,
    gap_s: float = 2.0,
    crowd_count: int = 3,
    hold_s: float = 2.0,
    since_s: float = 8.0,
    rule_gap_s: float = 2.0,
    rich: bool = True,
) -> Camera:
    """Return a camera with a zone, a tripwire, a crowding and a loitering rule; `rich` adds one more of each place."""
    zones: tuple[Zone, ...] = (Zone(id="hall", polygon=HALL, gap_s=gap_s),)
    wires: tuple[Tripwire, ...] = (Tripwire(id="gate", points=GATE),)
    if rich:
        zones += (Zone(id="side", polygon=SIDE, anchor="center", classes=("person",), gap_s=gap_s),)
        wires += (Tripwire(id="stub", points=STUB, classes=("person",)),)
    rules = (
        Crowding(id="crowd", zone="hall", count=crowd_count, hold_s=hold_s, gap_s=rule_gap_s),
        Loitering(id="loiter", zone="hall", since_s=since_s),
    )
    # Walks keep their distance by this memory: with a longer one a short scene would stay empty.
    return Camera(id=name, track_memory_s=1.5, zones=zones, tripwires=wires, rules=rules)


def scene_settings(
    cameras: int = 1, *, site: str = "sim-site", window_s: float = 10.0, spare: bool = False, **camera_options: Any
) -> SiteSettings:
    """Return settings for `cameras` simulated cameras (`cam-000` …), checked as any file is.

    `spare` adds the camera of the poison corpus (no zones). `camera_options` go to `scene_camera`.
    """
    views = tuple(scene_camera(camera_name(i), **camera_options) for i in range(cameras))
    if spare:
        views += (Camera(id=SPARE_CAMERA),)
    settings = SiteSettings(version=1, site=site, windows=Windows(length_s=window_s), cameras=views)
    return parse_settings(settings_yaml(settings).encode(), "scene_settings")


def settings_yaml(settings: SiteSettings) -> str:
    """Return settings as the text of a site file; `schemas.settings_file.parse_settings` reads the same back."""
    return yaml.safe_dump(msgspec.to_builtins(settings), sort_keys=False, default_flow_style=None, width=110)
