"""From the spool to Kafka: everything once and in order, however often the broker goes away.

The sender reads the spool in order, keeps a bounded window of records in flight, and acknowledges to the spool what
Kafka has acknowledged without a gap. Order is kept by construction: the idempotent producer never gives up a message
by itself (`message.timeout.ms=0`) and stops as a whole when one fails (`enable.gapless.guarantee`), and then a new
producer starts again at the first record that is not acknowledged. What is sent twice that way carries the same
(camera, boot, seq) and is removed at intake.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from edge_agent.backoff import Backoff
from edge_agent.redaction import redact
from edge_agent.spool import Record, Spool
from schemas.topics import MAX_MESSAGE_BYTES

_log = logging.getLogger(__name__)
WINDOW_COUNT = 1000
WINDOW_BYTES = 8 << 20
BUFFER_KIB = 32 << 10
RENEW_AFTER_S = 300.0
"""A producer that has got nothing acknowledged for so long, with something in flight, is replaced by a new one."""
_IDLE_S = 0.25
_BUSY_S = 0.005
_OUTAGE_S = 0.1

REFUSED_FOR_GOOD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
"""The broker will never take this record: it is passed over and counted."""
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})

FIXED_PROPERTIES: dict[str, str | int | bool] = {
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "acks": "all",
    "message.timeout.ms": 0,
    "queue.buffering.max.kbytes": BUFFER_KIB,
    "queue.buffering.max.messages": 4 * WINDOW_COUNT,
}
"""What the guarantee rests on: not to be set by users."""

DEFAULT_PROPERTIES: dict[str, str | int | bool] = {
    "linger.ms": 2,
    "message.max.bytes": MAX_MESSAGE_BYTES + (64 << 10),
    "partitioner": "murmur2_random",  # as Java's clients: a record sent again by any tool meets the same partition
    "socket.timeout.ms": 15_000,
    "request.timeout.ms": 10_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 5_000,
    "topic.metadata.propagation.max.ms": 60_000,
    "log.connection.close": False,
}


class UplinkError(ValueError):
    """Properties of the uplink that cannot be used; the text says which and why."""


def read_properties(path: Path) -> dict[str, str]:
    """Read a file of `name=value` lines ('#' begins a comment line). Raises UplinkError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UplinkError(f"properties file {path}: {e}") from None
    properties: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise UplinkError(f"properties file {path}, line {number}: expected name=value")
        properties[name.strip()] = value.strip()
    return properties


def check_properties(properties: dict[str, str]) -> None:
    """Refuse properties that would break the guarantee. Raises UplinkError."""
    aliases = {"request.required.acks": "acks", "delivery.timeout.ms": "message.timeout.ms"}
    for name in properties:
        if aliases.get(name, name) in FIXED_PROPERTIES:
            raise UplinkError(f"uplink property {name!r} is fixed by the agent: its delivery guarantee rests on it")


@dataclass
class _InFlight:
    position: int
    size_bytes: int
    is_acked: bool = False


