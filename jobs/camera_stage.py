"""Job: detections ─▶ camera stage ─▶ tracks, events, alerts, figures, dead-letters.

flink run -d -py jobs/camera_stage.py --settings sites/demo.yaml --bootstrap-servers 127.0.0.1:9092
"""

from __future__ import annotations

from pyflink.datastream import DataStream

from jobs import options
from operators.flink.streams import Streams
from operators.stages.camera_stage import CameraStage
from operators.stages.empty_stage import EmptyStage
from operators.stages.stage import Stage
from schemas import topics

OUTPUTS = [topics.TRACKS, topics.EVENTS, topics.ALERTS, topics.DEAD_LETTERS]


def build(streams: Streams, o: options.Options) -> DataStream:
    """Return the camera stage's rows."""
    detections = streams.from_topic(topics.DETECTIONS, uid="detections")
    stage: Stage = EmptyStage() if o.empty else CameraStage(o.sites)
    return streams.through(detections, stage, uid="camera")


def main() -> None:
    """Submit this stage as a job of its own."""
    o = options.parse(__doc__ or "", settings=True, influx=False)
    streams = options.streams(o)
    rows = build(streams, o)
    streams.to_topics([rows], [*OUTPUTS, topics.FIGURES], uid="camera-out")
    streams.env.execute(f"sightflow camera stage {o.build}")


if __name__ == "__main__":
    main()
