"""What was invented: the change against bicubic, and, where the truth is known, how much of it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.errors import ImageError
from edge_sr.image import resize_bicubic

__all__ = ["InventionRates", "change_facts", "change_map", "invention_rates"]

Pixels = npt.NDArray[Any]
Float = npt.NDArray[np.float32]

SIGMAS = 2.0  # latent-sr: threshold = mean + 2 standard deviations of |AE - HR|


def change_map(output: Pixels, source: Pixels, scale: int) -> Float:
    """What the model changed against plain interpolation: output - bicubic(input).

    Args:
        output: (h * scale, w * scale) uint8 or uint16.
        source: (h, w), the same type.
        scale: Enlargement.

    Returns:
        (h * scale, w * scale) float32, gray levels of the type: above 0 where light was added.

    Raises:
        ImageError: The shapes do not belong together.
    """
    bicubic = resize_bicubic(source, (source.shape[0] * scale, source.shape[1] * scale))
    if bicubic.shape != output.shape:
        raise ImageError(f"an output of {output.shape} is not {source.shape} at x{scale}")
    return output.astype(np.float32) - bicubic.astype(np.float32)


def change_facts(change: Float) -> dict[str, float]:
    """What a result says of its change map: figures in gray levels, rounded."""
    size = np.abs(change)
    return {
        "mean_abs": round(float(size.mean(dtype=np.float64)), 3),
        "p99_abs": round(float(np.quantile(size, 0.99)), 3),
        "most_added": round(float(change.max()), 3),
        "most_removed": round(float(-change.min()), 3),
    }


@dataclass(frozen=True)
class InventionRates:
    """Hallucination and loss as latent-sr counts them; see `invention_rates`.

    Attributes:
        hallucination, loss: Shares of the pixels, 0 to 1.
        hallucination_levels, loss_levels: Mean |difference| of those pixels in gray levels; 0 without any.
        threshold: In gray levels.
    """

    hallucination: float
    loss: float
    hallucination_levels: float
    loss_levels: float
    threshold: float


def invention_rates(output: Pixels, truth: Pixels, reconstruction: Pixels) -> InventionRates:
    """Shares of pixels that are brighter or darker than the truth by more than the autoencoder explains.

    The definition of latent-sr (arXiv 2604.12152, `scripts/eval_hallucination_quantification.py` of its
    repository): per image, a noise floor t = mean + 2 population standard deviations of |AE - HR| over all
    pixels, AE being the autoencoder's reconstruction of the true image HR. A pixel is hallucinated where
    SR - HR > t and lost where SR - HR < -t.

    So a better autoencoder lowers t and raises both rates: compare rows of one run, not works with different
    autoencoders. And "hallucinated" here means brighter than the truth, not an anatomy that is not there.

    Args:
        output: (H, W), any numeric type.
        truth: (H, W), the true image, in the same units.
        reconstruction: (H, W), the autoencoder's decode of the truth.

    Raises:
        ImageError: The shapes differ.
    """
    if not output.shape == truth.shape == reconstruction.shape:
        raise ImageError(f"images of {output.shape}, {truth.shape} and {reconstruction.shape} do not match")
    difference = output.astype(np.float64) - truth
    floor = np.abs(reconstruction.astype(np.float64) - truth)
    threshold = float(floor.mean() + SIGMAS * floor.std())
    added, lost = difference > threshold, difference < -threshold
    return InventionRates(
        hallucination=float(added.mean()),
        loss=float(lost.mean()),
        hallucination_levels=float(difference[added].mean()) if added.any() else 0.0,
        loss_levels=float(-difference[lost].mean()) if lost.any() else 0.0,
        threshold=threshold,
    )
