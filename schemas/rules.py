"""The rules that a camera can have: the words of ONVIF Analytics and of video management systems.

`docs/rules.md` has a page on each.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from schemas.fields import XY, Base, Plane, PositiveSeconds, Seconds, Severity
from schemas.wire import Label, Name


class Escalation(Base, kw_only=True, frozen=True):
    """An alert that has been open for `after_s`, unacknowledged, becomes this severe."""

    after_s: PositiveSeconds
    severity: Severity


class OffHours(Base, kw_only=True, frozen=True):
    """Parameters of a rule that are others outside its schedule; those of them that the rule has."""

    since_s: PositiveSeconds | None = None
    limit_s: PositiveSeconds | None = None
    wait_s: PositiveSeconds | None = None
    within_s: Annotated[float, Meta(gt=0, le=60)] | None = None
    count: Annotated[int, Meta(ge=1, le=1000)] | None = None
    limit_mps: Annotated[float, Meta(gt=0, le=200)] | None = None
    distance_m: Annotated[float, Meta(gt=0, le=1000)] | None = None


class Rule(Base, tag_field="type", kw_only=True, frozen=True):
    """What all rules have. `version` is part of every alert's id: raise it when the rule's meaning changes."""

    id: Name
    version: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    classes: tuple[Label, ...] = ()  # objects it is about; none named: every class
    hold_s: Seconds = 0.0  # what the rule asks for must last this long
    gap_s: PositiveSeconds = 2.0  # it may fail this long without ending
    cooldown_s: Seconds = 0.0  # after a close, no new alert for the same place and subject this long
    update_s: PositiveSeconds = 10.0  # an open alert is repeated this often
    severity: Severity = "warning"
    escalate: Annotated[tuple[Escalation, ...], Meta(max_length=4)] = ()
    schedule: str = ""  # id of a schedule; empty: always armed
    off_hours: OffHours | None = None  # outside the schedule these parameters hold instead; none: not armed then
    grouped: bool = False  # one alert for all objects at a time; each that joins or leaves is an update
    regroup_s: Seconds = 0.0  # alerts that open so soon after the last one closed belong to one incident


class ZoneRule(Rule, kw_only=True, frozen=True):
    """A rule about a zone."""

    zone: Name


class PlaceRule(Rule, kw_only=True, frozen=True):
    """A rule about a zone, or about all that the camera sees."""

    zone: Annotated[str, Meta(max_length=64)] = ""


class WireRule(Rule, kw_only=True, frozen=True):
    """A rule about a tripwire."""

    tripwire: Name
    direction: Literal["any", "left", "right"] = "any"  # the side walked to


class LineCrossing(WireRule, tag="line_crossing", kw_only=True, frozen=True):
    """An object crosses the tripwire in that direction."""


class Tailgating(WireRule, tag="tailgating", kw_only=True, frozen=True):
    """Two objects cross in the same direction within `within_s` of each other."""

    within_s: Annotated[float, Meta(gt=0, le=60)] = 1.5


class Intrusion(ZoneRule, tag="intrusion", kw_only=True, frozen=True):
    """An object is inside."""


class RestrictedClass(ZoneRule, tag="restricted_class", kw_only=True, frozen=True):
    """An object of one of `classes` is inside."""


class Loitering(ZoneRule, tag="loitering", kw_only=True, frozen=True):
    """One object's visit has lasted `since_s`."""

    since_s: PositiveSeconds


class DwellLimit(ZoneRule, tag="dwell", kw_only=True, frozen=True):
    """One object's visit has lasted longer than `limit_s`."""

    limit_s: PositiveSeconds


class QueueWait(ZoneRule, tag="queue_wait", kw_only=True, frozen=True):
    """One object has waited in the queue's zone for `wait_s`."""

    wait_s: PositiveSeconds


class Crowding(ZoneRule, tag="crowding", kw_only=True, frozen=True):
    """At least `count` objects inside the zone for `hold_s`."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    hold_s: Seconds = 2.0


class QueueLength(ZoneRule, tag="queue_length", kw_only=True, frozen=True):
    """At least `count` objects wait in the queue's zone: inside for at least `settled_s`."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    settled_s: Seconds = 3.0  # who only walks through is not in the queue
    hold_s: Seconds = 5.0


class Empty(ZoneRule, tag="empty", kw_only=True, frozen=True):
    """Nobody inside for `since_s`: an empty desk or shelf."""

    since_s: PositiveSeconds


class Stopped(PlaceRule, tag="stopped", kw_only=True, frozen=True):
    """An object has stood still for `since_s`."""

    since_s: PositiveSeconds = 10.0


class Speeding(PlaceRule, tag="speeding", kw_only=True, frozen=True):
    """An object is faster than `limit_mps`, by more than `sure_sd` times the uncertainty of its speed."""

    limit_mps: Annotated[float, Meta(gt=0, le=200)]
    sure_sd: Annotated[float, Meta(ge=0, le=10)] = 1.0
    hold_s: Seconds = 0.5


class WrongWay(PlaceRule, tag="wrong_way", kw_only=True, frozen=True):
    """An object goes against the arrow `allowed` (from its first to its second point), within `tolerance_deg`."""

    allowed: tuple[XY, XY]
    plane: Plane = "image"
    tolerance_deg: Annotated[float, Meta(gt=0, lt=180)] = 60.0
    slowest_mps: Annotated[float, Meta(ge=0, le=200)] = 0.5  # on the ground: who is slower has no direction
    slowest_ratio: Annotated[float, Meta(ge=0, le=100)] = 0.3  # in the image: the object's own heights per second
    hold_s: Seconds = 0.5


class Abandoned(PlaceRule, tag="abandoned", kw_only=True, frozen=True):
    """An object of `classes` has stood still for `since_s`, with no owner near it in all that time."""

    classes: Annotated[tuple[Label, ...], Meta(min_length=1)] = ("backpack", "handbag", "suitcase")
    since_s: PositiveSeconds = 30.0
    owner_classes: tuple[Label, ...] = ("person",)
    owner_m: Annotated[float, Meta(ge=0, le=100)] = 3.0  # on the ground
    owner_ratio: Annotated[float, Meta(ge=0, le=20)] = (
        1.5  # where the ground is not known: in heights of the owner's box
    )


class Removed(PlaceRule, tag="removed", kw_only=True, frozen=True):
    """An object that had stood still for `since_s` is gone, or moves."""

    since_s: PositiveSeconds = 30.0


class Proximity(PlaceRule, tag="proximity", kw_only=True, frozen=True):
    """Two objects, one of `classes` and one of `other_classes`, are nearer than `distance_m` for `hold_s`."""

    distance_m: Annotated[float, Meta(gt=0, le=1000)]
    other_classes: tuple[Label, ...] = ()
    hold_s: Seconds = 5.0


AnyRule = (
    LineCrossing | Tailgating | Intrusion | RestrictedClass | Loitering | DwellLimit | QueueWait | Crowding | QueueLength
    | Empty | Stopped | Speeding | WrongWay | Abandoned | Removed | Proximity
)  # fmt: skip


def identity(rule: AnyRule) -> str:
    """Return id/version/type/place, and /grouped where its alerts are: a rule under which these change is another rule."""
    place = rule.tripwire if isinstance(rule, WireRule) else rule.zone
    return f"{rule.id}/{rule.version}/{rule.__struct_config__.tag}/{place}" + ("/grouped" if rule.grouped else "")


ON_GROUND = (Speeding, Proximity)
"""Rules that mean nothing without metres."""
