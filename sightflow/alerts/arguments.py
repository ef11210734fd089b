"""The arguments of `sightflow alerts`, and what they mean."""

from __future__ import annotations

import argparse
import re

from schemas.alert_orders import ANY
from schemas.wire import LATEST_US
from sightflow.errors import CheckFailed
from sightflow.settings.arguments import WAIT_S, add_kafka, from_us
from sightflow.settings.topic import Site

MAX_MUTE_S = 366 * 86_400

_DESCRIPTION = """\
Say something to the alerts of running jobs: an order on the topic `settings`, which jobs answer on `settings-acks`. An order
holds from an event time, so that a replay does what the live run did. What alerts make of it: docs/rules.md."""
_EXAMPLES = """\
examples:
  sightflow alerts ack yard/loiter@1/gate/drive/17/1777615200000000 --comment "the plumber"
                                             no more repeats, no escalation; the alert says who and closes as always
  sightflow alerts mute --camera gate --for 2h --comment "works at the gate"
  sightflow alerts mute --rule crowd --until 2026-05-01T18:00         that rule, at every camera, until then (site's time)
  sightflow alerts mute --all --for 15m      every rule of the site
  sightflow alerts unmute --camera gate      what was muted with the same --camera and --rule
An alert's id is the field `alert_id` of its messages on the topic `alerts`, in Grafana's table of alerts and in
`sightflow report`. It holds characters that shells leave alone.
"""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    made = argparse.ArgumentParser(
        prog="sightflow alerts",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = made.add_subparsers(dest="subcommand", required=True, metavar="<subcommand>")
    ack = _part(parts, "ack", "acknowledge an open alert: it is neither repeated nor escalated any more")
    ack.add_argument("alert_id", metavar="ID", help="of the alert, as its messages have it in `alert_id`")
    mute = _part(parts, "mute", "open no alerts of some rules for a time, and repeat none; ends are still said")
    _add_target(mute)
    end = mute.add_mutually_exclusive_group(required=True)
    end.add_argument("--for", dest="length", metavar="TIME", help="so long: 90s, 15m, 2h, 3d")
    end.add_argument(
        "--until", metavar="TIME", help="until then: ISO 8601, in the site's time zone unless it names one"
    )
    unmute = _part(parts, "unmute", "take back a mute, from now on; it names the same camera and rule")
    _add_target(unmute)
    return made


def _part(parts: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    made = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_kafka(made)
    made.add_argument(
        "--from", dest="since", metavar="TIME",
        help="capture time from which it holds, ISO 8601, in the site's time zone unless it names one (default: now, plus "
        "2 s for the way to the jobs)",
    )  # fmt: skip
    made.add_argument(
        "--comment", default="", metavar="TEXT", help="why; kept with the order (and an acknowledged alert says it)"
    )
    made.add_argument("--author", default="", metavar="NAME", help="default: the user's name")
    made.add_argument(
        "--wait",
        type=float,
        default=WAIT_S,
        metavar="S",
        help=f"wait this long for a job to answer (default: {WAIT_S:g})",
    )
    return made


def _add_target(made: argparse.ArgumentParser) -> None:
    made.add_argument("--site", metavar="NAME", help="default: the only one on the topic `settings`")
    made.add_argument("--camera", default=ANY, metavar="NAME", help="only at this camera (default: at every one)")
    made.add_argument("--rule", default=ANY, metavar="NAME", help="only the rule of this id (default: every one)")
    made.add_argument("--all", action="store_true", help="needed where neither --camera nor --rule is given")


def check_target(arguments: argparse.Namespace) -> None:
    """Refuse what would mute a whole site by accident. Raises CheckFailed."""
    named = arguments.camera != ANY or arguments.rule != ANY
    if named == arguments.all:
        problem = "--all goes with neither --camera nor --rule" if named else "expected --camera, --rule, or --all"
        raise CheckFailed(problem, "what it does: sightflow alerts mute --help")


def check_names(arguments: argparse.Namespace, site: Site) -> None:
    """Refuse names that the newest settings on the topic do not have. Raises CheckFailed."""
    if not site.versions:
        return
    cameras = site.versions[-1].settings.cameras
    if arguments.camera not in (ANY, *(c.id for c in cameras)):
        raise CheckFailed(
            f"--camera: {site.name} has no camera {arguments.camera!r} (has: {_some([c.id for c in cameras])})"
        )
    rules = sorted({r.id for c in cameras if arguments.camera in (ANY, c.id) for r in c.rules})
    if arguments.rule not in (ANY, *rules):
        raise CheckFailed(f"--rule: there is no rule {arguments.rule!r} (there is: {_some(rules)})")


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def length_us(text: str) -> int:
    """Return a length of time, µs. Raises CheckFailed."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= MAX_MUTE_S:
        raise CheckFailed(f"--for: expected a length such as 90s, 15m, 2h or 3d, up to 366d, got {text!r}")
    return round(seconds * 1e6)


def until_us(arguments: argparse.Namespace, timezone: str, begin_us: int) -> int:
    """Return when a mute ends, µs. Raises CheckFailed."""
    if arguments.length:
        return min(begin_us + length_us(arguments.length), LATEST_US)
    end_us = from_us(arguments.until, timezone, 0, "--until")
    if end_us <= begin_us:
        raise CheckFailed(f"--until: expected a time after the mute begins, got {arguments.until!r}")
    return end_us


def timezone_of(site: Site) -> str:
    """Return the site's time zone where the topic knows it, else UTC."""
    return site.versions[-1].settings.timezone if site.versions else "UTC"
