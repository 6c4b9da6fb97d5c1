"""What cannot be read exactly is refused, before it is decoded where that is possible."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr import image
from edge_sr.errors import ImageError
from tests.edge_sr.image.pictures import PACKERS, decoded, encoded, picture, png, png_chunk, tiff


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.5, 4095.0])
def test_float_tiff_with_other_values_is_refused(value: float) -> None:
    pixels = np.full((9, 9), 0.5, np.float32)
    pixels[4, 4] = value
    with pytest.raises(ImageError, match=r"^scan: has (NaN|float values from)"):
        decoded(tiff(pixels))


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.png").touch()
    for name, words in (
        ("absent.png", "no such file"),
        ("", "is a folder"),
        ("pipe", "not a regular file"),
        ("empty.png", "is empty"),
        ("null\0.png", "cannot be read"),
    ):
        with pytest.raises(ImageError, match=words):
            image.read_image(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(encoded(picture(), ".png"))
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        image.read_image(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GIF89a" + bytes(20), "a GIF"),
        (b"%PDF-1.7", "a PDF"),
        (bytes(128) + b"DICM" + bytes(9), "is DICOM.*extra"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP"),
        (b"II\x2b\0" + bytes(20), "BigTIFF"),
        (b"hello, world", r"begins with 68 65 6c 6c 6f 2c 20 77"),
    ],
)
def test_other_kinds_of_file_are_named(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decoded(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_truncated_file_is_refused_wherever_it_ends(suffix: str, dtype: Any) -> None:
    if suffix == ".jpg" and dtype is np.uint16:
        pytest.skip("JPEG here has 8 bits")
    data = encoded(picture(dtype), suffix)
    for length in range(1, len(data), 7):
        with pytest.raises(ImageError, match=r"^scan: "):
            decoded(data[:length])
    with pytest.raises(ImageError, match="truncated"):
        decoded(data[:-1])


def test_a_changed_byte_of_a_png_is_noticed() -> None:
    data = encoded(picture(), ".png")
    for at in range(8, len(data), 5):
        with pytest.raises(ImageError):
            decoded(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


@pytest.mark.parametrize("compression", [5, 8, 32773])
def test_compressed_tiff_data_that_ends_early_is_refused_at_both_depths(compression: int) -> None:
    for dtype in (np.uint8, np.uint16):  # OpenCV hands out the 8-bit ones, half of them zero
        pixels = picture(dtype)
        whole = tiff(pixels, strip=PACKERS[compression], tags={259: compression})
        cut = PACKERS[compression](pixels.tobytes())[:200]
        assert np.array_equal(decoded(whole).pixels, pixels)
        with pytest.raises(ImageError, match="does not unpack"):
            decoded(tiff(pixels, packed=cut, tags={259: compression}))


@pytest.mark.parametrize("side", [1, 7])
def test_an_image_below_the_least_side_is_refused(side: int) -> None:
    with pytest.raises(ImageError, match=f"{side}x20 pixels, wanted at least 8"):
        decoded(encoded(picture(height=20, width=side), ".png"))


def test_a_bomb_is_refused_by_its_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    bombs = [b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)]
    jpeg = encoded(picture(), ".jpg")
    at = jpeg.index(b"\xff\xc0") + 5
    bombs.append(jpeg[:at] + struct.pack(">HH", 20000, 20000) + jpeg[at + 4 :])
    bombs.append(tiff(picture(), tags={256: 20000, 257: 20000, 278: 20000}))
    for bomb in bombs:
        with pytest.raises(ImageError, match="20000x20000 pixels, at most 64000000"):
            decoded(bomb)


def test_limits_are_what_the_caller_sets(tmp_path: Path) -> None:
    data = encoded(picture(), ".png")
    path = tmp_path / "scan.png"
    path.write_bytes(data)
    tight = image.Limits(max_bytes=len(data) - 1)
    with pytest.raises(ImageError, match=f"{len(data)} bytes, at most"):
        image.read_image(path, limits=tight)
    with pytest.raises(ImageError, match=f"{len(data)} bytes, at most"):
        image.decode_image(data, name="scan", limits=tight)
    with pytest.raises(ImageError, match="at most 479 are decoded"):
        decoded(data, max_pixels=479)
    assert decoded(data, max_pixels=480).pixels.shape == (24, 20)


def test_a_tiff_of_several_pages_is_refused_with_their_number() -> None:
    with pytest.raises(ImageError, match="has 3 pages"):
        decoded(tiff(picture(), pages=3))


def test_a_tiff_whose_pages_form_a_ring_is_refused() -> None:
    data = bytearray(tiff(picture(), pages=2))
    data[-4:] = struct.pack("<I", struct.unpack_from("<I", data, 4)[0])
    with pytest.raises(ImageError, match="ring"):
        decoded(bytes(data))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({262: 3}, "photometric 3"),
        ({258: 1}, "1 bits"),
        ({339: 2}, "format 2"),
        ({259: 7}, "compression 7"),
        ({277: 2}, "2 samples"),
        ({279: 3}, "does not unpack"),
        ({273: 60000}, "truncated TIFF"),
        ({278: 5}, "1 parts"),
        ({317: 3}, "predictor 3"),
        ({322: 7, 323: 7, 324: 8, 325: 480}, "tiles of 7x7"),
    ],
)
def test_kinds_of_tiff_that_readers_disagree_on_are_refused(tags: dict[int, int], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decoded(tiff(picture(), tags=tags))


def test_planar_colour_tiff_is_refused_because_opencv_mixes_its_16_bit_channels() -> None:
    with pytest.raises(ImageError, match="pixel-interleaved"):
        decoded(tiff(picture(np.uint16, channels=3), tags={284: 2}))


def test_jpegs_of_other_kinds_are_refused() -> None:
    data = encoded(picture(), ".jpg")
    at = data.index(b"\xff\xc0")
    with pytest.raises(ImageError, match="SOF3"):
        decoded(data[: at + 1] + b"\xc3" + data[at + 2 :])
    with pytest.raises(ImageError, match="1 components of 12 bits"):
        decoded(data[: at + 4] + b"\x0c" + data[at + 5 :])


def test_an_animated_png_is_refused() -> None:
    with pytest.raises(ImageError, match="animated"):
        decoded(png(8, 8, 8, 0, bytes(72), (b"acTL", bytes(8))))
