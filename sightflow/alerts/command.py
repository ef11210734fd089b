"""The command `sightflow alerts`; each subcommand is a module of its name with `run(topics, arguments) -> int`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from sightflow.alerts.arguments import parser
from sightflow.settings.arguments import kafka
from sightflow.settings.topic import SettingsTopics


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)
    subcommand = importlib.import_module(f"sightflow.alerts.{arguments.subcommand}")
    subcommand.check(arguments)  # what needs no Kafka is told without one
    return int(subcommand.run(SettingsTopics(kafka(arguments)), arguments))
