"""Turn a model's raw outputs into scored boxes in input pixels, best first, within bounds.

Every decoder drops what is below the score threshold first and caps what is left before the
quadratic suppression, so its cost is bounded whatever the model puts out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edge_agent.detector.manifest import DecoderName, ModelError, Thresholds
from edge_agent.detector.suppression import best_first, suppress

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
#: boxes N×4 (x1 y1 x2 y2, input pixels), scores N in (0, 1], classes N; best first.
Scored = tuple[Floats, Floats, Ints]
Decoder = Callable[[Sequence[Floats], tuple[int, int], Thresholds], Scored]

#: Heat-map pixels looked at per wanted candidate: a peak has at most 8 lower neighbours.
_PIXELS_PER_CANDIDATE = 9


def decode(name: DecoderName, outputs: Sequence[Floats], size_px: tuple[int, int], limits: Thresholds) -> Scored:
    """Decode `outputs` with the decoder `name`; `size_px` is the input's (height, width)."""
    return _DECODERS[name](outputs, size_px, limits)


def decode_centernet(outputs: Sequence[Floats], size_px: tuple[int, int], limits: Thresholds) -> Scored:
    """Objects as points (Zhou et al., arXiv 1904.07850), with four sides per point.

    `outputs`: class logits 1×C×h×w, and distances in input pixels from the point to the left, top,
    right and bottom side 1×4×h×w. A point is a pixel not below any of its 8 neighbours in its
    class. Logits are compared instead of scores: the sigmoid is monotone, and needed only here.
    """
    logits, sides = outputs[0][0], outputs[1][0]
    pixels = _strong_pixels(logits, limits)
    pixels = pixels[_is_peak(logits, pixels)]
    flat = logits.reshape(-1)[pixels]
    best = best_first(flat, limits.max_candidates_count)
    classes, ys, xs = np.unravel_index(pixels[best], logits.shape)
    stride = np.array([size_px[1] / logits.shape[2], size_px[0] / logits.shape[1]], np.float32)
    centres = np.stack([xs, ys], axis=1).astype(np.float32) * stride
    reach = sides[:, ys, xs].T
    boxes = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], axis=1)
    scores: Floats = (1.0 / (1.0 + np.exp(-flat[best]))).astype(np.float32)
    return _suppressed(boxes.astype(np.float32, copy=False), scores, classes, limits)


def _strong_pixels(logits: Floats, limits: Thresholds) -> Ints:
    """Flat indices of the pixels above the threshold, the strongest ones when they are too many."""
    threshold = math.log(limits.score / (1.0 - limits.score))
    flat = logits.reshape(-1)
    pixels: Ints = np.flatnonzero(flat >= threshold)
    bound = limits.max_candidates_count * _PIXELS_PER_CANDIDATE
    if len(pixels) > bound:
        strongest = np.argpartition(-flat[pixels], bound)[:bound]
        pixels = np.sort(pixels[strongest])
    return pixels


def _is_peak(logits: Floats, pixels: Ints) -> npt.NDArray[np.bool_]:
    """For each flat index: is it no lower than its 8 neighbours in its class?"""
    classes, ys, xs = np.unravel_index(pixels, logits.shape)
    values = logits[classes, ys, xs]
    peak = np.ones(len(pixels), bool)
    for dy in (-1, 0, 1):
        near_y = np.clip(ys + dy, 0, logits.shape[1] - 1)
        for dx in (-1, 0, 1):
            near_x = np.clip(xs + dx, 0, logits.shape[2] - 1)
            peak &= values >= logits[classes, near_y, near_x]
    return peak


def decode_yolov8(outputs: Sequence[Floats], size_px: tuple[int, int], limits: Thresholds) -> Scored:
    """One output 1×(4+C)×N: centre, width, height in input pixels, then class scores (v8, v11)."""
    rows = outputs[0][0]
    return _decode_anchors(rows[:4], rows[4:].max(axis=0), rows[4:], limits)


def decode_yolov5(outputs: Sequence[Floats], size_px: tuple[int, int], limits: Thresholds) -> Scored:
    """One output 1×N×(5+C): centre, width, height, objectness, class scores (v5, v7)."""
    columns = outputs[0][0].T
    return _decode_anchors(columns[:4], columns[4] * columns[5:].max(axis=0), columns[5:], limits)


def _decode_anchors(centre_boxes: Floats, scores: Floats, class_scores: Floats, limits: Thresholds) -> Scored:
    """Anchors in columns: boxes 4×N, score per anchor N, class scores C×N (argmax is the class)."""
    strong = np.flatnonzero(scores >= limits.score)
    strong = strong[best_first(scores[strong], limits.max_candidates_count)]
    x, y, width, height = centre_boxes[:, strong]
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    classes = class_scores[:, strong].argmax(axis=0)
    return _suppressed(boxes, scores[strong], classes, limits)


def decode_end_to_end(outputs: Sequence[Floats], size_px: tuple[int, int], limits: Thresholds) -> Scored:
    """One output 1×N×6: x1 y1 x2 y2 in input pixels, score, class; suppression is in the model."""
    rows = outputs[0][0]
    strong = np.flatnonzero(rows[:, 4] >= limits.score)
    strong = strong[best_first(rows[strong, 4], limits.max_detections_count)]
    rows = rows[strong]
    return rows[:, :4], rows[:, 4], np.rint(rows[:, 5]).astype(np.int64)


def _suppressed(boxes: Floats, scores: Floats, classes: Ints, limits: Thresholds) -> Scored:
    """Drop boxes that are empty or not finite, so that they suppress nothing; then suppress."""
    sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes, scores, classes = boxes[sound], scores[sound], classes[sound]
    kept = suppress(boxes, classes, limits.iou)[: limits.max_detections_count]
    return boxes[kept], scores[kept], classes[kept]


_DECODERS: dict[DecoderName, Decoder] = {
    "centernet": decode_centernet,
    "yolov8": decode_yolov8,
    "yolov5": decode_yolov5,
    "end-to-end": decode_end_to_end,
}


def check_outputs(name: DecoderName, shapes: Sequence[tuple[int, ...]], labels_count: int) -> None:
    """Compare a model's output shapes with its decoder and its labels.

    Raises:
        ModelError: they do not fit.
    """
    if name == "centernet":
        fits = (
            len(shapes) == 2
            and all(len(s) == 4 and s[0] == 1 for s in shapes)
            and shapes[0][1] == labels_count
            and shapes[1][1] == 4
            and shapes[0][2:] == shapes[1][2:]
        )
        expected = f"1×{labels_count}×h×w and 1×4×h×w"
    else:
        axis, size = {
            "yolov8": (1, 4 + labels_count),
            "yolov5": (2, 5 + labels_count),
            "end-to-end": (2, 6),
        }[name]
        fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1
        fits = fits and shapes[0][axis] == size
        expected = f"one output of 3 dimensions, batch 1, {size} in dimension {axis}"
    if not fits:
        raise ModelError(
            f"decoder {name!r} with {labels_count} labels expects {expected}, the model has {list(shapes)}"
        )
