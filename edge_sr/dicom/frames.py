"""From the bytes of Pixel Data to stored values: uncompressed, RLE and JPEG 2000.

Each is checked before it is decoded, and never takes more memory than the size in the header asks for.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.dicom.header import PixelFormat
from edge_sr.dicom.j2k import decode_j2k
from edge_sr.dicom.parsing import PixelBytes
from edge_sr.dicom.part10 import Syntax
from edge_sr.errors import ImageError

__all__ = ["stored_values"]


def stored_values(data: bytes, pixels: PixelBytes, syntax: Syntax, form: PixelFormat) -> NDArray[Any]:
    """Decodes the pixels.

    Args:
        data: The data set.
        pixels: Where they lie in it.
        syntax: How they are encoded.
        form: What the header says of them.

    Returns:
        (rows, columns) in the format's dtype, its unused bits cleared or extending the sign.

    Raises:
        ImageError: They are truncated, damaged, not of the size or kind that the header says, or JPEG 2000
            and its decoder is not installed.
    """
    is_native = syntax.coding in ("native", "deflated")
    if pixels.is_encapsulated == is_native:
        raise ImageError(f"damaged DICOM: pixels that are not encoded as {syntax.name} says")
    if is_native:
        return _native(data, pixels, syntax, form)
    frame = b"".join(data[start:end] for start, end in pixels.parts)
    return _from_rle(frame, form) if syntax.coding == "rle" else decode_j2k(frame, form)


def _native(data: bytes, pixels: PixelBytes, syntax: Syntax, form: PixelFormat) -> NDArray[Any]:
    ((start, end),) = pixels.parts
    wanted = form.rows * form.columns * form.dtype.itemsize
    if not wanted <= end - start <= wanted + 1:
        state = "truncated" if end - start < wanted else "damaged"
        raise ImageError(
            f"{state} DICOM: {end - start} bytes of pixels, wanted {wanted} "
            f"for {form.columns}x{form.rows} of {form.bits_allocated} bits"
        )
    raw = data[start:end]
    if syntax.order == ">" and (form.bits_allocated == 16 or pixels.vr == "OW"):
        raw = np.frombuffer(raw[: len(raw) // 2 * 2], ">u2").astype("<u2").tobytes()
    return _masked(np.frombuffer(raw, form.dtype, form.rows * form.columns), form)


def _masked(values: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Only the stored bits, which are the low ones."""
    unused = form.bits_allocated - form.bits_stored
    if unused:
        values = (values << unused) >> unused  # extends the sign where there is one
    return values.reshape(form.rows, form.columns)


def _from_rle(frame: bytes, form: PixelFormat) -> NDArray[Any]:
    """PackBits, one segment a byte of the pixel, high bytes first (PS3.5, annex G)."""
    if len(frame) < 64:
        raise ImageError(f"truncated DICOM: an RLE frame of {len(frame)} bytes has no header")
    count, *offsets = struct.unpack_from("<16I", frame)
    size = form.dtype.itemsize
    bounds = [*offsets[:size], len(frame)]
    if count != size or bounds != sorted(bounds) or bounds[0] < 64:
        raise ImageError(f"damaged DICOM: RLE with {count} segments, wanted {size} one after the other")
    wanted = form.rows * form.columns
    planes = [_unpacked(frame[bounds[i] : bounds[i + 1]], wanted) for i in range(size)]
    values = np.stack([np.frombuffer(plane, np.uint8) for plane in reversed(planes)], axis=-1)
    return _masked(values.reshape(-1).view(form.dtype), form)


def _unpacked(segment: bytes, wanted: int) -> bytes:
    """A PackBits segment, of exactly so many bytes."""
    if len(segment) > 2 * wanted + 4096:  # codes that mean nothing take time all the same
        raise ImageError(f"damaged DICOM: an RLE segment of {len(segment)} bytes that unpack to {wanted}")
    out, at = bytearray(), 0
    while len(out) < wanted and at < len(segment):
        code = segment[at]
        if code < 128:
            out += segment[at + 1 : at + 2 + code]
            at += code + 2
        elif code == 128:
            at += 1
        else:
            out += segment[at + 1 : at + 2] * (257 - code)
            at += 2
    if len(out) != wanted:
        raise ImageError(f"truncated or damaged DICOM: an RLE segment of {len(out)} bytes, wanted {wanted}")
    return bytes(out)
