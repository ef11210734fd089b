"""Telling systemd how the agent is: sd_notify(3), without a library."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send `state` ('READY=1', 'WATCHDOG=1', 'STOPPING=1', 'STATUS=…') to systemd; False where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            s.settimeout(1.0)
            s.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float:
    """Return how often systemd wants to hear from the agent (half its limit), or 0 where it does not."""
    try:
        limit_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return 0.0
    return limit_us / 2e6
