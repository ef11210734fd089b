"""How tracked objects move: speed, heading, distance walked, standing still, and the path they took."""

from operators.motion.motion import Motion, Trajectory
from operators.motion.stays import Stays

__all__ = ["Motion", "Stays", "Trajectory"]
