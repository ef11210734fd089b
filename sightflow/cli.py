"""The command line `sightflow <command>`; a command is a module with `main(argv) -> int`, imported when called."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sightflow import __version__
from sightflow.errors import SightflowError

INTERRUPTED_STATUS = 130


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        module: has `main(argv) -> int`.
        summary: one line for the list of commands.
    """

    module: str
    summary: str


COMMANDS = {
    "setup": Command("sightflow.bootstrap.__main__", "install everything that is needed; a second run finds it done"),
    "demo": Command("sightflow.demo", "the whole product at work on real footage, and what came out"),
    "up": Command("sightflow.commands.up", "start Kafka, InfluxDB and Flink for development, and leave them running"),
    "down": Command("sightflow.commands.down", "stop them"),
    "status": Command("sightflow.commands.status", "what runs, where it listens, which jobs there are"),
    "submit": Command("sightflow.commands.submit", "submit a job to the local Flink"),
    "stop": Command("sightflow.commands.stop", "stop a job with a savepoint, from which it can go on"),
    "settings": Command(
        "sightflow.settings.command", "change zones, tripwires and rules while a job runs; see and undo it"
    ),
    "replay": Command(
        "sightflow.replay.command", "what if: recorded detections under other settings, and what would differ"
    ),
    "record": Command("sightflow.replay.record", "write a span of the topic of detections to a file"),
    "alerts": Command("sightflow.alerts.command", "acknowledge an alert, mute rules for a time, while a job runs"),
    "report": Command("sightflow.report.command", "one HTML page of what came out"),
    "track": Command("sightflow.track.command", "run the camera stage's tracker over a file of detections"),
    "evaluate": Command(
        "sightflow.evaluate.command", "score tracking results against ground truth (HOTA, CLEAR, identity)"
    ),
    "logs": Command("sightflow.commands.logs", "show the log of a server"),
    "doctor": Command("sightflow.commands.doctor", "look whether this machine has what is needed, and say what to do"),
}

_EXAMPLES = """\
first steps:
  sightflow doctor                               is this machine ready?
  sightflow demo                                 everything at once, on real footage
by hand:
  sightflow up                                   start the servers
  sightflow submit suite --settings sites/demo.yaml
  sightflow status
  sightflow stop                                 stop the job with a savepoint
  sightflow down
each command explains itself: sightflow up --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        0 fine, 1 a problem that was explained, 2 wrong usage, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words[:1])
    command = COMMANDS[arguments.command]
    _end_on_terminate()
    try:
        return int(importlib.import_module(command.module).main(words[1:]))
    except SightflowError as error:
        print(f"\nsightflow {arguments.command}: {error.text()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED_STATUS
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="sightflow",
        description="Stateful video analytics on Apache Flink.\n\ncommands:\n" + listing,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="sightflow <command> [options]",
    )
    parser.add_argument("--version", action="version", version=f"sightflow {__version__}")
    parser.add_argument("command", choices=sorted(COMMANDS), metavar="<command>", help="one of the above")
    return parser


def _end_on_terminate() -> None:
    """TERM and HUP take the way of Ctrl-C, so that what was started is taken down."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
