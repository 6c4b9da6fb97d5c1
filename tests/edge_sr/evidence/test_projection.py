"""After a back-projection the reduced result is the input, to rounding, wherever the range allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sr.errors import ImageError, UsageError
from edge_sr.evidence import back_project
from edge_sr.image import DOWNSAMPLE_OPERATORS, downsample, from_unit, to_unit

NAMED = ("area", "antialiased-bicubic", "nearest")
bounded = settings(max_examples=40, deadline=None, derandomize=True)
Float = npt.NDArray[np.float32]


def scene(depth: int, scale: int, seed: int) -> tuple[npt.NDArray[Any], Float]:
    """An input in the middle of the range, and an enlargement that has nothing to do with it."""
    rng = np.random.default_rng(seed)
    top = 2**depth - 1
    source = (rng.uniform(0.4, 0.6, (9, 7)) * top).astype(np.uint8 if depth == 8 else np.uint16)
    return source, rng.uniform(-0.3, 0.3, (1, 9 * scale, 7 * scale)).astype(np.float32)


@bounded
@given(st.sampled_from(NAMED), st.sampled_from([2, 3, 4, 6]), st.sampled_from([8, 16]), st.integers(0, 10**6))
def test_the_reduced_result_is_the_input_within_half_a_gray_level(
    operator: str, scale: int, depth: int, seed: int
) -> None:
    source, values = scene(depth, scale, seed)
    pixels = from_unit(back_project(values, to_unit(source)[None], scale=scale, operator=operator)[0], depth)
    assert 0 < pixels.min() <= pixels.max() < 2**depth - 1, "clipping would excuse anything"
    reduced = downsample(pixels.astype(np.float32), scale, operator)
    assert np.abs(reduced - source).max() <= 0.5


@bounded
@given(st.sampled_from(DOWNSAMPLE_OPERATORS), st.sampled_from([2, 3, 4, 6]), st.integers(0, 10**6))
def test_before_it_is_rounded_the_result_is_exact(operator: str, scale: int, seed: int) -> None:
    source, values = scene(16, scale, seed)
    result = back_project(values, to_unit(source)[None], scale=scale, operator=operator)[0]
    # 0.05 gray levels of 65535: the stated tolerance of 0.03, and float32.
    levels = np.abs(downsample(result, scale, operator) - to_unit(source)) * (65535 / 2)
    assert levels.max() < 0.05


@pytest.mark.parametrize("operator", DOWNSAMPLE_OPERATORS)
def test_an_image_that_agrees_already_is_left_alone(operator: str) -> None:
    values = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 32, 32)).astype(np.float32)
    source = downsample(values[0], 4, operator)[None]
    assert np.array_equal(back_project(values, source, scale=4, operator=operator), values)


def test_what_the_range_forbids_stays_unmatched_and_harms_nothing_far_away() -> None:
    source = np.zeros((1, 12, 12), np.float32)
    source[0, 0, 0] = 1.0  # its mean is the top only where all sixteen pixels are
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 48, 48)).astype(np.float32)
    values[0, :4, :4] = 5.0  # beyond the range
    result = back_project(values, source, scale=4, operator="area")
    assert np.abs(result).max() <= 1
    reduced = downsample(result[0], 4, "area")
    assert reduced[0, 0] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(reduced[3:, 3:], 0, atol=1e-5)  # some rounds after the tolerance


def test_colour_planes_are_projected_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(-0.3, 0.3, (3, 24, 24)).astype(np.float32)
    source = rng.uniform(-0.3, 0.3, (3, 6, 6)).astype(np.float32)
    together = back_project(values, source, scale=4, operator="area")
    assert np.array_equal(together[1:2], back_project(values[1:2], source[1:2], scale=4, operator="area"))


def test_shapes_and_operators_that_do_not_belong_are_refused() -> None:
    values, source = np.zeros((1, 24, 24), np.float32), np.zeros((1, 6, 6), np.float32)
    with pytest.raises(ImageError, match="cannot be projected"):
        back_project(values, source, scale=3, operator="area")
    with pytest.raises(UsageError, match="lanczos"):
        back_project(values, source, scale=4, operator="lanczos")
