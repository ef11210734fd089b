"""Tables written by hand for conditions: what each object of a fixed slot looks like in each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.tracking import CONFIRMED, ENDED, TENTATIVE, TRACK
from operators.tripwires.kernel import CROSSING
from operators.zones.kernel import VISIT

CAPACITY = 16
MOTION = np.dtype(
    [
        ("speed_mps", "<f4"), ("speed_sd_mps", "<f4"), ("heading_x", "<f4"), ("heading_y", "<f4"), ("x_m", "<f4"),
        ("y_m", "<f4"), ("still_us", "<i8"), ("distance_m", "<f4"),
    ],
    align=True,
)  # fmt: skip
"""The fields of a motion that the kernel reads."""
STATUS = {"tentative": TENTATIVE, "confirmed": CONFIRMED, "ended": ENDED}


@dataclass(frozen=True)
class Look:
    """One object in one frame. Times in µs; `enter_us` 0: no visit to the zone."""

    ordinal: int
    born_us: int
    status: str = "confirmed"
    seen: bool = True
    label: int = 0
    enter_us: int = 0  # of its visit to zone 0, with `visit` 1 (not yet reported) or 2
    visit: int = 0
    inside: bool = False
    speed_mps: float = float("nan")
    speed_sd_mps: float = float("nan")
    heading: tuple[float, float] = (float("nan"), float("nan"))
    at_m: tuple[float, float] = (float("nan"), float("nan"))
    still_us: int = 0
    foot: tuple[float, float] = (0.5, 0.5)  # frame heights
    height: float = 0.25
    velocity: tuple[float, float] = (0.0, 0.0)  # frame heights per second


@dataclass(frozen=True)
class Pass:
    """One crossing."""

    slot: int
    wire: int
    side: int
    label: int
    ordinal: int
    born_us: int
    at_us: int


@dataclass(frozen=True)
class Moment:
    """One frame: objects by slot, and who crossed what."""

    at_us: int
    looks: dict[int, Look]
    passes: tuple[Pass, ...] = ()


def tables(moment: Moment) -> tuple[Any, int, Any, Any, Any]:
    """Return (tracks, slots, motions, visits, crossings)."""
    tracks, motions = np.zeros(CAPACITY, TRACK), np.zeros(CAPACITY, MOTION)
    visits, crossings = np.zeros((CAPACITY, 1), VISIT), np.zeros(len(moment.passes), CROSSING)
    for slot, look in moment.looks.items():
        t, m, v = tracks[slot], motions[slot], visits[slot, 0]
        t["ordinal"], t["born_us"], t["status"] = look.ordinal, look.born_us, STATUS[look.status]
        t["seen"], t["label"] = look.seen, look.label
        t["observed"] = look.foot[0], look.foot[1] - look.height / 2, look.height / 2, look.height
        t["kalman"][1], t["kalman"][6], t["kalman"][15] = *look.velocity, look.height
        m["speed_mps"], m["speed_sd_mps"], m["still_us"] = look.speed_mps, look.speed_sd_mps, look.still_us
        m["heading_x"], m["heading_y"] = look.heading
        m["x_m"], m["y_m"] = look.at_m
        v["enter_us"], v["open"], v["inside"] = look.enter_us, look.visit, look.inside
    for row, p in zip(crossings, moment.passes, strict=True):
        row["slot"], row["wire"], row["side"], row["label"] = p.slot, p.wire, p.side, p.label
        row["ordinal"], row["born_us"], row["at_us"] = p.ordinal, p.born_us, p.at_us
    return tracks, max(moment.looks, default=-1) + 1, motions, visits, crossings


def labels() -> Sequence[str]:
    """Return what label indices mean."""
    return ("person", "suitcase", "car")
