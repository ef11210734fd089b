"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from sightflow.places import Local
from sightflow.stack import Stack


def parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every command on a stack takes."""
    made = argparse.ArgumentParser(
        prog=f"sightflow {name}",
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--run-dir",
        type=Path,
        default=Local.find().run,
        help="folder of the stack: its data, logs, secrets (default: .local/run)",
    )
    return made


def stack(arguments: argparse.Namespace) -> Stack:
    """Return the stack that the arguments name."""
    return Stack(arguments.run_dir)
