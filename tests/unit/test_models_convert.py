"""The converter against a plain numpy evaluation of the same graph, and its refusals."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import convert, npm_package, tfjs_reference
from models.npm_package import FetchError, NpmPackage
from models.tfjs_graph import ModelFormatError, Node, TfjsGraph, read_graph
from models.tfjs_to_onnx import to_onnx

NOMINAL_PX = 64


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def conv_attributes(stride: int, fused: list[str], padding: str = "SAME") -> dict[str, object]:
    return {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "padding": text(padding),
        "data_format": text("NHWC"),
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "fused_ops": {"list": {"s": [text(f)["s"] for f in fused]}},
    }


def small_network(seed: int, kernel: int, stride: int, activation: str) -> TfjsGraph:
    """Every operation that the converter knows, in one small net: image -> /stride -> back up."""
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, 0.4, shape).astype(np.float32)

    constants = {
        "w1": weights(kernel, kernel, 3, 6) / 100,
        "b1": weights(6),
        "w2": weights(3, 3, 6, 1),
        "b2": weights(6),
        "w3": weights(3, 3, 6, 2),
        "w4": weights(1, 1, 12, 6),
        "w5": weights(1, 1, 6, 6),
        "three": np.float32(3).reshape(()),
        "sixth": np.float32(1 / 6).reshape(()),
        "axes": np.array([1, 2], np.int32),
        "size": np.array([NOMINAL_PX, NOMINAL_PX], np.int32),
        "channels": np.array(3, np.int32),
        "double": np.float32(2).reshape(()),
    }
    shape = {"shape": {"shape": {"dim": [{"size": s} for s in ("1", str(NOMINAL_PX), str(NOMINAL_PX), "3")]}}}
    keep = {"keep_dims": {"b": True}}
    fused = ["BiasAdd", activation] if activation else ["BiasAdd"]
    nodes = [
        Node("image", "Placeholder", (), shape),
        Node("a", "_FusedConv2D", ("image", "w1", "b1"), conv_attributes(stride, fused)),
        Node("up3", "Add", ("a", "three"), {}),
        Node("clip", "Relu6", ("up3",), {}),
        Node("part", "Mul", ("sixth", "a"), {}),
        Node("swish", "Mul", ("part", "clip"), {}),
        Node("d", "FusedDepthwiseConv2dNative", ("swish", "w2", "b2"), conv_attributes(1, ["BiasAdd", "Relu"])),
        Node("m", "DepthwiseConv2dNative", ("d", "w3"), conv_attributes(1, [])),
        Node("p", "Conv2D", ("m", "w4"), conv_attributes(1, [], "VALID")),
        Node("mean", "Mean", ("p", "axes"), keep),
        Node("gate", "Conv2D", ("mean", "w5"), conv_attributes(1, [])),
        Node("open", "Sigmoid", ("gate",), {}),
        Node("scaled", "Mul", ("p", "open"), {}),
        Node("sum", "Add", ("scaled", "a"), {}),
        Node("joined", "ConcatV2", ("sum", "d", "channels"), {}),
        Node("up", "ResizeBilinear", ("joined", "size"), {"align_corners": {"b": False}}),
        Node("top", "Relu", ("up",), {}),
        Node("twice", "Mul", ("top", "double"), {}),
        Node("out", "Identity", ("twice",), {}),
    ]  # fmt: skip
    return TfjsGraph({n.name: n for n in nodes}, constants)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 2]),
    st.sampled_from(["", "Relu", "Relu6"]),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_onnx_and_the_numpy_reference_agree_at_any_size(seed, kernel, stride, activation, rows, columns):
    graph = small_network(seed, kernel, stride, activation)
    image = np.random.default_rng(seed).integers(0, 256, (1, 32 * rows, 32 * columns, 3), dtype=np.uint8)
    model = to_onnx(graph, {"out": "result"}, "test")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (actual,) = session.run(["result"], {"images": image})
    rgb = image[..., ::-1].astype(np.float32)
    (expected,) = tfjs_reference.evaluate(graph, rgb, ["out"], NOMINAL_PX)
    np.testing.assert_allclose(actual, expected.transpose(0, 3, 1, 2), rtol=1e-3, atol=1e-3)


def test_hard_swish_is_folded_into_one_operation():
    model = to_onnx(small_network(0, 3, 2, ""), {"swish": "result"}, "test")
    assert [n.op_type for n in model.graph.node] == ["Cast", "Transpose", "Conv", "HardSwish", "Identity"]


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("top", {"op": "LRN"}, "operation 'LRN' is not supported"),
        ("up", {"attributes": {"align_corners": {"b": True}}}, "alignment"),
        ("a", {"attributes": conv_attributes(2, ["BiasAdd", "Elu"])}, "Elu"),
        ("a", {"attributes": conv_attributes(2, [], "VALID")}, "VALID"),
        ("mean", {"attributes": {}}, "mean over H and W"),
    ],
)
def test_what_the_converter_does_not_know_is_refused_by_node(name, change, told):
    graph = small_network(0, 3, 2, "")
    node = graph.nodes[name]
    fields = {"name": name, "op": node.op, "inputs": node.inputs, "attributes": node.attributes, **change}
    nodes = {**graph.nodes, name: Node(**fields)}
    with pytest.raises(ModelFormatError, match=told) as refusal:
        to_onnx(TfjsGraph(nodes, graph.constants), {"out": "result"}, "test")
    assert repr(name) in str(refusal.value)


def test_an_output_that_is_not_there_is_refused():
    with pytest.raises(ModelFormatError, match="no node named 'boxes'"):
        to_onnx(small_network(0, 3, 2, ""), {"boxes": "result"}, "test")


def write_model(folder: Path, weights: list[dict[str, object]], raw: bytes, form: str = "graph-model") -> Path:
    document = {
        "format": form,
        "modelTopology": {"node": [{"name": "x", "op": "Const"}]},
        "weightsManifest": [{"paths": ["w.bin"], "weights": weights}],
    }
    (folder / "w.bin").write_bytes(raw)
    (folder / "model.json").write_text(json.dumps(document))
    return folder / "model.json"


def test_weights_are_read_in_order_with_their_stored_type(tmp_path):
    raw = np.array([1.5, -2], "<f2").tobytes() + np.array([7], "<i4").tobytes() + np.array([0.25], "<f4").tobytes()
    weights = [
        {"name": "half", "shape": [2, 1], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "count", "shape": [], "dtype": "int32"},
        {"name": "plain", "shape": [1], "dtype": "float32"},
    ]
    graph = read_graph(write_model(tmp_path, weights, raw))
    assert graph.constants["half"].tolist() == [[1.5], [-2.0]]
    assert graph.constants["count"].tolist() == 7
    assert graph.constants["plain"].dtype == np.float32


@pytest.mark.parametrize(
    ("weight", "raw", "told"),
    [
        ({"name": "w", "shape": [2], "dtype": "float32"}, b"1234", "ends at byte 8"),
        ({"name": "w", "shape": [1], "dtype": "float32"}, b"12345", "the file has 5"),
        ({"name": "w", "shape": [1], "dtype": "string"}, b"", "string"),
        ({"name": "w", "shape": [1], "dtype": "float32", "quantization": {"dtype": "uint8"}}, b"1", "uint8"),
    ],
)
def test_weights_that_do_not_add_up_are_refused(tmp_path, weight, raw, told):
    with pytest.raises(ModelFormatError, match=told):
        read_graph(write_model(tmp_path, [weight], raw))


def test_a_layers_model_is_refused(tmp_path):
    with pytest.raises(ModelFormatError, match="layers-model"):
        read_graph(write_model(tmp_path, [], b"", "layers-model"))


def write_tarball(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("package/models/a.json")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    return path


def test_a_tarball_that_is_not_the_pinned_one_is_refused_before_it_is_unpacked(tmp_path, capsys):
    tarball = write_tarball(tmp_path / "p.tgz")
    assert convert.main(["--out", str(tmp_path / "out"), "--tarball", str(tarball)]) == 1
    assert "expected integrity sha512-" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_member_that_is_absent_is_refused_and_a_present_one_is_written(tmp_path):
    tarball = write_tarball(tmp_path / "p.tgz")
    with pytest.raises(FetchError, match=r"has no models/b\.json"):
        npm_package.unpack(tarball, ["models/b.json"], tmp_path)
    npm_package.unpack(tarball, ["models/a.json"], tmp_path)
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_a_machine_without_npm_is_told_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="--tarball"):
        npm_package.fetch(NpmPackage("x", "1", "sha512-"), tmp_path)
