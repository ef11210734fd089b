"""Figures per window of event time."""

from operators.windows.flows import STILL_THERE, Flows
from operators.windows.rows import Key, Span
from operators.windows.sliding import SlidingReport
from operators.windows.windows import Report, Windows

__all__ = ["STILL_THERE", "Flows", "Key", "Report", "SlidingReport", "Span", "Windows"]
