"""How long objects stood where."""

from operators.heat_map.heat_map import HeatMap, HeatReport, Period

__all__ = ["HeatMap", "HeatReport", "Period"]
