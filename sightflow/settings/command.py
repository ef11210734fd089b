"""The command `sightflow settings`; each subcommand is a module of its name with `run(topics, arguments) -> int`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from sightflow.settings.arguments import kafka, parser
from sightflow.settings.topic import SettingsTopics


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)
    subcommand = importlib.import_module(f"sightflow.settings.{arguments.subcommand}")
    check = getattr(subcommand, "check", None)
    if check is not None:  # what needs no Kafka is told without one
        check(arguments)
    return int(subcommand.run(SettingsTopics(kafka(arguments)), arguments))
