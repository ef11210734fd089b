"""Crowds: the same for the same seed, and as wrong as they say."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from simulator.crowd import PROFILES, CrowdFrame, CrowdScene
from simulator.scene import FrameClock


def frames(**changes: Any) -> list[CrowdFrame]:
    return list(dataclasses.replace(CrowdScene(7, duration_s=6.0), **changes).frames())


def best_iou(f: CrowdFrame) -> Any:
    """Return the best overlap with any detection of each true box."""
    a, b = f.truth_boxes[:, None], f.boxes[None].astype(np.float64)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    return (both / (area_a + area_b - both)).max(axis=1, initial=0.0)


@pytest.mark.parametrize("motion", ["still", "shaking", "driving"])
@pytest.mark.parametrize("profile", PROFILES)
def test_frames_repeat_exactly_and_are_fit_for_the_wire(profile: str, motion: str) -> None:
    one, two = (frames(profile=profile, motion=motion, car_count=4, duration_s=2.0) for _ in range(2))
    for f, g in zip(one, two, strict=True):
        for field in dataclasses.fields(f):
            assert np.array_equal(getattr(f, field.name), getattr(g, field.name))
        assert (f.boxes >= -0.5).all() and (f.boxes <= 1.5).all() and (f.boxes[:, :2] < f.boxes[:, 2:]).all()
        assert ((f.scores >= 0) & (f.scores <= 1)).all()
        assert len(set(f.truth_ids.tolist())) == len(f.truth_ids)


def test_the_world_is_the_same_at_any_frame_rate() -> None:
    fast = {f.capture_us: f for f in frames(clock=FrameClock(20.0))}
    for f in frames(clock=FrameClock(5.0)):
        assert np.array_equal(f.truth_ids, fast[f.capture_us].truth_ids)
        assert np.allclose(f.truth_boxes, fast[f.capture_us].truth_boxes)


def test_who_is_hidden_is_missed_more_often() -> None:
    found: dict[bool, list[bool]] = {True: [], False: []}
    for f in frames(profile="faster-rcnn", people_count=40, duration_s=12.0):
        for share, iou in zip(f.truth_shares, best_iou(f), strict=True):
            found[bool(share < 0.4)].append(bool(iou > 0.5))
    assert np.mean(found[False]) > np.mean(found[True]) + 0.3


def test_other_seeds_are_other_crowds() -> None:
    assert not np.array_equal(frames(seed=1)[10].truth_boxes, frames(seed=2)[10].truth_boxes)
