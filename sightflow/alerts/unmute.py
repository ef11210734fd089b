"""`sightflow alerts unmute`: takes back a mute."""

from __future__ import annotations

import argparse

from sightflow.alerts.arguments import check_target
from sightflow.alerts.mute import mute
from sightflow.settings.arguments import from_us
from sightflow.settings.topic import SettingsTopics


def check(arguments: argparse.Namespace) -> None:
    """Check the target and the time. Raises CheckFailed."""
    check_target(arguments)
    from_us(arguments.since, "UTC", 0)


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    return mute(topics, arguments, is_on=False)
