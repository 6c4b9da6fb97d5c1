"""The files beside an output: which there are, what they are called, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.evidence.pictures import change_picture, uncertainty_picture
from edge_sr.evidence.regions import uncertain_regions
from edge_sr.image import encode_png

__all__ = ["CHANGE", "STD", "UNCERTAINTY", "evidence_files", "evidence_suffixes"]

Plane = npt.NDArray[Any]

STD, UNCERTAINTY, CHANGE = ".std.png", ".uncertainty.png", ".change.png"
"""What takes the place of an output's ".png"."""


def evidence_suffixes(samples: int) -> tuple[str, ...]:
    """Which files there will be beside each output, for so many samples."""
    return (STD, UNCERTAINTY, CHANGE) if samples > 1 else (CHANGE,)


def evidence_files(
    gray: Plane, *, std: Plane | None, change: Plane, samples: int, text: Mapping[str, str]
) -> dict[str, bytes]:
    """The images of what is known about an output, as PNG files.

    Args:
        gray: (H, W) uint8 or uint16, the output's luminance.
        std: (H, W), standard deviation over samples in gray levels of its type; None for one sample.
        change: (H, W), change against bicubic in gray levels.
        samples: Over how many the deviation was taken.
        text: What the output says of itself; each file says it too, and what it shows.

    Returns:
        Suffix to content, those of `evidence_suffixes`.
    """
    top = int(np.iinfo(gray.dtype).max)
    files: dict[str, bytes] = {}
    if std is not None:
        shown = (gray >> 8).astype(np.uint8) if top > 255 else gray
        picture = uncertainty_picture(shown, std, regions=uncertain_regions(std), samples=samples, top=top)
        files[STD] = _png(
            np.rint(np.clip(std * (65535 / top), 0, 65535)).astype(np.uint16), text, _std_words(top)
        )
        files[UNCERTAINTY] = _png(picture, text, "standard deviation over samples, on the output")
    files[CHANGE] = _png(
        change_picture(change, top=top), text, "output less bicubic enlargement of the input"
    )
    return files


def _std_words(top: int) -> str:
    unit = "gray level" if top == 65535 else f"{top}/65535 gray levels of {top}"
    return (
        f"standard deviation over samples; a unit of this 16-bit image is 1/65535 of the full range: {unit}"
    )


def _png(pixels: Plane, text: Mapping[str, str], words: str) -> bytes:
    return encode_png(pixels, text={**text, "Description": words})
