"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.wire import EARLIEST_US, LATEST_US
from sightflow.errors import CheckFailed


def us_of(option: str, text: str) -> int:
    """Return a capture time, µs; UTC where it names no zone.

    Raises:
        CheckFailed: it is no time, or one that no frame can have.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CheckFailed(
            f"{option}: expected a time such as 2026-05-01T08:00Z or 2026-05-01T08:00:00+02:00, got {text!r}"
        ) from None
    at_us = round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6)
    if not EARLIEST_US <= at_us <= LATEST_US:
        raise CheckFailed(f"{option}: expected a year from 2000 to 2099, got {text!r}")
    return at_us


def ms_of(option: str, text: str) -> int:
    """Return a capture time as records are stamped with it, ms. Raises as `us_of`."""
    return us_of(option, text) // 1000


def shown(at_us: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
