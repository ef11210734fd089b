"""`sightflow settings rollback VERSION`: an earlier version's settings as a new version."""

from __future__ import annotations

import argparse

from sightflow.settings.change import send_and_wait
from sightflow.settings.topic import SettingsTopics


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    site = topics.site(arguments.site)
    found = site.version(arguments.version)
    if not arguments.comment:
        arguments.comment = f"rollback to version {arguments.version}"
    return send_and_wait(topics, site, found.settings, arguments)
