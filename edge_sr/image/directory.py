"""The fields of a TIFF or of an EXIF block, which is laid out as a TIFF (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Directory", "Tag", "exif_orientation", "first_directory", "read_directory", "stored_orientation"]


class Tag(IntEnum):
    """The fields that are read; all others are passed over."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    STRIPS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_BYTES = 325
    SAMPLE_FORMAT = 339


_TAGS = frozenset(Tag)
_TYPES = {1: "B", 3: "H", 4: "I"}
MAX_VALUES = 100_000
"""Of one field: the strips or tiles of an image. A field of more is left out, like one of unknown type."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One image file directory: the fields in `Tag`, and where the next directory lies (0: none)."""

    fields: dict[int, tuple[int, ...]]
    places: dict[int, tuple[str, int]]  # struct format and offset of each field's first value
    next_at: int

    def one(self, tag: int, default: int) -> int:
        """The first value of a field."""
        return self.fields.get(tag, (default,))[0]


def _byte_order(data: bytes) -> str:
    """The byte order as struct spells it."""
    return "<" if data[:2] == b"II" else ">"


def read_directory(data: bytes, at: int) -> Directory:
    """Read the directory at an offset.

    Raises:
        struct.error: It leaves the file.
    """
    order = _byte_order(data)
    fields, places = {}, {}
    (entries,) = struct.unpack_from(order + "H", data, at)
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if tag not in _TAGS or tag in fields or kind not in _TYPES or not 0 < count <= MAX_VALUES:
            continue
        form, value = f"{order}{count}{_TYPES[kind]}", entry + 8
        if struct.calcsize(form) > 4:
            (value,) = struct.unpack_from(order + "I", data, value)
        fields[tag] = struct.unpack_from(form, data, value)
        places[tag] = order + _TYPES[kind], value
    return Directory(fields, places, struct.unpack_from(order + "I", data, at + 2 + 12 * entries)[0])


def first_directory(data: bytes) -> Directory:
    """The first directory of a TIFF or EXIF block.

    Raises:
        struct.error: It leaves the block.
    """
    return read_directory(data, struct.unpack_from(_byte_order(data) + "I", data, 4)[0])


def exif_orientation(block: bytes) -> int:
    """The orientation an EXIF block asks for, 1 to 8; 0 where the block is damaged."""
    try:
        return stored_orientation(first_directory(block))
    except struct.error:
        return 0


def stored_orientation(first: Directory) -> int:
    """The orientation, 0 where it is none of 1 to 8."""
    orientation = first.one(Tag.ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 0
