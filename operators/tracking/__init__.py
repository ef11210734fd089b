"""Detections of one camera to tracks."""

from operators.tracking.config import SORT, TrackerConfig, tracker_config
from operators.tracking.table import CONFIRMED, ENDED, FREE, TENTATIVE, TRACK
from operators.tracking.tracker import Scratch, Tracker

__all__ = [
    "CONFIRMED",
    "ENDED",
    "FREE",
    "SORT",
    "TENTATIVE",
    "TRACK",
    "Scratch",
    "Tracker",
    "TrackerConfig",
    "tracker_config",
]
