"""Fit a frame into the model's input and map boxes back to the frame."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.detector.manifest import InputSpec

Boxes = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

#: Largest frame side that is accepted; 8K video is 7680 wide.
MAX_SIDE_PX = 16384


def check_frame(frame: object) -> None:
    """Refuse what is no BGR image.

    Raises:
        ValueError: not a numpy array of uint8, not H×W×3, or a side of 0 or over 16384 pixels.
    """
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"frame: expected a numpy array H×W×3 of uint8, got {type(frame).__name__}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frame: expected H×W×3 of uint8 in BGR, got shape {frame.shape} of {frame.dtype}")
    if not all(1 <= side <= MAX_SIDE_PX for side in frame.shape[:2]):
        raise ValueError(f"frame: expected sides of 1..{MAX_SIDE_PX} px, got shape {frame.shape}")


def input_size_px(spec: InputSpec, frame_height_px: int, frame_width_px: int) -> tuple[int, int]:
    """Input size (height, width) to use for frames of a given size.

    A model of one size keeps it. A model of free size gets the size in steps of `size_step_px`
    whose content (the frame scaled to fit) is largest among those with no more pixels than the
    nominal size; so a 16:9 camera does not pay for padding, and costs no more than planned.
    """
    nominal = (spec.height_px, spec.width_px)
    step = spec.size_step_px
    if step is None:
        return nominal
    budget_px = nominal[0] * nominal[1]
    best, best_key = nominal, (0.0, 0)
    for height in range(step, budget_px // step + 1, step):
        width = min(budget_px // height // step * step, 4096)
        ideal = -(-height * frame_width_px // (frame_height_px * step)) * step
        width = max(step, min(width, ideal))
        gain = min(height / frame_height_px, width / frame_width_px)
        key = (gain, -height * width)
        if height <= 4096 and key > best_key:
            best, best_key = (height, width), key
    return best


class Letterbox:
    """Reused input image of one size, for frames of one size."""

    def __init__(self, spec: InputSpec, frame_height_px: int, frame_width_px: int) -> None:
        """Place frames of the given size in an input of `input_size_px(spec, …)`."""
        height, width = input_size_px(spec, frame_height_px, frame_width_px)
        self.frame_size_px = (frame_height_px, frame_width_px)
        self.size_px = (height, width)
        content_height, content_width = height, width
        if spec.letterbox:
            gain = min(height / frame_height_px, width / frame_width_px)
            content_height = max(1, min(height, round(frame_height_px * gain)))
            content_width = max(1, min(width, round(frame_width_px * gain)))
        self.content_size_px = (content_height, content_width)
        self.offset_px = ((height - content_height) // 2, (width - content_width) // 2)
        self.image: Image = np.full((height, width, 3), spec.pad_value, np.uint8)
        top, left = self.offset_px
        self._content = self.image[top : top + content_height, left : left + content_width]

    def fill(self, frame: Image) -> Image:
        """Scale `frame` into the reused image and return it (valid until the next call)."""
        if frame.shape[:2] == self.content_size_px:
            self._content[:] = frame
        else:
            height, width = self.content_size_px
            cv2.resize(frame, (width, height), dst=self._content, interpolation=cv2.INTER_LINEAR)
        return self.image

    def to_frame(self, boxes_px: Boxes) -> Boxes:
        """Boxes in input pixels (N×4, x1 y1 x2 y2) -> fractions of the frame, clipped to [0, 1]."""
        top, left = self.offset_px
        height, width = self.content_size_px
        offset = np.array([left, top, left, top], np.float32)
        size = np.array([width, height, width, height], np.float32)
        scaled: Boxes = np.clip((boxes_px - offset) / size, 0.0, 1.0).astype(np.float32, copy=False)
        return scaled

    def to_input(self, boxes: Boxes) -> Boxes:
        """Inverse of `to_frame` for boxes inside the frame."""
        top, left = self.offset_px
        height, width = self.content_size_px
        offset = np.array([left, top, left, top], np.float32)
        size = np.array([width, height, width, height], np.float32)
        placed: Boxes = (boxes * size + offset).astype(np.float32, copy=False)
        return placed


class InputTensor:
    """Turns the letterboxed image into the tensor that the manifest asks for, in reused memory."""

    def __init__(self, spec: InputSpec, size_px: tuple[int, int]) -> None:
        height, width = size_px
        self._spec = spec
        self._is_nchw = spec.layout == "nchw"
        # tensor = pixel * gain + bias, per channel in the model's colour order.
        self._gain = [np.float32(spec.scale / s) for s in spec.std]
        self._bias = [np.float32(-m / s) for m, s in zip(spec.mean, spec.std, strict=True)]
        shape = (1, 3, height, width) if self._is_nchw else (1, height, width, 3)
        self._tensor: npt.NDArray[Any] = np.empty(shape, np.uint8 if spec.dtype == "uint8" else np.float32)

    def fill(self, image: Image) -> npt.NDArray[np.generic]:
        """Tensor of `image` (H×W×3, BGR); valid until the next call."""
        spec = self._spec
        if spec.dtype == "uint8" and not self._is_nchw and spec.colour_order == "bgr":
            return image[np.newaxis]
        for channel in range(3):
            source = image[:, :, channel if spec.colour_order == "bgr" else 2 - channel]
            tensor = self._tensor[0]
            target: npt.NDArray[Any] = tensor[channel] if self._is_nchw else tensor[:, :, channel]
            if spec.dtype == "uint8":
                target[:] = source
            else:
                np.multiply(source, self._gain[channel], out=target)
                if self._bias[channel]:
                    target += self._bias[channel]
        return self._tensor.astype(np.float16) if spec.dtype == "float16" else self._tensor
