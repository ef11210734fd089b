"""Read a bare YOLO-family ONNX file as a model: decoder, labels and input from the file itself."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.detector.labels import COCO_80
from edge_agent.detector.manifest import (
    DecoderName,
    InputSpec,
    Manifest,
    ModelError,
    Thresholds,
    file_sha256,
)
from edge_agent.detector.onnxruntime_backend import CPU, OnnxRuntimeBackend

#: Used for a free-sized model that names no size: what the family is trained at.
_DEFAULT_SIDE_PX = 640
_STRIDE_PX = 32
_MAX_NAMES_CHARS = 100_000
_ANCHOR_FREE_STRIDES_PX = ((8, 16, 32), (8, 16, 32, 64))
_SCORE_SLACK = 1e-3  # half precision
_LARGEST_SIDES = 32  # an anchor may be much larger than the frame of a model that was exported small
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_HINT = "export a detection model with one output, or write a manifest (docs/models.md)"


def manifest_of(path: Path) -> Manifest:
    """Manifest of the YOLO-family file at `path`; the outputs' shapes come from one run on zeros.

    Known: 1×(4+C)×N (v8, v11), 1×N×(5+C) (v5, v7), 1×N×6 with N ≤ 1000 (suppression in the model).
    1×N×(5+C) without labels may be something else (YOLOX, v8 with its axes swapped): then the trial run must look like v5.
    Labels: the file's metadata `names`, else COCO's when there are 80, else class_0, class_1, ….

    Raises:
        ModelError: the file is no such model.
    """
    sha256 = file_sha256(path)
    backend = OnnxRuntimeBackend(path, CPU, threads_count=1, cache_dir=None)
    metadata = backend.session.get_modelmeta().custom_metadata_map
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"{path}: is a model for {task!r}, not for detection; {_HINT}")
    spec = _input_spec(path, backend, metadata)
    zeros = np.zeros((1, 3, spec.height_px, spec.width_px), spec.dtype)
    try:
        outputs = backend.run(zeros)
    except Exception as error:  # ONNX Runtime's own classes share no public base
        raise ModelError(f"{path}: does not run on {zeros.shape}: {error}") from error
    names = _names(path, metadata)
    decoder, classes_count = _decoder(path, [tuple(o.shape) for o in outputs], names)
    if decoder == "yolov5" and names is None:
        _require_yolov5(path, outputs[0][0], spec)
    return Manifest(
        format=1,
        name=_model_name(path),
        version=metadata.get("version", "unknown")[:100] or "unknown",
        file=path.name if _is_plain(path.name) else "model.onnx",
        sha256=sha256,
        decoder=decoder,
        labels=names or _default_labels(classes_count),
        input=spec,
        thresholds=Thresholds(score=0.25, iou=0.5),
        source="bare ONNX file named by the user",
        licence=metadata.get("license", "not stated in the file")[:1000] or "not stated in the file",
    )


def _input_spec(path: Path, backend: OnnxRuntimeBackend, metadata: Mapping[str, str]) -> InputSpec:
    tensor = backend.session.get_inputs()[0]
    shape = list(tensor.shape)
    is_one_image = len(shape) == 4 and shape[1] == 3 and (shape[0] == 1 or not isinstance(shape[0], int))
    if tensor.type not in _TYPES or not is_one_image:
        raise ModelError(
            f"{path}: expected an input 1×3×H×W of float32 or float16, got {shape} of {tensor.type}; {_HINT}"
        )
    is_fixed = isinstance(shape[2], int) and isinstance(shape[3], int)
    height, width = (shape[2], shape[3]) if is_fixed else _named_size(metadata)
    document = {
        "height_px": height,
        "width_px": width,
        "size_step_px": None if is_fixed else _STRIDE_PX,
        "layout": "nchw",
        "dtype": _TYPES[tensor.type],
        "colour_order": "rgb",
        "scale": 1 / 255,
        "letterbox": True,
        "pad_value": 114,
    }
    try:
        return msgspec.convert(document, InputSpec)
    except msgspec.ValidationError as error:
        raise ModelError(f"{path}: input size {height}×{width}: {error}") from error


def _named_size(metadata: Mapping[str, str]) -> tuple[int, int]:
    """Size from the metadata `imgsz` ("[h, w]"), rounded up to the stride; else 640×640."""
    try:
        size = ast.literal_eval(metadata.get("imgsz", "")[:100])
        height, width = (int(side) for side in size)
    except (ValueError, TypeError, SyntaxError):
        return _DEFAULT_SIDE_PX, _DEFAULT_SIDE_PX
    return -(-height // _STRIDE_PX) * _STRIDE_PX, -(-width // _STRIDE_PX) * _STRIDE_PX


def _names(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Labels from the metadata `names`: "{0: 'person', …}" or "['person', …]"; None when absent."""
    text = metadata.get("names")
    if text is None:
        return None
    try:
        value = ast.literal_eval(text) if len(text) <= _MAX_NAMES_CHARS else ()
        names = [value[i] for i in range(len(value))] if isinstance(value, dict) else list(value or ())
    except (ValueError, TypeError, SyntaxError, KeyError, MemoryError, RecursionError) as error:
        raise ModelError(f"{path}: metadata 'names' is no list of labels: {text[:80]!r}") from error
    if not 1 <= len(names) <= 1000 or not all(isinstance(n, str) and 0 < len(n) <= 100 for n in names):
        raise ModelError(f"{path}: metadata 'names' is no list of 1..1000 short labels")
    if len(set(names)) != len(names):
        names = [f"{name}_{i}" if names.index(name) != i else name for i, name in enumerate(names)]
    return tuple(names)


