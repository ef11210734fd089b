"""`sightflow report`: one self-contained HTML page of what came out of one camera, read back from Kafka and InfluxDB."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the command `sightflow report`."""
    from sightflow.report.command import main as run

    return run(argv)
