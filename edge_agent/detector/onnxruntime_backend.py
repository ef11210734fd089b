"""ONNX Runtime: CPU everywhere, CUDA and TensorRT where its build and the machine have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edge_agent.detector.manifest import ModelError

CPU = "CPUExecutionProvider"
#: Best first. Each is tried alone (with the CPU for operations that it lacks).
ACCELERATED = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
#: Only errors: a warning per constant that an optimiser removed helps nobody.
_LOG_SEVERITY = 3


class OnnxRuntimeBackend:
    """One session on one execution provider."""

    def __init__(self, path: Path, provider: str, threads_count: int, cache_dir: Path | None) -> None:
        """Load the model at `path`.

        Raises:
            ModelError: ONNX Runtime cannot load the file, or it has not exactly one input.
            RuntimeError: the provider was asked for and does not come up.
        """
        options = ort.SessionOptions()
        options.log_severity_level = _LOG_SEVERITY
        # Idle threads spin by default, and on a busy small machine take the core of the others.
        options.intra_op_num_threads = threads_count
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = [(provider, _provider_options(provider, cache_dir))]
        if provider != CPU:
            providers.append((CPU, {}))
        try:
            self.session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime's own classes share no public base
            if provider != CPU:
                raise RuntimeError(f"{provider}: {_first_line(error)}") from error
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from error
        active = self.session.get_providers()[0]
        if active != provider:
            raise RuntimeError(f"{provider}: did not come up, ONNX Runtime chose {active}")
        if len(self.session.get_inputs()) != 1:
            raise ModelError(f"{path}: expected one input, got {len(self.session.get_inputs())}")
        self._input = self.session.get_inputs()[0].name
        self.name = "onnxruntime-" + provider.removesuffix("ExecutionProvider").lower()
        self.is_accelerated = provider != CPU

    def run(self, tensor: npt.NDArray[np.generic]) -> Sequence[npt.NDArray[np.float32]]:
        """Outputs as float32, in the order of the model file."""
        outputs = self.session.run(None, {self._input: tensor})
        return [np.asarray(o).astype(np.float32, copy=False) for o in outputs]


def available_providers() -> list[str]:
    """Providers of this build of ONNX Runtime that this module knows, best first, CPU last."""
    built = ort.get_available_providers()
    return [p for p in ACCELERATED if p in built] + [CPU]


def _provider_options(provider: str, cache_dir: Path | None) -> dict[str, str]:
    if provider != "TensorrtExecutionProvider" or cache_dir is None:
        return {}
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache_dir),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache_dir),
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
