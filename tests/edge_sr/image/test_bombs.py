"""Small files that would take a decoder hours or gigabytes: refused by their structure, before that."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.errors import ImageError
from edge_sr.image import Limits, decode_image, encode_png
from tests.edge_sr.image.bombs import progressive_jpeg, tiff_of_parts
from tests.edge_sr.image.pictures import png

LIMITS = Limits(max_bytes=64 * 2**20, max_pixels=4_194_304)


def refused(data: bytes) -> str:
    """Why a file is refused."""
    with pytest.raises(ImageError) as caught:
        decode_image(data, name="bomb", limits=LIMITS)
    return caught.value.message


def test_a_png_that_unpacks_to_far_more_than_its_size_is_refused() -> None:
    assert "unpacks to more" in refused(png(8, 8, 8, 0, bytes(2**26)))


@pytest.mark.parametrize("side", [8, 9, 33])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_that_is_as_large_as_it_says_is_read(side: int, dtype: type) -> None:
    pixels: npt.NDArray[np.generic] = np.random.default_rng(0).integers(0, 200, (side, side, 3)).astype(dtype)
    assert (decode_image(encode_png(pixels, text={}), name="a").pixels == pixels).all()


def test_a_jpeg_of_very_many_scans_is_refused_and_an_ordinary_progressive_one_is_read() -> None:
    assert decode_image(progressive_jpeg(64, more_scans=0), name="a").pixels.shape == (64, 64)
    assert "scans" in refused(progressive_jpeg(64, more_scans=200))


def test_tiff_strips_that_lie_over_one_another_are_refused() -> None:
    strip = zlib.compress(bytes(8))
    data = tiff_of_parts(8, 2000, compression=8, data=strip, parts=[(0, len(strip))] * 2000)
    assert "its parts have" in refused(data)


@pytest.mark.parametrize(
    ("compression", "filler"),
    [(5, b"\x80\x40\x20\x10\x08\x04\x02\x01\x00"), (32773, b"\x80"), (8, b"\0\0\0\xff\xff")],
)
def test_a_tiff_strip_full_of_codes_that_mean_nothing_is_refused(compression: int, filler: bytes) -> None:
    flood = (b"\x78\x01" if compression == 8 else b"") + filler * 20_000
    assert "that unpack to 64" in refused(
        tiff_of_parts(8, 8, compression=compression, data=flood, parts=[(0, len(flood))])
    )


def test_a_tiff_field_of_very_many_values_is_not_read() -> None:
    data = bytes(1_000_000)
    assert "parts" in refused(tiff_of_parts(8, 8, compression=1, data=data, parts=[(0, 8)] * 200_000))


def test_a_tiff_of_very_many_pages_is_refused_without_counting_them_all() -> None:
    page = struct.Struct("<HI")
    first = tiff_of_parts(8, 8, compression=1, data=bytes(64), parts=[(0, 64)])
    chain = b"".join(page.pack(0, len(first) + page.size * (i + 1)) for i in range(100_000))
    assert "has 100 pages" in refused(first[:-4] + struct.pack("<I", len(first)) + chain)


def test_a_tiff_whose_tiles_are_mostly_outside_the_image_is_refused() -> None:
    part = zlib.compress(bytes(2**20))
    data = tiff_of_parts(4096, 8, compression=8, data=part, parts=[(0, len(part))] * 2, tile=(2048, 4096))
    assert "mostly empty" in refused(data)
