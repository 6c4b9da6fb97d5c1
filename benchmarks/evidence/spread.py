"""Does the spread over samples predict the error of their mean?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.board import estimate
from benchmarks.evidence.records import Bin, Coverage, SpreadFacts
from benchmarks.summary import block_means, correlation
from edge_sr.evidence import uncertain_regions

__all__ = ["BINS", "judge_spread"]

Plane = npt.NDArray[np.float64]
Gray = npt.NDArray[np.uint8]

BINS = 10
ROUNDING = 0.5  # gray levels by which a whole number may lie outside of an interval of floats


def judge_spread(samples: npt.NDArray[np.float32], hr: Gray) -> SpreadFacts:
    """Holds the spread of samples against the error of their mean.

    Were the truth one more sample, its squared distance from the mean of K would be the variance times
    1 + 1/K on average, and it would lie between the least and the largest of them K - 1 times of K + 1.
    Pixels whose truth is black or white are left out: there every sample is clipped to the truth.

    Args:
        samples: (K, N, H, W) float32 gray levels, not rounded; K at least 4.
        hr: (N, H, W), the truth.
    """
    count = len(samples)
    mean, std = samples.mean(axis=0, dtype=np.float64), samples.std(axis=0, ddof=1, dtype=np.float64)
    predicted, error = std * np.sqrt(1 + 1 / count), np.abs(mean - hr)
    inner = (hr > 0) & (hr < 255)
    bins = _bins(predicted[inner], error[inner])
    planes = list(zip(std, error, strict=True))
    return SpreadFacts(
        samples=count,
        pixels=float(inner.mean()),
        bins=bins,
        error=float(np.mean([abs(b.found - b.predicted) / b.predicted for b in bins])),
        factor=_rms(error[inner]) / _rms(predicted[inner]),
        correlation=estimate([correlation(s, e) for s, e in planes]),
        correlation_blocks=estimate([correlation(block_means(s), block_means(e)) for s, e in planes]),
        coverage=tuple(_coverage(np.sort(samples, axis=0), hr, inner, cut) for cut in range(count // 2)),
        regions=estimate([_error_in_regions(s, e) for s, e in planes]),
    )


def _bins(predicted: Plane, error: Plane) -> tuple[Bin, ...]:
    """Equally many pixels each, from the smallest predicted error to the largest."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), BINS)
    return tuple(Bin(predicted=_rms(predicted[part]), found=_rms(error[part])) for part in parts)


def _rms(values: Plane) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _coverage(ordered: npt.NDArray[np.float32], hr: Gray, inner: npt.NDArray[np.bool_], cut: int) -> Coverage:
    """How often the truth lies between all samples but the `cut` least and the `cut` largest."""
    count = len(ordered)
    inside = (ordered[cut] - ROUNDING <= hr) & (hr <= ordered[count - 1 - cut] + ROUNDING)
    words = "all samples" if cut == 0 else f"samples {cut + 1} to {count - cut} of {count} in order"
    return Coverage(
        interval=words,
        nominal=(count - 1 - 2 * cut) / (count + 1),
        found=estimate([float(i[n].mean()) for i, n in zip(inside, inner, strict=True)]),
    )


def _error_in_regions(std: Plane, error: Plane) -> float:
    """Mean error in the regions that a result would list, over that of the whole image."""
    boxes = uncertain_regions(std)
    found = [error[b.y : b.y + b.height, b.x : b.x + b.width].mean() for b in boxes]
    return float(np.mean(found) / error.mean()) if found else 1.0
