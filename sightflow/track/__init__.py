"""`sightflow track`: the camera stage over a file of detections, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the command `sightflow track`."""
    from sightflow.track.command import main as run

    return run(argv)
