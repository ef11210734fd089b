"""What runs a network, whatever the hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class AcceleratorUnavailableError(RuntimeError):
    """An accelerator was required and none works; the message says what was tried and why not."""


class Backend(Protocol):
    """One loaded network; used by one thread."""

    #: For logs and metrics, for example `onnxruntime-cpu` or `tensorrt`.
    name: str
    is_accelerated: bool

    def run(self, tensor: npt.NDArray[np.generic]) -> Sequence[npt.NDArray[np.float32]]:
        """Outputs for one input tensor, in the order of the model file."""
        ...
