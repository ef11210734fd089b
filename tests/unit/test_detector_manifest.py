"""Manifests: what is wrong is refused with the path of the field, before the model is parsed."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from edge_agent.detector.labels import COCO_80
from edge_agent.detector.manifest import (
    Manifest,
    ModelError,
    file_sha256,
    read_manifest,
    verified_model,
    write_manifest,
)

GOOD = {
    "format": 1,
    "name": "tiny",
    "version": "1",
    "sha256": "ab" * 32,
    "decoder": "yolov8",
    "labels": ["person", "car"],
    "input": {"height_px": 64, "width_px": 96},
    "source": "made here",
    "licence": "MIT",
}


def changed(path: str, value: object) -> bytes:
    document = json.loads(json.dumps(GOOD))
    *parents, last = path.split(".")
    target = document
    for parent in parents:
        target = target.setdefault(parent, {})
    target[last] = value
    return json.dumps(document).encode()


def test_a_manifest_reads_back_as_it_was_written(tmp_path):
    manifest = msgspec.convert(GOOD, Manifest)
    write_manifest(manifest, tmp_path / "manifest.json")
    assert read_manifest(tmp_path / "manifest.json") == manifest
    assert manifest.fingerprint == "ab" * 8


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("format", 2, "$.format"),
        ("name", "../up", "$.name"),
        ("file", "../../etc/passwd", "$.file"),
        ("sha256", "ABC", "$.sha256"),
        ("decoder", "detr", "$.decoder"),
        ("labels", [], "$.labels"),
        ("labels", ["person", 3], "$.labels[1]"),
        ("labels", ["person", "person"], "labels repeat"),
        ("input.height_px", 0, "$.input.height_px"),
        ("input.layout", "chw", "$.input.layout"),
        ("input.pad_value", 256, "$.input.pad_value"),
        ("input.std", [1, 0, 1], "input.std has a zero"),
        ("input.size_step_px", 60, "is not a multiple"),
        ("input.dtype", "int8", "$.input.dtype"),
        ("thresholds.score", 1.5, "$.thresholds.score"),
        ("thresholds.max_candidates_count", 10**9, "$.thresholds.max_candidates_count"),
        ("threshold", {}, "threshold"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(tmp_path, path, value, told):
    (tmp_path / "manifest.json").write_bytes(changed(path, value))
    with pytest.raises(ModelError) as refusal:
        read_manifest(tmp_path / "manifest.json")
    assert told in str(refusal.value)
    assert "manifest.json" in str(refusal.value)


def test_a_uint8_input_with_a_scale_is_refused(tmp_path):
    document = json.loads(changed("input.dtype", "uint8"))
    document["input"]["scale"] = 0.5
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="uint8 allows no scale"):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b" " * (2**20 + 1)])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        read_manifest(tmp_path / "manifest.json")


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_manifest(tmp_path / "manifest.json")


def test_a_model_file_that_was_changed_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"weights")
    manifest = msgspec.convert({**GOOD, "sha256": hashlib.sha256(b"weights").hexdigest()}, Manifest)
    assert verified_model(manifest, tmp_path) == tmp_path / "model.onnx"
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(ModelError, match="expected sha256"):
        verified_model(manifest, tmp_path)
    assert file_sha256(tmp_path / "model.onnx") != manifest.sha256


def test_coco_has_its_80_labels_in_order():
    assert len(COCO_80) == len(set(COCO_80)) == 80
    assert [COCO_80[i] for i in (0, 2, 11, 63, 79)] == ["person", "car", "stop sign", "laptop", "toothbrush"]
