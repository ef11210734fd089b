"""Opening models and detecting with them, on tiny real ONNX graphs made here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.detector import (
    AcceleratorUnavailableError,
    DetectorOptions,
    ModelError,
    open_detector,
)
from edge_agent.detector import detector as detector_module
from edge_agent.detector.manifest import Manifest, file_sha256, write_manifest

SIDE_PX = 64


@dataclass(frozen=True)
class Fixed:
    """An ONNX model that puts out constants, whatever it sees."""

    outputs: list[np.ndarray]
    metadata: dict[str, str]
    input_shape: tuple[object, ...] = (1, 3, SIDE_PX, SIDE_PX)
    input_type: int = TensorProto.FLOAT

    def save(self, path: Path) -> Path:
        nodes, values = [], []
        nodes.append(helper.make_node("Shape", ["images"], ["size"]))
        for i, array in enumerate(self.outputs):
            name = f"output{i}"
            constant = numpy_helper.from_array(array)
            nodes.append(helper.make_node("Constant", [], [f"value{i}"], value=constant))
            nodes.append(helper.make_node("Identity", [f"value{i}"], [name]))
            values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
        image = helper.make_tensor_value_info("images", self.input_type, list(self.input_shape))
        graph = helper.make_graph(nodes, "fixed", [image], values)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, self.metadata)
        onnx.save(model, str(path))
        return path


def yolov8_output(count: int = 100, classes: int = 80) -> np.ndarray:
    """One confident object: centre (32, 32), 16 wide, 32 high, class 2."""
    output = np.zeros((1, 4 + classes, count), np.float32)
    output[0, :4, 7] = [32, 32, 16, 32]
    output[0, 4 + min(2, classes - 1), 7] = 0.9
    return output


def yolov5_output(count: int = 300, classes: int = 80) -> np.ndarray:
    output = np.zeros((1, count, 5 + classes), np.float32)
    output[0, 7, :5] = [32, 32, 16, 32, 0.9]
    output[0, 7, 5 + min(2, classes - 1)] = 1.0
    return output


def end_to_end_output() -> np.ndarray:
    output = np.zeros((1, 300, 6), np.float32)
    output[0, 0] = [24, 16, 40, 48, 0.9, 2]
    return output


FRAME = np.zeros((128, 128, 3), np.uint8)


@pytest.mark.parametrize("output", [yolov8_output(), yolov5_output(), end_to_end_output()], ids=["v8", "v5", "e2e"])
def test_a_bare_file_of_each_family_is_recognised_by_its_output_shape(tmp_path, output):
    detector = open_detector(Fixed([output], {}).save(tmp_path / "my model.onnx"))
    found = detector.detect(FRAME)
    np.testing.assert_allclose(found.boxes, [[0.375, 0.25, 0.625, 0.75]], atol=1e-6)
    assert found.boxes.dtype == np.float32
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.classes.dtype == np.uint16
    assert [detector.labels[c] for c in found.classes] == ["car"]
    assert detector.model == "my-model"
    assert detector.fingerprint == file_sha256(tmp_path / "my model.onnx")[:16]


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        ("{0: 'cat', 1: 'dog', 2: 'cow'}", 3, ("cat", "dog", "cow")),
        ("['cat', 'dog', 'cow']", 3, ("cat", "dog", "cow")),
        (None, 3, ("class_0", "class_1", "class_2")),
        ("{0: 'head', 1: 'head'}", 2, ("head", "head_1")),
    ],
)
def test_labels_come_from_the_file_or_are_numbered(tmp_path, names, classes, expected):
    metadata = {"names": names} if names else {}
    path = Fixed([yolov8_output(classes=classes)], metadata).save(tmp_path / "m.onnx")
    assert open_detector(path).labels == expected


def test_a_one_class_v5_output_is_not_taken_for_one_with_suppression_inside(tmp_path):
    path = Fixed([yolov5_output(count=25200, classes=1)], {"names": "['face']"}).save(tmp_path / "m.onnx")
    detector = open_detector(path)
    assert detector.manifest.decoder == "yolov5"
    assert detector.labels == ("face",)


def grid_output(rows_a_cell: int, columns: int) -> np.ndarray:
    """What a head over strides 8, 16 and 32 puts out where nothing is: centres of the cells, small scores."""
    cells = [
        [(x + 0.5) * stride, (y + 0.5) * stride, stride, stride]
        for stride in (8, 16, 32)
        for y in range(SIDE_PX // stride)
        for x in range(SIDE_PX // stride)
        for _ in range(rows_a_cell)
    ]
    output = np.full((1, len(cells), columns), 1e-3, np.float32)
    output[0, :, :4] = cells
    return output


def changed(output: np.ndarray, where: tuple[object, ...], value: float) -> np.ndarray:
    output = output.copy()
    output[where] = value
    return output


def raw_yolox_output() -> np.ndarray:
    """Offsets within the cell and logarithms of sizes, several rows a cell so that only the numbers tell."""
    output = grid_output(3, 85)
    output[0, :, :2] = np.linspace(-0.5, 1.5, output.shape[1])[:, None]
    output[0, :, 2:4] = np.linspace(-2, 2, output.shape[1])[:, None]
    return output


def test_a_v5_file_without_labels_is_taken_where_its_trial_run_looks_like_one(tmp_path):
    detector = open_detector(Fixed([grid_output(3, 85)], {}).save(tmp_path / "m.onnx"))
    assert (detector.manifest.decoder, len(detector.labels)) == ("yolov5", 80)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (grid_output(1, 14), "one row a cell"),  # v8, axes swapped
        (grid_output(1, 15), "one row a cell"),  # YOLOX, decoded: it wants other colours and scale
        (raw_yolox_output(), "boxes with numbers from -2"),
        (changed(grid_output(3, 85), (0, slice(None), slice(0, 4)), 0.5), "centres no further than"),  # ratios
        (changed(grid_output(3, 85), (0, 5, 4), -3.0), "scores from -3 to"),  # no sigmoid
        (changed(grid_output(3, 85), (0, 5, 9), 4.0), "scores from 0.001 to 4"),
        (changed(grid_output(3, 85), (0, 5, 9), np.nan), "scores from nan"),
        (changed(grid_output(3, 85), (0, 5, 2), np.inf), "boxes with numbers"),
        (changed(grid_output(3, 85), (0, 5, 2), 1e6), "boxes with numbers"),
    ],
)
def test_what_only_has_the_shape_of_v5_needs_a_manifest(tmp_path, output, told):
    with pytest.raises(ModelError, match=told) as refused:
        open_detector(Fixed([output], {}).save(tmp_path / "m.onnx"))
    assert "write a manifest" in str(refused.value)


@pytest.mark.parametrize(
    ("outputs", "metadata", "told"),
    [
        ([np.zeros((1, 255, 8, 8), np.float32)], {}, "no known detector"),
        ([yolov8_output(), np.zeros((1, 32, 16, 16), np.float32)], {}, "no known detector"),
        ([np.zeros((1, 1000), np.float32)], {}, "no known detector"),
        ([yolov8_output()], {"names": "['a', 'b']"}, "2 labels in its metadata"),
        ([yolov8_output()], {"names": "import os"}, "no list of labels"),
        ([yolov8_output()], {"names": "[]"}, "1..1000 short labels"),
        ([yolov8_output(classes=52)], {"task": "pose"}, "not for detection"),
    ],
)
def test_files_of_other_kinds_are_refused_with_the_remedy(tmp_path, outputs, metadata, told):
    path = Fixed(outputs, metadata).save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=told):
        open_detector(path)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 1, 64, 64), TensorProto.FLOAT),
        ((1, 64, 64, 3), TensorProto.FLOAT),
        ((2, 3, 64, 64), TensorProto.FLOAT),
        ((1, 3, 64, 64), TensorProto.INT64),
        ((1, 3, 8, 8), TensorProto.FLOAT),
    ],
)
def test_an_input_of_another_kind_is_refused(tmp_path, shape, kind):
    path = Fixed([yolov8_output()], {}, shape, kind).save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="input"):
        open_detector(path)


def test_a_free_sized_file_takes_its_size_from_its_metadata_else_640(tmp_path):
    shape = ("batch", 3, "height", "width")
    named = Fixed([yolov8_output()], {"imgsz": "[320, 416]"}, shape).save(tmp_path / "named.onnx")
    plain = Fixed([yolov8_output()], {}, shape).save(tmp_path / "plain.onnx")
    assert (open_detector(named).manifest.input.height_px, open_detector(named).manifest.input.width_px) == (320, 416)
    assert open_detector(plain).manifest.input.width_px == 640


def test_a_half_precision_input_is_fed_half_precision(tmp_path):
    path = Fixed([yolov8_output()], {}, input_type=TensorProto.FLOAT16).save(tmp_path / "m.onnx")
    assert len(open_detector(path).detect(FRAME)) == 1


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="cannot load"):
        open_detector(tmp_path / "m.onnx")


def save_model(folder: Path, outputs: list[np.ndarray], **fields: object) -> Path:
    folder.mkdir(parents=True)
    path = Fixed(outputs, {}).save(folder / "model.onnx")
    document = {
        "format": 1,
        "name": folder.name,
        "version": "1",
        "sha256": file_sha256(path),
        "decoder": "yolov8",
        "labels": ["person", "bicycle", "car"],
        "input": {"height_px": SIDE_PX, "width_px": SIDE_PX},
        "source": "test",
        "licence": "MIT",
        **fields,
    }
    write_manifest(msgspec.convert(document, Manifest), folder / "manifest.json")
    return folder


def test_a_model_is_opened_by_name_by_folder_and_by_manifest(tmp_path):
    folder = save_model(tmp_path / "tiny", [yolov8_output(classes=3)])
    by_name = open_detector("tiny", tmp_path)
    assert by_name.labels == open_detector(folder).labels == open_detector(str(folder / "manifest.json")).labels
    assert by_name.model == "tiny"


def test_a_name_that_is_not_there_is_refused_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(ModelError, match=r"python -m models\.convert --out"):
        open_detector("centernet-mobilenetv3", tmp_path)


def test_a_manifest_that_does_not_fit_its_model_is_refused(tmp_path):
    wrong_labels = save_model(tmp_path / "labels", [yolov8_output(classes=4)])
    with pytest.raises(ModelError, match="expects"):
        open_detector(wrong_labels)
    wrong_input = save_model(tmp_path / "input", [yolov8_output(classes=3)], input={"height_px": 96, "width_px": 96})
    with pytest.raises(ModelError, match="does not run as its manifest says"):
        open_detector(wrong_input)


def test_labels_and_score_of_the_site_are_applied(tmp_path):
    folder = save_model(tmp_path / "tiny", [yolov8_output(classes=3)])
    assert len(open_detector(folder, options=DetectorOptions(labels=("car",))).detect(FRAME)) == 1
    assert len(open_detector(folder, options=DetectorOptions(labels=("person",))).detect(FRAME)) == 0
    assert len(open_detector(folder, options=DetectorOptions(score_min=0.95)).detect(FRAME)) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (DetectorOptions(labels=("unicorn",)), "unicorn"),
        (DetectorOptions(score_min=1.5), "score_min"),
        (DetectorOptions(input_size_px=(96, 96)), "no other than its own"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(tmp_path, options, told):
    folder = save_model(tmp_path / "tiny", [yolov8_output(classes=3)])
    with pytest.raises(ModelError, match=told):
        open_detector(folder, options=options)


def test_boxes_are_clipped_to_the_frame_and_broken_ones_dropped(tmp_path):
    output = np.zeros((1, 7, 6), np.float32)
    output[0, :4] = np.array(
        [[0, 0, 40, 40], [500, 500, 10, 10], [32, 32, np.nan, 4], [32, 32, np.inf, 4], [32, 32, -8, 8], [32, 32, 0, 8]],
        np.float32,
    ).T
    output[0, 4] = 0.9
    detector = open_detector(save_model(tmp_path / "tiny", [output]))
    found = detector.detect(FRAME)
    assert [0.0, 0.0, 0.3125, 0.3125] in found.boxes.tolist()
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_the_frame_size_may_change_between_frames(tmp_path):
    detector = open_detector(save_model(tmp_path / "tiny", [yolov8_output(classes=3)]))
    wide = detector.detect(np.zeros((64, 128, 3), np.uint8)).boxes
    square = detector.detect(FRAME).boxes
    np.testing.assert_allclose(wide, [[0.375, 0.0, 0.625, 1.0]])
    np.testing.assert_allclose(square, [[0.375, 0.25, 0.625, 0.75]])


@pytest.mark.parametrize("frame", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), None])
def test_a_bad_frame_is_a_value_error_and_the_detector_goes_on(tmp_path, frame):
    detector = open_detector(save_model(tmp_path / "tiny", [yolov8_output(classes=3)]))
    with pytest.raises(ValueError, match="frame: expected"):
        detector.detect(frame)
    assert len(detector.detect(FRAME)) == 1


def test_a_required_accelerator_is_never_silently_replaced_by_the_cpu(tmp_path, monkeypatch):
    folder = save_model(tmp_path / "tiny", [yolov8_output(classes=3)])
    monkeypatch.setattr(detector_module, "available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(AcceleratorUnavailableError, match="require_accelerator"):
        open_detector(folder, options=DetectorOptions(require_accelerator=True))


def test_each_refused_backend_is_logged_and_the_cpu_takes_over(tmp_path, monkeypatch, caplog):
    folder = save_model(tmp_path / "tiny", [yolov8_output(classes=3)])
    built = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(detector_module, "available_providers", lambda: built)
    if (
        "CUDAExecutionProvider"
        in detector_module.OnnxRuntimeBackend.__init__.__globals__["ort"].get_available_providers()
    ):
        pytest.skip("this ONNX Runtime has CUDA: there is nothing to refuse")
    with caplog.at_level(logging.INFO), pytest.warns(UserWarning):
        detector = open_detector(folder, options=DetectorOptions())
    assert detector.backend.name == "onnxruntime-cpu"
    assert any("refused" in r.message and "CUDA" in r.message for r in caplog.records)
