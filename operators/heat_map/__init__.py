"""How long objects stood where."""

from operators.heat_map.heat_map import HeatMap

__all__ = ["HeatMap"]
