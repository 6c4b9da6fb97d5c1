"""Hostile images, made small."""

from __future__ import annotations

import struct

import cv2
import numpy as np


def progressive_jpeg(side: int, *, more_scans: int) -> bytes:
    """A gray progressive JPEG, its second scan so many times more."""
    done, encoded = cv2.imencode(".jpg", np.zeros((side, side), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    data = bytes(encoded)
    second, third = (
        i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda" and 0 < data[:i].count(b"\xff\xda") < 3
    )
    return data[:-2] + data[second:third] * more_scans + data[-2:]


def tiff_of_parts(
    width: int,
    height: int,
    *,
    compression: int,
    data: bytes,
    parts: list[tuple[int, int]],
    tile: tuple[int, int] | None = None,
) -> bytes:
    """A gray 8-bit TIFF whose parts lie where one says: offset in the data, and length."""
    rows = max(1, height // len(parts))
    fields = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 259: (3, [compression]), 262: (3, [1]),
        **({} if tile else {273: (4, [8 + at for at, _ in parts])}), 277: (3, [1]),
        **({} if tile else {278: (4, [rows]), 279: (4, [size for _, size in parts])}),
        **({322: (4, [tile[0]]), 323: (4, [tile[1]])} if tile else {}),
        **({324: (4, [8 + at for at, _ in parts]), 325: (4, [size for _, size in parts])} if tile else {}),
    }  # fmt: skip
    directory = 8 + len(data) + sum(4 * len(values) for _, values in fields.values())
    entries, values_at, values_data = b"", 8 + len(data), b""
    for tag, (kind, values) in fields.items():
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values).ljust(4, b"\0")
        if len(packed) > 4:
            values_data += packed
            packed, values_at = struct.pack("<I", values_at), values_at + len(packed)
        entries += struct.pack("<HHI", tag, kind, len(values)) + packed
    values_data = values_data.ljust(directory - 8 - len(data), b"\0")
    head = b"II*\0" + struct.pack("<I", directory) + data + values_data
    return head + struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0)
