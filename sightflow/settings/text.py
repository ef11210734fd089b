"""Settings as text."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from schemas.settings import SiteSettings


def as_yaml(settings: SiteSettings) -> str:
    """Return settings as a site file; what is at its default is left out."""
    return yaml.safe_dump(_plain(settings), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        tag_field = value.__struct_config__.tag_field
        tag = {tag_field: value.__struct_config__.tag} if tag_field else {}
        fields = {f.name: getattr(value, f.name) for f in msgspec.structs.fields(value) if not _is_default(value, f)}
        return (
            {name: _plain(fields[name]) for name in fields if name == "id"}
            | tag
            | {k: _plain(v) for k, v in fields.items()}
        )
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _is_default(value: msgspec.Struct, field: msgspec.structs.FieldInfo) -> bool:
    default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    return bool(getattr(value, field.name) == default)
