"""Ids: pure functions of what they name, so that two runs over one log give the same ones."""

from __future__ import annotations


def track_id(site: str, camera: str, born_us: int, ordinal: int) -> str:
    """Name the `ordinal`-th track of a camera, first seen at `born_us` (event time, µs)."""
    return f"{site}/{camera}/{born_us}/{ordinal}"


def alert_id(site: str, rule: str, rule_version: int, camera: str, place: str, subject: str, start_us: int) -> str:
    """Name one incident: rule and version, place (zone or tripwire), subject (track, or '-' for none) and start."""
    return f"{site}/{rule}@{rule_version}/{camera}/{place}/{subject.rsplit('/', 1)[-1] or '-'}/{start_us}"


def transition_id(alert: str, transition: str, number: int) -> str:
    """Name the `number`-th transition of its kind within one alert."""
    return f"{alert}#{transition}{number}"


def alert_subject(alert: str) -> str:
    """Return what an `alert_id` is about, without its start: camera, place and subject, whatever the version of the rule."""
    return "/".join(alert.split("/")[2:-1])


def event_id(kind: str, subject: str, place: str, at_us: int) -> str:
    """Name one event."""
    return f"{kind}/{subject}/{place}/{at_us}"
