"""JPEG, walked but not decoded (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from edge_sr.errors import ImageError
from edge_sr.image.directory import exif_orientation
from edge_sr.image.loaded import Prepared

__all__ = ["jpeg_size", "prepare_jpeg"]

MAX_SCANS = 100
"""Encoders write about ten; each goes over the whole image, and takes some forty bytes of a hostile file."""

# A marker: any run of 0xFF, then a code that is no stuffed zero, no restart and no fill byte.
_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])", re.DOTALL)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker code and content of every segment; ends at EOI, which must be there."""
    at = 2
    while match := _JPEG_MARKER.search(data, at):
        code, at = match[1][0], match.end()
        if code == 0xD9:
            return
        if code in (0x01, 0xD8):  # TEM and SOI stand alone
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if at + length > len(data):
            break
        yield code, data[at + 2 : at + length]
        at += length
    raise ImageError(f"truncated JPEG: it ends after {len(data)} bytes without an end marker")


def _jpeg_frame(data: bytes) -> tuple[int, bytes]:
    """The first frame header: its marker code and content."""
    for code, body in _jpeg_segments(data):
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            return code, body
    raise ImageError("damaged JPEG: it has no frame header")


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header; refuses kinds of JPEG that decoders read differently.

    Raises:
        ImageError: The file is truncated, has no frame header, or is not gray or colour of 8 bits.
        struct.error: A segment ends before its fields.
    """
    code, body = _jpeg_frame(data)
    precision, height, width, components = struct.unpack_from(">BHHB", body)
    if code not in (0xC0, 0xC1, 0xC2):
        raise ImageError(f"is a lossless, hierarchical or arithmetic-coded JPEG (SOF{code - 0xC0})")
    if precision != 8 or components not in (1, 3):
        raise ImageError(
            f"is a JPEG with {components} components of {precision} bits, wanted 1 or 3 of 8",
            hint="CMYK has no one conversion to RGB; convert it where its profile is known",
        )
    return width, height


def prepare_jpeg(data: bytes) -> Prepared:
    """The file itself, once all its segments are there.

    Raises:
        ImageError: The file is truncated, or has no image data.
        struct.error: The file ends within a segment's length.
    """
    orientation, scans = 1, 0
    for code, body in _jpeg_segments(data):
        scans += code == 0xDA
        if scans > MAX_SCANS:
            raise ImageError(f"is a JPEG with more than {MAX_SCANS} scans, the most that are decoded")
        if code == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = exif_orientation(body[6:])
    if not scans:
        raise ImageError("damaged JPEG: it has no image data")
    return Prepared(data, orientation)
