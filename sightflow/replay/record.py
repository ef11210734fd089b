"""The command `sightflow record`: a span of a topic as a file."""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from sightflow.errors import SightflowError
from sightflow.progress import Progress
from sightflow.replay import topic
from sightflow.replay.arguments import record_parser
from sightflow.settings.arguments import kafka
from sightflow.track.outputs import part_of
from sightflow.track.source import Bytes
from sightflow.track.wire_file import Recorded, write_recorded

_SHOW_EACH = 256
_SUFFIXES = (".wire", ".wire.gz")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    a = record_parser().parse_args(argv)
    if not topic.is_topic(a.input):
        raise SightflowError(f"--input: expected kafka://HOST:PORT/TOPIC or topic:TOPIC, got {a.input!r}")
    wanted = topic.parse(a.input, a.since, a.until)
    if not a.out.name.endswith(_SUFFIXES):
        raise SightflowError(f"--out {a.out}: expected a name that ends in {' or '.join(_SUFFIXES)}")
    if a.out.exists() and not a.overwrite:
        raise SightflowError(f"--out {a.out}: is there already", "name another file, or say --overwrite")
    reader = topic.TopicReader(properties_of(a, wanted.bootstrap))
    cameras = frozenset(name.encode() for name in a.camera)
    records = (r for r in reader.read(wanted) if not cameras or r.key in cameras)
    with Progress(sys.stderr) as progress:
        count, bytes_ = write(a.out, records, progress)
    print(f"{count:,} records, {bytes_:,} bytes: {a.out}", file=sys.stderr)
    return 0


def properties_of(a: argparse.Namespace, bootstrap: str) -> dict[str, str]:
    """Return librdkafka's properties for the Kafka that an input or else the options name. Raises as `kafka`."""
    if bootstrap and a.bootstrap_servers:
        raise SightflowError("--bootstrap-servers: the input names Kafka already", "leave one of them out")
    return kafka(argparse.Namespace(**{**vars(a), "bootstrap_servers": bootstrap or a.bootstrap_servers}))


def write(path: Path, records: Iterable[Recorded], progress: Progress) -> tuple[int, int]:
    """Write a recording; the file takes its name when it is whole. Return how many records and bytes it has."""
    part = part_of(path)
    count = 0
    try:
        with ExitStack() as stack:
            file: Bytes = stack.enter_context(part.open("wb"))
            if path.suffix == ".gz":  # no name and no time in it: two runs give the same bytes
                file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, 0))
            stack.enter_context(progress.step("record"))
            begun_s = time.perf_counter()
            for record in records:
                write_recorded(file, record)
                count += 1
                if count % _SHOW_EACH == 0:
                    rate_hz = count / (time.perf_counter() - begun_s)
                    progress.detail("record", f"{count:,} records, {rate_hz:,.0f}/s")
        if not count:
            raise SightflowError("no records there", "is the span of time right (UTC)? is the camera's id?")
        size = part.stat().st_size
        part.replace(path)
    except OSError as error:
        raise SightflowError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return count, size
