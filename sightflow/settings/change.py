"""Sends a new version of a site's settings and waits for what jobs say to it."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

from confluent_kafka import TopicPartition

from schemas.live_settings import SettingsAck, SettingsMessage, new_version
from schemas.settings import SiteSettings, fingerprint
from sightflow.errors import SightflowError
from sightflow.progress import Progress
from sightflow.settings.arguments import author, from_us, shown
from sightflow.settings.topic import SettingsTopics, Site, too_old


class Refused(SightflowError):
    """A job did not take a version; what was in force stays in force."""


@dataclass
class Answers:
    """What jobs have said to a version so far."""

    taken: SettingsAck | None = None
    in_force: dict[str, SettingsAck] = field(default_factory=dict)  # by camera

    def take(self, ack: SettingsAck) -> None:
        """Note one answer."""
        if ack.stage == "taken":
            self.taken = ack
        for camera in ack.cameras if ack.stage == "in_force" else ():
            self.in_force[camera] = ack


def send_and_wait(topics: SettingsTopics, site: Site, settings: SiteSettings, a: argparse.Namespace) -> int:
    """Send `settings` as the next version of their site; return the exit status.

    Raises:
        Refused: a job has checked it and does not take it.
        SightflowError: Kafka did not take it, or no job has answered.
    """
    newest = site.versions[-1].message if site.versions else None
    now_us = time.time_ns() // 1000
    at_us = from_us(a.since, settings.timezone, now_us)
    if newest and newest.fingerprint == fingerprint(settings):
        print(f"nothing to do: version {newest.version} of {site.name}, the newest, has these settings")
        return 0
    number = newest.version + 1 if newest else 1
    message = new_version(settings, number, at_us, now_us, author(a.author), a.comment[:256])
    with Progress.to_stdout() as progress:
        if a.since is not None and at_us < now_us:
            progress.say(
                "  --  --from lies in the past: cameras that are beyond it take the version with their next frame"
            )
        since = topics.ends()
        with progress.step(f"send version {number} of {site.name}"):
            topics.send(message, too_old(site.versions))
        answers = _wait(topics, message, settings, since, a.wait, progress)
    return _tell(message, settings, answers, a.wait)


def _wait(
    topics: SettingsTopics, message: SettingsMessage, settings: SiteSettings, since: list[TopicPartition], wait_s: float,
    progress: Progress,
) -> Answers:  # fmt: skip
    """Wait until a job has taken the version and every camera has it, or until time is up."""
    answers, total = Answers(), len(settings.cameras)
    deadline_s = time.monotonic() + wait_s
    step = "wait for a job to take it, and for each camera's next frame"
    ours = (message.site, message.version, message.fingerprint)
    with progress.step(step):
        for ack in topics.answers(lambda ack: (ack.site, ack.version, ack.fingerprint) == ours, since):
            if ack is not None:
                answers.take(ack)
            progress.detail(
                step, f"{'taken' if answers.taken else 'no answer yet'}, {len(answers.in_force)} of {total} cameras"
            )
            refused = answers.taken is not None and answers.taken.status == "failure"
            not_yet = (
                answers.taken is not None
                and message.from_us > time.time_ns() // 1000 + (deadline_s - time.monotonic()) * 1_000_000
            )
            if refused or not_yet or (answers.taken and len(answers.in_force) >= total):
                break
            if time.monotonic() > deadline_s:
                break
    return answers


def _tell(message: SettingsMessage, settings: SiteSettings, answers: Answers, wait_s: float) -> int:
    name, number = message.site, message.version
    if answers.taken is None:
        raise SightflowError(
            f"no job has answered within {wait_s:g} s; version {number} of {name} is on the topic, and a job that reads it "
            "will take it",
            "does a job run? sightflow status (a job from before live settings does not read the topic: submit it anew)\n"
            f"did it answer later? sightflow settings history --site {name}\n"
            "to take it back: sightflow settings rollback VERSION",
        )
    if answers.taken.status == "failure":
        problems = "\n".join(f"  {e.path}: {e.problem}" if e.path else f"  {e.problem}" for e in answers.taken.errors)
        raise Refused(
            f"version {number} of {name} is refused, what was in force stays in force:\n{problems}",
            "if somebody else has sent a version at the same time: look at it (history, show) and apply yours again",
        )
    print(f"version {number} of {name} ({message.fingerprint}) holds from {shown(message.from_us, settings.timezone)}")
    print(f"it changes: {', '.join(answers.taken.cameras) or 'no camera'}")
    late = [c for c, ack in sorted(answers.in_force.items()) if ack.status == "partial"]
    for camera in late:
        problems = "; ".join(e.problem for e in answers.in_force[camera].errors)
        print(
            f"  partial: {camera} has it since {shown(answers.in_force[camera].at_us, settings.timezone)}: {problems}"
        )
    waiting = sorted({c.id for c in settings.cameras} - answers.in_force.keys())
    print(f"in force: {len(answers.in_force)} of {len(settings.cameras)} cameras")
    if waiting:
        more = f" and {len(waiting) - 10} more" if len(waiting) > 10 else ""
        print(
            f"not yet: {', '.join(waiting[:10])}{more}: no frame of theirs from then on has come\n"
            f"next:\n  sightflow settings show --site {name}     who has it by now"
        )
    return 0
