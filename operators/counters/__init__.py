"""Who came in, who went out and how many are there, over several tripwires."""

from operators.counters.counters import Counters, CounterWindow
from operators.counters.resets import Resets

__all__ = ["CounterWindow", "Counters", "Resets"]
