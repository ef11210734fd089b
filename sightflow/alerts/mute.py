"""`sightflow alerts mute`: rules that open no alerts for a time."""

from __future__ import annotations

import argparse
import time

from schemas.alert_orders import ANY, Mute
from sightflow.alerts.arguments import check_names, check_target, length_us, timezone_of, until_us
from sightflow.alerts.send import send_and_wait
from sightflow.settings.arguments import author, from_us, shown
from sightflow.settings.topic import SettingsTopics


def check(arguments: argparse.Namespace) -> None:
    """Check the target and the times. Raises CheckFailed."""
    check_target(arguments)
    from_us(arguments.since, "UTC", 0)
    if arguments.length:
        length_us(arguments.length)
    else:
        from_us(arguments.until, "UTC", 0, "--until")


def run(topics: SettingsTopics, arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    return mute(topics, arguments, is_on=True)


def mute(topics: SettingsTopics, arguments: argparse.Namespace, *, is_on: bool) -> int:
    """Send a mute, or one that ends when it begins."""
    site = topics.site(arguments.site)
    check_names(arguments, site)
    now_us, zone = time.time_ns() // 1000, timezone_of(site)
    begin_us = from_us(arguments.since, zone, now_us)
    end_us = until_us(arguments, zone, begin_us) if is_on else begin_us
    order = Mute(
        site=site.name, camera=arguments.camera, rule=arguments.rule, from_us=begin_us, until_us=end_us, sent_us=now_us,
        author=author(arguments.author), comment=arguments.comment[:256],
    )  # fmt: skip
    what = "every rule" if order.rule == ANY else f"rule {order.rule}"
    where = f"every camera of {site.name}" if order.camera == ANY else order.camera
    done = f"muted until {shown(end_us, zone)}" if is_on else "no longer muted by a mute of just this camera and rule"
    return send_and_wait(topics, order, f"{what} at {where} is {done}", zone, arguments.wait)
