"""Fetch a pinned public model and convert it to ONNX: `python -m models.convert --out DIR`.

Writes `DIR/<name>/model.onnx` and `DIR/<name>/manifest.json`; a second run finds them and stops.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edge_agent.detector.labels import COCO_80
from edge_agent.detector.manifest import (
    InputSpec,
    Manifest,
    ModelError,
    Thresholds,
    file_sha256,
    read_manifest,
    verified_model,
    write_manifest,
)
from models import npm_package, tfjs_reference
from models.npm_package import FetchError, NpmPackage
from models.tfjs_graph import ModelFormatError, TfjsGraph, read_graph
from models.tfjs_to_onnx import SIZE_STEP_PX, to_onnx

NAME = "centernet-mobilenetv3"
#: Raise it when the converted file changes: an older one is then converted again.
CONVERSION = "1"
PACKAGE = NpmPackage(
    name="@vladmandic/human",
    version="3.3.6",
    integrity="sha512-Nr5mPfq1gQ+uKeXY5uM3Fj8UxvF5CEh2s6txM5wRThqaW0mF9huooOuZSrT8hhGho0hGaXLFdAwfD/2+teCv6A==",
)
MEMBERS = ["models/centernet.json", "models/centernet.bin"]
#: TensorFlow name -> ONNX name. The heat map leaves before its sigmoid: the decoder needs it only
#: at the few pixels above the threshold, and the peak test is the same on either side of it.
OUTPUTS = {
    "tower_0/CenternetHead/centernet_cls_output/BiasAdd": "heat_logits",
    "tower_0/wh": "box_sides_px",
}
#: Square input that the graph's constants were frozen for.
NOMINAL_PX = 512
#: Largest difference accepted between ONNX Runtime and the numpy reference (logits; pixels).
_TOLERANCES = (1e-3, 1e-2)

MANIFEST = Manifest(
    format=1,
    name=NAME,
    version=f"{PACKAGE.version}-c{CONVERSION}",
    sha256="0" * 64,
    decoder="centernet",
    labels=COCO_80,
    input=InputSpec(
        height_px=384,
        width_px=512,
        size_step_px=SIZE_STEP_PX,
        layout="nhwc",
        dtype="uint8",
        colour_order="bgr",
        pad_value=0,
    ),
    thresholds=Thresholds(score=0.4, iou=0.5),
    source=(
        f"npm package {PACKAGE.spec} ({PACKAGE.integrity}), models/centernet, converted by "
        "models/convert.py; trained by github.com/610265158/mobilenetv3_centernet"
    ),
    licence="MIT (npm package @vladmandic/human)",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        folder = convert(options.out, tarball=options.tarball, force=options.force)
    except (FetchError, ModelFormatError, ModelError) as error:
        print(f"models.convert: {error}", file=sys.stderr)
        return 1
    print(f"{NAME}: ready in {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.convert", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of models")
    parser.add_argument("--name", choices=[NAME], default=NAME)
    parser.add_argument("--tarball", type=Path, help="the npm tarball, when already fetched")
    parser.add_argument("--force", action="store_true", help="convert even if it is there")
    return parser


def convert(out: Path, tarball: Path | None = None, force: bool = False) -> Path:
    """Make the model's folder under `out` unless a verified one of this version is there.

    Raises:
        FetchError: the package cannot be had or is not the pinned one.
        ModelFormatError: the graph holds something that the converter does not know.
        ModelError: the converted model differs from the numpy reference.
    """
    folder = out / NAME
    if not force and _is_current(folder):
        return folder
    with tempfile.TemporaryDirectory(prefix="sightflow-model-") as scratch_name:
        scratch = Path(scratch_name)
        source = tarball or npm_package.fetch(PACKAGE, scratch)
        npm_package.verify(PACKAGE, source)
        npm_package.unpack(source, MEMBERS, scratch)
        graph = _with_exact_sixths(read_graph(scratch / "centernet.json"))
    model = to_onnx(graph, OUTPUTS, producer=f"sightflow models.convert {CONVERSION}")
    _check_numerically(model, graph)
    _write(model, folder)
    return folder


def _is_current(folder: Path) -> bool:
    try:
        manifest = read_manifest(folder / "manifest.json")
        verified_model(manifest, folder)
    except ModelError:
        return False
    return manifest == replace_sha256(MANIFEST, manifest.sha256)


def replace_sha256(manifest: Manifest, sha256: str) -> Manifest:
    """The same manifest for a file with another digest."""
    return msgspec.structs.replace(manifest, sha256=sha256)


def _check_numerically(model: onnx.ModelProto, graph: TfjsGraph) -> None:
    """Run one image of noise and steps through both implementations and compare."""
    image = _test_image(height_px=96, width_px=160)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    actual = session.run(list(OUTPUTS.values()), {"images": image})
    rgb = image[..., ::-1].astype(np.float32)
    expected = tfjs_reference.evaluate(graph, rgb, list(OUTPUTS), NOMINAL_PX)
    for name, a, e, tolerance in zip(OUTPUTS.values(), actual, expected, _TOLERANCES, strict=True):
        difference = float(np.abs(np.asarray(a) - e.transpose(0, 3, 1, 2)).max())
        if not difference <= tolerance:
            raise ModelError(
                f"output {name}: differs from the numpy reference by {difference:.3g} "
                f"(at most {tolerance:.3g} expected): the conversion is wrong, nothing was written"
            )


def _test_image(height_px: int, width_px: int) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(7).integers(0, 256, (1, height_px, width_px, 3), dtype=np.uint8)
    noise[:, : height_px // 2, : width_px // 2] //= 4
    return noise


def _with_exact_sixths(graph: TfjsGraph) -> TfjsGraph:
    """The graph with hard-swish's 1/6 restored from its float16 rounding: ONNX HardSwish has 1/6."""
    sixth = np.float32(1 / 6)
    exact = dict(graph.constants)
    for name, value in exact.items():
        if value.size == 1 and abs(value.item() - sixth) < 1e-4:
            exact[name] = np.full_like(value, sixth)
    return replace(graph, constants=exact)


def _write(model: onnx.ModelProto, folder: Path) -> None:
    """Manifest last, so that a half-written folder is never taken for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest_path = folder / "manifest.json"
    manifest_path.unlink(missing_ok=True)
    model_path = folder / MANIFEST.file
    onnx.save(model, str(model_path))
    write_manifest(replace_sha256(MANIFEST, file_sha256(model_path)), manifest_path)


if __name__ == "__main__":
    sys.exit(main())