def _decoder(path: Path, shapes: Sequence[tuple[int, ...]], names: Sequence[str] | None) -> tuple[DecoderName, int]:
    """Decoder and number of classes for the output `shapes`; the labels decide where both fit."""
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] != 1:
        raise ModelError(f"{path}: outputs {list(shapes)} are of no known detector; {_HINT}")
    _, rows, columns = shapes[0]
    candidates: list[tuple[DecoderName, int]] = []
    if columns == 6 and rows <= 1000:
        candidates.append(("end-to-end", len(names) if names else len(COCO_80)))
    if columns > rows >= 5:
        candidates.append(("yolov8", rows - 4))
    if rows > columns >= 6:
        candidates.append(("yolov5", columns - 5))
    for decoder, classes_count in candidates:
        if names is None or len(names) == classes_count:
            return decoder, classes_count
    labels = f"{len(names)} labels in its metadata" if names else "no labels in its metadata"
    raise ModelError(
        f"{path}: output {shapes[0]} with {labels} is of no known detector (1×(4+C)×N, 1×N×(5+C) or 1×N×6); {_HINT}"
    )


def _require_yolov5(path: Path, rows: npt.NDArray[Any], spec: InputSpec) -> None:
    """Refuse what only has the shape of v5 and v7: N×(5+C) of the trial run, boxes as decoders take them.

    Their heads have several anchors a cell, their boxes are in input pixels and lie all over the frame (a grid that is
    not decoded stays near 0 and has negative sizes), their scores have passed a sigmoid.

    Raises:
        ModelError: it is something else; the text says how to describe it.
    """
    side_px = max(spec.width_px, spec.height_px)
    boxes, scores = rows[:, :4].astype(np.float64), rows[:, 4:].astype(np.float64)
    cells_count = [
        sum(-(-spec.height_px // s) * -(-spec.width_px // s) for s in strides) for strides in _ANCHOR_FREE_STRIDES_PX
    ]
    if len(rows) in cells_count:
        found = f"one row a cell ({len(rows)}), as YOLOX and v8 have"
    elif not ((scores >= -_SCORE_SLACK) & (scores <= 1 + _SCORE_SLACK)).all():  # false for NaN too
        found = f"scores from {scores.min():.3g} to {scores.max():.3g}"
    elif not (np.isfinite(boxes).all() and (boxes[:, 2:] >= 0).all() and boxes.max() <= _LARGEST_SIDES * side_px):
        found = f"boxes with numbers from {boxes.min():.3g} to {boxes.max():.3g}"
    elif boxes[:, 0].max() < spec.width_px / 2 or boxes[:, 1].max() < spec.height_px / 2:
        found = f"centres no further than ({boxes[:, 0].max():.3g}, {boxes[:, 1].max():.3g})"
    else:
        return
    raise ModelError(
        f"{path}: output 1×{len(rows)}×{rows.shape[1]} without labels in its metadata: expected v5's, several rows a "
        f"cell, scores from 0 to 1 and boxes in pixels all over {spec.width_px}×{spec.height_px}, got {found}; write a "
        "manifest beside it that names decoder, labels and input (docs/models.md), or have the exporter write `names`"
    )


def _default_labels(classes_count: int) -> tuple[str, ...]:
    if classes_count == len(COCO_80):
        return COCO_80
    return tuple(f"class_{i}" for i in range(classes_count))


def _model_name(path: Path) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return plain.lstrip("._-")[:64] or "model"


def _is_plain(name: str) -> bool:
    return all(c.isascii() and (c.isalnum() or c in "._-") for c in name) and name[0] not in ".-"
