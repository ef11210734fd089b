"""`sightflow evaluate`: tracking results against ground truth, scored by TrackEval."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the command `sightflow evaluate`."""
    from sightflow.evaluate.command import main as run

    return run(argv)
