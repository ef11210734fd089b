"""What rules are made of: conditions of objects, places, pairs and crossings, and how long they have held."""

from operators.conditions.compilation import MEASURES, compile_rules, threshold_name
from operators.conditions.conditions import Conditions, Held, Kept

__all__ = ["MEASURES", "Conditions", "Held", "Kept", "compile_rules", "threshold_name"]
