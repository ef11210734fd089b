"""How tracked objects move: speed, heading, distance walked, standing still, and the path they took."""

from operators.motion.motion import Motion, Trajectory

__all__ = ["Motion", "Trajectory"]
