"""`sightflow down`: stop the local stack."""

from __future__ import annotations

from collections.abc import Sequence

from sightflow.commands.arguments import parser, stack
from sightflow.progress import Progress

_EXAMPLES = """\
  sightflow down             stop everything; topics, points and checkpoints stay for the next `up`
  sightflow down --wipe      and forget all of it
"""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("down", "Stop every process of the local stack, also after a crash of its supervisor.", _EXAMPLES)
    made.add_argument("--wipe", action="store_true", help="delete topics, points, checkpoints, logs and tokens too")
    arguments = made.parse_args(argv)
    with Progress.to_stdout() as progress:
        stack(arguments).down(progress, wipe=arguments.wipe)
    kept = "its data is deleted" if arguments.wipe else f"its data stays in {arguments.run_dir}"
    print(f"the stack is down; {kept}\nnext:\n  sightflow up")
    return 0
