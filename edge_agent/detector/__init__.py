"""Detection models behind one interface: `open_detector(spec).detect(frame)`."""

from edge_agent.detector.backend import AcceleratorUnavailableError
from edge_agent.detector.detector import Detections, Detector, DetectorOptions, open_detector
from edge_agent.detector.manifest import ModelError

__all__ = [
    "AcceleratorUnavailableError",
    "Detections",
    "Detector",
    "DetectorOptions",
    "ModelError",
    "open_detector",
]
