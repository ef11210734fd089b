"""Frames of one camera, each once and in order."""

from operators.intake.intake import Intake, Late, Ready, Refused

__all__ = ["Intake", "Late", "Ready", "Refused"]
