"""Settings that change while jobs run: the messages of the topics `settings` and `settings-acks`.

A version is one message: the whole site, numbered from 1, with the event time from which it holds. Its key names site,
version and fingerprint, so that compaction keeps every version and nothing that is sent later can take its place.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.fields import SettingsError
from schemas.refusals import refusal
from schemas.settings import Camera, SiteSettings, fingerprint
from schemas.settings_checks import check_settings
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import SCHEMA_VERSION, BadMessage, Name, Text, TimeUs, decode

MAX_VERSION = 1_000_000_000
MAX_VERSIONS = 100
"""Versions of a site that are kept: on the topic by the command line, in a job by its book."""
LEAD_S = 2.0
"""A change without a time of its own holds from this long after it is sent: by then every job knows it, so that no frame is
worked on by one version now and by another in a replay."""

VersionNumber = Annotated[int, Meta(ge=1, le=MAX_VERSION)]


class SettingsMessage(Struct, kw_only=True, frozen=True):
    """One version of a site's settings. Topic `settings`; key = `version_key`; record timestamp = `sent_us` in ms."""

    v: int = SCHEMA_VERSION
    site: Name
    version: VersionNumber
    fingerprint: Annotated[str, Meta(min_length=12, max_length=12, pattern=r"^[0-9a-f]{12}\Z")]
    from_us: TimeUs  # event time from which it holds: for each camera, from the first frame captured then or later
    sent_us: TimeUs
    author: Text = ""
    comment: Text = ""
    settings: msgspec.Raw  # a site file as a map; see `site_of`


class SettingsProblem(Struct, frozen=True):
    """What is wrong, and where, e.g. `cameras[0].zones[1].polygon`."""

    path: str
    problem: str


class SettingsAck(Struct, kw_only=True, frozen=True):
    """What a job says to a version. Topic `settings-acks`; key = site.

    stage `taken`: once for a version, `success` or `failure`; it was checked as a whole, and it holds from `from_us`.
    stage `in_force`: once for a version and camera, at its first frame: `success`, or `partial` where frames of the camera
    that were captured at `from_us` or later had been worked on before the version came.
    """

    v: int = SCHEMA_VERSION
    id: str
    stage: Literal["taken", "in_force"]
    status: Literal["success", "partial", "failure"]
    site: str
    version: int
    fingerprint: str
    from_us: int
    at_us: int = 0  # in_force: capture time of the first frame
    cameras: tuple[str, ...] = ()  # taken: those that it changes, adds or removes; in_force: the one
    errors: tuple[SettingsProblem, ...] = ()
    partition: int = -1  # of the message on `settings`
    offset: int = -1
    order: str = (
        ""  # key of the order that it answers (schemas/alert_orders.py); version is 0 then, and fingerprint empty
    )


def version_key(site: str, version: int, digest: str) -> str:
    """Return the record key of a version."""
    return f"{site}/{version}/{digest}"


def stamp_of(version: int, digest: str) -> str:
    """Return what outputs carry as `settings`: the fingerprint, and @version for all but what was given at submit."""
    return f"{digest}@{version}" if version else digest


def new_version(
    settings: SiteSettings, version: int, from_us: int, sent_us: int, author: str, comment: str
) -> SettingsMessage:
    """Make the message of a version."""
    return SettingsMessage(
        site=settings.site, version=version, fingerprint=fingerprint(settings), from_us=from_us, sent_us=sent_us,
        author=author, comment=comment, settings=msgspec.Raw(msgspec.msgpack.encode(settings)),
    )  # fmt: skip


def decode_version(key: str, value: bytes) -> SettingsMessage:
    """Decode the envelope of a version. Raises BadMessage; the settings in it are for `site_of`."""
    if len(value) > MAX_MESSAGE_BYTES:
        raise BadMessage("too_large", f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(value)}")
    message = decode(value, SettingsMessage)
    if not 1 <= message.v <= SCHEMA_VERSION:
        raise BadMessage("unknown_version", f"expected schema version 1 to {SCHEMA_VERSION}, got {message.v}")
    expected = version_key(message.site, message.version, message.fingerprint)
    if key != expected:
        raise BadMessage("wrong_key", f"expected the record's key {expected!r}, got {key[:200]!r}")
    return message


def site_of(message: SettingsMessage, known: Container[Camera] = frozenset()) -> SiteSettings:
    """Return the settings in a version, checked as a whole; cameras in `known` have been checked before.

    Raises SettingsError with the path of the field.
    """
    source = f"{message.site} version {message.version}"
    try:
        settings = msgspec.msgpack.decode(message.settings, type=SiteSettings)
    except msgspec.ValidationError as e:
        raise refusal(e, msgspec.msgpack.decode(message.settings), source) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as e:
        raise SettingsError(source, "", f"not readable as MessagePack: {e}") from None
    if settings.site != message.site:
        raise SettingsError(source, "site", f"expected {message.site!r} as in the message, got {settings.site!r}")
    check_settings(settings, source, known)
    if fingerprint(settings) != message.fingerprint:
        raise SettingsError(source, "", f"expected the fingerprint {message.fingerprint}, got {fingerprint(settings)}")
    return settings
