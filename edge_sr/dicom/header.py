"""What the header says of the object and of its pixels, and what is refused for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sr.dicom.identity import MODEL_NAME
from edge_sr.dicom.library import pydicom
from edge_sr.errors import ImageError
from edge_sr.image import Limits

__all__ = ["SOP_CLASSES", "Identity", "PixelFormat", "read_format", "read_identity"]

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SOP_CLASSES = {
    f"{_STORAGE}1": "Computed Radiography Image Storage",
    f"{_STORAGE}1.1": "Digital X-Ray Image Storage - For Presentation",
    f"{_STORAGE}1.2": "Digital Mammography X-Ray Image Storage - For Presentation",
    f"{_STORAGE}1.3": "Digital Intra-Oral X-Ray Image Storage - For Presentation",
    f"{_STORAGE}2": "CT Image Storage",
    f"{_STORAGE}4": "MR Image Storage",
    f"{_STORAGE}7": "Secondary Capture Image Storage",
}
"""What is enlarged, by SOP class UID: gray images of one frame."""

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_ONE_FRAME_HINT = "export the frame you want as an image of its own"
_COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs of a source, which go into the derived object and nowhere else."""

    sop_class: str
    instance: str
    series: str


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How pixels are stored, and what their values mean.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        bits_allocated: 8 or 16.
        bits_stored: Of these, from the lowest on.
        is_signed: Two's complement.
        is_inverted: Whether larger stored values are shown darker.
        padding: First and last stored value that stand for no measurement; None where there are none.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    is_inverted: bool
    padding: tuple[int, int] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of stored values."""
        return np.dtype(f"<{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}")


def read_identity(dataset: Any) -> Identity:
    """The UIDs.

    Raises:
        ImageError: One is missing or malformed, the SOP class is not enlarged, or the object was made by
            this program.
    """
    identity = Identity(
        _uid(dataset, "SOPClassUID"), _uid(dataset, "SOPInstanceUID"), _uid(dataset, "SeriesInstanceUID")
    )
    _uid(dataset, "StudyInstanceUID")
    _check_class(identity.sop_class)
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if str(item.get("ManufacturerModelName", "")) == MODEL_NAME:
            raise ImageError(
                f"was made by {MODEL_NAME}: generated detail is not enlarged again",
                hint="enlarge the original",
            )
    return identity


def _uid(dataset: Any, keyword: str) -> str:
    value = str(dataset.get(keyword) or "")
    if len(value) > 64 or not _UID.fullmatch(value):
        raise ImageError(
            f"has no valid {keyword}", hint="the file is damaged, or does not follow the standard"
        )
    return value


def _check_class(uid: str) -> None:
    if uid in SOP_CLASSES:
        return
    name = str(pydicom("pydicom.uid").UID(uid).name)
    shown = name if name == uid else f"{name} ({uid})"
    if "Multi-frame" in name or "Enhanced" in name:
        raise ImageError(f"is {shown}, which has several frames", hint=_ONE_FRAME_HINT)
    if "For Processing" in name:
        raise ImageError(f"is {shown}, not yet meant for the eye", hint="send the image For Presentation")
    raise ImageError(
        f"is {shown}, which is not enlarged",
        hint="gray single-frame CR, DX, mammography, intra-oral, CT, MR and Secondary Capture images are",
    )


def read_format(dataset: Any, *, scale: int, limits: Limits) -> PixelFormat:
    """The pixel format.

    Args:
        dataset: The header.
        scale: How many times larger the image will be.
        limits: What it may be.

    Raises:
        ImageError: It has several frames, colour, float pixels, another depth, a contradiction, or is too
            large before or after enlarging.
    """
    _check_kind(dataset)
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    allocated, stored = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    is_signed = _whole(dataset, "PixelRepresentation") == 1
    _check_bits(allocated, stored, _whole(dataset, "HighBit"))
    _check_size(rows, columns, allocated // 8, scale, limits)
    return PixelFormat(
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        is_signed=is_signed,
        is_inverted=(dataset.PhotometricInterpretation == "MONOCHROME1") != _falls(dataset),
        padding=_padding(dataset, allocated, is_signed=is_signed),
    )


def _check_kind(dataset: Any) -> None:
    """Refuses all but gray whole numbers in one frame."""
    frames, samples = dataset.get("NumberOfFrames"), _whole(dataset, "SamplesPerPixel")
    if frames is not None and int(frames) != 1:
        raise ImageError(f"has {int(frames)} frames, wanted one", hint=_ONE_FRAME_HINT)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if samples != 1 or photometric in _COLOURS:
        kind = f" ({photometric})" if photometric in _COLOURS else ""
        raise ImageError(
            f"is colour{kind}, wanted gray", hint="export it as PNG or TIFF, where colour is enlarged"
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError("has a photometric interpretation that is neither MONOCHROME1 nor MONOCHROME2")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError("has floating-point pixels, wanted whole numbers of 8 or 16 bits")


def _check_bits(allocated: int, stored: int, high: int) -> None:
    if allocated not in (8, 16):
        raise ImageError(f"has {allocated} bits a pixel, wanted 8 or 16")
    if not 2 <= stored <= allocated or high != stored - 1:
        raise ImageError(f"stores {stored} of {allocated} bits up to bit {high}, which does not fit together")


def _check_size(rows: int, columns: int, pixel_bytes: int, scale: int, limits: Limits) -> None:
    if min(rows, columns) < limits.min_side:
        raise ImageError(f"{columns}x{rows} pixels, wanted at least {limits.min_side} a side")
    if rows * columns > limits.max_pixels:
        raise ImageError(f"{columns}x{rows} pixels, at most {limits.max_pixels} are decoded")
    if max(rows, columns) * scale > 0xFFFF:
        raise ImageError(f"{columns}x{rows} pixels: {scale} times larger is more than the 65535 of DICOM")
    if rows * columns * scale**2 * pixel_bytes > 0xFFFFFFFE:
        raise ImageError(f"{columns}x{rows} pixels: {scale} times larger is more than the 4 GiB of DICOM")


def _whole(dataset: Any, keyword: str) -> int:
    value = dataset.get(keyword)
    if not isinstance(value, int):
        raise ImageError(f"{keyword} is missing or not one whole number", hint="the header is damaged")
    return int(value)


def _falls(dataset: Any) -> bool:
    """Whether the modality's values fall where stored values rise (PS3.3, C.11.1)."""
    tables = dataset.get("ModalityLUTSequence")
    if not tables:
        return float(dataset.get("RescaleSlope") or 1) < 0
    values = _table(tables[0])
    steps = np.diff(values)
    if (steps < 0).any() and (steps > 0).any():
        raise ImageError("has a modality LUT that rises and falls: no value has a meaning between two others")
    return bool((steps < 0).any())


def _table(item: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The entries of a lookup table."""
    data, (entries, _, bits) = item.LUTData, item.LUTDescriptor
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, np.int64))
    is_narrow = bits <= 8 and len(data) <= entries + 1
    return np.frombuffer(data, "<u1" if is_narrow else "<u2").astype(np.int64)


def _padding(dataset: Any, allocated: int, *, is_signed: bool) -> tuple[int, int] | None:
    """First and last padding value (PS3.3, C.7.5.1.1.2), whichever sign they were written with."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    values = [int(v) & 2**allocated - 1 for v in (first, first if last is None else last)]
    if is_signed:
        values = [v - 2**allocated if v >= 2 ** (allocated - 1) else v for v in values]
    return min(values), max(values)
