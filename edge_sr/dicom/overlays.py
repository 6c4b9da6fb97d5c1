"""Overlay planes: pictures of one bit a pixel beside the image, enlarged with it (PS3.3, C.9.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_sr.errors import ImageError

__all__ = ["enlarge_overlays"]

_ROWS, _COLUMNS, _FRAMES, _ORIGIN = 0x0010, 0x0011, 0x0015, 0x0050
_BITS_ALLOCATED, _DATA = 0x0100, 0x3000
_STATISTICS = (0x1301, 0x1302, 0x1303)  # area, mean and deviation of the image under a region of interest


def enlarge_overlays(dataset: Any, scale: int) -> None:
    """Repeats every overlay's pixels, in place; what was measured under it is left out.

    Raises:
        ImageError: An overlay is larger than the image, has several frames, lies in unused bits of the
            pixels, or has less data than its size says.
    """
    for group in range(0x6000, 0x6020, 2):
        if any(tag >> 16 == group for tag in dataset.keys()):  # noqa: SIM118  a data set's own
            _enlarge(dataset, group, scale)


def _enlarge(dataset: Any, group: int, scale: int) -> None:
    def value(element: int) -> Any:
        found = dataset.get((group, element))
        return None if found is None else found.value

    data, rows, columns = value(_DATA), value(_ROWS) or 0, value(_COLUMNS) or 0
    origin = [1, 1] if value(_ORIGIN) is None else [int(v) for v in value(_ORIGIN)]
    if not isinstance(data, bytes) or (value(_BITS_ALLOCATED) or 1) != 1 or int(value(_FRAMES) or 1) != 1:
        raise ImageError(
            f"has an overlay (group {group:04x}) without a plane of its own, which is not enlarged",
            hint="remove it, or convert it to Overlay Data",
        )
    if not (0 < rows <= dataset.Rows and 0 < columns <= dataset.Columns) or 8 * len(data) < rows * columns:
        raise ImageError(f"has an overlay of {columns}x{rows} in {len(data)} bytes, which does not fit")
    corner = [(at - 1) * scale + 1 for at in origin]
    if len(corner) != 2 or max(map(abs, corner)) > 0x7FFF:
        raise ImageError(f"has an overlay at {origin}, which is too far out to be enlarged")
    dataset[group, _DATA].value = _repeated(data, rows, columns, scale)
    dataset[group, _ROWS].value, dataset[group, _COLUMNS].value = rows * scale, columns * scale
    if value(_ORIGIN) is not None:
        dataset[group, _ORIGIN].value = corner
    for element in _STATISTICS:
        dataset.pop((group, element), None)


def _repeated(data: bytes, rows: int, columns: int, scale: int) -> bytes:
    """Packed bits, each repeated in both directions, to a whole number of words."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=rows * columns, bitorder="little")
    plane = bits.reshape(rows, columns).repeat(scale, axis=0).repeat(scale, axis=1)
    packed = np.packbits(plane, bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)
