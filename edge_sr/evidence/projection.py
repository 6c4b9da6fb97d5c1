"""The last step that makes a result agree with its input: back-projection for a named linear degradation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_sr.errors import ImageError
from edge_sr.image import downsample, resize_bicubic

__all__ = ["back_project"]

Float = npt.NDArray[np.float32]

SMOOTH_ROUNDS = {"area": 4, "antialiased-bicubic": 4}
"""Rounds in which the residual is spread by bicubic interpolation, by operator. It draws no squares, and on
chest X-rays the result is nearer to the truth than with repetition alone where the operator averages, and
farther from it where the operator samples."""

ROUNDS = 32  # in all; the slowest operator, antialiased-bicubic, needs about 20
TOLERANCE = 1e-6  # of [-1, 1]: 0.0001 gray levels of 255, 0.03 of 65535


def back_project(values: Float, source: Float, *, scale: int, operator: str) -> Float:
    """The image nearby whose reduction by the operator is the input.

    Iterative back-projection (Irani and Peleg 1991): the residual of the reduced image is enlarged and added
    until nothing is left of it, each time by as much as leaves least. Enlarged by repetition it converges for
    every operator here, since the operator of a repeated image is the identity (area, nearest, cubic at 4) or
    near it. Between the rounds the image is clipped to its range; what the range forbids stays unmatched.

    Rounding the result to pixels afterwards moves its reduction by at most half a gray level for area and
    nearest, and by no more than that in practice for antialiased-bicubic; cubic at an even scale reaches two
    thirds. It helps where the operator is the one that made the input and averages: another one moves away
    from the truth.

    Args:
        values: (C, h * scale, w * scale) float32; what lies beyond [-1, 1] is clipped.
        source: (C, h, w) float32 in [-1, 1].
        scale: Enlargement, at least 1.
        operator: One of `edge_sr.image.DOWNSAMPLE_OPERATORS`.

    Returns:
        (C, h * scale, w * scale) float32 in [-1, 1].

    Raises:
        ImageError: The shapes do not belong together.
        UsageError: The operator is unknown.
    """
    if values.shape != (source.shape[0], source.shape[1] * scale, source.shape[2] * scale):
        raise ImageError(f"an image of {values.shape} cannot be projected onto {source.shape} at x{scale}")
    planes = [_project(v, s, scale, operator) for v, s in zip(values, source, strict=True)]
    return np.stack(planes)


def _project(plane: Float, source: Float, scale: int, operator: str) -> Float:
    """One channel."""
    result: Float = np.clip(plane, -1, 1)
    for turn in range(ROUNDS):
        residual = source - downsample(result, scale, operator)
        if float(np.abs(residual).max()) < TOLERANCE:
            break
        if turn < SMOOTH_ROUNDS.get(operator, 0):
            step = resize_bicubic(residual, plane.shape)
        else:
            step = residual.repeat(scale, axis=0).repeat(scale, axis=1)
        result = np.clip(result + _length(residual, downsample(step, scale, operator)) * step, -1, 1)
    return result


def _length(residual: Float, seen: Float) -> float:
    """How much of a step leaves least of the residual, where all of it takes `seen` away."""
    return float(np.vdot(residual, seen)) / max(float(np.vdot(seen, seen)), 1e-30)
