"""Crossings of directed polylines."""

from operators.tripwires.tripwires import Crossing, Tripwires

__all__ = ["Crossing", "Tripwires"]
