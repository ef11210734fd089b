"""Job: the whole suite in one graph, without Kafka between the stages.

    detections ─▶ camera stage ─┬─▶ tracks, events, alerts, settings-acks, dead-letters
    settings   ─▶               └─ figures ─▶ InfluxDB stage ─▶ InfluxDB
                                                   └─▶ dead-letters

    flink run -d -py jobs/suite.py --settings sites/demo.yaml --bootstrap-servers 127.0.0.1:9092 \\
        --influx-url http://127.0.0.1:8086 --influx-org ORG --influx-bucket BUCKET --influx-token-file FILE
"""

from __future__ import annotations

from jobs import camera_stage, influx_writer, options
from schemas import topics


def main() -> None:
    """Submit the suite."""
    o = options.parse(__doc__ or "", settings=True, influx=True)
    streams = options.streams(o)
    rows = camera_stage.build(streams, o)
    figures = streams.from_rows(rows, topics.FIGURES, uid="figure-rows", sharded=True)
    refused = influx_writer.build(streams, figures, o)
    streams.to_topics([rows, refused], camera_stage.OUTPUTS, uid="out")
    streams.env.execute(f"sightflow suite {o.build}")


if __name__ == "__main__":
    main()
