"""Kafka in and out, by the Table API, with stable uids; and the way of a stream through a `Stage`.

Key and record timestamp are read in the JVM, watermarks are made per partition in the source, and the keyBy is the
JVM's: that saves half of the cost of a Python `key_by` (docs/adr/0002).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cloudpickle
from py4j.java_gateway import JavaClass
from pyflink.common import Duration, WatermarkStrategy
from pyflink.common.typeinfo import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import StatementSet, StreamTableEnvironment
from pyflink.util.java_utils import get_j_env_configuration, to_jarray

from operators.flink.live_shell import LiveShell
from operators.flink.stage_shell import StageShell

OUTPUT = Types.ROW([Types.STRING(), Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE())])
"""Rows between operators: (topic, key, value)."""

_RECORD = Types.ROW([Types.PRIMITIVE_ARRAY(Types.BYTE()), Types.INT(), Types.LONG()])
_KEYED = Types.ROW([Types.STRING(), _RECORD, Types.INSTANT()])
_SHARDED_RECORD = Types.ROW([Types.PRIMITIVE_ARRAY(Types.BYTE()), Types.INT(), Types.LONG(), Types.STRING()])
_SHARDED = Types.ROW([Types.STRING(), _SHARDED_RECORD, Types.INSTANT()])
_SETTINGS = Types.ROW([Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE()), Types.INT(), Types.LONG()])
_SHARD = "SUBSTRING(MD5(COALESCE(k, '')), 1, 1)"


_OPERATOR_MISSING = (
    "expected the Java class sightflow.flink.BatchOperator on the class path of `flink run`, found none: sightflow-flink.jar"
    " must lie in the lib folder of Flink, here and on every JobManager and TaskManager (docs/runbook.md tells how to build it)"
)


class OperatorMissing(RuntimeError):
    """Flink does not have our operator."""


@dataclass(frozen=True)
class KafkaConfig:
    """How jobs reach Kafka.

    `exactly_once_topics` are written in transactions (readers with `read_committed` see each record once, after the
    checkpoint); all others at least once, at low latency, with deterministic ids.
    """

    bootstrap_servers: str
    group_id: str = "sightflow"
    start: str = "earliest"
    exactly_once_topics: tuple[str, ...] = ()
    transactional_id_prefix: str = "sightflow"
    transaction_timeout_s: int = 600
    out_of_order_s: float = 0.2
    idle_s: float = 5.0
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """What is read of a topic that is read to its end: records with timestamps from `from_ms` to before `to_ms`, of `keys`.

    None, and no keys: without that bound. Records lie in the order of their arrival, not of their timestamps, so partitions
    are read to where they end when the job starts.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    keys: tuple[str, ...] = ()

    def options(self) -> dict[str, str]:
        """Return the options of the source."""
        start = (
            {"scan.startup.mode": "earliest-offset"} if self.from_ms is None
            else {"scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": str(self.from_ms)}
        )  # fmt: skip
        return {**start, "scan.bounded.mode": "latest-offset"}

    def where(self) -> str:
        """Return the condition on its rows, in SQL."""
        tests = [
            *([] if self.from_ms is None else [f"ts >= TO_TIMESTAMP_LTZ({self.from_ms}, 3)"]),
            *([] if self.to_ms is None else [f"ts < TO_TIMESTAMP_LTZ({self.to_ms}, 3)"]),
            *([f"k IN ({', '.join(map(_quoted, self.keys))})"] if self.keys else []),
        ]
        return " AND ".join(tests)


