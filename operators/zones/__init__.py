"""Visits of tracked objects to polygons."""

from operators.zones.zones import Visit, Zones

__all__ = ["Visit", "Zones"]
