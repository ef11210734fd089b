"""Settings as text."""

from __future__ import annotations

from typing import Any

import yaml

from schemas.settings import SiteSettings, without_defaults


def as_yaml(settings: SiteSettings) -> str:
    """Return settings as a site file; what is at its default is left out."""
    plain = _id_first(without_defaults(settings))
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def _id_first(value: Any) -> Any:
    if isinstance(value, dict):
        first = {"id": value["id"]} if "id" in value else {}
        return first | {name: _id_first(item) for name, item in value.items()}
    return [_id_first(item) for item in value] if isinstance(value, list) else value
