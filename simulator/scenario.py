"""Scenes made to measure: settings, walks, clock and detector put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from schemas.settings import Camera, SiteSettings
from simulator.layout import SPARE_CAMERA, scene_settings
from simulator.objects import SceneObject
from simulator.scene import DEFAULT_START_US, CameraScene, DetectorModel, FrameClock, Scene
from simulator.truth import Truth, fragile_decisions, scene_truth
from simulator.walks import WalkPlan, plan_objects

TAIL_S = 15.0
"""Quiet at a scene's end, so that every visit, alert and window ends inside the scene."""
_WALK_STREAM = 0


def build_scene(
    seed: int = 0,
    *,
    settings: SiteSettings | None = None,
    cameras: int = 1,
    duration_s: float = 60.0,
    plan: WalkPlan | None = None,
    clock: FrameClock | None = None,
    detector: DetectorModel | None = None,
    start_us: int = DEFAULT_START_US,
    restarts_s: tuple[float, ...] = (),
) -> Scene:
    """Return a random scene: objects for `duration_s`, then TAIL_S of quiet.

    The walks depend on `seed`, `settings`, `duration_s` and `plan` alone, so the same scene can be looked at with
    other clocks and detectors. `settings` default to `scene_settings(cameras)`; a camera named SPARE_CAMERA in them
    stays without scene.
    """
    settings = settings or scene_settings(cameras)
    views = tuple(
        CameraScene(
            camera.id,
            tuple(_walks(seed, index, camera, plan or WalkPlan(), duration_s)),
            clock or FrameClock(),
            detector or DetectorModel(),
            camera.sampling.quiet_s,
            restarts_s,
        )
        for index, camera in enumerate(settings.cameras)
        if camera.id != SPARE_CAMERA
    )
    return Scene(settings, views, duration_s + TAIL_S, seed, start_us)


def _walks(seed: int, index: int, camera: Camera, plan: WalkPlan, duration_s: float) -> list[SceneObject]:
    return plan_objects(camera, plan, duration_s, np.random.default_rng([seed, index, _WALK_STREAM]))


def build_robust_scene(seed: int = 0, *, tolerance_s: float = 0.3, **options: Any) -> tuple[Scene, Truth]:
    """Return a scene whose counts and alerts do not hang on times within `tolerance_s`, and its truth.

    Objects that make a decision fragile are left out. Use it where results at several frame rates, or of a tracker
    that needs some frames to believe, must be equal. `options` are those of `build_scene`.
    """
    scene = build_scene(seed, **options)
    while fragile := fragile_decisions(scene, tolerance_s):  # ends: each round leaves out an object at least
        unwanted = {f.camera: f.object for f in reversed(fragile)}  # of each camera the first: others may then be safe
        views = tuple(
            replace(view, objects=tuple(o for o in view.objects if o.name != unwanted.get(view.camera)))
            for view in scene.cameras
        )
        scene = replace(scene, cameras=views)
    return scene, scene_truth(scene)
