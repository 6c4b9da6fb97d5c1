"""Pixels of another size: enlarged, and reduced by operators that say what they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import ImageError, UsageError
from edge_sr.image.library import opencv

__all__ = ["DOWNSAMPLE_OPERATORS", "downsample", "resize_area", "resize_bicubic"]

DOWNSAMPLE_OPERATORS = ("cubic", "area", "antialiased-bicubic", "nearest")
"""The operators of `downsample`, all linear in the pixels."""


def resize_bicubic(pixels: NDArray[Any], size: float | tuple[int, int]) -> NDArray[Any]:
    """Resize with OpenCV's INTER_CUBIC (a = -0.75, no antialiasing).

    Args:
        pixels: (H, W) or (H, W, C): uint8, uint16 or float32.
        size: A factor for both sides, or the wanted (height, width).

    Returns:
        The resized image, same dtype; whole numbers are rounded and clipped, floats may overshoot.

    Raises:
        ImageError: The size is not positive, or OpenCV cannot do it.
    """
    if isinstance(size, tuple):
        height, width = size
    else:
        height, width = round(pixels.shape[0] * size), round(pixels.shape[1] * size)
    return _resize(pixels, height, width, "INTER_CUBIC")


def resize_area(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Reduce with OpenCV's INTER_AREA: each result is the mean of what it covers.

    Args:
        pixels: (H, W) or (H, W, C): uint8, uint16 or float32.
        size: The wanted (height, width).

    Returns:
        The resized image, same dtype.

    Raises:
        ImageError: The size is not positive, or OpenCV cannot do it.
    """
    return _resize(pixels, size[0], size[1], "INTER_AREA")


def _resize(pixels: NDArray[Any], height: int, width: int, interpolation: str) -> NDArray[Any]:
    """cv2.resize, with its errors translated."""
    cv2 = opencv()
    try:
        resized: NDArray[Any] = cv2.resize(pixels, (width, height), interpolation=getattr(cv2, interpolation))
    except (cv2.error, MemoryError) as error:
        raise ImageError(f"{pixels.shape} {pixels.dtype} cannot be resized to {height}x{width}") from error
    return resized


def downsample(pixels: NDArray[np.float32], scale: int, operator: str) -> NDArray[np.float32]:
    """Reduce an image by a declared linear operator.

    - ``cubic``: OpenCV's INTER_CUBIC without antialiasing: 4x4 pixels around each centre (aliases).
    - ``area``: the mean of scale x scale pixels.
    - ``antialiased-bicubic``: Keys' kernel (1981, a = -0.5) widened by the scale, borders mirrored with their
      edge: MATLAB's ``imresize``, and Pillow's BICUBIC away from the borders.
    - ``nearest``: the first pixel of each scale x scale block.

    Args:
        pixels: (H, W) float32.
        scale: Whole number that divides both sides.
        operator: One of `DOWNSAMPLE_OPERATORS`.

    Returns:
        (H / scale, W / scale) float32.

    Raises:
        ImageError: The sides are not multiples of the scale.
        UsageError: The operator is unknown.
    """
    height, width = pixels.shape
    if scale < 1 or height % scale or width % scale:
        raise ImageError(f"{height}x{width} pixels cannot be reduced by {scale}: not a multiple")
    if operator == "nearest":
        return np.array(pixels[::scale, ::scale])
    if operator == "antialiased-bicubic":
        return np.asarray(_reduce_rows(_reduce_rows(pixels, scale).T, scale).T, np.float32, order="C")
    if operator not in DOWNSAMPLE_OPERATORS:
        raise UsageError(f"operator is {operator!r}, wanted one of {', '.join(DOWNSAMPLE_OPERATORS)}")
    interpolation = "INTER_CUBIC" if operator == "cubic" else "INTER_AREA"
    return _resize(pixels, height // scale, width // scale, interpolation)


def _reduce_rows(pixels: NDArray[Any], scale: int) -> NDArray[np.float64]:
    """Antialiased bicubic along the first axis, float64."""
    centre = (scale - 1) / 2  # of output row 0, in input rows
    first = math.floor(centre) - 2 * scale + 1
    distance = np.abs(np.arange(first, first + 4 * scale) - centre) / scale
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    taps = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    taps /= taps.sum()
    padded = np.pad(pixels.astype(np.float64), ((-first, 2 * scale), (0, 0)), mode="symmetric")
    reduced: NDArray[np.float64] = np.zeros((len(pixels) // scale, pixels.shape[1]))
    for offset, tap in enumerate(taps):
        reduced += tap * padded[offset : offset + len(pixels) : scale]
    return reduced
