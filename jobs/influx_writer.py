"""Job: figures ─▶ InfluxDB stage ─▶ InfluxDB; what it refuses ─▶ dead-letters.

    flink run -d -py jobs/influx_writer.py --bootstrap-servers 127.0.0.1:9092 \\
        --influx-url http://127.0.0.1:8086 --influx-org ORG --influx-bucket BUCKET --influx-token-file FILE
"""

from __future__ import annotations

from pyflink.datastream import DataStream

from jobs import options
from operators.flink.batch_shell import BatchShell
from operators.flink.streams import Streams
from operators.stages.influx_stage import InfluxStage
from schemas import topics


def build(streams: Streams, figures: DataStream, o: options.Options) -> DataStream:
    """Write the figures (sharded); return rows for the dead letters."""
    if o.influx is None:
        raise ValueError("expected the InfluxDB options")
    return streams.through(figures, BatchShell(InfluxStage(o.influx), o.build), uid="influx")


def main() -> None:
    """Submit this stage as a job of its own."""
    o = options.parse(__doc__ or "", settings=False, influx=True)
    streams = options.streams(o)
    rows = build(streams, streams.from_topic(topics.FIGURES, uid="figures", sharded=True), o)
    streams.to_topics([rows], [topics.DEAD_LETTERS], uid="influx-out")
    streams.env.execute(f"sightflow influx writer {o.build}")


if __name__ == "__main__":
    main()
