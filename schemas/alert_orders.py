"""What people say to alerts while jobs run: acknowledge one, mute rules for a time. Messages of the topic `settings`.

An order says from which event time it holds, so that a replay does what the live run did. Its key names that time too: nothing
that is sent later takes its place, and compaction keeps both.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schemas.fields import SettingsError
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import SCHEMA_VERSION, BadMessage, Name, Text, TimeUs, decode

MAX_ORDERS = 10_000
"""Orders of a site that are kept on the topic by the command line."""
ANY = "*"

Target = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_.\-]*)\Z")]


class Order(Struct, kw_only=True, frozen=True, tag_field="order"):
    """What all orders have. Topic `settings`; key = `order_key`; record timestamp = `sent_us` in ms."""

    v: int = SCHEMA_VERSION
    site: Name
    from_us: TimeUs  # event time from which it holds: for a camera, from the first frame captured then or later
    sent_us: TimeUs
    author: Text = ""
    comment: Text = ""


class Acknowledgement(Order, kw_only=True, frozen=True, tag="ack"):
    """Somebody has seen an alert: it escalates no more and is repeated no more, until it closes."""

    alert_id: Annotated[str, Meta(min_length=1, max_length=512)]


class Mute(Order, kw_only=True, frozen=True, tag="mute"):
    """Rules open no alerts and repeat none from `from_us` on, before `until_us`.

    Of the mutes of one (camera, rule) that have begun, the one that began last holds: one that ends when it begins unmutes.
    """

    camera: Target  # '*': every camera of the site
    rule: Target  # '*': every rule
    until_us: TimeUs


AnyOrder = Acknowledgement | Mute


def order_key(order: AnyOrder) -> str:
    """Return the record key of an order."""
    if isinstance(order, Acknowledgement):
        return f"{order.site}/ack/{order.alert_id}/{order.from_us}"
    return f"{order.site}/mute/{order.camera}/{order.rule}/{order.from_us}"


def is_order(key: str) -> bool:
    """Whether a key of the topic `settings` is an order's rather than a version's."""
    return key.partition("/")[2].partition("/")[0] in ("ack", "mute")


def camera_of(alert_id: str, site: str) -> str:
    """Return the camera that an alert's id names. Raises SettingsError where it is no id of the site's alerts."""
    parts = alert_id.split("/")
    if len(parts) != 6 or parts[0] != site or "@" not in parts[1] or not parts[5].isdigit():
        problem = (
            f"expected the id of an alert, '{site}/rule@version/camera/place/subject/start', got {alert_id[:200]!r}"
        )
        raise SettingsError(site, "alert_id", problem)
    return parts[2]


def decode_order(key: str, value: bytes) -> AnyOrder:
    """Decode an order. Raises BadMessage."""
    if len(value) > MAX_MESSAGE_BYTES:
        raise BadMessage("too_large", f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(value)}")
    order: AnyOrder = decode(value, AnyOrder)  # type: ignore[arg-type]
    if not 1 <= order.v <= SCHEMA_VERSION:
        raise BadMessage("unknown_version", f"expected schema version 1 to {SCHEMA_VERSION}, got {order.v}")
    if key != order_key(order):
        raise BadMessage("wrong_key", f"expected the record's key {order_key(order)!r}, got {key[:200]!r}")
    return order
