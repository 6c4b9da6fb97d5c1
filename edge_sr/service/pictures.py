"""What may come beside a result in JSON: the input, bicubic, maps with their units, the derived object."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.evidence.colours import diverging, sequential
from edge_sr.evidence.pictures import nice_top
from edge_sr.image import LoadedImage, encode_png, resize_bicubic
from edge_sr.result import Result
from edge_sr.service.parameters import DICOM, PNG, Include

__all__ = ["embedded", "pictures"]

TOP = 65535  # of a map, whose pixels have 16 bits
MIDDLE = 32768  # of a map with a sign
COLOURS = 255  # as many as the tables have
Plane = npt.NDArray[Any]


def pictures(
    result: Result, image: LoadedImage, derived: Callable[[], bytes] | None, wanted: Set[Include]
) -> dict[str, Any]:
    """The pictures that were asked for, by name; null for one that there is not.

    Args:
        result: What the engine made.
        image: What it was made from, as it was decoded.
        derived: Makes the derived DICOM object; None where the input was not DICOM.
        wanted: Which.

    Raises:
        OutputError: One cannot be written.
        ImageError: OpenCV is not installed.
    """
    text = {name: result.provenance[name] for name in ("Software", "Disclaimer")}
    top = int(np.iinfo(result.pixels.dtype).max)
    size = (result.pixels.shape[0], result.pixels.shape[1])
    makers: dict[Include, Callable[[], dict[str, Any] | None]] = {
        Include.INPUT: lambda: embedded(PNG, encode_png(image.pixels, text={})),
        Include.BICUBIC: lambda: embedded(PNG, encode_png(resize_bicubic(image.pixels, size), text=text)),
        Include.UNCERTAINTY: lambda: _spread(result.std_levels, top, text),
        Include.CHANGE: lambda: _change(result.change, top, text),
        Include.DICOM: lambda: derived and embedded(DICOM, derived()),
    }
    return {str(name): makers[name]() for name in sorted(wanted)}


def embedded(media_type: str, data: bytes) -> dict[str, Any]:
    """A file inside JSON."""
    return {"media_type": media_type, "base64": base64.b64encode(data).decode("ascii")}


def _spread(std: Plane | None, top: int, text: Mapping[str, str]) -> dict[str, Any] | None:
    """Standard deviation over samples."""
    if std is None:
        return None
    step, end = top / TOP, nice_top(std)
    stored = np.rint(np.clip(std / step, 0, TOP)).astype(np.uint16)
    colours = sequential(np.linspace(0, 1, COLOURS))
    return _map(stored, text, top=top, zero=0, step=step, ends=(0, end), colours=colours)


def _change(change: Plane, top: int, text: Mapping[str, str]) -> dict[str, Any]:
    """Output less bicubic."""
    step, end = top / (TOP - MIDDLE), nice_top(np.abs(change))
    stored = np.rint(np.clip(change / step + MIDDLE, 0, TOP)).astype(np.uint16)
    colours = diverging(np.linspace(-1, 1, COLOURS))
    return _map(stored, text, top=top, zero=MIDDLE, step=step, ends=(-end, end), colours=colours)


def _map(
    stored: Plane,
    text: Mapping[str, str],
    *,
    top: int,
    zero: int,
    step: float,
    ends: tuple[float, float],
    colours: npt.NDArray[np.uint8],
) -> dict[str, Any]:
    """A map whose values are (stored - zero) * step; its scale has ends, and colours from low to high."""
    return {
        **embedded(PNG, encode_png(stored, text=text)),
        "unit": f"gray levels of {top}",
        "zero": zero,
        "step": step,
        "low": ends[0],
        "high": ends[1],
        "colours": [bytes(colour).hex() for colour in colours],
    }
