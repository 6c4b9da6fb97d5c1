"""Images are read exactly, and what was changed on the way in is said."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from edge_sr import image
from tests.edge_sr.image.pictures import (
    PACKERS,
    Pixels,
    cv2,
    decoded,
    encoded,
    exif,
    picture,
    png,
    png_chunk,
    tiff,
)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """What is stored so that a viewer that follows the orientation shows the pixels (Exif 2.3, table 6)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flips = {1: "", 2: "x", 3: "xy", 4: "y", 5: "", 6: "y", 7: "xy", 8: "x"}[orientation]
    # Row 0 of what is stored shows on the right for 6, column 0 at the bottom for 8.
    return np.ascontiguousarray(pixels[:: -1 if "y" in flips else 1, :: -1 if "x" in flips else 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_lossless_files_are_read_exactly(tmp_path: Path, dtype: Any, channels: int, suffix: str) -> None:
    pixels = picture(dtype, channels=channels)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(encoded(pixels, suffix))
    loaded = image.read_image(path)
    assert np.array_equal(loaded.pixels, pixels)
    assert loaded.pixels.dtype == dtype
    assert loaded.bit_depth == 8 * np.dtype(dtype).itemsize
    assert loaded.is_colour == bool(channels)
    assert (loaded.name, loaded.format) == (str(path), suffix[1:].upper())
    assert loaded.notices == ()


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_is_read_as_opencv_reads_it(channels: int, progressive: int) -> None:
    data = encoded(picture(channels=channels), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    loaded = decoded(data)
    assert np.array_equal(loaded.pixels, expected[..., ::-1] if channels else expected)
    assert loaded.format == "JPEG"


def test_bytes_after_the_end_of_a_jpeg_are_ignored() -> None:
    data = encoded(picture(), ".jpg")
    assert np.array_equal(decoded(data + b"appended").pixels, decoded(data).pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_tiff_of_either_byte_order_and_every_compression_is_read(
    order: Literal["<", ">"], dtype: Any, compression: int
) -> None:
    pixels = picture(dtype, height=90, width=70)
    pixels[20:60] //= 64  # so that codes of several lengths appear
    data = tiff(pixels, order=order, strip=PACKERS[compression], tags={259: compression})
    assert np.array_equal(decoded(data).pixels, pixels)


@pytest.mark.parametrize("seed", range(4))
def test_long_lzw_strips_with_full_code_tables_are_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, [2, 16, 120, 256][seed], (300, 301)).astype(np.uint8)
    data = encoded(pixels, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5)
    assert np.array_equal(decoded(data).pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_inverted_at_both_depths(dtype: Any) -> None:
    pixels = picture(dtype)
    loaded = decoded(tiff(np.iinfo(dtype).max - pixels, tags={262: 0}))
    assert np.array_equal(loaded.pixels, pixels)
    assert loaded.notices == ("white-is-zero inverted",)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_tiff_in_the_unit_range_becomes_16_bits(dtype: Any) -> None:
    pixels = picture(np.uint16)
    loaded = decoded(tiff((pixels / 65535).astype(dtype)))
    assert np.array_equal(loaded.pixels, pixels)
    assert "16 bits" in loaded.notices[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_alike_in_every_format(orientation: int) -> None:
    pixels = picture(np.uint8, height=16, width=32)
    stored = turned(pixels, orientation)
    body = b"Exif\0\0" + exif(orientation)
    jpeg = encoded(stored, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100)
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    whole = encoded(stored, ".png")
    whole = whole[:33] + png_chunk(b"eXIf", exif(orientation)) + whole[33:]
    # OpenCV's own upright reading of the JPEG is the reference; the others are exact.
    upright = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(decoded(jpeg).pixels, upright)
    for data in (
        whole,
        tiff(stored, tags={274: orientation}),
        tiff(stored.astype(np.uint16), tags={274: orientation}),
    ):
        loaded = decoded(data)
        assert np.array_equal(loaded.pixels, pixels)
        assert any(f"orientation {orientation}" in notice for notice in loaded.notices) == (orientation > 1)


def test_a_damaged_orientation_is_left_alone_and_said() -> None:
    loaded = decoded(tiff(picture(), tags={274: 9}))
    assert np.array_equal(loaded.pixels, picture())
    assert loaded.notices == ("orientation field is damaged: left as stored",)


def test_equal_channels_are_read_as_gray_with_a_notice() -> None:
    loaded = decoded(encoded(np.repeat(picture(np.uint16)[..., None], 3, axis=2), ".png"))
    assert np.array_equal(loaded.pixels, picture(np.uint16))
    assert loaded.notices == ("equal colour channels read as gray",)


def test_alpha_is_dropped_with_a_notice_and_colour_is_untouched() -> None:
    pixels = picture(channels=4)
    loaded = decoded(encoded(pixels, ".png"))
    assert np.array_equal(loaded.pixels, pixels[..., :3])
    assert loaded.notices == ("alpha dropped",)


def test_transparency_of_a_gray_png_changes_no_pixel() -> None:
    rows = b"".join(b"\0" + bytes(range(8)) for _ in range(8))
    loaded = decoded(png(8, 8, 8, 0, rows, (b"tRNS", b"\0\3"), (b"gAMA", struct.pack(">I", 20000))))
    assert loaded.pixels.tolist() == [list(range(8))] * 8
    assert loaded.notices == ("alpha dropped",)


def test_palettes_and_few_bits_are_expanded_with_a_notice() -> None:
    one_bit = decoded(png(8, 8, 1, 0, b"\0\x0f" * 8))
    assert one_bit.pixels[0].tolist() == [0, 0, 0, 0, 255, 255, 255, 255]
    assert one_bit.notices == ("1-bit gray expanded to 8 bits",)
    palette = decoded(png(8, 8, 8, 3, (b"\0" + bytes([0, 1] * 4)) * 8, (b"PLTE", bytes([1, 2, 3, 9, 8, 7]))))
    assert palette.pixels[0, :2].tolist() == [[1, 2, 3], [9, 8, 7]]
    assert palette.notices == ("palette expanded",)
