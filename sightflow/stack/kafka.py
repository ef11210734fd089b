"""The local Kafka broker: one KRaft node, its settings, its format, its readiness, the topics."""

from __future__ import annotations

import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.topics import TOPICS
from sightflow.errors import ServiceFailed
from sightflow.stack.ports import HOST, Ports

_FORMAT_TIMEOUT_S = 60.0
_TOPIC_EXISTS = 36
"""Kafka's error code TOPIC_ALREADY_EXISTS."""

_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = ConsoleAppender
appender.console.name = ConsoleAppender
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-50c - %m%n
# Every setting of the broker at each start.
logger.values.name = org.apache.kafka.common.config.AbstractConfig
logger.values.level = WARN
"""


def server_properties(data_dir: Path, ports: Ports) -> dict[str, str]:
    """Return the broker's settings: every key that differs from Kafka's default for one node.

    Args:
        data_dir: where the broker keeps its log segments.
        ports: the stack's ports.
    """
    client, controller = f"{HOST}:{ports.kafka}", f"{HOST}:{ports.kafka_controller}"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{client},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{client}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data_dir),
        # One node holds the only copy.
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        # The defaults (50 each) cost a small machine thousands of files.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        # Topics are made with their own bounds (schemas/topics.py), never by a typing error.
        "auto.create.topics.enable": "false",
        # Record timestamps are capture times: a bound by age would delete a replayed recording at once.
        "log.retention.ms": "-1",
        "log.retention.bytes": str(1 << 30),
        # The largest of our records is a dead letter that carries the 1 MiB message it is about.
        "message.max.bytes": str(4 << 20),
        "replica.fetch.max.bytes": str(4 << 20),
        # Flink's Kafka sink asks for 10 minutes; this is the ceiling that it is checked against.
        "transaction.max.timeout.ms": str(15 * 60_000),
        # After a crash the controller waits this long (9 s by default) before it lets the same broker in again.
        "broker.session.timeout.ms": "5000",
        "broker.heartbeat.interval.ms": "1000",
        # Nobody else will join a consumer group of a local stack: do not wait for them.
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        "log.cleaner.io.buffer.size": str(256 << 10),
    }


def write_config(config_dir: Path, data_dir: Path, ports: Ports) -> Path:
    """Write the broker's configuration and return the path of server.properties."""
    config_dir.mkdir(parents=True, exist_ok=True)
    (config_dir / "log4j2.properties").write_text(_LOG4J)
    path = config_dir / "server.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in server_properties(data_dir, ports).items()))
    return path


def java_command(lib: Path, config_dir: Path, main_class: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of one of Kafka's Java programs."""
    return (
        "java",
        "-Xmx512m",
        "-XX:+UseG1GC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile=file:{config_dir / 'log4j2.properties'}",
        "-cp",
        f"{lib}/*",
        main_class,
        *arguments,
    )


def is_formatted(data_dir: Path) -> bool:
    """Return whether the data folder is ready for the broker."""
    return (data_dir / "meta.properties").exists()


def format_storage(lib: Path, properties: Path, data_dir: Path, env: Mapping[str, str]) -> None:
    """Format a new data folder, as a KRaft node needs it.

    Args:
        lib: the broker's jars.
        properties: the broker's configuration.
        data_dir: the folder.
        env: environment of Kafka's tool.

    Raises:
        ServiceFailed: Kafka's own tool refused.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    arguments = ("format", "-t", cluster, "-c", str(properties))
    command = java_command(lib, properties.parent, "kafka.tools.StorageTool", *arguments)
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceFailed("Kafka could not format its data folder:\n" + (done.stdout + done.stderr)[-2000:])


def is_ready(bootstrap: str) -> bool:
    """Return whether a broker answers there and has a controller; raises OSError while nothing listens."""
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1.0):  # refused at once, where the client would wait
        pass
    metadata = _admin(bootstrap).list_topics(timeout=2.0)
    return metadata.controller_id >= 0 and bool(metadata.brokers)


def create_topics(bootstrap: str, timeout_s: float = 20.0) -> list[str]:
    """Create the topics of `schemas.topics` that do not exist.

    Returns:
        The names of those that were made now.

    Raises:
        ServiceFailed: the broker refused one.
    """
    wanted = [NewTopic(topic.name, topic.partitions, 1, config=topic.config()) for topic in TOPICS]
    made = []
    admin = _admin(bootstrap)  # held by a name: its requests end with it
    for name, future in admin.create_topics(wanted, operation_timeout=timeout_s).items():
        try:
            future.result(timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() != _TOPIC_EXISTS:
                raise ServiceFailed(f"Kafka refused to create topic {name}: {error.args[0].str()}") from error
        else:
            made.append(name)
    return made


def _admin(bootstrap: str) -> AdminClient:
    # Its complaints while a broker starts would land on the user's terminal.
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.connection.setup.timeout.ms": 2000})
