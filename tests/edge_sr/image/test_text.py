"""A PNG holds its pixels and its text, or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sr import image
from edge_sr.errors import ImageError, OutputError
from tests.edge_sr.image.pictures import Pixels, cv2, decoded, picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [0, 3])
def test_a_png_holds_its_pixels_and_its_text(dtype: Any, channels: int) -> None:
    pixels = picture(dtype, channels=channels)
    text = {"Software": "edge-sr 0.1.0", "edge-sr:bundle": "sha256:ab\nline two", "Comment": "Größe ×4 – σ"}
    data = image.encode_png(pixels, text=text)
    assert image.read_png_text(data) == text
    assert list(image.read_png_text(data)) == list(text)
    assert np.array_equal(decoded(data).pixels, pixels)
    assert data == image.encode_png(pixels.copy(), text=text)
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # others can read it too
    assert np.array_equal(upright[..., ::-1] if channels else upright, pixels)


KEYWORDS = st.from_regex(r"[!-~]([ ]?[!-~]){0,30}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(KEYWORDS, TEXTS, max_size=5))
def test_any_text_comes_back_from_a_png(text: dict[str, str]) -> None:
    assert image.read_png_text(image.encode_png(picture(), text=text)) == text


@pytest.mark.parametrize("keyword", ["", " a", "a ", "a  b", "ü", "a\n", "a" * 80])
def test_a_bad_keyword_is_refused(keyword: str) -> None:
    with pytest.raises(OutputError, match="bad keyword"):
        image.encode_png(picture(), text={keyword: "x"})


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_png_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(OutputError, match="cannot store"):
        image.encode_png(picture(), text={"Comment": value})


@pytest.mark.parametrize(
    "pixels", [np.zeros((8, 8), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8), np.uint8)]
)
def test_pixels_that_png_cannot_hold_are_refused(pixels: Pixels) -> None:
    with pytest.raises(OutputError, match="PNG holds"):
        image.encode_png(pixels, text={})


def test_reading_text_of_something_else_is_refused() -> None:
    for data in (b"", b"GIF89a", image.encode_png(picture(), text={"a": "b"})[:-1]):
        with pytest.raises(ImageError):
            image.read_png_text(data)
