"""Reads a site's YAML file: as a whole, or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from schemas.fields import SettingsError
from schemas.refusals import refusal
from schemas.settings import SiteSettings
from schemas.settings_checks import check_settings

MAX_FILE_BYTES = 1 << 20
MAX_SCALAR_CHARS = 4096


def _plain_words() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return what plain words are no text, as PyYAML wants it: by their first character, tag and pattern."""
    sign, digits = "-+", "0123456789"
    words = (
        ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
        ("int", r"[-+]?(0|[1-9][0-9_]*)", sign + digits),
        ("float", r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?", sign + digits + "."),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", sign + "."),
        ("null", r"~|null|Null|NULL", "~nN"),
    )
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {"": [("tag:yaml.org,2002:null", re.compile("^$"))]}
    for tag, pattern, firsts in words:
        for first in firsts:
            found.setdefault(first, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$")))
    return found


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases (a short file can expand to gigabytes), tags, merges and duplicate keys.

    Plain words are read as YAML 1.2 has them where 1.1 surprises: 20:00 and 2026-12-24 are text, 1e6 is a number.
    """

    yaml_implicit_resolvers = _plain_words()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.YAMLError(f"{line}: aliases (*name) are not supported")
        if getattr(event, "tag", None) is not None:  # PyYAML fails with odd errors on some, e.g. !!int ""
            raise yaml.YAMLError(f"{line}: tags ({event.tag}) are not supported")
        if len(getattr(event, "value", "")) > MAX_SCALAR_CHARS:  # as a number it could take minutes to read
            raise yaml.YAMLError(f"{line}: expected values of at most {MAX_SCALAR_CHARS} characters")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: expected a plain word as key")
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_settings(path: Path | str) -> SiteSettings:
    """Read and check one site's YAML file. Raises SettingsError."""
    source = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as e:
        raise SettingsError(source, "", f"cannot be read: {e.strerror}") from None
    return parse_settings(raw, source)


def parse_settings(raw: bytes, source: str = "settings") -> SiteSettings:
    """Parse and check one site's YAML text. `source` is named in errors. Raises SettingsError."""
    if len(raw) > MAX_FILE_BYTES:
        raise SettingsError(source, "", f"expected at most {MAX_FILE_BYTES} bytes, got {len(raw)}")
    try:
        tree = yaml.load(raw, Loader=_PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as e:
        raise SettingsError(source, "", f"not readable as YAML: {e}") from None
    try:
        settings = msgspec.convert(tree, SiteSettings)
    except msgspec.ValidationError as e:
        raise refusal(e, tree, source) from None
    check_settings(settings, source)
    return settings