class Delivery:
    """Sends what is in the spool. `run` is for a thread of its own; the figures may be read from any."""

    def __init__(
        self, spool: Spool, bootstrap_servers: str, properties: dict[str, str], client_id: str,
        on_delivered: Callable[[str], None] = lambda key: None,
    ) -> None:  # fmt: skip
        """Raises UplinkError where librdkafka refuses the properties."""
        check_properties(properties)
        self._spool = spool
        self._config: dict[str, object] = {
            **DEFAULT_PROPERTIES, **properties, **FIXED_PROPERTIES,
            "bootstrap.servers": bootstrap_servers, "client.id": client_id,
        }  # fmt: skip
        self._secrets = tuple(value for name, value in properties.items() if "password" in name or "secret" in name)
        self._on_delivered = on_delivered
        self._backoff = Backoff(0.2, 10.0)
        self._next = spool.acked
        self._window: deque[_InFlight] = deque()
        self._window_bytes = 0
        self._generation = 0
        self._must_renew = False
        self._has_failed = False
        self._renewed_s = 0.0
        self._singly_until = -1
        self._stop_by_s: float | None = None
        self._progress_s = time.monotonic()
        self._logged_s: dict[str, float] = {}
        self.sent_count = self.delivered_count = self.lost_count = self.renewed_count = 0
        self.refused: Counter[str] = Counter()
        self.last_error = ""
        self.beat_s = time.monotonic()
        self._producer = self._make_producer()

    def _make_producer(self) -> Producer:
        self._generation += 1
        try:
            return Producer(
                {**self._config, "error_cb": self._on_error, "logger": logging.getLogger("edge_agent.librdkafka")}
            )
        except KafkaException as e:
            raise UplinkError(redact(f"uplink: {e.args[0].str()}", self._secrets)) from None

    # -- figures

    @property
    def in_flight_count(self) -> int:
        """Records handed to the producer and not acknowledged."""
        return len(self._window)

    @property
    def unacked_age_s(self) -> float:
        """How long nothing has been acknowledged although something is waiting; 0 while all is well."""
        if self._spool.end <= self._spool.acked:
            return 0.0
        return time.monotonic() - self._progress_s

    # -- the thread

    def stop(self, within_s: float) -> None:
        """Make `run` deliver what is stored and return, at the latest after `within_s`; the rest stays stored."""
        self._stop_by_s = time.monotonic() + within_s

    def run(self) -> None:
        """Deliver until stopped."""
        while not self._is_finished():
            self.beat_s = time.monotonic()
            if self._must_renew or self._is_stuck():
                self._renew()
            moved = self._fill_window()
            self._poll(0)
            self._acknowledge()
            if not moved:
                self._rest()
        with contextlib.suppress(KafkaException):
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._poll(0)
        self._acknowledge()

    def _poll(self, timeout_s: float) -> None:
        """Serve the producer's reports. A producer that has stopped for good says so by raising."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as e:
            self._on_error(e.args[0])

    def _is_finished(self) -> bool:
        if self._stop_by_s is None:
            return False
        return time.monotonic() >= self._stop_by_s or self._spool.acked >= self._spool.end

    def _rest(self) -> None:
        if not self._window:
            self._progress_s = time.monotonic()
            self._spool.wait(self._next, _IDLE_S)
        elif self._next < self._spool.end:  # the window is full
            self._poll(_BUSY_S)
        else:
            is_well = time.monotonic() - self._progress_s < 1.0
            self._spool.wait(self._next, _BUSY_S if is_well else _OUTAGE_S)

    def _fill_window(self) -> bool:
        room = (WINDOW_COUNT if self._next > self._singly_until else 1) - len(self._window)
        if room <= 0 or self._window_bytes >= WINDOW_BYTES:
            return False
        records, positions, after = self._spool.read(self._next, min(room, 256))
        for record, position in zip(records, positions, strict=True):
            self._note_gap(position)
            if not self._produce(record, position):
                return True
            self._next = position + 1
        self._note_gap(after)
        if not self._window:
            self._spool.acknowledge(self._next)
        return bool(records)

    def _note_gap(self, position: int) -> None:
        """Count the records between the next expected and `position`: dropped at the spool's bound, or damaged."""
        lost_count = position - self._next
        if lost_count > 0:
            self.lost_count += lost_count
            self._say("lost", f"{lost_count} records were dropped from the spool before they could be sent")
            self._next = position

    def _produce(self, record: Record, position: int) -> bool:
        generation = self._generation
        entry = _InFlight(position, len(record.value) + len(record.key) + 64)

        def report(error: KafkaError | None, message: Message) -> None:
            if generation == self._generation:
                self._on_report(entry, record.key, error)

        try:
            self._producer.produce(
                record.topic, value=record.value, key=record.key, timestamp=record.timestamp_ms, on_delivery=report
            )
        except BufferError:
            self._poll(_BUSY_S)
            return False
        except KafkaException as e:
            return self._on_refused_produce(e.args[0], entry)
        self._window.append(entry)
        self._window_bytes += entry.size_bytes
        self.sent_count += 1
        return True

    def _on_refused_produce(self, error: KafkaError, entry: _InFlight) -> bool:
        """Handle an error of `produce` itself; return whether to go on with the next record."""
        if error.code() in REFUSED_FOR_GOOD:  # by the producer alone: nothing was sent
            self._refuse(error, entry)
            self._window.append(entry)
            self._window_bytes += entry.size_bytes
            return True
        self._fail(error)
        return False

    def _on_report(self, entry: _InFlight, key: bytes, error: KafkaError | None) -> None:
        if error is None:
            entry.is_acked = True
            self.delivered_count += 1
            self._on_delivered(key.decode("utf-8", "replace"))
        elif error.code() in _PURGED:
            self._must_renew = True
        elif error.code() not in REFUSED_FOR_GOOD:
            self._fail(error)
        elif len(self._window) == 1:
            self._refuse(error, entry)
            self._must_renew = True  # the idempotent producer has stopped
        else:
            # Brokers refuse whole batches: send one by one up to here to find the record that is meant.
            self._singly_until = max(self._singly_until, self._window[-1].position)
            self._must_renew = True

    def _refuse(self, error: KafkaError, entry: _InFlight) -> None:
        entry.is_acked = True
        self.refused[error.name()] += 1
        self._say(error.name(), f"Kafka refuses a record for good, it is passed over: {error.str()}")

    def _fail(self, error: KafkaError) -> None:
        self._must_renew = self._has_failed = True
        self._say(
            error.name(), f"delivery failed ({error.str()}): sending again from the first record not acknowledged"
        )

    def _acknowledge(self) -> None:
        position = -1
        while self._window and self._window[0].is_acked:
            entry = self._window.popleft()
            self._window_bytes -= entry.size_bytes
            position = entry.position + 1
        if position >= 0:
            self._progress_s = time.monotonic()
            self._backoff.reset()
            if not self._must_renew:
                self.last_error = ""
            self._spool.acknowledge(position)

    # -- starting again

    def _is_stuck(self) -> bool:
        return bool(self._window) and time.monotonic() - max(self._progress_s, self._renewed_s) > RENEW_AFTER_S

    def _renew(self) -> None:
        """Replace the producer and start again at the first record that is not acknowledged."""
        with contextlib.suppress(KafkaException):
            self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        self._poll(0)  # what was acknowledged until now still counts
        self._acknowledge()
        self._generation += 1  # reports from the old one no longer do
        self._producer = self._make_producer()
        self._window.clear()
        self._window_bytes = 0
        self._next = self._spool.acked
        self._must_renew = False
        self.renewed_count += 1
        if self._has_failed and self._stop_by_s is None:
            time.sleep(self._backoff.next_delay_s())
        self._has_failed = False
        self._renewed_s = time.monotonic()

    def _on_error(self, error: KafkaError) -> None:
        """Hear of librdkafka's troubles: all but the fatal ones pass by themselves."""
        if error.code() == KafkaError._GAPLESS_GUARANTEE:
            self._must_renew = True  # the report of the message that failed says why
        elif error.code() == KafkaError._FATAL or error.fatal():
            self._fail(error)
        elif error.code() == KafkaError._AUTHENTICATION:
            self._say(error.name(), f"Kafka refuses the agent's name or password: {error.str()}")
        elif error.code() == KafkaError._SSL:
            self._say(error.name(), f"TLS to Kafka fails, check ssl.ca.location and the certificates: {error.str()}")
        else:
            self._say(error.name(), f"Kafka: {error.str()}")

    def _say(self, kind: str, text: str) -> None:
        """Log at most once in ten seconds of a kind, and keep the text as the state of the uplink."""
        self.last_error = redact(text, self._secrets)[:300]
        now_s = time.monotonic()
        if now_s - self._logged_s.get(kind, -10.0) >= 10.0:
            self._logged_s[kind] = now_s
            _log.warning("%s", self.last_error)
