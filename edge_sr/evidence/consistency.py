"""Does a result, made small again, look like its input? Needs no ground truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.card import Consistency
from edge_sr.image import downsample
from edge_sr.metrics import lr_consistency

__all__ = ["EXACT_DB", "alarm_notice", "residual_db"]

Pixels = npt.NDArray[Any]

EXACT_DB = 200.0
"""What a result that agrees exactly is given for an infinite PSNR, which JSON cannot hold. One gray level of
65535 in one of 64 million pixels is 174 dB."""


def residual_db(output: Pixels, source: Pixels, *, scale: int, operator: str) -> float:
    """PSNR of the output, reduced by a declared operator, against the input it was made from.

    It says nothing of detail that the operator averages away: a result may invent that and agree perfectly.
    The peak is the full range of the pixels' type, so an image that uses a part of it looks more consistent.

    Args:
        output: (h * scale, w * scale) or (h * scale, w * scale, C), uint8 or uint16.
        source: (h, w) or (h, w, C), the same type.
        scale: Enlargement, at least 1.
        operator: One of `edge_sr.image.DOWNSAMPLE_OPERATORS`.

    Returns:
        Decibels, the mean over channels; `EXACT_DB` where they are equal.

    Raises:
        ImageError: The shapes do not belong together.
        UsageError: The operator is unknown.
    """
    top = float(np.iinfo(source.dtype).max)
    values = []
    for large, small in zip(_channels(output), _channels(source), strict=True):
        reduced = downsample(large.astype(np.float32), scale, operator)
        values.append(lr_consistency(reduced, small.astype(np.float32), data_range=top))
    mean = float(np.mean(values))
    return mean if math.isfinite(mean) else EXACT_DB


def alarm_notice(consistency_db: float, known: Consistency | None) -> str:
    """What the user should be told of a residual; empty where it is as good as that of true images.

    Args:
        consistency_db: Of a result, by the operator that `known` was measured with, at the model's scale.
        known: What true images give; None where nobody measured it, and then nothing can be said.
    """
    if known is None or consistency_db >= known.alarm_db:
        return ""
    share = 1 - known.quantile
    return (
        f"consistency {consistency_db:.1f} dB is under {known.alarm_db:.1f} dB, which {share:.0%} of true "
        f"images reach: made small again, the result is not its input"
    )


def _channels(pixels: Pixels) -> list[Pixels]:
    return [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
