"""What of the TensorRT backend can be tested without a GPU; the rest is skipped where there is none."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edge_agent.detector import DetectorOptions, open_detector
from edge_agent.detector import tensorrt_backend as trt_backend
from edge_agent.detector.tensorrt_backend import (
    Cuda,
    TensorRtBackend,
    TensorRtUnavailableError,
    engine_key,
    private_folder,
)


def gpu_absence() -> str:
    try:
        trt_backend._load_tensorrt()
        Cuda()
    except TensorRtUnavailableError as error:
        return str(error)
    return ""


ABSENCE = gpu_absence()


def test_an_engine_is_only_reused_for_the_same_model_version_gpu_and_options():
    options = {"input_shape": [1, 3, 64, 64]}
    keys = {
        engine_key("aa", "10.9", "8.7", options),
        engine_key("ab", "10.9", "8.7", options),
        engine_key("aa", "10.8", "8.7", options),
        engine_key("aa", "10.9", "8.9", options),
        engine_key("aa", "10.9", "8.7", {"input_shape": [1, 3, 96, 64]}),
    }
    assert len(keys) == 5
    assert engine_key("aa", "10.9", "8.7", dict(options)) in keys


def test_the_engine_folder_is_made_private(tmp_path):
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o755)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_an_engine_folder_of_someone_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(TensorRtUnavailableError, match="belongs to user"):
        private_folder(tmp_path)


@pytest.mark.skipif(not ABSENCE, reason="TensorRT and a GPU are here")
def test_without_tensorrt_or_gpu_the_reason_is_told(tmp_path):
    with pytest.raises(TensorRtUnavailableError, match=r"TensorRT|tensorrt|CUDA"):
        TensorRtBackend(tmp_path / "m.onnx", "0" * 64, (1, 3, 64, 64), tmp_path / "engines")


@pytest.mark.skipif(bool(ABSENCE), reason=f"needs TensorRT and a GPU: {ABSENCE}")
def test_tensorrt_and_onnx_runtime_agree_and_the_engine_is_cached(tmp_path, models_dir):
    frame = np.random.default_rng(0).integers(0, 256, (576, 768, 3), dtype=np.uint8)
    options = DetectorOptions(engine_cache_dir=tmp_path / "engines", require_accelerator=True, score_min=0.05)
    accelerated = open_detector("centernet-mobilenetv3", models_dir, options)
    assert accelerated.backend.name == "tensorrt"
    plain = open_detector("centernet-mobilenetv3", models_dir, DetectorOptions(score_min=0.05))
    np.testing.assert_allclose(accelerated.detect(frame).boxes, plain.detect(frame).boxes, atol=0.02)
    assert len(list((tmp_path / "engines").glob("*.engine"))) == 1


@pytest.fixture
def models_dir():
    from pathlib import Path

    path = Path(os.environ.get("SIGHTFLOW_LOCAL", ".local")) / "models"
    if not (path / "centernet-mobilenetv3" / "manifest.json").is_file():
        pytest.skip(f"no converted model in {path}: run python -m models.convert --out {path}")
    return path
