"""Random and damaged files are read or refused, and nothing else happens."""

from __future__ import annotations

import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sr.errors import ImageError
from tests.edge_sr.image.pictures import cv2, decoded, encoded, exif, picture, png, tiff

fuzzed = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@fuzzed
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"])
)
def test_random_bytes_raise_nothing_but_image_errors(data: bytes, signature: bytes) -> None:
    with pytest.raises(ImageError):
        decoded(signature + data)


SEEDS = [
    encoded(picture(), ".png"),
    encoded(picture(channels=3), ".jpg"),
    encoded(picture(channels=3), ".tiff"),
    encoded(picture(np.uint16), ".tiff"),
    tiff(picture(), strip=zlib.compress, tags={259: 8, 274: 6}),
    tiff(picture().astype(np.float32) / 255),
    png(24, 20, 4, 3, bytes(13 * 20), (b"PLTE", bytes(48)), (b"eXIf", exif(3))),
]


@fuzzed
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    mended=st.booleans(),
)
def test_a_mutated_file_is_read_or_refused_and_nothing_else(
    seed: bytes, changes: list[tuple[float, bytes]], mended: bool
) -> None:
    data = bytearray(seed)
    for place, change in changes:
        at = int(place**2 * (len(data) - len(change)))  # headers more often than pixels
        data[at : at + len(change)] = change
    if mended and data.startswith(b"\x89PNG"):
        data = mend_checksums(data)
    try:
        loaded = decoded(bytes(data), max_pixels=100_000)
    except ImageError as error:
        assert error.message.startswith("scan: ")
    else:
        assert loaded.pixels.dtype in (np.uint8, np.uint16)
        assert loaded.pixels.ndim == 2 or loaded.pixels.shape[2] == 3


def mend_checksums(data: bytearray) -> bytearray:
    """So that a mutated PNG gets past the checksums."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int(struct.unpack_from(">I", data, at)[0])
        if end > len(data):
            break
        struct.pack_into(">I", data, end - 4, zlib.crc32(data[at + 4 : end - 4]))
        at = end
    return data


def test_a_bad_file_leaves_opencv_as_talkative_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    log = getattr(cv2.utils, "logging", cv2)
    before = log.getLogLevel()
    assert before > 0, "an earlier read left OpenCV silent"
    bad = png(8, 8, 8, 0, bytes(71))  # every checksum right, one pixel missing

    def read() -> None:
        with pytest.raises(ImageError, match="could not be decoded"):
            decoded(bad)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.getLogLevel() == before
    assert "imgcodecs" not in (printed := capfd.readouterr().err) and "[ WARN" not in printed
