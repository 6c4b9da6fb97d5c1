"""How much a compressed part of a TIFF unpacks to: lengths only, the pixels are OpenCV's part."""

from __future__ import annotations

import zlib
from collections.abc import Callable

__all__ = ["UNPACKED_BYTES"]


def _deflate_bytes(part: bytes, wanted: int) -> int:
    """How much a zlib stream unpacks to; 0 where its checksum or length is wrong, or far above wanted."""
    inflater = zlib.decompressobj()
    try:
        size = len(inflater.decompress(part, wanted + 65536))
    except zlib.error:
        return 0
    return size if inflater.eof else 0


def _packbits_bytes(part: bytes, wanted: int) -> int:
    """How much PackBits data unpacks to (TIFF 6.0, section 9)."""
    at = size = 0
    while at < len(part) and size < wanted:
        code = part[at]
        if code < 128:
            at, size = at + code + 2, size + code + 1
        else:
            at, size = at + 1 + (code > 128), size + (257 - code) * (code > 128)
    return size if at <= len(part) else 0


def _lzw_bytes(part: bytes, wanted: int) -> int:
    """How much LZW data unpacks to (TIFF 6.0, section 13), 0 for an impossible code: lengths only."""
    lengths = [1] * 256 + [0, 0]  # of the string behind each code; 256 clears, 257 ends
    held = bits = previous = size = 0
    width = 9
    for byte in part:
        held, bits = held << 8 | byte, bits + 8
        if bits < width:
            continue
        bits -= width
        code, held = held >> bits, held & (1 << bits) - 1
        if code == 257 or size >= wanted:
            break
        if code == 256:
            del lengths[258:]
            width, previous = 9, 0
            continue
        if previous and len(lengths) < 4096:
            lengths.append(previous + 1)
        if code >= len(lengths):
            return 0
        previous = lengths[code]
        size += previous
        width = min(12, (len(lengths) + 1).bit_length())
    return size


UNPACKED_BYTES: dict[int, Callable[[bytes, int], int]] = {
    1: lambda part, _: len(part),
    5: _lzw_bytes,
    8: _deflate_bytes,
    32946: _deflate_bytes,
    32773: _packbits_bytes,
}
"""By compression tag: (part, wanted bytes) to the bytes it unpacks to; 0 where it is damaged."""
