"""`sightflow settings diff FILE`: what a site file would change."""

from __future__ import annotations

import argparse
import difflib

from sightflow.settings.apply import load
from sightflow.settings.text import as_yaml
from sightflow.settings.topic import SettingsTopics


def check(arguments: argparse.Namespace) -> None:
    """Check the file. Raises CheckFailed."""
    load(arguments)


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    settings = load(arguments)
    kept = topics.site(settings.site).version(arguments.version)
    lines = list(
        difflib.unified_diff(
            as_yaml(kept.settings).splitlines(),
            as_yaml(settings).splitlines(),
            f"version {kept.message.version}",
            str(arguments.file),
            lineterm="",
        )
    )
    print("\n".join(lines) if lines else f"no difference to version {kept.message.version}")
    return 0
