"""How fast objects are on their visits to zones."""

from operators.pace.pace import Paces

__all__ = ["Paces"]
