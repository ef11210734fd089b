"""Settings as text."""

from __future__ import annotations

import msgspec
import yaml

from schemas.settings import SiteSettings


def as_yaml(settings: SiteSettings) -> str:
    """Return settings as a site file, defaults included."""
    return yaml.safe_dump(
        msgspec.to_builtins(settings), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
