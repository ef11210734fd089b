"""The topics `settings` and `settings-acks`, read and written as any client would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas import topics
from schemas.alert_orders import AnyOrder, is_order, order_key
from schemas.fields import SettingsError
from schemas.live_settings import MAX_VERSIONS, SettingsAck, SettingsMessage, decode_version, site_of, version_key
from schemas.settings import SiteSettings
from schemas.wire import BadMessage, decode, encode
from sightflow.errors import SightflowError

QUIET_S = 20.0
"""A broker that gives nothing for so long, not even the end of a partition, is taken for unreachable."""


@dataclass(frozen=True)
class Kept:
    """A version that is on the topic and good."""

    message: SettingsMessage
    settings: SiteSettings


@dataclass
class Site:
    """What the topics hold of one site."""

    name: str
    versions: list[Kept] = field(default_factory=list)  # by number
    acks: list[SettingsAck] = field(default_factory=list)

    def version(self, number: int | None) -> Kept:
        """Return a version, the newest for None.

        Raises:
            SightflowError: there is none.
        """
        if not self.versions:
            raise SightflowError(
                f"no version of the site {self.name!r} is on the topic: jobs run what they were submitted with",
                "send the first: sightflow settings apply FILE",
            )
        if number is None:
            return self.versions[-1]
        for kept in self.versions:
            if kept.message.version == number:
                return kept
        known = ", ".join(str(k.message.version) for k in self.versions)
        raise SightflowError(
            f"no version {number} of the site {self.name!r} is on the topic (there are: {known})",
            "a site file that you have can be sent anew: sightflow settings apply FILE",
        )


class SettingsTopics:
    """Both topics of one Kafka.

    properties: librdkafka's, `bootstrap.servers` among them.
    """

    def __init__(self, properties: dict[str, str]) -> None:
        self._properties = properties

    def sites(self) -> dict[str, Site]:
        """Return what the topics hold. What is no good version is left out, as jobs leave it out.

        Raises:
            SightflowError: Kafka does not answer.
        """
        found: dict[str, Site] = {}
        for key, value in self._read(topics.SETTINGS):
            kept = _kept(key, value)
            if kept is not None:
                site = found.setdefault(kept.message.site, Site(kept.message.site))
                if not site.versions or kept.message.version > site.versions[-1].message.version:
                    site.versions.append(kept)
        for _, value in self._read(topics.SETTINGS_ACKS):
            ack = _ack(value)
            if ack is not None and ack.site in found:
                found[ack.site].acks.append(ack)
        return found

    def site(self, name: str | None) -> Site:
        """Return what the topics hold of a site, for None of the only one there is.

        Raises:
            SightflowError: Kafka does not answer, or there are several.
        """
        sites = self.sites()
        if name is not None:
            return sites.get(name, Site(name))
        if len(sites) != 1:
            listing = ", ".join(sorted(sites)) or "none"
            remedy = "name it: --site NAME" if sites else "send the first version: sightflow settings apply FILE"
            raise SightflowError(f"expected one site on the topic, found {listing}", remedy)
        return next(iter(sites.values()))

    def send(self, message: SettingsMessage, forget: list[Kept]) -> None:
        """Write a version, and take the places of those that are too old to be kept.

        Raises:
            SightflowError: it is too large, or Kafka does not take it.
        """
        value = encode(message)
        if len(value) > topics.MAX_MESSAGE_BYTES:
            raise SightflowError(
                f"expected settings of at most {topics.MAX_MESSAGE_BYTES} bytes as a message, got {len(value)}",
                "make two sites of it",
            )
        self._produce(version_key(message.site, message.version, message.fingerprint), value, message.sent_us // 1000)
        for old in forget:
            m = old.message
            self._produce(version_key(m.site, m.version, m.fingerprint), None, message.sent_us // 1000)

    def _produce(self, key: str, value: bytes | None, time_ms: int) -> None:
        failed: list[str] = []
        producer = Producer(
            {"enable.idempotence": True, "delivery.timeout.ms": int(QUIET_S * 1000), **self._properties}
        )
        try:
            producer.produce(
                topics.SETTINGS, value, key.encode(), timestamp=time_ms,
                on_delivery=lambda error, _: failed.append(str(error)) if error is not None else None,
            )  # fmt: skip
        except KafkaException as error:
            raise SightflowError(f"nothing was sent: {error}") from error
        left = producer.flush(QUIET_S + 5.0)
        if left or failed:
            why = failed[0] if failed else f"no answer within {QUIET_S:.0f} s"
            raise SightflowError(f"Kafka did not take it: {why}", "does the topic exist? see docs/wire.md")

    def order_keys(self, site: str) -> list[str]:
        """Return the keys of the orders about a site's alerts that the topic holds, those that begin first first.

        Raises:
            SightflowError: Kafka does not answer.
        """
        kept: dict[str, int] = {}
        for key, value in self._read(topics.SETTINGS):
            if value is None:
                kept.pop(key, None)
            elif key.startswith(f"{site}/") and is_order(key) and key.rpartition("/")[2].isdigit():
                kept[key] = int(key.rpartition("/")[2])
        return sorted(kept, key=lambda key: (kept[key], key))

    def send_order(self, order: AnyOrder, forget: list[str]) -> None:
        """Write an order, and take the places of those that are too old to be kept, by their keys.

        Raises:
            SightflowError: Kafka does not take it.
        """
        self._produce(order_key(order), encode(order), order.sent_us // 1000)
        for key in forget:
            self._produce(key, None, order.sent_us // 1000)

    def answers(
        self, is_ours: Callable[[SettingsAck], bool], since: list[TopicPartition]
    ) -> Iterator[SettingsAck | None]:
        """Yield each of our acknowledgements from `since` on as it comes, and None while none does. Never ends."""
        consumer = Consumer(self._consumer_properties())
        try:
            consumer.assign(since)
            while True:
                m = consumer.poll(0.2)
                ack = _ack(m.value()) if m is not None and m.error() is None else None
                yield ack if ack is not None and is_ours(ack) else None
        finally:
            consumer.close()

    def ends(self) -> list[TopicPartition]:
        """Return where the acknowledgements end now.

        Raises:
            SightflowError: Kafka does not answer.
        """
        consumer = Consumer(self._consumer_properties())
        try:
            return [
                TopicPartition(topics.SETTINGS_ACKS, p.partition, consumer.get_watermark_offsets(p, timeout=QUIET_S)[1])
                for p in self._partitions(consumer, topics.SETTINGS_ACKS)
            ]
        except KafkaException as error:
            raise self._unreachable(error) from error
        finally:
            consumer.close()

    def _read(self, topic: str) -> Iterator[tuple[str, bytes | None]]:
        """Yield (key, value) of all that a topic holds now."""
        consumer = Consumer(self._consumer_properties())
        try:
            partitions = self._partitions(consumer, topic)
            consumer.assign(partitions)
            open_partitions = {p.partition for p in partitions}
            heard_s = time.monotonic()
            while open_partitions:
                m = consumer.poll(1.0)
                if m is None:
                    if time.monotonic() - heard_s > QUIET_S:
                        raise self._unreachable(f"nothing from {topic!r} for {QUIET_S:.0f} s")
                    continue
                heard_s = time.monotonic()
                if m.error() is None:
                    yield (m.key() or b"").decode(errors="replace"), m.value()
                elif m.error().code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(m.partition())
                else:
                    raise KafkaException(m.error())
        except KafkaException as error:
            raise self._unreachable(error) from error
        finally:
            consumer.close()

    def _partitions(self, consumer: Consumer, topic: str) -> list[TopicPartition]:
        found = consumer.list_topics(topic, timeout=QUIET_S).topics[topic]
        if found.error is not None:
            raise SightflowError(f"there is no topic {topic!r}: {found.error}", "create it: see docs/wire.md")
        return [TopicPartition(topic, p, OFFSET_BEGINNING) for p in found.partitions]

    def _consumer_properties(self) -> dict[str, Any]:
        return {
            "group.id": "sightflow-settings",
            **self._properties,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }

    def _unreachable(self, error: object) -> SightflowError:
        return SightflowError(
            f"Kafka at {self._properties['bootstrap.servers']} does not answer: {error}",
            "is it up? sightflow status; is it another one? --bootstrap-servers HOST:PORT",
        )


def too_old(versions: list[Kept]) -> list[Kept]:
    """Return the versions that go when one more comes."""
    return versions[: max(0, len(versions) + 1 - MAX_VERSIONS)]


def _kept(key: str, value: bytes | None) -> Kept | None:
    if value is None:
        return None
    try:
        message = decode_version(key, value)
        return Kept(message, site_of(message))
    except (BadMessage, SettingsError):
        return None


def _ack(value: bytes | None) -> SettingsAck | None:
    try:
        return decode(value or b"", SettingsAck)
    except BadMessage:
        return None
