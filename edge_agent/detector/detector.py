"""The one interface to a detection model: frame in, boxes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.detector import yolo_file
from edge_agent.detector.backend import AcceleratorUnavailableError, Backend
from edge_agent.detector.decoders import check_outputs, decode
from edge_agent.detector.letterbox import InputTensor, Letterbox, check_frame
from edge_agent.detector.manifest import (
    InputSpec,
    Manifest,
    ModelError,
    is_model_name,
    read_manifest,
    verified_model,
)
from edge_agent.detector.onnxruntime_backend import CPU, OnnxRuntimeBackend, available_providers
from edge_agent.detector.tensorrt_backend import (
    TensorRtBackend,
    TensorRtUnavailableError,
    private_folder,
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detections:
    """Objects of one frame, best-scored first, at most the model's `max_detections_count`."""

    #: N×4 float32: x1 y1 x2 y2 as fractions of the frame, in [0, 1], x1 < x2, y1 < y2.
    boxes: npt.NDArray[np.float32]
    #: N float32 in (0, 1].
    scores: npt.NDArray[np.float32]
    #: N uint16: index into `Detector.labels`.
    classes: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class DetectorOptions:
    """What a site chooses about its detector; None = as the model's manifest says."""

    #: Detections below are dropped, in (0, 1).
    score_min: float | None = None
    #: Labels to keep; empty = all.
    labels: tuple[str, ...] = ()
    #: Refuse to run on the CPU.
    require_accelerator: bool = False
    #: Threads of one inference on the CPU. More than 1 pays only on idle cores.
    threads_count: int = 1
    #: (height, width) for models of free size. Larger finds smaller objects, in proportion slower.
    input_size_px: tuple[int, int] | None = None
    #: Built engines are kept here (mode 0700); None = TensorRT is not used.
    engine_cache_dir: Path | None = None


