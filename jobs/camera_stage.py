"""Job: detections ─▶ camera stage ─▶ tracks, events, alerts, figures, settings-acks, dead-letters.
          settings ─▶

flink run -d -py jobs/camera_stage.py --settings sites/demo.yaml --bootstrap-servers 127.0.0.1:9092
"""

from __future__ import annotations

from pyflink.datastream import DataStream

from jobs import options
from operators.flink.live_shell import LiveShell
from operators.flink.streams import Streams
from operators.stages.empty_stage import EmptyStage
from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import LiveStage
from schemas import topics

OUTPUTS = [topics.TRACKS, topics.EVENTS, topics.ALERTS, topics.SETTINGS_ACKS, topics.DEAD_LETTERS]


def build(streams: Streams, o: options.Options) -> DataStream:
    """Return the camera stage's rows."""
    detections = streams.from_topic(topics.DETECTIONS, uid="detections")
    settings = streams.settings(topics.SETTINGS, uid="settings")
    stage: LiveStage = EmptyStage() if o.empty else LiveCameraStage(o.sites)
    shell = LiveShell(stage, o.build, o.kafka.bootstrap_servers, topics.SETTINGS, o.kafka.properties)
    return streams.through_live(detections, settings, shell, uid="camera")


def main() -> None:
    """Submit this stage as a job of its own."""
    o = options.parse(__doc__ or "", settings=True, influx=False)
    streams = options.streams(o)
    rows = build(streams, o)
    streams.to_topics([rows], [*OUTPUTS, topics.FIGURES], uid="camera-out")
    streams.env.execute(f"sightflow camera stage {o.build}")


if __name__ == "__main__":
    main()
