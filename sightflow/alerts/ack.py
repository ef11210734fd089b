"""`sightflow alerts ack ID`: somebody has seen an alert."""

from __future__ import annotations

import argparse
import time

from schemas.alert_orders import Acknowledgement, camera_of
from schemas.fields import SettingsError
from sightflow.alerts.arguments import timezone_of
from sightflow.alerts.send import send_and_wait
from sightflow.errors import CheckFailed
from sightflow.settings.arguments import author, from_us
from sightflow.settings.topic import SettingsTopics


def check(arguments: argparse.Namespace) -> None:
    """Check the id and the time. Raises CheckFailed."""
    site = arguments.alert_id.partition("/")[0]
    try:
        camera_of(arguments.alert_id, site)
    except SettingsError as error:
        raise CheckFailed(f"ID: {error.problem}", "where to find it: sightflow alerts --help") from error
    if arguments.alert_id.split("/")[1].startswith("source-lost@"):
        raise CheckFailed(
            "a lost source is not acknowledged: its alert is said once, and closes when frames come again"
        )
    from_us(arguments.since, "UTC", 0)


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    site = topics.site(arguments.alert_id.partition("/")[0])
    now_us, zone = time.time_ns() // 1000, timezone_of(site)
    order = Acknowledgement(
        site=site.name, alert_id=arguments.alert_id, from_us=from_us(arguments.since, zone, now_us), sent_us=now_us,
        author=author(arguments.author), comment=arguments.comment[:256],
    )  # fmt: skip
    return send_and_wait(topics, order, f"{arguments.alert_id} is acknowledged", zone, arguments.wait)
