"""`sightflow settings show`: a version as a site file, with what jobs have said to it."""

from __future__ import annotations

import argparse

from sightflow.settings.arguments import shown
from sightflow.settings.change import Answers
from sightflow.settings.text import as_yaml
from sightflow.settings.topic import Kept, SettingsTopics, Site


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand; all but the settings are comments, so that the output is a site file."""
    site = topics.site(arguments.site)
    kept = site.version(arguments.version)
    zone, m = kept.settings.timezone, kept.message
    print(f"# version {m.version} of {m.site}, fingerprint {m.fingerprint}")
    print(f"# holds from {shown(m.from_us, zone)}; sent {shown(m.sent_us, zone)} by {m.author or 'somebody'}")
    if m.comment:
        print(f"# {_one_line(m.comment)}")
    for line in said(site, kept):
        print(f"# {line}")
    print(as_yaml(kept.settings), end="")
    return 0


def said(site: Site, kept: Kept) -> list[str]:
    """Return what jobs have said to a version, in words."""
    answers = answers_to(site, kept)
    if answers.taken is None:
        return ["no job has answered"]
    if answers.taken.status == "failure":
        return [f"refused: {e.path}: {e.problem}" for e in answers.taken.errors]
    names = [c.id for c in kept.settings.cameras]
    waiting = [name for name in names if name not in answers.in_force]
    late = sum(ack.status == "partial" for ack in answers.in_force.values())
    line = f"taken; in force at {len(names) - len(waiting)} of {len(names)} cameras"
    return [
        line + (f", {late} of them late" if late else ""),
        *([f"not yet: {', '.join(waiting[:10])}"] if waiting else []),
    ]


def answers_to(site: Site, kept: Kept) -> Answers:
    """Return what jobs have said to a version."""
    answers, m = Answers(), kept.message
    for ack in site.acks:
        if (ack.version, ack.fingerprint) == (m.version, m.fingerprint):
            answers.take(ack)
    return answers


def _one_line(text: str) -> str:
    return " ".join(text.split())
