"""Stored values to gray and back: exact, and robust against what lies far out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_sr.dicom.header import PixelFormat
from edge_sr.dicom.values import ValueMap, fit
from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import Pixels, gradient, repeated

SIDES = (10, 9)


def form(bits: int, signed: bool, *, inverted: bool = False, padding: Any = None) -> PixelFormat:
    allocated = 8 if bits <= 8 else 16
    return PixelFormat(*SIDES, allocated, bits, signed, inverted, padding)


@st.composite
def images(draw: st.DrawFn) -> tuple[Pixels, ValueMap]:
    """Stored values of any depth, sign and distribution, with or without padding, and their map."""
    bits, signed = draw(st.integers(2, 16)), draw(st.booleans())
    least = -(2 ** (bits - 1)) if signed else 0
    value = st.integers(least, least + 2**bits - 1)
    stored = draw(arrays(form(bits, signed).dtype, SIDES, elements=value))
    padding = draw(st.none() | st.tuples(value, value).map(lambda pair: (min(pair), max(pair))))
    if padding is not None and ((stored >= padding[0]) & (stored <= padding[1])).all():
        padding = None
    return stored, fit(stored, form(bits, signed, inverted=draw(st.booleans()), padding=padding))


@given(images())
def test_an_unchanged_picture_gives_back_every_stored_value(image: tuple[Pixels, ValueMap]) -> None:
    stored, values = image
    assert np.array_equal(values.restore(values.to_gray(stored), stored, 1), stored)


@given(images(), st.integers(0, 2**32 - 1))
def test_whatever_a_model_makes_stays_in_range_and_leaves_padding_where_it_was(
    image: tuple[Pixels, ValueMap], seed: int
) -> None:
    stored, values = image
    shape = (SIDES[0] * 2, SIDES[1] * 2)
    gray = np.random.default_rng(seed).integers(0, 65536, shape).astype(np.uint16)
    result = values.restore(gray, stored, 2)
    assert result.dtype == stored.dtype
    if values.padding is None:
        assert result.min() >= values.least
        assert result.max() <= values.greatest
        return
    first, last = values.padding
    was = repeated((stored >= first) & (stored <= last), 2)
    assert np.array_equal((result >= first) & (result <= last), was)
    assert np.array_equal(result[was], repeated(stored, 2)[was])


@pytest.mark.parametrize("inverted", [False, True])
def test_the_gray_range_runs_from_percentile_to_percentile(inverted: bool) -> None:
    stored = gradient(12, rows=100, columns=100)
    values = fit(stored, PixelFormat(100, 100, 16, 12, False, inverted, None))
    assert (values.low, values.high) == (41, 4054)  # 1 and 99 per cent of 4095, rounded as the gradient is
    gray = values.to_gray(stored)
    assert gray[0, 0] == (65535 if inverted else 0)
    assert gray[-1, -1] == (0 if inverted else 65535)


def test_a_marker_far_above_the_body_leaves_the_body_its_contrast() -> None:
    body = gradient(11, rows=100, columns=100).astype("<u2")
    marked = body.copy()
    marked[:5, :10] = 60000  # half a per cent
    plain, lead = (fit(stored, form(16, False)) for stored in (body, marked))
    assert lead.high < 1.02 * plain.high
    back = lead.restore(repeated(lead.to_gray(marked)), marked, 4)
    assert np.array_equal(back[:8, :24], np.full((8, 24), 60000))  # the marker is still there


def test_a_constant_image_stays_constant() -> None:
    stored = np.full(SIDES, 77, "<i2")
    values = fit(stored, form(12, True))
    gray = np.random.default_rng(0).integers(0, 65536, (40, 36)).astype(np.uint16)
    assert (values.restore(gray, stored, 4) == 77).all()


def test_an_image_of_padding_alone_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixel that is not padding"):
        fit(np.zeros(SIDES, "<u2"), form(12, False, padding=(0, 0)))


def test_padding_does_not_count_for_the_gray_range() -> None:
    stored = gradient(12, signed=True, rows=40)
    values = [stored.copy(), stored.copy()]
    values[1][:20] = -2000
    plain = fit(stored[20:], form(12, True))
    padded = fit(values[1], form(12, True, padding=(-2000, -2000)))
    assert (plain.low, plain.high) == (padded.low, padded.high)
