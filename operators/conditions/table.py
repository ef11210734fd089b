"""Packed rows of the conditions: what a rule asks for, how far each subject has come, and what has been found."""

from __future__ import annotations

import numpy as np

PRESENT, DWELL, STILL, ALONE, SPEED, AGAINST, GONE, COUNT, EMPTY, PAIR, CROSSING, FOLLOWING = range(12)
"""What a rule measures. Up to GONE of one object, COUNT and EMPTY of a place, PAIR of two objects, the others at a tripwire."""

IDLE, POTENTIAL, OPEN, TOLD = 0, 1, 2, 3
"""Phases of a run. TOLD: it has ended, but what it counts from has not; another run must not be dated as this one was."""

BEGAN, ENDED, PULSE = 0, 1, 2
"""Kinds of a HELD record."""

RULE = np.dtype(
    [
        ("measure", "<i4"),
        ("zone", "<i4"),  # index; −1: all that the camera sees
        ("wire", "<i4"),  # index; −1: none
        ("direction", "<i4"),  # side walked to: −1 left, +1 right, 0 any
        ("hold_us", "<i8"),
        ("gap_us", "<i8"),
        ("settled_us", "<i8"),  # COUNT: only who has been inside so long
        ("sure_sd", "<f8"),  # SPEED: standard deviations by which it must be surpassed
        ("slowest", "<f8"),  # AGAINST: m/s, in the image own heights/s
        ("arrow_x", "<f8"),  # AGAINST: on the ground a unit vector, in the image ratios of the frame
        ("arrow_y", "<f8"),
        ("cos_tolerance", "<f8"),  # AGAINST
        ("near_m", "<f8"),  # ALONE: an owner so near counts …
        ("near_ratio", "<f8"),  # … where the ground is not known in heights of the owner's box
        ("ground", "<i4"),  # AGAINST: 1 on the ground, 0 in the image
    ],
    align=True,
)
"""One rule, compiled. Its threshold is apart, since it changes with the hour."""

RUN = np.dtype(
    [
        ("since_us", "<i8"),  # when it began
        ("true_us", "<i8"),  # when it was true last
        ("value", "<f4"),  # what was measured then; of times: how many seconds had passed at `since_us`, mostly 0
        ("phase", "u1"),
    ],
    align=True,
)
"""How far one subject is with one rule: RUN[slot, rule] for objects, RUN[rule] for places."""

PAIR_RUN = np.dtype(
    [
        ("since_us", "<i8"),
        ("true_us", "<i8"),
        ("value", "<f4"),
        ("subject", "<u2"),  # slots
        ("other", "<u2"),
        ("rule", "u1"),
        ("phase", "u1"),
    ],
    align=True,
)
"""The same for two objects."""

PASSAGE = np.dtype(
    [("at_us", "<i8"), ("ordinal", "<i8"), ("born_us", "<i8"), ("slot", "<i4"), ("label", "<i4")], align=True
)
"""The latest crossing to one side that a FOLLOWING rule knows of; `at_us` 0: none."""

HELD = np.dtype(
    [
        ("kind", "<i4"), ("rule", "<i4"), ("slot", "<i4"), ("label", "<i4"),
        ("ordinal", "<i8"), ("born_us", "<i8"), ("other_ordinal", "<i8"), ("other_born_us", "<i8"),
        ("since_us", "<i8"), ("at_us", "<i8"), ("value", "<f8"),
    ],
    align=True,
)  # fmt: skip
"""Something that began, ended or happened. Fields: `conditions.Held`."""

PAIR_COUNT, REFUSED_PAIRS = range(2)
"""Of `pair_head` (int64): pairs in use, and how often (frames × rules) there was no room for another."""

MAX_PAIRS = 256
MAX_RULES = 64