@dataclass
class Detector:
    """A loaded model. For one thread; a second camera has its own or takes turns."""

    manifest: Manifest
    backend: Backend
    #: False where the backend was built for the nominal size only.
    is_free_size: bool = True
    _keep: npt.NDArray[np.bool_] | None = None
    _letterbox: Letterbox | None = field(default=None, init=False)
    _tensor: InputTensor | None = field(default=None, init=False)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the model file's SHA-256."""
        return self.manifest.fingerprint

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; `Detections.classes` indexes them."""
        return self.manifest.labels

    def detect(self, bgr: npt.NDArray[np.uint8]) -> Detections:
        """Objects in one frame (H×W×3 uint8, BGR).

        Raises:
            ValueError: the frame is no such image.
        """
        check_frame(bgr)
        letterbox, tensor = self._prepared(bgr.shape[0], bgr.shape[1])
        outputs = self.backend.run(tensor.fill(letterbox.fill(bgr)))
        limits = self.manifest.thresholds
        boxes_px, scores, classes = decode(self.manifest.decoder, outputs, letterbox.size_px, limits)
        return self._finished(letterbox.to_frame(boxes_px), scores, classes)

    def _prepared(self, height_px: int, width_px: int) -> tuple[Letterbox, InputTensor]:
        """Buffers for this frame size; kept until a frame of another size comes."""
        if self._letterbox is None or self._letterbox.frame_size_px != (height_px, width_px):
            spec = self.manifest.input
            if not self.is_free_size:
                spec = msgspec.structs.replace(spec, size_step_px=None)
            self._letterbox = Letterbox(spec, height_px, width_px)
            self._tensor = InputTensor(spec, self._letterbox.size_px)
        assert self._tensor is not None
        return self._letterbox, self._tensor

    def _finished(
        self, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]
    ) -> Detections:
        """Drop what is outside the frame, not finite, of an unknown class or not asked for."""
        good = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        good &= np.isfinite(boxes).all(axis=1) & (scores <= 1.0)
        good &= (classes >= 0) & (classes < len(self.labels))
        if self._keep is not None:
            good[good] = self._keep[classes[good]]
        return Detections(
            np.ascontiguousarray(boxes[good], np.float32),
            np.ascontiguousarray(scores[good], np.float32),
            classes[good].astype(np.uint16),
        )


def open_detector(spec: str | Path, models_dir: Path | None = None, options: DetectorOptions | None = None) -> Detector:
    """Load a model and run it once.

    Args:
        spec: name of a folder in `models_dir`; or a path of a manifest, of its folder, or of a bare
            YOLO-family `.onnx` file.
        models_dir: folder of converted models (`python -m models.convert --out models_dir`).
        options: the site's choices.

    Raises:
        ModelError: the model cannot be found, read or trusted, or an option does not fit it.
        AcceleratorUnavailableError: one is required and none works.
    """
    options = options or DetectorOptions()
    manifest, path = _resolve(spec, models_dir)
    manifest = _with_options(manifest, options)
    backend, is_free_size = _open_backend(manifest, path, options)
    detector = Detector(manifest, backend, is_free_size, _kept_labels(manifest, options))
    _try_out(detector)
    _LOG.info("detector %s (%s) on %s", detector.model, detector.fingerprint, backend.name)
    return detector


def _resolve(spec: str | Path, models_dir: Path | None) -> tuple[Manifest, Path]:
    path = Path(spec)
    if isinstance(spec, str) and is_model_name(spec) and models_dir is not None:
        path = models_dir / spec
        if not (path / "manifest.json").is_file():
            raise ModelError(
                f"model {spec!r} is not in {models_dir}; make it with "
                f"`python -m models.convert --out {models_dir}`, or name a file"
            )
    if path.is_dir():
        path = path / "manifest.json"
    if not path.is_file():
        raise ModelError(f"model {str(spec)!r}: {path} is no file")
    if path.suffix == ".onnx":
        return yolo_file.manifest_of(path), path
    manifest = read_manifest(path)
    return manifest, verified_model(manifest, path.parent)


def _with_options(manifest: Manifest, options: DetectorOptions) -> Manifest:
    thresholds, size = manifest.thresholds, manifest.input
    if options.score_min is not None:
        if not 0.0 < options.score_min < 1.0:
            raise ModelError(f"score_min: expected 0 < score_min < 1, got {options.score_min}")
        thresholds = msgspec.structs.replace(thresholds, score=options.score_min)
    if options.input_size_px is not None:
        size = _resized(manifest, options.input_size_px)
    return msgspec.structs.replace(manifest, thresholds=thresholds, input=size)


def _resized(manifest: Manifest, size_px: tuple[int, int]) -> InputSpec:
    step = manifest.input.size_step_px
    if step is None or any(side % step or not 32 <= side <= 4096 for side in size_px):
        allowed = "no other than its own" if step is None else f"multiples of {step} in 32..4096"
        raise ModelError(f"input_size_px {size_px}: model {manifest.name} takes {allowed}")
    return msgspec.structs.replace(manifest.input, height_px=size_px[0], width_px=size_px[1])


def _kept_labels(manifest: Manifest, options: DetectorOptions) -> npt.NDArray[np.bool_] | None:
    unknown = sorted(set(options.labels) - set(manifest.labels))
    if unknown:
        known = ", ".join(manifest.labels[:100])
        raise ModelError(f"labels {unknown}: model {manifest.name} knows only: {known}")
    if not options.labels:
        return None
    return np.array([label in options.labels for label in manifest.labels])


def _open_backend(manifest: Manifest, path: Path, options: DetectorOptions) -> tuple[Backend, bool]:
    """First backend that comes up, best first, and whether it takes free sizes; each refusal is logged."""
    refusals: list[str] = []
    for attempt, is_free_size in _attempts(manifest, path, options):
        try:
            return attempt(), is_free_size
        except ModelError:
            raise
        except (TensorRtUnavailableError, AcceleratorUnavailableError, RuntimeError) as error:
            refusals.append(str(error))
            _LOG.info("detector backend refused: %s", error)
    raise AcceleratorUnavailableError(
        "require_accelerator is set and no accelerator works: "
        + ("; ".join(refusals) or "none is installed")
        + "; install one (docs/models.md) or set require_accelerator: false"
    )


def _attempts(manifest: Manifest, path: Path, options: DetectorOptions) -> Sequence[tuple[Callable[[], Backend], bool]]:
    spec = manifest.input
    cache = options.engine_cache_dir
    attempts: list[tuple[Callable[[], Backend], bool]] = []
    if cache is not None:
        sides = (spec.height_px, spec.width_px)
        shape = (1, 3, *sides) if spec.layout == "nchw" else (1, *sides, 3)
        attempts.append((lambda: TensorRtBackend(path, manifest.sha256, shape, cache), False))
    for provider in available_providers():
        if provider == CPU and options.require_accelerator:
            continue
        attempts.append((_onnxruntime_attempt(path, provider, options), provider != "TensorrtExecutionProvider"))
    return attempts


def _onnxruntime_attempt(path: Path, provider: str, options: DetectorOptions) -> Callable[[], Backend]:
    def attempt() -> Backend:
        cache = options.engine_cache_dir
        if cache is not None and provider != CPU:
            private_folder(cache)
        return OnnxRuntimeBackend(path, provider, options.threads_count, cache)

    return attempt


def _try_out(detector: Detector) -> None:
    """One frame of zeros: the shapes must fit the decoder, and the first real frame is not the slow one."""
    spec = detector.manifest.input
    letterbox, tensor = detector._prepared(spec.height_px, spec.width_px)
    try:
        outputs = detector.backend.run(tensor.fill(letterbox.image))
    except Exception as error:  # ONNX Runtime's own classes share no public base
        raise ModelError(f"model {detector.model} does not run as its manifest says: {error}") from error
    shapes = [tuple(o.shape) for o in outputs]
    check_outputs(detector.manifest.decoder, shapes, len(detector.labels))
