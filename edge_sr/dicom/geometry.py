"""All that a header says in pixels or per pixel, for an image that is a whole number of times larger.

Positions in pixels are of two kinds. An edge is the first or last row or column of an area: source pixel p,
counted from 1, becomes the pixels (p - 1) s + 1 to p s. A point is the centre of a pixel: p becomes
(p - 1/2) s + 1/2, rounded.
"""

from __future__ import annotations

import math
from typing import Any

from edge_sr.dicom.library import pydicom
from edge_sr.errors import ImageError

__all__ = ["enlarge_geometry"]

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_FIRST = ("LeftVerticalEdge", "UpperHorizontalEdge")
_LAST = ("RightVerticalEdge", "LowerHorizontalEdge")
_AREAS = ("Shutter", "Collimator")
_GRAPHICS = ("GraphicAnnotationSequence", "CompoundGraphicSequence", "DisplayedAreaSelectionSequence")


def enlarge_geometry(dataset: Any, scale: int) -> None:
    """Changes the geometry of a header in place.

    Args:
        dataset: The header.
        scale: How many times larger the image is.

    Raises:
        ImageError: A value is not a finite number, a position cannot be moved because orientation or spacing
            is missing, or there are graphics, which are not enlarged.
    """
    _refuse_graphics(dataset)
    _move_position(dataset, scale)  # by the source's spacing
    for keyword in _SPACINGS:
        if dataset.get(keyword) is not None:
            setattr(dataset, keyword, _decimals([v / scale for v in _numbers(dataset, keyword)]))
    for area in _AREAS:
        _enlarge_area(dataset, area, scale)
    dataset.Rows *= scale
    dataset.Columns *= scale


def _refuse_graphics(dataset: Any) -> None:
    curves = any(0x5000 <= tag >> 16 <= 0x50FF for tag in dataset.keys())  # noqa: SIM118  a data set's own
    if curves or any(keyword in dataset for keyword in _GRAPHICS):
        raise ImageError("has curves or graphics in pixel coordinates, which are not enlarged")


def _move_position(dataset: Any, scale: int) -> None:
    """Moves Image Position (Patient) to the centre of the new first pixel.

    It is the centre of the first pixel (PS3.3, C.7.6.2.1.1). The corner of the image stays where it is, and
    the new centre lies half a new pixel from it instead of half an old one: (1/s - 1) / 2 old pixels further
    along the row and along the column, that is backwards.
    """
    if dataset.get("ImagePositionPatient") is None:
        return
    position = _numbers(dataset, "ImagePositionPatient")
    directions = _numbers(dataset, "ImageOrientationPatient")
    spacing = _numbers(dataset, "PixelSpacing")
    if (len(position), len(directions), len(spacing)) != (3, 6, 2):
        raise ImageError("has a position in the patient, but no orientation or spacing to move it by")
    shift = (1 / scale - 1) / 2
    between_rows, between_columns = spacing
    moved = [
        at + shift * (between_columns * along_row + between_rows * along_column)
        for at, along_row, along_column in zip(position, directions[:3], directions[3:], strict=True)
    ]
    dataset.ImagePositionPatient = _decimals(moved)


def _enlarge_area(dataset: Any, area: str, scale: int) -> None:
    """The edges of a shutter or a collimator (PS3.3, C.7.6.11 and C.8.7.3)."""
    points = (f"CenterOfCircular{area}", f"VerticesOfThePolygonal{area}")
    _map(dataset, [f"{area}{edge}" for edge in _FIRST], lambda p: (p - 1) * scale + 1)
    _map(dataset, [f"{area}{edge}" for edge in _LAST], lambda p: p * scale)
    _map(dataset, [f"RadiusOfCircular{area}"], lambda p: p * scale)
    _map(dataset, points, lambda p: math.floor((p - 0.5) * scale + 1))


def _map(dataset: Any, keywords: Any, change: Any) -> None:
    """Changes whole numbers one by one."""
    for keyword in keywords:
        if dataset.get(keyword) is not None:
            changed = [int(change(int(value))) for value in _numbers(dataset, keyword)]
            setattr(dataset, keyword, changed if len(changed) > 1 else changed[0])


def _numbers(dataset: Any, keyword: str) -> list[float]:
    """The values of an element; none where it is missing or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    values = [float(v) for v in (value if hasattr(value, "__len__") else [value])]
    if not all(math.isfinite(v) for v in values):
        raise ImageError(f"{keyword} is not a finite number")
    return values


def _decimals(values: list[float]) -> list[str]:
    """Decimal strings, which have 16 characters at most (PS3.5, section 6.2)."""
    format_number = pydicom("pydicom.valuerep").format_number_as_ds
    return [format_number(float(value)) for value in values]
