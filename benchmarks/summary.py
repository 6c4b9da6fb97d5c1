"""From per-image values to what a table says: means, spreads, intervals, correlations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "RESAMPLES",
    "Diversity",
    "Interval",
    "block_means",
    "bootstrap",
    "bootstrap_ratio",
    "correlation",
    "diversity",
    "seed_noise",
    "spread",
]

Values = npt.NDArray[np.float64]
Gray = npt.NDArray[np.uint8]
RESAMPLES = 10_000
CONFIDENCE = 0.95
BLOCK = 8  # HR pixels a side of a block: the grid of an f8 latent


@dataclass(frozen=True)
class Interval:
    """A mean over images, or what else was asked for, and the bounds of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: npt.ArrayLike,
    *,
    centre: Callable[..., Any] = np.mean,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean over images, with the percentile bootstrap's 95 % interval (Efron 1979).

    The same seed draws the same images, so that intervals of one run belong together.

    Args:
        values: (N,), one an image.
        centre: numpy's mean, or its median.
        seed: Of the draws.
        resamples: How many times N images are drawn with replacement.
    """
    data: Values = np.asarray(values, dtype=np.float64)
    drawn = _draws(len(data), seed, resamples)
    return _interval(float(centre(data)), centre(data[drawn], axis=1))


def bootstrap_ratio(
    above: npt.ArrayLike, below: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The ratio of two means, with the same interval; an image is drawn with both its values.

    Args:
        above: (N,), one an image.
        below: (N,), of the same images.
        seed: Of the draws.
        resamples: How many times N images are drawn with replacement.
    """
    top, bottom = (np.asarray(values, dtype=np.float64) for values in (above, below))
    drawn = _draws(len(top), seed, resamples)
    ratios: Values = top[drawn].mean(axis=1) / bottom[drawn].mean(axis=1)
    return _interval(float(top.mean() / bottom.mean()), ratios)


def _draws(count: int, seed: int, resamples: int) -> npt.NDArray[np.int64]:
    """Indices drawn with replacement: (resamples, count)."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


def _interval(value: float, resampled: Values) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def spread(values: npt.ArrayLike) -> float | None:
    """The standard deviation with one degree of freedom less than values; None for a single one."""
    data: Values = np.asarray(values, dtype=np.float64)
    return float(data.std(ddof=1)) if len(data) > 1 else None


def seed_noise(values: npt.ArrayLike) -> float | None:
    """The standard deviation over seeds of the mean over images; None for a single seed.

    Args:
        values: (S, N), seeds and images.
    """
    return spread(np.asarray(values, dtype=np.float64).mean(axis=1))


def correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Pearson's correlation over all values; 0 where one of the two is constant."""
    x, y = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


@dataclass(frozen=True)
class Diversity:
    """Whether samples of different seeds differ where the error is; one correlation an image each.

    Attributes:
        pixel: Standard deviation over seeds against |mean over seeds - HR|, pixel by pixel.
        block: The same on means of 8x8 pixels, which is less noisy with few seeds.
        regression: The standard deviation against the error of the mean image, which has seen no seed, in
            blocks: what the two share is not the seeds' own noise.
        other: The standard deviation against the error of another image, in blocks: what all radiographs have
            in common, such as a sharp outline at the same place, and no more.
    """

    pixel: tuple[float, ...]
    block: tuple[float, ...]
    regression: tuple[float, ...]
    other: tuple[float, ...]


def diversity(samples: Gray, mean_image: Gray, hr: Gray) -> Diversity:
    """Correlates the spread over seeds with the error.

    Args:
        samples: (S, N, H, W), at least two seeds.
        mean_image: (N, H, W), the regression's.
        hr: (N, H, W).
    """
    pixel, deviations, errors, regression = [], [], [], []
    for index in range(len(hr)):
        seeds, truth = samples[:, index].astype(np.float64), hr[index].astype(np.float64)
        deviation, error = seeds.std(axis=0), np.abs(seeds.mean(axis=0) - truth)
        pixel.append(correlation(deviation, error))
        deviations.append(block_means(deviation))
        errors.append(block_means(error))
        regression.append(block_means(np.abs(mean_image[index] - truth)))
    return Diversity(
        pixel=tuple(pixel),
        block=tuple(map(correlation, deviations, errors)),
        regression=tuple(map(correlation, deviations, regression)),
        other=tuple(map(correlation, deviations, errors[1:] + errors[:1])),
    )


def block_means(plane: Values) -> Values:
    """Means of 8x8 pixels; a rest at the right and the bottom is left out."""
    rows, columns = (side // BLOCK for side in plane.shape)
    cut = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    means: Values = cut.mean(axis=(1, 3))
    return means
