"""Values, colour and sizes: what graphs are fed, and what is made of their answer."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from edge_sr import image
from edge_sr.errors import ImageError, UsageError
from tests.edge_sr.image.pictures import cv2, decoded, encoded, picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_split_and_merged_at_scale_one_is_exact(dtype: Any) -> None:
    rgb = picture(dtype, channels=3)
    luminance, chroma = image.split_luminance(rgb)
    assert luminance.dtype == dtype
    assert np.array_equal(image.merge_luminance(luminance, chroma, 1), rgb)


def test_merged_colour_keeps_the_luminance_of_a_flat_colour() -> None:
    rgb = np.broadcast_to(np.array([200, 100, 30], np.uint8), (8, 9, 3))
    luminance, chroma = image.split_luminance(rgb)
    brighter = np.repeat(np.repeat(luminance, 4, 0), 4, 1) + 10
    merged = image.merge_luminance(brighter, chroma, 4)
    assert merged.shape == (32, 36, 3)
    assert (merged == [210, 110, 40]).all()


def test_colour_functions_refuse_shapes_that_do_not_belong() -> None:
    with pytest.raises(ImageError, match="wanted RGB"):
        image.split_luminance(picture())
    with pytest.raises(ImageError, match="does not match"):
        image.merge_luminance(picture(), np.zeros((24, 20, 3), np.float32), 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_survives_the_unit_range(dtype: Any) -> None:
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    unit = image.to_unit(values)
    assert unit.dtype == np.float32
    assert (unit[0], unit[-1]) == (-1, 1)
    back = image.from_unit(unit, 8 * values.dtype.itemsize)
    assert back.dtype == dtype
    assert np.array_equal(back, values)


def test_values_beyond_the_unit_range_are_clipped() -> None:
    assert image.from_unit(np.array([-9.0, 0.001, 1.2]), 8).tolist() == [0, 128, 255]


def test_values_that_are_not_finite_or_not_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="1 values of the result are not finite"):
        image.from_unit(np.array([0, np.nan]), 8)
    with pytest.raises(ImageError, match="got 12"):
        image.from_unit(np.zeros(1), 12)
    with pytest.raises(ImageError, match="float32"):
        image.to_unit(np.zeros(1, np.float32))


def test_resizing_takes_a_factor_or_a_size() -> None:
    pixels = picture(np.uint16)
    expected = cv2.resize(pixels, (80, 96), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(image.resize_bicubic(pixels, 4), expected)
    assert np.array_equal(image.resize_bicubic(pixels, (96, 80)), expected)
    with pytest.raises(ImageError, match="cannot be resized to 0x0"):
        image.resize_bicubic(pixels, 0)


@pytest.mark.parametrize("operator", image.DOWNSAMPLE_OPERATORS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_every_operator_is_linear_and_keeps_a_constant(operator: str, scale: int) -> None:
    rng = np.random.default_rng(scale)
    a, b = rng.normal(size=(2, 24, 12 * scale)).astype(np.float32)
    low = image.downsample(2 * a - b, scale, operator)
    assert low.dtype == np.float32
    assert low.shape == (24 // scale, 12)
    expected = 2 * image.downsample(a, scale, operator) - image.downsample(b, scale, operator)
    np.testing.assert_allclose(low, expected, rtol=0, atol=2e-6)  # a few roundings of float32
    flat = image.downsample(np.full((24, 24), 0.7, np.float32), scale, operator)
    np.testing.assert_allclose(flat, 0.7, rtol=0, atol=1e-6)


def test_simple_operators_are_what_they_say() -> None:
    pixels = np.arange(64, dtype=np.float32).reshape(8, 8)
    blocks = pixels.reshape(2, 4, 2, 4)
    assert np.array_equal(image.downsample(pixels, 4, "nearest"), blocks[:, 0, :, 0])
    np.testing.assert_allclose(image.downsample(pixels, 4, "area"), blocks.mean((1, 3)), rtol=1e-6)
    expected = cv2.resize(pixels, (2, 2), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(image.downsample(pixels, 4, "cubic"), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_antialiased_bicubic_agrees_with_pillow_away_from_the_borders(scale: int) -> None:
    pillow: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.random.default_rng(0).normal(size=(16 * scale, 12 * scale)).astype(np.float32)
    low = image.downsample(pixels, scale, "antialiased-bicubic")
    expected = np.asarray(pillow.fromarray(pixels).resize((12, 16), pillow.Resampling.BICUBIC))
    np.testing.assert_allclose(low[3:-3, 3:-3], expected[3:-3, 3:-3], rtol=0, atol=2e-6)


def test_downsampling_refuses_other_sizes_and_unknown_operators() -> None:
    pixels = np.zeros((10, 8), np.float32)
    with pytest.raises(ImageError, match="10x8 pixels cannot be reduced by 4"):
        image.downsample(pixels, 4, "area")
    with pytest.raises(UsageError, match="lanczos"):
        image.downsample(pixels, 2, "lanczos")


def test_opencv_missing_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(), ".png")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImageError, match=r"edge-sr\[cpu\]"):
        decoded(data)
    with pytest.raises(ImageError, match=r"edge-sr\[cpu\]"):
        image.resize_bicubic(picture(), 2)
