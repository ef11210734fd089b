"""Frames of one camera, each once and in order."""

from operators.intake.intake import Intake, Refused

__all__ = ["Intake", "Refused"]
