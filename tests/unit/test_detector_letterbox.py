"""Geometry of the model's input: nothing is cut off, and boxes come back where they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.detector.letterbox import InputTensor, Letterbox, check_frame, input_size_px
from edge_agent.detector.manifest import InputSpec

SIDES = st.integers(1, 3000)
SPECS = st.builds(
    lambda h, w, letterbox, is_free: InputSpec(
        height_px=32 * h, width_px=32 * w, letterbox=letterbox, size_step_px=32 if is_free else None
    ),
    st.integers(2, 20),
    st.integers(2, 20),
    st.booleans(),
    st.booleans(),
)
FRACTIONS = st.tuples(*[st.floats(0, 1, width=32)] * 4)


@given(SPECS, SIDES, SIDES, FRACTIONS)
def test_a_box_mapped_into_the_input_and_back_is_the_same_box(spec, height, width, box):
    letterbox = Letterbox(spec, height, width)
    boxes = np.array([box], np.float32)
    # One pixel of a content that is a few pixels wide is a large part of it: float32 of pixels.
    np.testing.assert_allclose(letterbox.to_frame(letterbox.to_input(boxes)), boxes, atol=1e-3)


@given(SPECS, SIDES, SIDES)
def test_the_whole_frame_lies_inside_the_input_with_its_aspect_kept(spec, height, width):
    letterbox = Letterbox(spec, height, width)
    corners = letterbox.to_input(np.array([[0, 0, 1, 1]], np.float32))[0]
    assert (corners >= 0).all()
    assert corners[2] <= letterbox.size_px[1]
    assert corners[3] <= letterbox.size_px[0]
    content_height, content_width = letterbox.content_size_px
    if spec.letterbox:
        gain = min(letterbox.size_px[0] / height, letterbox.size_px[1] / width)
        assert abs(content_height - height * gain) <= 1
        assert abs(content_width - width * gain) <= 1
    else:
        assert letterbox.content_size_px == letterbox.size_px


@given(SPECS, SIDES, SIDES)
def test_a_free_size_never_costs_more_pixels_than_the_nominal_one(spec, height, width):
    chosen = input_size_px(spec, height, width)
    assert chosen[0] * chosen[1] <= spec.height_px * spec.width_px
    if spec.size_step_px is None:
        assert chosen == (spec.height_px, spec.width_px)
    else:
        assert chosen[0] % 32 == 0
        assert chosen[1] % 32 == 0


@pytest.mark.parametrize(
    ("frame", "expected"),
    [((576, 768), (384, 512)), ((1080, 1920), (320, 576)), ((1920, 1080), (576, 320)), ((384, 512), (384, 512))],
)
def test_wide_and_tall_cameras_get_an_input_of_their_own_shape(frame, expected):
    spec = InputSpec(height_px=384, width_px=512, size_step_px=32)
    assert input_size_px(spec, *frame) == expected


def test_the_border_keeps_the_pad_value_and_the_content_is_the_frame():
    spec = InputSpec(height_px=64, width_px=64, pad_value=114)
    frame = np.full((20, 40, 3), 200, np.uint8)
    image = Letterbox(spec, 20, 40).fill(frame)
    assert (image[16:48] == 200).all()
    assert (image[:16] == 114).all()
    assert (image[48:] == 114).all()


def test_a_read_only_frame_and_a_cropped_view_are_accepted():
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    frame.flags.writeable = False
    spec = InputSpec(height_px=64, width_px=64)
    whole = Letterbox(spec, 90, 120).fill(frame).copy()
    view = np.pad(frame, ((5, 5), (7, 7), (0, 0)))[5:-5, 7:-7]
    np.testing.assert_array_equal(Letterbox(spec, 90, 120).fill(view), whole)


@given(
    st.sampled_from(["nchw", "nhwc"]),
    st.sampled_from(["rgb", "bgr"]),
    st.sampled_from(["float32", "float16", "uint8"]),
)
def test_the_tensor_has_the_order_layout_and_scale_that_the_manifest_says(layout, order, dtype):
    plain = dtype == "uint8"
    spec = InputSpec(
        height_px=32,
        width_px=64,
        layout=layout,
        colour_order=order,
        dtype=dtype,
        scale=1.0 if plain else 1 / 255,
        mean=(0.0, 0.0, 0.0) if plain else (0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0) if plain else (0.5, 0.25, 2.0),
    )
    image = np.random.default_rng(1).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    tensor = InputTensor(spec, (32, 64)).fill(image)
    expected = (image if order == "bgr" else image[..., ::-1]).astype(np.float64)
    expected = (expected * spec.scale - spec.mean) / spec.std
    expected = expected[None] if layout == "nhwc" else expected.transpose(2, 0, 1)[None]
    assert tensor.dtype == np.dtype(dtype)
    np.testing.assert_allclose(tensor, expected, atol=5e-3 if dtype == "float16" else 1e-5)


@pytest.mark.parametrize(
    "frame",
    [
        None,
        "frame",
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 0, 3), np.uint8),
        np.zeros((3, 10, 10), np.uint8),
        np.zeros((20000, 1, 3), np.uint8),
    ],
    ids=lambda f: f"{getattr(f, 'shape', f)}",
)
def test_what_is_no_bgr_image_is_refused_by_name(frame):
    with pytest.raises(ValueError, match=r"^frame: expected"):
        check_frame(frame)
