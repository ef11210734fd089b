"""The arguments of `sightflow settings`, and what they mean."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from schemas.live_settings import LEAD_S
from schemas.wire import EARLIEST_US, LATEST_US
from sightflow.errors import CheckFailed, StackNotRunning
from sightflow.places import Local
from sightflow.stack import Stack

WAIT_S = 30.0

_DESCRIPTION = """\
Change a site's settings while jobs run: each change is a numbered version on the topic `settings`, and jobs answer on
`settings-acks`. What can change and when it holds: docs/settings.md."""
_EXAMPLES = """\
examples:
  sightflow settings apply sites/yard.yaml --comment "a zone at the gate"
  sightflow settings apply sites/yard.yaml --from 2026-05-01T08:00       from then on, in the site's time zone
  sightflow settings diff sites/yard.yaml                                what it would change
  sightflow settings show > sites/yard.yaml                              what is in force, as a site file
  sightflow settings history
  sightflow settings rollback 3
  sightflow settings history --bootstrap-servers kafka:9092 --kafka-properties client.properties
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    made = argparse.ArgumentParser(
        prog="sightflow settings",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = made.add_subparsers(dest="subcommand", required=True, metavar="<subcommand>")
    apply = _part(parts, "apply", "check a site file, send it as a new version, wait until jobs have taken it")
    apply.add_argument("file", type=Path, metavar="FILE", help="the site's YAML file, whole")
    _add_change(apply)
    show = _part(parts, "show", "print a version as a site file, with what jobs have said to it")
    show.add_argument("--version", type=int, metavar="N", help="default: the newest")
    _add_site(show)
    diff = _part(parts, "diff", "what a site file would change")
    diff.add_argument("file", type=Path, metavar="FILE")
    diff.add_argument("--version", type=int, metavar="N", help="compare with this version (default: the newest)")
    history = _part(parts, "history", "list the versions: when, who, why, and what jobs have said")
    _add_site(history)
    rollback = _part(parts, "rollback", "send an earlier version's settings as a new version")
    rollback.add_argument("version", type=int, metavar="VERSION", help="as `history` numbers them")
    _add_site(rollback)
    _add_change(rollback)
    return made


def _part(parts: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    made = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_kafka(made)
    return made


def add_kafka(made: argparse.ArgumentParser) -> None:
    """Add the arguments that `kafka` reads."""
    made.add_argument(
        "--run-dir", type=Path, default=Local.find().run, help="folder of the local stack (default: .local/run)"
    )
    made.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="Kafka, instead of the local stack's")
    made.add_argument(
        "--kafka-properties", type=Path, metavar="FILE", help="name=value lines for librdkafka (TLS, SASL)"
    )


def _add_site(made: argparse.ArgumentParser) -> None:
    made.add_argument("--site", metavar="NAME", help="default: the only one on the topic")


def _add_change(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--from", dest="since", metavar="TIME",
        help=f"capture time from which it holds, ISO 8601, in the site's time zone unless it names one "
        f"(default: now, plus {LEAD_S:g} s for the way to the jobs)",
    )  # fmt: skip
    made.add_argument("--comment", default="", metavar="TEXT", help="why; kept with the version")
    made.add_argument("--author", default="", metavar="NAME", help="default: the user's name")
    made.add_argument(
        "--wait",
        type=float,
        default=WAIT_S,
        metavar="S",
        help=f"wait this long for jobs to answer (default: {WAIT_S:g})",
    )


def from_us(text: str | None, timezone: str, now_us: int, option: str = "--from") -> int:
    """Return the event time from which a change holds, µs; `option`: what named it.

    Raises:
        CheckFailed: it is no time, or one that no frame can have.
    """
    if text is None:
        return now_us + round(LEAD_S * 1e6)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CheckFailed(
            f"{option}: expected a time such as 2026-05-01T08:00 or 2026-05-01T06:00:00Z, got {text!r}"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(timezone))
    at_us = round(found.timestamp() * 1e6)
    if not EARLIEST_US <= at_us <= LATEST_US:
        raise CheckFailed(f"{option}: expected a year from 2000 to 2099, got {text!r}")
    return at_us


def shown(at_us: int, timezone: str = "UTC") -> str:
    """Return a time for people."""
    at = datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(ZoneInfo(timezone))
    return at.isoformat(sep=" ", timespec="milliseconds")


def author(named: str) -> str:
    """Return who makes a change."""
    try:
        return (named or getpass.getuser())[:256]
    except OSError:  # a container's user without a name
        return "unknown"


def kafka(arguments: argparse.Namespace) -> dict[str, str]:
    """Return librdkafka's properties for the Kafka that the arguments name.

    Raises:
        CheckFailed: the file of properties cannot be read.
        StackNotRunning: none is named, and no local stack runs.
    """
    found: dict[str, str] = {}
    if arguments.kafka_properties:
        try:
            text = arguments.kafka_properties.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckFailed(f"--kafka-properties: {arguments.kafka_properties} cannot be read: {error}") from error
        found = _properties(text.splitlines())
    if arguments.bootstrap_servers:
        return {**found, "bootstrap.servers": arguments.bootstrap_servers}
    if "bootstrap.servers" in found:
        return found
    stack = Stack(arguments.run_dir)
    if not stack.is_up():
        raise StackNotRunning(
            f"no stack runs in {arguments.run_dir}",
            "start one: sightflow up; or name Kafka: --bootstrap-servers HOST:PORT",
        )
    return {**found, "bootstrap.servers": stack.kafka_bootstrap}


def _properties(lines: Sequence[str]) -> dict[str, str]:
    stripped = (line.strip() for line in lines)
    pairs = (line.partition("=") for line in stripped if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
