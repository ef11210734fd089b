"""The arguments of `sightflow replay` and `sightflow record`."""

from __future__ import annotations

import argparse
from pathlib import Path

from sightflow.places import Local
from sightflow.replay.records import FORMATS

_DESCRIPTION = """\
Run recorded detections through the camera stage, the code that runs live, under other settings, and say what alerts and counts
would have been; with --compare, what would be different. Nothing is written to the live topics or to InfluxDB.
Formats, files and rules: docs/replay.md."""
_EXAMPLES = """\
examples:
  sightflow replay --input gate.wire --settings new.yaml
  sightflow replay --input gate.wire --settings new.yaml --compare sites/yard.yaml --out what-if
  sightflow replay --input 'kafka://kafka:9092/detections?from=2026-11-20T10:00Z&to=2026-11-20T11:00Z' \\
    --settings new.yaml --compare sites/yard.yaml --out what-if
  sightflow replay --input topic:detections --from 2026-11-20T10:00Z --compare sites/yard.yaml --out what-if
                                                 new: the versions on the topic `settings` that were in force
  sightflow replay --input det.txt --fps 25 --size 1920x1080 --camera gate-1 --start 2026-05-01T08:00Z --settings new.yaml
recordings:
  sightflow record --input topic:detections --from 2026-11-20T10:00Z --to 2026-11-20T11:00Z --out gate.wire.gz
"""
_RECORD_DESCRIPTION = """\
Write a span of the topic of detections to a file, each record with its key, time and place, for `sightflow replay` and
`sightflow track`. It reads what the topic holds now; nothing is changed there."""
_RECORD_EXAMPLES = """\
examples:
  sightflow record --input topic:detections --out all.wire.gz
  sightflow record --input 'kafka://kafka:9092/detections?from=2026-11-20T10:00Z&to=2026-11-20T11:00Z' --out an-hour.wire
  sightflow record --input topic:detections --camera gate-1 --out gate-1.wire
"""


def replay_parser() -> argparse.ArgumentParser:
    """Return the parser of `sightflow replay`."""
    made = _parser("replay", _DESCRIPTION, _EXAMPLES)
    add = made.add_argument
    add("--input", nargs="+", required=True, metavar="INPUT",
        help="files (.wire, .jsonl, .txt, each also with .gz), a folder of messages, or a topic: kafka://HOST:PORT/TOPIC, "
        "or topic:TOPIC for the local stack's")  # fmt: skip
    add("--format", choices=FORMATS, default="", help="of the files (default: by their extension)")
    add("--settings", nargs="+", type=Path, default=[], metavar="FILE",
        help="site files that hold for all of it; topics: left out, the versions that were in force")  # fmt: skip
    add("--compare", nargs="+", type=Path, default=[], metavar="FILE", help="site files of the other side, called old")
    add("--submitted", nargs="+", type=Path, default=[], metavar="FILE",
        help="without --settings: site files that the job ran with before the first version on the topic")  # fmt: skip
    _add_span(made)
    add(
        "--out", type=Path, metavar="DIR", help="keep events, alerts, windows, dead letters, summary and timeline there"
    )
    add("--overwrite", action="store_true", help="replace the files of an earlier replay in DIR")
    text = made.add_argument_group("text files (.jsonl, .txt)")
    text.add_argument(
        "--fps", type=float, metavar="F", help="frames per second; lines with time_s carry their own times"
    )
    text.add_argument("--size", metavar="WxH", help="of the frame in pixels")
    text.add_argument("--class", dest="label", default="person", metavar="NAME",
                      help="class of boxes that name none (default: person)")  # fmt: skip
    text.add_argument("--start", metavar="TIME", help="capture time of the first frame (default: 2020-01-01T00:00Z)")
    job = made.add_argument_group("topics")
    job.add_argument("--in-process", action="store_true", help="read the topic and replay here, not as a job on Flink")
    job.add_argument(
        "--parallelism", type=int, metavar="N", help="slots that the job spreads cameras over (default: 1)"
    )
    job.add_argument("--job-kafka-properties", type=Path, metavar="FILE",
                     help="name=value lines for the job's Kafka client, which is Java's")  # fmt: skip
    _add_kafka(job)
    return made


def record_parser() -> argparse.ArgumentParser:
    """Return the parser of `sightflow record`."""
    made = _parser("record", _RECORD_DESCRIPTION, _RECORD_EXAMPLES)
    made.add_argument("--input", required=True, metavar="TOPIC",
                      help="kafka://HOST:PORT/TOPIC, or topic:TOPIC for the local stack's")  # fmt: skip
    _add_span(made)
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help=".wire, or .wire.gz to pack it")
    made.add_argument("--overwrite", action="store_true", help="replace FILE")
    _add_kafka(made)
    return made


def _parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"sightflow {name}", description=description, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def _add_span(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--from", dest="since", metavar="TIME", help="first capture time, ISO 8601, UTC unless it names a zone"
    )
    made.add_argument("--to", dest="until", metavar="TIME", help="capture time before which it ends")
    made.add_argument("--camera", nargs="+", default=[], metavar="ID",
                      help="only these cameras; text files: the camera of the settings whose frames they are")  # fmt: skip


def _add_kafka(made: argparse._ActionsContainer) -> None:
    made.add_argument(
        "--run-dir", type=Path, default=Local.find().run, help="folder of the local stack (default: .local/run)"
    )
    made.add_argument(
        "--bootstrap-servers", metavar="HOST:PORT", help="Kafka of topic:TOPIC, instead of the local stack's"
    )
    made.add_argument(
        "--kafka-properties", type=Path, metavar="FILE", help="name=value lines for librdkafka (TLS, SASL)"
    )
