"""What the fields of settings are made of, and how settings are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

ANCHORS = (
    "top_left", "top_center", "top_right",
    "center_left", "center", "center_right",
    "bottom_left", "bottom_center", "bottom_right",
)  # fmt: skip

Anchor = Literal[
    "top_left", "top_center", "top_right",
    "center_left", "center", "center_right",
    "bottom_left", "bottom_center", "bottom_right",
]  # fmt: skip
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=86_400)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
XY = tuple[float, float]
Plane = Literal["image", "ground"]
TIME_OF_DAY = r"^(([01]\d|2[0-3]):[0-5]\d|24:00)\Z"
DATE = r"^\d{4}-\d{2}-\d{2}\Z"
TimeOfDay = Annotated[str, Meta(pattern=TIME_OF_DAY)]
Date = Annotated[str, Meta(pattern=DATE)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Severity = Literal["info", "warning", "critical"]


class SettingsError(ValueError):
    """Settings that cannot be used. `path` is where, e.g. `cameras[0].zones[1].polygon`."""

    def __init__(self, source: str, path: str, problem: str) -> None:
        super().__init__(f"{source}: {path}: {problem}" if path else f"{source}: {problem}")
        self.source, self.path, self.problem = source, path, problem


class Base(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all settings are: fixed once read, with no field that is not known."""
