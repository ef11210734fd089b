"""Figures per tumbling window of event time."""

from operators.windows.windows import Report, Span, Windows

__all__ = ["Report", "Span", "Windows"]
