"""What several commands are told about files without times, sizes and classes. Each raises SightflowError."""

from __future__ import annotations

import re

import msgspec

from schemas.wire import Label
from sightflow.errors import SightflowError

MIN_FPS, MAX_FPS = 1e-3, 1000.0
MAX_SIDE_PX = 65_536


def label_of(text: str) -> str:
    """Return a class as messages may have it; the stage would refuse each frame with another."""
    try:
        return msgspec.convert(text, Label) if text else ""
    except msgspec.ValidationError:
        raise SightflowError(
            f"--class: expected 1 to 64 characters without line breaks and other control characters, got {text[:80]!r}"
        ) from None


def fps_of(fps: float) -> float:
    """Return a rate of frames that can be meant."""
    if not MIN_FPS <= fps <= MAX_FPS:  # false for NaN too
        raise SightflowError(f"--fps: expected a number from {MIN_FPS:g} to {MAX_FPS:g}, got {fps:g}")
    return fps


def size_of(text: str) -> tuple[int, int]:
    """Return width and height in pixels."""
    found = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", text.strip())
    sides = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if not all(1 <= side <= MAX_SIDE_PX for side in sides):
        raise SightflowError(f"--size: expected WIDTHxHEIGHT in pixels, such as 1920x1080, got {text!r}")
    return sides
