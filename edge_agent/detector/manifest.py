"""`manifest.json`: what a model file needs said about it to be run (format in docs/models.md)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

#: A manifest of 1,000 labels is 20 kB.
_MAX_MANIFEST_BYTES = 2**20
_MAX_MODEL_BYTES = 2 * 2**30

DecoderName = Literal["centernet", "yolov8", "yolov5", "end-to-end"]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Label = Annotated[str, Meta(min_length=1, max_length=100)]
SidePx = Annotated[int, Meta(ge=32, le=4096)]
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]


class ModelError(ValueError):
    """A model, its manifest or a choice made for it is unusable; says where, why and the remedy."""


class InputSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The image tensor that the model takes: one image, batch of 1.

    The tensor value of a channel is `(pixel * scale - mean) / std`, `pixel` being 0..255.
    """

    #: Nominal size. With `size_step_px` also the pixel budget of other aspect ratios.
    height_px: SidePx
    width_px: SidePx
    #: Sizes may be any multiple of this; None = only the nominal size.
    size_step_px: Annotated[int, Meta(ge=1, le=256)] | None = None
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["uint8", "float32", "float16"] = "float32"
    colour_order: Literal["rgb", "bgr"] = "rgb"
    scale: Annotated[float, Meta(gt=0.0)] = 1.0
    #: Per channel, in `colour_order`.
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    #: True keeps the frame's aspect and pads around it; False stretches the frame.
    letterbox: bool = True
    pad_value: Annotated[int, Meta(ge=0, le=255)] = 114


class Thresholds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on what comes out."""

    #: Detections below are dropped. Lower = more recall, more false boxes.
    score: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.35
    #: Of two boxes of one class that overlap by more, the lower-scored one is dropped.
    iou: Ratio = 0.5
    #: Best-scored kept before suppression; its cost grows with the square.
    max_candidates_count: Annotated[int, Meta(ge=1, le=5000)] = 300
    #: Best-scored kept after suppression; at most what one message may hold.
    max_detections_count: Annotated[int, Meta(ge=1, le=1000)] = 200


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model: identity, decoder, labels, input and thresholds."""

    format: Literal[1]
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    version: Text
    #: Model file beside the manifest; a plain file name.
    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")] = "model.onnx"
    #: Of the model file, lower-case hex.
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    decoder: DecoderName
    #: Index = class number in the model's output.
    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=1000)]
    input: InputSpec
    thresholds: Thresholds = Thresholds()
    #: Where the weights come from and how the file was made.
    source: Text
    licence: Text

    def __post_init__(self) -> None:
        step = self.input.size_step_px
        if step is not None and (self.input.height_px % step or self.input.width_px % step):
            raise ValueError(
                f"input size {self.input.height_px}x{self.input.width_px} is not a multiple of size_step_px {step}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        if 0.0 in self.input.std:
            raise ValueError("input.std has a zero")
        if self.input.dtype == "uint8" and not self._is_plain():
            raise ValueError("input.dtype uint8 allows no scale, mean or std")

    def _is_plain(self) -> bool:
        i = self.input
        return i.scale == 1.0 and i.mean == (0.0, 0.0, 0.0) and i.std == (1.0, 1.0, 1.0)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the model file's SHA-256: names the model in every message."""
        return self.sha256[:16]


def read_manifest(path: Path) -> Manifest:
    """Read and validate the manifest at `path`.

    Raises:
        ModelError: unreadable, too large, or a field is wrong (the message holds its path).
    """
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ModelError(f"{path}: larger than {_MAX_MANIFEST_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}") from error


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` as indented JSON, read it back and check that it is the same."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    if read_manifest(path) != manifest:
        raise ModelError(f"{path}: does not read back as it was written")


def file_sha256(path: Path) -> str:
    """SHA-256 of the file at `path`, lower-case hex.

    Raises:
        ModelError: unreadable or larger than 2 GiB.
    """
    digest = hashlib.sha256()
    try:
        if path.stat().st_size > _MAX_MODEL_BYTES:
            raise ModelError(f"{path}: larger than {_MAX_MODEL_BYTES} bytes")
        with path.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def verified_model(manifest: Manifest, folder: Path) -> Path:
    """Path of the model file in `folder`, after its bytes were compared with the manifest.

    Raises:
        ModelError: the file is absent or is another one.
    """
    path = folder / manifest.file
    actual = file_sha256(path)
    if actual != manifest.sha256:
        raise ModelError(
            f"{path}: expected sha256 {manifest.sha256}, got {actual}: the file was changed or the "
            "manifest belongs to another one; convert or copy the model again"
        )
    return path


def is_model_name(spec: str) -> bool:
    """True when `spec` can be the name of a model folder (no separators, no suffix of a file)."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", spec) is not None
