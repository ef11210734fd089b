"""`sightflow settings apply FILE`: a site file as a new version."""

from __future__ import annotations

import argparse

from schemas.fields import SettingsError
from schemas.settings import SiteSettings
from schemas.settings_file import load_settings
from sightflow.errors import CheckFailed
from sightflow.settings.arguments import from_us
from sightflow.settings.change import send_and_wait
from sightflow.settings.topic import SettingsTopics


def check(arguments: argparse.Namespace) -> None:
    """Check the file and the time. Raises CheckFailed."""
    from_us(arguments.since, load(arguments).timezone, 0)


def load(arguments: argparse.Namespace) -> SiteSettings:
    """Read and check the file that the arguments name. Raises CheckFailed."""
    try:
        return load_settings(arguments.file)
    except SettingsError as error:
        raise CheckFailed(f"settings refused, nothing was sent: {error}", "the fields: docs/settings.md") from error


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    settings = load(arguments)
    return send_and_wait(topics, topics.site(settings.site), settings, arguments)
