"""The command line that all jobs share, and the environment it makes."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pyflink.datastream import StreamExecutionEnvironment

from operators.flink.streams import KafkaConfig, Streams
from operators.influx.writer import InfluxTarget
from schemas import topics
from schemas.fields import SettingsError
from schemas.settings import SiteSettings, index_cameras
from schemas.settings_file import load_settings

EXACTLY_ONCE = (topics.EVENTS, topics.DEAD_LETTERS)
"""Written in transactions unless told otherwise. Alerts are not: a transaction shows them only after a checkpoint."""


@dataclass(frozen=True)
class Options:
    """What a job is told."""

    sites: list[SiteSettings]
    kafka: KafkaConfig
    influx: InfluxTarget | None
    parallelism: int | None
    checkpoint_interval_s: float | None
    build: str
    empty: bool


def build_id() -> str:
    """Return 12 hex digits of the code that is about to be submitted; operators print theirs when they open."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("schemas", "operators", "jobs"):
        for path in sorted(p for p in (root / folder).rglob("*") if p.suffix in (".py", ".java")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def parse(description: str, settings: bool, influx: bool, argv: list[str] | None = None) -> Options:
    """Parse the command line; on bad settings print the path of the field and exit with 2."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--bootstrap-servers", default="127.0.0.1:9092", help="Kafka, host:port[,host:port]")
    p.add_argument("--kafka-properties", metavar="FILE", help="name=value lines for Kafka clients (TLS, SASL)")
    p.add_argument("--group-id", default="sightflow", help="consumer group; also the prefix of transactional ids")
    p.add_argument("--start", choices=("earliest", "latest", "committed"), default="earliest",
                   help="where to start reading without a savepoint")  # fmt: skip
    p.add_argument("--exactly-once-topics", default=",".join(EXACTLY_ONCE), metavar="T,T",
                   help="topics written in transactions; the others at least once, at low latency")  # fmt: skip
    p.add_argument("--checkpoint-interval-s", type=float, help="overrides the cluster's configuration")
    p.add_argument("--parallelism", type=int, help="overrides the cluster's default")
    if settings:
        p.add_argument("--settings", nargs="+", required=True, metavar="FILE", help="one YAML file per site")
        p.add_argument("--empty-stage", action="store_true",
                       help="the same graph with a camera stage that does nothing: Flink's floor (bench/)")  # fmt: skip
    if influx:
        p.add_argument("--influx-url", required=True)
        p.add_argument("--influx-org", required=True)
        p.add_argument("--influx-bucket", required=True)
        p.add_argument("--influx-token-file", required=True, help="a file on every TaskManager that holds the token")
    a = p.parse_args(argv)
    exact = tuple(t for t in a.exactly_once_topics.split(",") if t)
    known = {t.name for t in topics.TOPICS}
    if not set(exact) <= known:
        p.error(f"--exactly-once-topics: expected names of {sorted(known)}, got {sorted(set(exact) - known)}")
    kafka = KafkaConfig(
        bootstrap_servers=a.bootstrap_servers, group_id=a.group_id, start=a.start, exactly_once_topics=exact,
        transactional_id_prefix=a.group_id, properties=properties(a.kafka_properties),
    )  # fmt: skip
    target = (
        InfluxTarget(a.influx_url, a.influx_org, a.influx_bucket, str(Path(a.influx_token_file).resolve()))
        if influx
        else None
    )
    return Options(
        sites(a.settings) if settings else [],
        kafka,
        target,
        a.parallelism,
        a.checkpoint_interval_s,
        build_id(),
        settings and a.empty_stage,
    )


def sites(paths: list[str]) -> list[SiteSettings]:
    """Read site files; on bad ones print the path of the field and exit with 2."""
    try:
        found = [load_settings(path) for path in paths]
        index_cameras(found)
    except SettingsError as e:
        _refuse(f"settings refused: {e}")
    return found


def properties(path: str | None) -> dict[str, str]:
    """Read name=value lines for Kafka clients; on bad ones say which and exit with 2."""
    if path is None:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        _refuse(f"--kafka-properties {path}: cannot be read: {getattr(e, 'strerror', None) or e}")
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():  # the line itself may be a password
            _refuse(f"--kafka-properties {path}, line {number}: expected name=value, or # and a remark")
        found[name.strip()] = value.strip()
    return found


def _refuse(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    raise SystemExit(2)


def streams(options: Options) -> Streams:
    """Make the environment of a job."""
    env = StreamExecutionEnvironment.get_execution_environment()
    if options.parallelism:
        env.set_parallelism(options.parallelism)
    if options.checkpoint_interval_s:
        env.enable_checkpointing(int(options.checkpoint_interval_s * 1000))
    return Streams(env, options.kafka)
