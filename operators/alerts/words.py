"""What an alert says of itself in words, and the thresholds that it names: one row per type of rule."""

from __future__ import annotations

from typing import NamedTuple

from schemas import rules
from schemas.rules import AnyRule, Rule


class Words(NamedTuple):
    """Templates of `str.format` with the rule as `r`, the value as `v`, ' in ' and its zone as `at`, the label as `who`."""

    why: str  # one subject, or the place
    each: str  # the same without a value: what several subjects at a time have in common
    over: str  # the end
    thresholds: tuple[str, ...]  # fields of the rule


_HELD = ("hold_s", "gap_s")

WORDS: dict[type[Rule], Words] = {
    rules.Crowding: Words(
        "{v:.0f} inside {r.zone}, at least {r.count} for {r.hold_s:g} s",
        "at least {r.count} inside {r.zone} for {r.hold_s:g} s",
        "fewer than {r.count} inside",
        ("count", *_HELD),
    ),
    rules.Loitering: Words(
        "inside {r.zone} for {v:.1f} s, at least {r.since_s:g} s",
        "inside {r.zone} for at least {r.since_s:g} s",
        "the visit has ended",
        ("since_s",),
    ),
    rules.DwellLimit: Words(
        "inside {r.zone} for {v:.1f} s, longer than {r.limit_s:g} s",
        "inside {r.zone} for longer than {r.limit_s:g} s",
        "the visit has ended",
        ("limit_s",),
    ),
    rules.QueueWait: Words(
        "waiting in {r.zone} for {v:.1f} s, at least {r.wait_s:g} s",
        "waiting in {r.zone} for at least {r.wait_s:g} s",
        "it has left the queue",
        ("wait_s",),
    ),
    rules.QueueLength: Words(
        "{v:.0f} waiting in {r.zone}, at least {r.count} for {r.hold_s:g} s",
        "at least {r.count} waiting in {r.zone} for {r.hold_s:g} s",
        "fewer than {r.count} waiting",
        ("count", "settled_s", *_HELD),
    ),
    rules.Intrusion: Words("{who} inside {r.zone}", "inside {r.zone}", "no longer inside", _HELD),
    rules.RestrictedClass: Words(
        "{who} inside {r.zone}, where it must not be",
        "inside {r.zone}, where they must not be",
        "no longer inside",
        _HELD,
    ),
    rules.Empty: Words(
        "nobody inside {r.zone} for {v:.1f} s, at least {r.since_s:g} s",
        "nobody inside {r.zone} for at least {r.since_s:g} s",
        "somebody is inside",
        ("since_s",),
    ),
    rules.Stopped: Words(
        "standing still{at} for {v:.1f} s, at least {r.since_s:g} s",
        "standing still{at} for at least {r.since_s:g} s",
        "it has moved or is gone",
        ("since_s",),
    ),
    rules.Speeding: Words(
        "{v:.1f} m/s{at}, faster than {r.limit_mps:g} m/s for {r.hold_s:g} s",
        "faster than {r.limit_mps:g} m/s{at} for {r.hold_s:g} s",
        "no longer faster than {r.limit_mps:g} m/s",
        ("limit_mps", "sure_sd", *_HELD),
    ),
    rules.WrongWay: Words(
        "{who} going the wrong way{at} for {r.hold_s:g} s",
        "going the wrong way{at} for {r.hold_s:g} s",
        "no longer going the wrong way",
        ("tolerance_deg", "slowest_mps", "slowest_ratio", *_HELD),
    ),
    rules.Abandoned: Words(
        "{who} left alone{at} for {v:.1f} s, at least {r.since_s:g} s",
        "left alone{at} for at least {r.since_s:g} s",
        "it has moved or is gone, or its owner is near",
        ("since_s", "owner_m", "owner_ratio"),
    ),
    rules.Removed: Words(
        "{who} is gone or moves{at}, after standing still for at least {r.since_s:g} s",
        "gone or moving{at}, after standing still for at least {r.since_s:g} s",
        "nothing more is gone for {r.gap_s:g} s",
        ("since_s", "gap_s"),
    ),
    rules.Proximity: Words(
        "{v:.1f} m apart{at}, nearer than {r.distance_m:g} m for {r.hold_s:g} s",
        "nearer than {r.distance_m:g} m{at} for {r.hold_s:g} s",
        "no longer nearer than {r.distance_m:g} m",
        ("distance_m", *_HELD),
    ),
    rules.LineCrossing: Words(
        "{who} crossed {r.tripwire}{side}",
        "across {r.tripwire}{side}",
        "no other crossing for {r.gap_s:g} s",
        ("gap_s",),
    ),
    rules.Tailgating: Words(
        "{v:.1f} s behind another across {r.tripwire}{side}, within {r.within_s:g} s",
        "within {r.within_s:g} s of another across {r.tripwire}{side}",
        "no other for {r.gap_s:g} s",
        ("within_s", "gap_s"),
    ),
}
"""Texts of crowding and loitering are as they have been since the first release."""


def thresholds(rule: AnyRule) -> dict[str, float]:
    """Return what the rule asks for, as numbers."""
    return {name: float(getattr(rule, name)) for name in WORDS[type(rule)].thresholds}


def why(rule: AnyRule, value: float, label: str, count: int, side: str = "") -> str:
    """Return why an alert is open.

    Args:
        value: what the rule measures.
        label: of the subject.
        count: of subjects, where several share the alert; else 0.
        side: the last one that crossed went there; "": not known, it is the rule's then.
    """
    words = WORDS[type(rule)]
    if not count:
        return _format(words.why, rule, value, label, side)
    return f"{count} at a time {_format(words.each, rule, value, label)}"


def over(rule: AnyRule) -> str:
    """Return why an alert closes whose condition holds no longer."""
    return _format(WORDS[type(rule)].over, rule, 0.0, "")


def _format(template: str, rule: AnyRule, value: float, label: str, side: str = "") -> str:
    zone, side = getattr(rule, "zone", ""), side or getattr(rule, "direction", "any")
    return template.format(
        r=rule,
        v=value,
        at=f" in {zone}" if zone else "",
        who=label or "an object",
        side="" if side == "any" else f" to the {side}",
    )
