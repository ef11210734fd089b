"""Native TensorRT (10 or 11): builds an engine from the ONNX file once, then runs it.

TensorRT and the CUDA runtime are loaded when a backend is made, never at import: machines without
them import this module freely. **Not yet run on a GPU by this project**: its tests are skipped
where there is none; what they cover here is the cache key and the refusals.

Source of the calls: TensorRT 10 Python API (explicit tensors, `execute_async_v3`). The network is
strongly typed (the only kind in TensorRT 11): precision is what the ONNX file says; for FP16 or
INT8 convert the file.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_LOG = logging.getLogger(__name__)
_RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
#: cudaDevAttrComputeCapabilityMajor / Minor (CUDA runtime API, enum cudaDeviceAttr).
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_WORKSPACE_BYTES = 1 << 30


class TensorRtUnavailableError(RuntimeError):
    """TensorRT or CUDA is absent, or refuses the model; the message says which."""


class Cuda:
    """The few calls of the CUDA runtime that inference needs, checked."""

    def __init__(self) -> None:
        """Raises TensorRtUnavailableError when there is no runtime or no device."""
        self._runtime = _load_runtime()
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if count.value < 1:
            raise TensorRtUnavailableError("CUDA: no device")

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._runtime, function)(*arguments)
        if status != 0:
            raise TensorRtUnavailableError(f"CUDA: {function} failed with status {status}")

    def compute_capability(self) -> str:
        """Architecture of device 0, for example `8.7`."""
        parts = []
        for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
            value = ctypes.c_int()
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
            parts.append(str(value.value))
        return ".".join(parts)

    def allocate(self, size_bytes: int) -> int:
        """Address of new device memory; it lives as long as the process."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size_bytes))
        return pointer.value or 0

    def new_stream(self) -> int:
        """Handle of a new stream."""
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        return stream.value or 0

    def upload(self, source: npt.NDArray[Any], target: int, stream: int) -> None:
        """Queue a copy of contiguous `source` to device memory."""
        self._copy(target, source.ctypes.data, source.nbytes, _HOST_TO_DEVICE, stream)

    def download(self, source: int, target: npt.NDArray[Any], stream: int) -> None:
        """Queue a copy from device memory to contiguous `target`."""
        self._copy(target.ctypes.data, source, target.nbytes, _DEVICE_TO_HOST, stream)

    def _copy(self, target: int, source: int, size_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync", ctypes.c_void_p(target), ctypes.c_void_p(source),
            ctypes.c_size_t(size_bytes), kind, ctypes.c_void_p(stream),
        )  # fmt: skip

    def synchronize(self, stream: int) -> None:
        """Wait for all that was queued on `stream`."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))


class TensorRtBackend:
    """One engine with one execution context and fixed shapes."""

    name = "tensorrt"
    is_accelerated = True

    def __init__(self, path: Path, sha256: str, input_shape: tuple[int, ...], cache_dir: Path) -> None:
        """Load the engine for the model at `path` from `cache_dir`, or build it (minutes).

        Raises:
            TensorRtUnavailableError: no TensorRT, no GPU, or the model does not parse or build.
        """
        trt = _load_tensorrt()
        self._cuda = Cuda()
        self._stream = self._cuda.new_stream()
        logger = trt.Logger(trt.Logger.WARNING)
        options = {"input_shape": list(input_shape), "workspace_bytes": _WORKSPACE_BYTES}
        key = engine_key(sha256, trt.__version__, self._cuda.compute_capability(), options)
        plan = _cached_plan(cache_dir, key)
        if plan is None:
            _LOG.warning("TensorRT: building an engine for %s; this takes minutes", path.name)
            plan = _build_plan(trt, logger, path, input_shape)
            _store_plan(cache_dir, key, plan)
        # The engine must not outlive its runtime.
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise TensorRtUnavailableError(f"TensorRT refused the engine for {path.name}")
        self._context = self._engine.create_execution_context()
        self._bind(trt, input_shape)

    def _bind(self, trt: Any, input_shape: tuple[int, ...]) -> None:
        """Give every tensor its memory; shapes never change after this."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._outputs: list[tuple[int, npt.NDArray[Any]]] = []
        for name in names:
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._context.set_input_shape(name, input_shape)
        for name in names:
            shape = tuple(self._context.get_tensor_shape(name))
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            address = self._cuda.allocate(max(1, math.prod(shape) * dtype.itemsize))
            self._context.set_tensor_address(name, address)
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._input, self._input_shape, self._input_dtype = address, shape, dtype
            else:
                self._outputs.append((address, np.empty(shape, dtype)))

    def run(self, tensor: npt.NDArray[np.generic]) -> Sequence[npt.NDArray[np.float32]]:
        """Outputs as float32, in the order of the engine (that of the model file).

        Raises:
            ValueError: the tensor has another shape or type than the engine.
            TensorRtUnavailableError: CUDA or TensorRT reports a failure.
        """
        if tensor.shape != self._input_shape or tensor.dtype != self._input_dtype:
            raise ValueError(
                f"expected {self._input_shape} of {self._input_dtype}, got {tensor.shape} of {tensor.dtype}"
            )
        self._cuda.upload(np.ascontiguousarray(tensor), self._input, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise TensorRtUnavailableError("TensorRT: execute_async_v3 failed")
        for address, host in self._outputs:
            self._cuda.download(address, host, self._stream)
        self._cuda.synchronize(self._stream)
        return [host.astype(np.float32) for _, host in self._outputs]


def engine_key(sha256: str, version: str, capability: str, options: dict[str, Any]) -> str:
    """Name of a cached engine: it is tied to the model, the TensorRT, the GPU and the options."""
    text = json.dumps([sha256, version, capability, options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _load_tensorrt() -> Any:
    try:
        import tensorrt  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise TensorRtUnavailableError("the Python package tensorrt is not installed") from error
    if int(tensorrt.__version__.split(".")[0]) < 10:
        raise TensorRtUnavailableError(f"TensorRT >= 10 is needed, got {tensorrt.__version__}")
    return tensorrt


def _load_runtime() -> Any:
    for name in _RUNTIMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise TensorRtUnavailableError(f"no CUDA runtime (tried {', '.join(_RUNTIMES)})")


def private_folder(path: Path) -> Path:
    """Make `path` with mode 0700 and refuse a folder that others could write engines into.

    An engine is executable code: TensorRT trusts what it deserialises.

    Raises:
        TensorRtUnavailableError: the folder belongs to someone else or cannot be made private.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        owner = path.stat().st_uid
    except OSError as error:
        raise TensorRtUnavailableError(f"engine cache {path}: {error.strerror}") from error
    if owner != os.getuid():
        raise TensorRtUnavailableError(f"engine cache {path} belongs to user {owner}, not to us")
    return path


def _cached_plan(cache_dir: Path, key: str) -> bytes | None:
    path = private_folder(cache_dir) / f"{key}.engine"
    return path.read_bytes() if path.is_file() else None


def _store_plan(cache_dir: Path, key: str, plan: bytes) -> None:
    """Write atomically; a full disk costs the next start its minutes, not this one its detector."""
    try:
        handle, scratch = tempfile.mkstemp(dir=cache_dir, suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            stream.write(plan)
        Path(scratch).replace(cache_dir / f"{key}.engine")
    except OSError as error:
        _LOG.warning("TensorRT: engine not cached: %s", error)


def _build_plan(trt: Any, logger: Any, path: Path, input_shape: tuple[int, ...]) -> bytes:
    builder = trt.Builder(logger)
    # TensorRT 11 has strongly typed networks only, and no flag for it.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(min(parser.num_errors, 3)))
        raise TensorRtUnavailableError(f"TensorRT cannot parse {path.name}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    profile = builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, input_shape, input_shape, input_shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TensorRtUnavailableError(f"TensorRT cannot build an engine for {path.name}")
    return bytes(plan)
