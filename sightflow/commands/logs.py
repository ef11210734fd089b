"""`sightflow logs`: the end of a server's log."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from sightflow.commands.arguments import parser, stack
from sightflow.errors import CheckFailed

_EXAMPLES = """\
  sightflow logs                                which logs there are
  sightflow logs flink-taskmanager
  sightflow logs kafka --lines 200 --follow
"""
_POLL_S = 0.3
_TAIL_BYTES_PER_LINE = 400


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("logs", "Show the end of a log; it is there after a crash and after `down` too.", _EXAMPLES)
    made.add_argument("service", nargs="?", help="none lists them")
    made.add_argument("--lines", type=int, default=50, metavar="N", help="how many (default: 50)")
    made.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    arguments = made.parse_args(argv)
    folder = stack(arguments).run_dir / "logs"
    known = sorted(path.stem for path in folder.glob("*.log"))
    if arguments.service is None:
        print("\n".join(f"  sightflow logs {name}" for name in known) or f"no logs in {folder}")
        return 0
    path = folder / f"{arguments.service}.log"
    if not path.exists():
        raise CheckFailed(f"no log of {arguments.service!r} in {folder}", f"there are: {', '.join(known) or 'none'}")
    _show(path, arguments.lines, arguments.follow)
    return 0


def _show(path: Path, lines: int, follow: bool) -> None:
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - lines * _TAIL_BYTES_PER_LINE))
        print("\n".join(log.read().decode(errors="replace").splitlines()[-lines:]))
        while follow:
            text = log.read().decode(errors="replace")
            if text:
                print(text, end="", flush=True)
            elif path.stat().st_size < log.tell():  # it was rotated
                return _show(path, lines, follow)
            time.sleep(_POLL_S)
