"""Pixel values: the unit range that graphs work in, and colour apart from luminance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import ImageError
from edge_sr.image.sizes import resize_bicubic

__all__ = ["from_unit", "merge_luminance", "split_luminance", "to_planes", "to_unit"]


def to_unit(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Map the full range of 8 or 16-bit pixels to [-1, 1].

    Args:
        pixels: Any shape, uint8 or uint16.

    Returns:
        Same shape, float32: 0 becomes -1, the largest value 1.

    Raises:
        ImageError: The pixels are of another type.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"wanted pixels of 8 or 16 bits, got {pixels.dtype}")
    return (pixels * (2.0 / np.iinfo(pixels.dtype).max) - 1.0).astype(np.float32)


def to_planes(pixels: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """An image as a model of so many channels reads it.

    Args:
        pixels: (H, W) gray or (H, W, 3) RGB, uint8 or uint16.
        channels: 1 or 3. A gray image is the same in all three; colour does not fit into one.

    Returns:
        (channels, H, W) float32 in [-1, 1].

    Raises:
        ImageError: The pixels are of another type, or in colour for a gray model.
    """
    if pixels.ndim == 3 and pixels.shape[2] != channels:
        raise ImageError(
            f"an image of {pixels.shape[2]} channels for a model of {channels}",
            hint="split off its luminance",
        )
    unit = to_unit(pixels)
    if unit.ndim == 2:
        return np.repeat(unit[None], channels, axis=0)
    return np.ascontiguousarray(unit.transpose(2, 0, 1))


def from_unit(values: NDArray[Any], bit_depth: int) -> NDArray[Any]:
    """Map [-1, 1] to pixels: clip and round. Undoes `to_unit` exactly, for every value of both depths.

    Args:
        values: Any shape, floating point; values beyond the range are clipped.
        bit_depth: 8 or 16.

    Returns:
        Same shape, uint8 or uint16.

    Raises:
        ImageError: The depth is another, or there are NaN or infinite values.
    """
    if bit_depth not in (8, 16):
        raise ImageError(f"wanted 8 or 16 bits, got {bit_depth}")
    if not np.isfinite(values).all():
        raise ImageError(f"{np.count_nonzero(~np.isfinite(values))} values of the result are not finite")
    top = 2**bit_depth - 1
    scaled: NDArray[Any] = np.rint((np.clip(values.astype(np.float64), -1, 1) + 1) * (top / 2))
    return scaled.astype(np.uint8 if bit_depth == 8 else np.uint16)


def split_luminance(rgb: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Separate what goes through a gray model from the colour that is put back afterwards.

    Args:
        rgb: (H, W, 3) uint8 or uint16.

    Returns:
        luminance: (H, W), same dtype: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded.
        chroma: (H, W, 3) float32: each channel less the luminance, in the image's units.

    Raises:
        ImageError: The array is not an RGB image.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"wanted RGB of 8 or 16 bits, got {rgb.dtype} of shape {rgb.shape}")
    luminance = np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(rgb.dtype)
    return luminance, rgb.astype(np.float32) - luminance[..., None].astype(np.float32)


def merge_luminance(luminance_hr: NDArray[Any], chroma: NDArray[np.float32], scale: int) -> NDArray[Any]:
    """Give an enlarged luminance its colour back, enlarged by bicubic interpolation.

    Args:
        luminance_hr: (H * scale, W * scale) uint8 or uint16.
        chroma: (H, W, 3) float32, from `split_luminance`.
        scale: Enlargement, at least 1. At 1 the original RGB comes back exactly.

    Returns:
        (H * scale, W * scale, 3), the luminance's dtype, clipped to its range.

    Raises:
        ImageError: The shapes do not belong together.
    """
    size = (chroma.shape[0] * scale, chroma.shape[1] * scale)
    if luminance_hr.shape != size:
        raise ImageError(f"luminance of {luminance_hr.shape} does not match chroma of {size} after scaling")
    rgb = luminance_hr[..., None] + resize_bicubic(chroma, size).astype(np.float64)
    merged: NDArray[Any] = np.rint(np.clip(rgb, 0, np.iinfo(luminance_hr.dtype).max))
    return merged.astype(luminance_hr.dtype)
