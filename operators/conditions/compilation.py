"""Rules of the settings as rows for the kernel: what each measures, where, and above which threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.conditions import table
from operators.conditions.table import RULE
from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    DwellLimit,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    PlaceRule,
    Proximity,
    QueueLength,
    QueueWait,
    Removed,
    RestrictedClass,
    Speeding,
    Stopped,
    Tailgating,
    WireRule,
    WrongWay,
    ZoneRule,
)

MEASURES: dict[type[AnyRule], tuple[int, str]] = {
    LineCrossing: (table.CROSSING, ""),
    Tailgating: (table.FOLLOWING, "within_s"),
    Intrusion: (table.PRESENT, ""),
    RestrictedClass: (table.PRESENT, ""),
    Loitering: (table.DWELL, "since_s"),
    DwellLimit: (table.DWELL, "limit_s"),
    QueueWait: (table.DWELL, "wait_s"),
    Crowding: (table.COUNT, "count"),
    QueueLength: (table.COUNT, "count"),
    Empty: (table.EMPTY, "since_s"),
    Stopped: (table.STILL, "since_s"),
    Speeding: (table.SPEED, "limit_mps"),
    WrongWay: (table.AGAINST, ""),
    Abandoned: (table.ALONE, "since_s"),
    Removed: (table.GONE, "since_s"),
    Proximity: (table.PAIR, "distance_m"),
}
"""Type of a rule → what it measures, and the field that is its threshold."""

_SIDES = {"any": 0, "left": -1, "right": 1}


def threshold_name(rule: AnyRule) -> str:
    """Return the field that is the rule's threshold, '' for one that has none."""
    return MEASURES[type(rule)][1]


def second_classes(rule: AnyRule) -> tuple[str, ...]:
    """Return the classes of whoever else a rule looks at: owners, or the other one of a pair."""
    if isinstance(rule, Abandoned):
        return rule.owner_classes
    return rule.other_classes if isinstance(rule, Proximity) else ()


def compile_rules(
    rules: Sequence[AnyRule], zone_ids: Sequence[str], wire_ids: Sequence[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return a RULE row for each rule, and its threshold in the unit of its field (0 where it has none)."""
    rows = np.zeros(len(rules), RULE)
    threshold = np.zeros(len(rules))
    for i, rule in enumerate(rules):
        row = rows[i]
        row["measure"], name = MEASURES[type(rule)]
        threshold[i] = getattr(rule, name) if name else 0.0
        row["hold_us"], row["gap_us"] = round(rule.hold_s * 1e6), round(rule.gap_s * 1e6)
        row["zone"] = row["wire"] = -1
        if isinstance(rule, ZoneRule | PlaceRule) and rule.zone:
            row["zone"] = zone_ids.index(rule.zone)
        if isinstance(rule, WireRule):
            row["wire"], row["direction"] = wire_ids.index(rule.tripwire), _SIDES[rule.direction]
        if isinstance(rule, QueueLength):
            row["settled_us"] = round(rule.settled_s * 1e6)
        elif isinstance(rule, Speeding):
            row["sure_sd"] = rule.sure_sd
        elif isinstance(rule, Abandoned):
            row["near_m"], row["near_ratio"] = rule.owner_m, rule.owner_ratio
        elif isinstance(rule, WrongWay):
            _aim(row, rule)
    return rows, threshold


def _aim(row: Any, rule: WrongWay) -> None:
    (x0, y0), (x1, y1) = rule.allowed
    x, y = x1 - x0, y1 - y0
    row["ground"] = rule.plane == "ground"
    length = math.hypot(x, y) if rule.plane == "ground" else 1.0  # in the image its length depends on the frame's shape
    row["arrow_x"], row["arrow_y"] = x / length, y / length
    row["cos_tolerance"] = math.cos(math.radians(rule.tolerance_deg))
    row["slowest"] = rule.slowest_mps if rule.plane == "ground" else rule.slowest_ratio
