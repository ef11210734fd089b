"""What msgspec says of settings that do not fit, in words: where, what was expected, what came."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from schemas.fields import DATE, TIME_OF_DAY, SettingsError
from schemas.settings import SiteSettings
from schemas.wire import NAME_LENGTH, NAME_PATTERN

_PATTERNS = {
    TIME_OF_DAY: "hours and minutes such as 08:30",
    DATE: "a date such as 2026-12-25",
    NAME_PATTERN: f"1 to {NAME_LENGTH} of A-Z a-z 0-9 _ . -, starting with a letter or digit",
}


def refusal(error: msgspec.ValidationError, tree: object, source: str) -> SettingsError:
    """Return how settings are refused that were read as `tree`. `source` is named."""
    problem, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    steps = [int(i) if i else name for i, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path)]
    asked = _asked(inspect.type_info(SiteSettings), steps, tree)
    if problem.startswith("Invalid") and isinstance(asked, inspect.LiteralType):
        problem += f", expected one of {', '.join(map(str, asked.values))}"
    elif problem.startswith("Expected `str` matching") and isinstance(asked, inspect.StrType):
        words = _PATTERNS.get(asked.pattern or "")
        problem = f"expected {words}, got {_at(tree, steps)!r:.100}" if words else problem
    return SettingsError(source, path, problem)


def _asked(kind: inspect.Type, steps: Sequence[str | int], tree: object) -> inspect.Type | None:
    """Return the type at a path; of a struct's tag, the tags as literals. None where the path leads nowhere."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        structs = [t for t in kind.types if isinstance(t, inspect.StructType)]
        tags = {t.tag: t for t in structs if t.tag_field}
        if steps and tags and structs[0].tag_field == steps[0]:
            return inspect.LiteralType(tuple(tags))
        tag = tree.get(structs[0].tag_field) if tags and isinstance(tree, Mapping) else None
        found = (
            tags.get(str(tag)) if tags else next((t for t in kind.types if not isinstance(t, inspect.NoneType)), None)
        )
        return _asked(found, steps, tree) if found else None
    if not steps:
        return kind
    here, rest, below = steps[0], steps[1:], _at(tree, steps[:1])
    if isinstance(kind, inspect.StructType):
        fields = {f.encode_name: f.type for f in kind.fields}
        return _asked(fields[here], rest, below) if here in fields else None
    if isinstance(kind, inspect.VarTupleType):
        return _asked(kind.item_type, rest, below)
    return None


def _at(tree: object, steps: Sequence[str | int]) -> Any:
    """Return what stands at a path, None where nothing does."""
    for step in steps:
        try:
            tree = tree[step]  # type: ignore[index]
        except (LookupError, TypeError):
            return None
    return tree
