"""JPEG 2000 codestreams, walked before they are decoded (ISO/IEC 15444-1, annex A).

OpenJPEG takes the size from the codestream, whatever the header says, and fills tiles that are not there with
zeros without a word; so both are looked at first.
"""

from __future__ import annotations

import importlib
import struct
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.dicom.header import PixelFormat
from edge_sr.dicom.library import INSTALL_HINT, guarded
from edge_sr.errors import ImageError

__all__ = ["decode_j2k"]

_MAX_TILES = 4096  # each costs memory before it is decoded
_MAX_PRECINCTS, _MAX_PACKETS = 65_536, 1_000_000
"""Of a whole image; encoders make some thousand. Each precinct costs OpenJPEG half a kilobyte, each packet
time, and a codestream of a kilobyte can ask for billions."""
_START, _SIZE, _TILE_PART, _END = 0xFF4F, 0xFF51, 0xFF90, 0xFFD9
_CODING, _COMPONENT_CODING, _DATA = 0xFF52, 0xFF53, 0xFF93


def decode_j2k(frame: bytes, form: PixelFormat) -> NDArray[Any]:
    """Decodes a codestream.

    Args:
        frame: From its start marker on.
        form: What the header says of the pixels.

    Returns:
        (rows, columns) in the format's dtype.

    Raises:
        ImageError: It is truncated, damaged, or of another size or range than the header says; or the decoder
            is not installed.
    """
    try:
        precision, is_signed, tiles = _check_size(frame, form)
        _check_tiles(frame, tiles)
    except struct.error as error:
        raise ImageError("truncated DICOM: its JPEG 2000 codestream ends within a segment") from error
    decoder = _openjpeg()
    decoded = guarded("its JPEG 2000 pixels cannot be decoded", lambda: decoder.decode(frame, 0))
    values = np.asarray(decoded).astype(np.int32)
    if values.shape != (form.rows, form.columns):
        raise ImageError(f"damaged DICOM: JPEG 2000 decoded to {values.shape}")
    if is_signed != form.is_signed:  # some writers say one thing in the header and another in the stream
        values &= 2**precision - 1
        if form.is_signed:
            values = (values << 32 - precision) >> 32 - precision
    return _fitting(values, form)


def _fitting(values: NDArray[np.int32], form: PixelFormat) -> NDArray[Any]:
    """The values in the type of stored ones, if they fit."""
    least = -(2 ** (form.bits_stored - 1)) if form.is_signed else 0
    if values.min() < least or values.max() > least + 2**form.bits_stored - 1:
        raise ImageError(
            f"damaged DICOM: JPEG 2000 values from {values.min()} to {values.max()}, "
            f"which do not fit in {form.bits_stored} bits"
        )
    return values.astype(form.dtype)


def _check_size(frame: bytes, form: PixelFormat) -> tuple[int, bool, int]:
    """Precision in bits, sign and number of tiles of a codestream whose size is the header's (A.5.1)."""
    start, size, _, _, *sizes, components, depth = struct.unpack_from(">HHHHIIIIIIIIHB", frame)
    if (start, size) != (_START, _SIZE):
        raise ImageError("damaged DICOM: its pixels are no JPEG 2000 codestream")
    width, height, left, top, tile_width, tile_height, tile_left, tile_top = sizes
    if (width - left, height - top, components) != (form.columns, form.rows, 1):
        raise ImageError(
            f"damaged DICOM: JPEG 2000 of {width - left}x{height - top} with {components} components, "
            f"wanted {form.columns}x{form.rows} with one"
        )
    across = -(-(width - tile_left) // max(1, tile_width))
    down = -(-(height - tile_top) // max(1, tile_height))
    precision = (depth & 0x7F) + 1
    if not 1 <= across * down <= _MAX_TILES or not tile_width or not tile_height or precision > 16:
        raise ImageError(f"damaged DICOM: JPEG 2000 of {across}x{down} tiles and {precision} bits")
    return precision, depth >= 0x80, across * down


def _check_tiles(frame: bytes, tiles: int) -> None:
    """Refuses a codestream that lacks a tile, a part of one, or its end (A.4.2)."""
    at, found, wanted = 2, Counter[int](), dict[int, int]()
    at = _check_coding(frame, at, until=_TILE_PART, tiles=tiles)
    while struct.unpack_from(">H", frame, at)[0] == _TILE_PART:
        tile, length, _, parts = struct.unpack_from(">HIBB", frame, at + 4)
        found[tile] += 1
        _check_coding(frame, at + 12, until=_DATA, tiles=tiles)
        wanted[tile] = parts or wanted.get(tile, 0)  # 0: a later part says how many there are, or none does
        at = at + length if length >= 12 else frame.rfind(b"\xff\xd9")  # 0: the last one, up to the end
    missing = [t for t in range(tiles) if not found[t] or (wanted[t] and found[t] != wanted[t])]
    if missing or struct.unpack_from(">H", frame, at)[0] != _END:
        raise ImageError(f"truncated DICOM: JPEG 2000 that lacks {len(missing)} of {tiles} tiles, or its end")


def _check_coding(frame: bytes, at: int, *, until: int, tiles: int) -> int:
    """Refuses coding parameters that ask for far more than pixels need (A.6.1); returns where a marker is."""
    width, height = _tile_sides(frame)
    while (marker := struct.unpack_from(">H", frame, at)[0]) != until:
        if marker == _COMPONENT_CODING:
            raise ImageError("has JPEG 2000 with coding parameters of a component, and there is but one")
        if marker == _CODING:
            precincts, layers = _precincts(frame, at, width, height)
            if precincts * tiles > _MAX_PRECINCTS or precincts * tiles * layers > _MAX_PACKETS:
                raise ImageError(
                    f"has JPEG 2000 of {precincts * tiles} precincts and {layers} layers, "
                    f"at most {_MAX_PRECINCTS} and {_MAX_PACKETS} packets are decoded"
                )
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return at


def _tile_sides(frame: bytes) -> tuple[int, int]:
    """Width and height of a tile, or of the image where that is smaller."""
    width, height, left, top, tile_width, tile_height = struct.unpack_from(">6I", frame, 8)
    return min(width - left, tile_width), min(height - top, tile_height)


def _precincts(frame: bytes, at: int, width: int, height: int) -> tuple[int, int]:
    """Precincts of a tile over all its resolutions, at least; and layers."""
    size, style, _, layers, _, levels = struct.unpack_from(">HBBHBB", frame, at + 2)
    sizes = frame[at + 14 : at + 2 + size] if style & 1 else bytes([0xFF] * (levels + 1))
    if levels > 32 or len(sizes) <= levels:
        raise ImageError(f"damaged DICOM: JPEG 2000 of {levels} levels with {len(sizes)} precinct sizes")
    sides = ((-(-width >> levels - r), -(-height >> levels - r)) for r in range(levels + 1))
    counts = (-(-w >> (s & 15)) * -(-h >> (s >> 4)) for (w, h), s in zip(sides, sizes, strict=False))
    return sum(counts), layers


def _openjpeg() -> Any:
    try:
        return importlib.import_module("openjpeg")
    except ImportError as error:
        raise ImageError(
            "is compressed as JPEG 2000, and its decoder is not installed",
            hint=f"{INSTALL_HINT}, or gdcmconv --raw in.dcm out.dcm",
        ) from error
