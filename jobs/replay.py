"""Job: a span of detections ─▶ camera stage under new settings, and old ones ─▶ files. It ends when the span has been read.

    flink run -py jobs/replay.py --settings NEW.yaml --compare OLD.yaml --bootstrap-servers 127.0.0.1:9092 --out file:///DIR

`sightflow replay` submits it, and sorts and compares what it writes: DIR/file=SIDE%2FNAME/part-*, a line each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
from pyflink.datastream import StreamExecutionEnvironment

from jobs import options
from operators.flink.bounded_shell import BoundedShell
from operators.flink.streams import KafkaConfig, Span, Streams
from operators.stages.replay_stage import ReplayStage, Side
from operators.stages.stage import Input
from schemas import topics

NEW, OLD = "new", "old"


def build(streams: Streams, shell: BoundedShell, topic: str, span: Span, out: str) -> None:
    """Make the whole job."""
    detections = streams.from_topic(topic, uid="detections", span=span)
    streams.to_files(streams.through(detections, shell, uid="replay"), out, uid="replay-out")


def main() -> None:
    """Submit the job."""
    a = _parser().parse_args()
    new = Side(NEW, tuple(options.sites(a.settings)), _versions(a.versions))
    old = Side(OLD, tuple(options.sites(a.compare)))
    build_id = options.build_id()
    kafka = KafkaConfig(
        bootstrap_servers=a.bootstrap_servers, group_id=a.group_id, properties=options.properties(a.kafka_properties)
    )
    env = StreamExecutionEnvironment.get_execution_environment()
    if a.parallelism:
        env.set_parallelism(a.parallelism)
    span = Span(a.from_ms, a.to_ms, tuple(a.camera))
    shell = BoundedShell(ReplayStage([new, old] if old.sites else [new]), build_id)
    build(Streams(env, kafka), shell, a.topic, span, a.out)
    env.execute(f"sightflow replay {build_id}")


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bootstrap-servers", default="127.0.0.1:9092", help="Kafka, host:port[,host:port]")
    p.add_argument("--kafka-properties", metavar="FILE", help="name=value lines for Kafka clients (TLS, SASL)")
    p.add_argument("--group-id", default="sightflow-replay", help="consumer group")
    p.add_argument("--parallelism", type=int, help="overrides the cluster's default")
    p.add_argument("--topic", default=topics.DETECTIONS)
    p.add_argument("--from-ms", type=int, metavar="MS", help="first record timestamp, Unix time")
    p.add_argument("--to-ms", type=int, metavar="MS", help="record timestamp before which the span ends")
    p.add_argument("--camera", nargs="+", default=[], metavar="ID", help="only these")
    p.add_argument("--settings", nargs="+", default=[], metavar="FILE", help="site files of the side called new")
    p.add_argument(
        "--versions", metavar="FILE", help="versions of settings that the new side takes over to, each at its time"
    )
    p.add_argument("--compare", nargs="+", default=[], metavar="FILE", help="site files of the side called old")
    p.add_argument("--out", required=True, metavar="URL", help="a new folder that every TaskManager reaches")
    return p


def _versions(path: str | None) -> tuple[tuple[str, Input], ...]:
    """Read (key, value, partition, offset, timestamp in ms) of records of the topic `settings`: a MessagePack array of such."""
    if path is None:
        return ()
    found = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[tuple[str, bytes, int, int, int]])
    return tuple((key, Input(value, partition, offset, at_ms)) for key, value, partition, offset, at_ms in found)


if __name__ == "__main__":
    main()
