"""TIFF, walked but not decoded (revision 6.0)."""

from __future__ import annotations

import math
import struct

from edge_sr.errors import ImageError
from edge_sr.image.compression import UNPACKED_BYTES
from edge_sr.image.directory import Directory, Tag, first_directory, read_directory, stored_orientation
from edge_sr.image.loaded import Prepared

__all__ = ["prepare_tiff", "tiff_size"]

MAX_PAGES = 100
"""Pages are not decoded, but each takes time to find."""


def tiff_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first directory.

    Raises:
        struct.error: The directory leaves the file.
    """
    first = first_directory(data)
    return first.one(Tag.WIDTH, 0), first.one(Tag.HEIGHT, 0)


def _tiff_pages(data: bytes, first: Directory) -> int:
    """The number of directories in the chain, counted up to `MAX_PAGES`."""
    seen, at, pages = set[int](), first.next_at, 1
    while at and pages < MAX_PAGES:
        if at in seen:
            raise ImageError("damaged TIFF: its pages form a ring")
        seen.add(at)
        at, pages = read_directory(data, at).next_at, pages + 1
    return pages


def prepare_tiff(data: bytes) -> Prepared:
    """The file, whole and of a kind read the same everywhere, its orientation and photometric neutralised.

    Raises:
        ImageError: The file is truncated or damaged, has several pages, or is of an ambiguous kind.
        struct.error: A directory leaves the file.
    """
    first = first_directory(data)
    if (pages := _tiff_pages(data, first)) > 1:
        raise ImageError(f"has {pages} pages, wanted one", hint="save the page you want as a file of its own")
    _check_tiff_kind(first)
    _check_tiff_data(data, first)
    is_inverted = first.one(Tag.PHOTOMETRIC, 1) == 0
    patched = bytearray(data)
    for tag, value in ((Tag.ORIENTATION, 1), (Tag.PHOTOMETRIC, first.one(Tag.PHOTOMETRIC, 1) or 1)):
        if tag in first.places:
            struct.pack_into(first.places[tag][0], patched, first.places[tag][1], value)
    return Prepared(bytes(patched), stored_orientation(first), is_inverted)


def _check_tiff_kind(first: Directory) -> None:
    """Accept gray and RGB of 8 or 16 bits, and gray floats."""
    samples, bits = first.one(Tag.SAMPLES, 1), first.fields.get(Tag.BITS, (1,))
    form, photometric = first.one(Tag.SAMPLE_FORMAT, 1), first.one(Tag.PHOTOMETRIC, -1)
    is_whole = form == 1 and set(bits) in ({8}, {16})
    is_float = form == 3 and set(bits) in ({32}, {64}) and samples == 1
    is_laid_out = first.one(Tag.PLANAR, 1) == 1 or samples == 1
    if not ((is_whole or is_float) and is_laid_out and (photometric, samples) in ((0, 1), (1, 1), (2, 3))):
        raise ImageError(
            f"is a TIFF with {samples} samples of {bits[0]} bits, format {form}, photometric {photometric}",
            hint="gray or RGB of 8 or 16 bits, or gray floats, pixel-interleaved, without alpha or palette",
        )
    if is_float and photometric == 0:
        raise ImageError("is a float TIFF with white at zero")
    if first.one(Tag.PREDICTOR, 1) not in ((1, 3) if is_float else (1, 2)):
        raise ImageError(
            f"is a TIFF with predictor {first.one(Tag.PREDICTOR, 1)} for its {bits[0]}-bit samples"
        )


def _check_tiff_data(data: bytes, first: Directory) -> None:
    """Refuse a TIFF whose strips or tiles lie outside the file or unpack to less than they should."""
    if (unpacked := UNPACKED_BYTES.get(first.one(Tag.COMPRESSION, 1))) is None:
        raise ImageError(
            f"is a TIFF with compression {first.one(Tag.COMPRESSION, 1)}",
            hint="save it uncompressed, or with LZW, Deflate or PackBits",
        )
    is_tiled = Tag.TILES in first.fields
    offsets = first.fields.get(Tag.TILES if is_tiled else Tag.STRIPS, ())
    counts = first.fields.get(Tag.TILE_BYTES if is_tiled else Tag.STRIP_BYTES, ())
    wanted = _tile_bytes(first) if is_tiled else _strip_bytes(first)
    if not len(offsets) == len(counts) == len(wanted):
        raise ImageError(f"damaged TIFF: {len(offsets)} parts, {len(counts)} sizes, wanted {len(wanted)}")
    if sum(counts) > len(data):
        raise ImageError(f"damaged TIFF: its parts have {sum(counts)} bytes, and the file {len(data)}")
    for offset, count, size in zip(offsets, counts, wanted, strict=True):
        if unpacked is not UNPACKED_BYTES[1] and count > 2 * size + 4096:
            raise ImageError(f"damaged TIFF: {count} bytes that unpack to {size}")
        if offset + count > len(data):
            raise ImageError(f"truncated TIFF: data up to byte {offset + count} of {len(data)}")
        if unpacked(data[offset : offset + count], size) < size:
            raise ImageError(f"damaged TIFF: the data at byte {offset} does not unpack to {size} bytes")


def _pixel_bytes(first: Directory) -> int:
    """Bytes per pixel."""
    return first.one(Tag.SAMPLES, 1) * first.one(Tag.BITS, 8) // 8


def _strip_bytes(first: Directory) -> list[int]:
    """The unpacked size of each strip."""
    height, row = first.one(Tag.HEIGHT, 0), first.one(Tag.WIDTH, 0) * _pixel_bytes(first)
    rows = max(1, min(first.one(Tag.ROWS_PER_STRIP, height), height))
    return [min(rows, height - top) * row for top in range(0, height, rows)]


def _tile_bytes(first: Directory) -> list[int]:
    """The unpacked size of each tile."""
    width, height = first.one(Tag.TILE_WIDTH, 0), first.one(Tag.TILE_HEIGHT, 0)
    if not (0 < width <= 4096 and 0 < height <= 4096) or width % 16 or height % 16:
        raise ImageError(f"damaged TIFF: tiles of {width}x{height}")
    count = math.ceil(first.one(Tag.WIDTH, 0) / width) * math.ceil(first.one(Tag.HEIGHT, 0) / height)
    if count * width * height > 4 * first.one(Tag.WIDTH, 0) * first.one(Tag.HEIGHT, 0) + 2**20:
        raise ImageError(f"is a TIFF with {count} tiles of {width}x{height}, which are mostly empty")
    return [width * height * _pixel_bytes(first)] * count
