"""`sightflow settings history`: the versions, when, who, why, and what jobs have said."""

from __future__ import annotations

import argparse

from sightflow.settings.arguments import shown
from sightflow.settings.show import said
from sightflow.settings.topic import SettingsTopics


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand; the newest comes last."""
    site = topics.site(arguments.site)
    site.version(None)
    for kept in site.versions:
        m, zone = kept.message, kept.settings.timezone
        print(
            f"{m.version:>4}  {m.fingerprint}  from {shown(m.from_us, zone)}  {m.author}  {' '.join(m.comment.split())}"
        )
        for line in said(site, kept):
            print(f"      {line}")
    print("next:\n  sightflow settings show --version N, sightflow settings rollback N")
    return 0
