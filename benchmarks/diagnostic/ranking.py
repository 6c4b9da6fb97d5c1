"""How well scores rank the ill above the healthy, and how far so few patients tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.records import Estimate
from benchmarks.summary import CONFIDENCE, RESAMPLES

__all__ = ["auc", "interval", "patient_draws", "weighted_auc", "weighted_mean"]

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def auc(scores: npt.ArrayLike, is_ill: npt.ArrayLike) -> float:
    """Area under the ROC curve: how often an ill one scores above a healthy one, ties being half.

    Args:
        scores: (N,).
        is_ill: (N,) booleans, both kinds among them.
    """
    values, ill = np.asarray(scores, np.float64), np.asarray(is_ill, np.bool_)
    return float(_wins(values, ill).mean())


def weighted_auc(scores: npt.ArrayLike, is_ill: npt.ArrayLike, weights: npt.ArrayLike) -> Values:
    """The same for each of R resamples.

    Args:
        scores: (N,).
        is_ill: (N,) booleans.
        weights: (R, N), how often each image was drawn.

    Returns:
        (R,); NaN where a resample has no ill or no healthy one.
    """
    values, ill = np.asarray(scores, np.float64), np.asarray(is_ill, np.bool_)
    drawn = np.asarray(weights, np.float64)
    above, below = drawn[:, ill], drawn[:, ~ill]
    won = ((above @ _wins(values, ill)) * below).sum(axis=1)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(drawn), np.nan), where=pairs > 0)


def _wins(scores: Values, ill: Flags) -> Values:
    """1, one half or 0 for each of the ill against each of the healthy."""
    difference = scores[ill][:, None] - scores[~ill][None]
    return (np.sign(difference) + 1) / 2


def patient_draws(patients: Sequence[str], *, seed: int, resamples: int = RESAMPLES) -> Values:
    """Draws patients with replacement, each with all of their images: those of one patient are alike.

    Args:
        patients: (N,), whose image it is.
        seed: Of the draws.
        resamples: How many.

    Returns:
        (R, N), how often each image was drawn.
    """
    names, whose = np.unique(np.asarray(patients), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts[:, whose].astype(np.float64)


def weighted_mean(values: npt.ArrayLike, draws: Values) -> Estimate:
    """The mean of one value an image, and its interval over resamples.

    Args:
        values: (N,).
        draws: (R, N), how often each image was drawn.
    """
    data = np.asarray(values, np.float64)
    return interval(float(data.mean()), draws @ data / draws.sum(axis=1))


def interval(value: float, resampled: Values) -> Estimate:
    """A value with the percentile bootstrap's 95 % interval (Efron 1979), NaN being left out."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Estimate(mean=value, low=float(low), high=float(high))
