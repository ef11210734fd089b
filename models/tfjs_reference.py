"""Plain numpy evaluation of a TensorFlow.js graph: the oracle that the ONNX conversion is held to.

Slow and literal on purpose (NHWC, one operation at a time, no fusion, no rewriting), so that it
shares nothing with the converter but the meaning of TensorFlow's operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from models.tfjs_graph import ModelFormatError, Node, TfjsGraph

Array = npt.NDArray[Any]


def evaluate(graph: TfjsGraph, image: Array, outputs: list[str], size_px: int) -> list[Array]:
    """Values of `outputs` for one `image` (1×H×W×3 float32, H and W multiples of 32).

    The graph's own up-sampling constants are meant for a square input of `size_px`; they are scaled
    to the image's size.

    Raises:
        ModelFormatError: an operation that is not known here.
    """
    scale = (image.shape[1] / size_px, image.shape[2] / size_px)
    values: dict[str, Array] = dict(graph.constants)
    for node in graph.upstream(outputs):
        if node.op == "Placeholder":
            values[node.name] = image
        elif node.op == "ResizeBilinear":
            values[node.name] = _resize(node, values, scale)
        elif node.op in _OPERATIONS:
            values[node.name] = _OPERATIONS[node.op](node, [values[i] for i in node.inputs])
        else:
            raise ModelFormatError(f"node {node.name!r}: operation {node.op!r} is not supported")
    return [values[name] for name in outputs]


def _windows(node: Node, x: Array, kernel: tuple[int, ...]) -> Array:
    """Sliding windows N×h×w×C×kh×kw of `x` under the node's stride and padding."""
    strides = node.ints("strides")[1:3]
    if node.text("padding") == "SAME":
        pads = [(0, 0)]
        for size, k, s in zip(x.shape[1:3], kernel, strides, strict=False):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)])
    view: Array = sliding_window_view(x, kernel[:2], axis=(1, 2))  # type: ignore[call-overload, unused-ignore]
    windows: Array = view[:, :: strides[0], :: strides[1]]
    return windows


def _fused(node: Node, y: Array, inputs: list[Array]) -> Array:
    for operation in node.texts("fused_ops"):
        if operation == "BiasAdd":
            y = y + inputs[2]
        elif operation == "Relu":
            y = np.maximum(y, 0)
        elif operation == "Relu6":
            y = np.clip(y, 0, 6)
        else:
            raise ModelFormatError(f"node {node.name!r}: fused {operation!r} is not supported")
    return y


def _conv(node: Node, inputs: list[Array]) -> Array:
    windows = _windows(node, inputs[0], inputs[1].shape)
    y = np.tensordot(windows, inputs[1], axes=([4, 5, 3], [0, 1, 2]))
    return _fused(node, y, inputs)


def _depthwise(node: Node, inputs: list[Array]) -> Array:
    kernel = inputs[1]
    windows = _windows(node, inputs[0], kernel.shape)
    y = np.einsum("nhwckl,klcm->nhwcm", windows, kernel)
    return _fused(node, y.reshape(*y.shape[:3], -1), inputs)


def _resize(node: Node, values: dict[str, Array], scale: tuple[float, float]) -> Array:
    """TF1 bilinear: source = target * in/out, no half-pixel centres."""
    x = values[node.inputs[0]]
    for axis, nominal in enumerate(values[node.inputs[1]].tolist(), start=1):
        target = round(nominal * scale[axis - 1])
        source = np.arange(target) * (x.shape[axis] / target)
        low = np.floor(source).astype(int)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        weight = (source - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
    return x.astype(np.float32)


def _mean(node: Node, inputs: list[Array]) -> Array:
    axes = tuple(inputs[1].reshape(-1).tolist())
    return np.asarray(inputs[0].mean(axis=axes, keepdims=node.flag("keep_dims")))


_OPERATIONS: dict[str, Callable[[Node, list[Array]], Array]] = {
    "_FusedConv2D": _conv,
    "Conv2D": _conv,
    "FusedDepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNative": _depthwise,
    "Mean": _mean,
    "Mul": lambda _, i: i[0] * i[1],
    "Add": lambda _, i: i[0] + i[1],
    "Relu": lambda _, i: np.maximum(i[0], 0),
    "Relu6": lambda _, i: np.clip(i[0], 0, 6),
    "Sigmoid": lambda _, i: 1 / (1 + np.exp(-i[0])),
    "ConcatV2": lambda _, i: np.concatenate(i[:-1], axis=int(i[-1])),
    "Identity": lambda _, i: i[0],
}