class Streams:
    """Makes the streams of one job. Every transformation gets a uid of its own, those that the Table API makes too."""

    def __init__(self, env: StreamExecutionEnvironment, config: KafkaConfig) -> None:
        self.env = env
        self.tables = StreamTableEnvironment.create(env)
        self.config = config

    def from_topic(self, topic: str, uid: str, sharded: bool = False, span: Span | None = None) -> DataStream:
        """Read a topic as (key, (value, partition, offset), time); a record without a key has the key ''.

        Sharded: as (shard, (value, partition, offset, key), time), where a key always falls to the same of 16 shards.
        With a span the stream ends.
        """
        table = f"source_{uid}".replace("-", "_")
        start = {"earliest": "earliest-offset", "latest": "latest-offset", "committed": "group-offsets"}[
            self.config.start
        ]
        options = {
            "connector": "kafka",
            "topic": topic,
            "properties.bootstrap.servers": self.config.bootstrap_servers,
            "properties.group.id": self.config.group_id,
            "properties.auto.offset.reset": "earliest",
            "properties.fetch.max.wait.ms": "5",
            "scan.startup.mode": start,
            "scan.watermark.idle-timeout": f"{self.config.idle_s} s".replace(".0 ", " "),
            "key.format": "raw",
            "key.fields": "k",
            "value.format": "raw",
            "value.fields-include": "EXCEPT_KEY",
            **(span.options() if span else {}),
            **self._properties(),
        }
        self.tables.execute_sql(
            f"CREATE TEMPORARY TABLE {table} (k STRING, v BYTES, part INT METADATA FROM 'partition' VIRTUAL,"
            " off BIGINT METADATA FROM 'offset' VIRTUAL, ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,"
            f" WATERMARK FOR ts AS ts - INTERVAL '{self.config.out_of_order_s:.3f}' SECOND) WITH ({_sql(options)})"
        )
        where = span.where() if span else ""
        return self._keyed(f"{table} WHERE {where}" if where else table, "v, part, off", "ts", sharded, uid)

    def settings(self, topic: str, uid: str) -> DataStream:
        """Read a topic of settings from its beginning, as (key, value, partition, offset).

        It is always idle to watermarks: event time must not wait for the next change of settings.
        """
        table = f"source_{uid}".replace("-", "_")
        options = {
            "connector": "kafka",
            "topic": topic,
            "properties.bootstrap.servers": self.config.bootstrap_servers,
            "properties.group.id": self.config.group_id,
            "properties.fetch.max.wait.ms": "100",
            "scan.startup.mode": "earliest-offset",
            "key.format": "raw",
            "key.fields": "k",
            "value.format": "raw",
            "value.fields-include": "EXCEPT_KEY",
            **self._properties(),
        }
        self.tables.execute_sql(
            f"CREATE TEMPORARY TABLE {table} (k STRING, v BYTES, part INT METADATA FROM 'partition' VIRTUAL,"
            f" off BIGINT METADATA FROM 'offset' VIRTUAL) WITH ({_sql(options)})"
        )
        query = self.tables.sql_query(f"SELECT COALESCE(k, ''), v, part, off FROM {table}")
        stream = self.tables.to_append_stream(query, _SETTINGS)
        _name_all(stream, uid)
        idle = WatermarkStrategy.no_watermarks().with_idleness(Duration.of_millis(1))
        return stream.assign_timestamps_and_watermarks(idle).uid(f"{uid}-idle").name(f"{uid}-idle")

    def from_rows(self, rows: DataStream, topic: str, uid: str, sharded: bool = False) -> DataStream:
        """Take the rows of one topic straight from another stage, in the shape of `from_topic`; no Kafka between."""
        table = self.tables.from_data_stream(rows).alias("topic", "k", "v")
        view = f"rows_{uid}".replace("-", "_")
        self.tables.create_temporary_view(view, table)
        origin, when = "v, -1, CAST(-1 AS BIGINT)", "CAST(NULL AS TIMESTAMP_LTZ(3))"
        return self._keyed(f"{view} WHERE topic = '{topic}'", origin, when, sharded, uid)

    def _keyed(self, source: str, columns: str, when: str, sharded: bool, uid: str) -> DataStream:
        if sharded:
            query, kind = f"SELECT {_SHARD}, ROW({columns}, COALESCE(k, '')), {when} FROM {source}", _SHARDED
        else:
            query, kind = f"SELECT COALESCE(k, ''), ROW({columns}), {when} FROM {source}", _KEYED
        stream = self.tables.to_append_stream(self.tables.sql_query(query), kind)
        _name_all(stream, uid)
        return stream

    def through(self, stream: DataStream, shell: StageShell[Any], uid: str) -> DataStream:
        """Send a stream through a stage; return its rows (topic, key, value)."""
        rows = self._keyed_by(stream).transform(uid, OUTPUT.get_java_type_info(), self._operator(shell))
        return DataStream(rows).uid(uid)

    def through_live(self, stream: DataStream, settings: DataStream, shell: LiveShell, uid: str) -> DataStream:
        """Send a stream through a stage, with the settings going to every subtask; return its rows."""
        keyed, everywhere = self._keyed_by(stream), settings._j_data_stream.broadcast()
        rows = keyed.connect(everywhere).transform(uid, OUTPUT.get_java_type_info(), self._operator(shell))
        # Flink takes the keys over where both inputs have some.
        rows.getTransformation().setStateKeySelectors(keyed.getKeySelector(), None)
        rows.getTransformation().setStateKeyType(keyed.getKeyType())
        return DataStream(rows).uid(uid)

    def _keyed_by(self, stream: DataStream) -> Any:
        key_type = Types.ROW([Types.STRING()]).get_java_type_info()
        return stream._j_data_stream.keyBy(get_gateway().jvm.KeyByKeySelector(), key_type)

    def _operator(self, shell: StageShell[Any]) -> Any:
        jvm = get_gateway().jvm
        operator = jvm.sightflow.flink.BatchOperator
        if not isinstance(operator, JavaClass):  # py4j takes any name that it does not know for that of a package
            raise OperatorMissing(_OPERATOR_MISSING)
        config = get_j_env_configuration(self.env._j_stream_execution_environment)
        names = to_jarray(jvm.String, list(shell.state_names))
        return operator(config, cloudpickle.dumps(shell), names, shell.max_count, shell.max_wait_ms, shell.tick_ms)

    def to_topics(self, rows: list[DataStream], topics: list[str], uid: str) -> None:
        """Write the rows of these topics to Kafka, each with the guarantee that the configuration names for it."""
        exact = [t for t in topics if t in self.config.exactly_once_topics]
        rest = [t for t in topics if t not in self.config.exactly_once_topics]
        statements = self.tables.create_statement_set()
        views = []
        for i, stream in enumerate(rows):
            view = f"out_{uid}_{i}".replace("-", "_")
            self.tables.create_temporary_view(view, self.tables.from_data_stream(stream).alias("topic", "k", "v"))
            views.append(view)
        before = len(_transformations(self.env))
        inserted = []
        for guarantee, names in (("at-least-once", rest), ("exactly-once", exact)):
            if names:
                self._insert(statements, views, names, guarantee, uid)
                inserted.append(guarantee)
        statements.attach_as_datastream()
        for root, name in zip(_transformations(self.env)[before:], inserted, strict=True):
            _name_behind(root, f"{uid}-{name}")

    def to_files(self, rows: DataStream, folder: str, uid: str) -> None:
        """Write rows as lines, those of each topic to files in `folder`/file=TOPIC; they are whole when the job has finished."""
        table, view = f"sink_{uid}".replace("-", "_"), f"out_{uid}".replace("-", "_")
        self.tables.create_temporary_view(view, self.tables.from_data_stream(rows).alias("topic", "k", "v"))
        options = {"connector": "filesystem", "path": folder, "format": "raw"}
        self.tables.execute_sql(
            f"CREATE TEMPORARY TABLE {table} (v BYTES, `file` STRING) PARTITIONED BY (`file`) WITH ({_sql(options)})"
        )
        statements = self.tables.create_statement_set()
        before = len(_transformations(self.env))
        statements.add_insert_sql(f"INSERT INTO {table} SELECT v, topic FROM {view}")
        statements.attach_as_datastream()
        for root in _transformations(self.env)[before:]:
            _name_behind(root, uid)

    def _insert(self, statements: StatementSet, views: list[str], names: list[str], guarantee: str, uid: str) -> None:
        table = f"sink_{uid}_{guarantee}".replace("-", "_")
        options = {
            "connector": "kafka",
            "topic": ";".join(names),
            "properties.bootstrap.servers": self.config.bootstrap_servers,
            "key.format": "raw",
            "key.fields": "k",
            "value.format": "raw",
            "value.fields-include": "EXCEPT_KEY",
            "sink.delivery-guarantee": guarantee,
            "properties.linger.ms": "2",
            "properties.max.request.size": str(4 << 20),
            "properties.transaction.timeout.ms": str(self.config.transaction_timeout_s * 1000),
            **self._properties(),
        }
        if guarantee == "exactly-once":
            options["sink.transactional-id-prefix"] = f"{self.config.transactional_id_prefix}-{uid}"
        # The connector refuses a topic column where there is only one topic to write to.
        column, selected = ("", "k, v") if len(names) == 1 else ("topic STRING METADATA, ", "topic, k, v")
        self.tables.execute_sql(f"CREATE TEMPORARY TABLE {table} ({column}k STRING, v BYTES) WITH ({_sql(options)})")
        wanted = ", ".join(f"'{n}'" for n in names)
        union = " UNION ALL ".join(f"SELECT {selected} FROM {v} WHERE topic IN ({wanted})" for v in views)
        statements.add_insert_sql(f"INSERT INTO {table} {union}")

    def _properties(self) -> dict[str, str]:
        return {f"properties.{k}": v for k, v in self.config.properties.items()}


def _sql(options: dict[str, str]) -> str:
    return ", ".join(f"{_quoted(k)} = {_quoted(v)}" for k, v in options.items())


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


_UNNAMED = ("PartitionTransformation", "UnionTransformation")  # these take no uid


def _name_all(stream: DataStream, uid: str) -> None:
    """Give every transformation behind `stream` that has none a uid: `uid`-0 is the nearest, and so on backwards."""
    _name_behind(stream._j_data_stream.getTransformation(), uid)


def _name_behind(root: Any, uid: str) -> None:
    pending, n = [root], 0
    while pending:
        t = pending.pop(0)
        if t.getClass().getSimpleName() not in _UNNAMED and not t.getUid():
            t.setUid(f"{uid}-{n}")
            n += 1
        pending.extend(t.getInputs())


def _transformations(env: StreamExecutionEnvironment) -> list[Any]:
    return list(env._j_stream_execution_environment.getTransformations())
