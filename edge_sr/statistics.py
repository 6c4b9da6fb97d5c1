"""From repeated measurements to figures: percentiles, whether a run was steady, ratios with their intervals.

Nothing here reads a clock; what is drawn is drawn from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "Ratio",
    "drift",
    "is_settled",
    "median",
    "median_ratio",
    "percentile",
    "poisson_arrivals",
    "samples_needed",
    "spread",
]

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

CONFIDENCE = 0.95
RESAMPLES = 5000
_AT_ONCE = 100  # resamples that are held in memory together


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two in the middle."""
    return float(np.median(samples))


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all samples do not exceed (nearest rank).

    It is a value that was measured; nothing is interpolated.

    Args:
        samples: At least one.
        share: In (0, 1], 0.99 for the 99th percentile.
    """
    rank = math.ceil(share * len(samples) - 1e-9)  # 0.9 * 10 may come out above 9
    return float(sorted(samples)[max(rank, 1) - 1])


def samples_needed(share: float) -> int:
    """How many samples it takes until, with 95 % confidence, the largest of them is not below a percentile.

    With fewer nothing may lie beyond the percentile, and every estimate of it is too good (Wilks 1941):
    1 - share^n >= 0.95.

    Args:
        share: In (0, 1).
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(share))


def spread(samples: Sequence[float]) -> float:
    """How far the quartiles are apart, as a share of the median; 0 where that is 0."""
    low, middle, high = (float(v) for v in np.quantile(samples, [0.25, 0.5, 0.75]))
    return (high - low) / middle if middle > 0 else 0.0


def drift(samples: Sequence[float]) -> float:
    """How much slower the last third was than the first, by their medians: 0.1 for 10 %; 0 for fewer than 6.

    Args:
        samples: In the order in which they were taken.
    """
    third = len(samples) // 3
    first, last = median(samples[:third] or [1.0]), median(samples[-third:] or [1.0])
    return last / first - 1 if third > 1 and first > 0 else 0.0


def is_settled(samples: Sequence[float], *, window: int, tolerance: float) -> bool:
    """Whether the medians of the last two windows differ by no more than `tolerance` of the last one.

    Args:
        samples: In the order in which they were taken.
        window: How many samples make one.
        tolerance: 0.05 for 5 %.
    """
    if len(samples) < 2 * window:
        return False
    before, now = median(samples[-2 * window : -window]), median(samples[-window:])
    return abs(now - before) <= tolerance * now


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians, and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def median_ratio(
    above: Sequence[float],
    below: Sequence[float],
    *,
    are_pairs: bool,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Ratio:
    """The median of one series divided by that of another, with a bootstrap interval.

    Neighbours in time resemble each other, which single draws would take for certainty: so stretches of about
    the cube root of n are drawn, from a series that is closed to a circle (Politis & Romano 1992). The
    interval holds for what these two series saw, and knows nothing of what another day would give.

    Args:
        above: Positive, in the order in which they were taken.
        below: The same of the other.
        are_pairs: Whether samples of one index were taken one after the other; they are then drawn together.
        seed: Of the draws.
        resamples: How many times both are drawn anew.
    """
    top, bottom = np.asarray(above, np.float64), np.asarray(below, np.float64)
    rng = np.random.default_rng(seed)
    ratios: list[Values] = []
    for start in range(0, resamples, _AT_ONCE):
        count = min(_AT_ONCE, resamples - start)
        drawn = _stretches(len(top), count, rng)
        other = drawn if are_pairs else _stretches(len(bottom), count, rng)
        ratios.append(np.median(top[drawn], axis=1) / np.median(bottom[other], axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Ratio(median(above) / median(below), float(low), float(high))


def _stretches(length: int, count: int, rng: np.random.Generator) -> Indices:
    """(count, length) indices of a series, each row put together from stretches of it."""
    block = max(1, round(length ** (1 / 3)))
    starts = rng.integers(length, size=(count, math.ceil(length / block), 1))
    drawn: Indices = ((starts + np.arange(block)) % length).reshape(count, -1)[:, :length]
    return drawn


def poisson_arrivals(rate_per_s: float, count: int, *, seed: int) -> tuple[float, ...]:
    """When requests come that know nothing of each other, in seconds from the start, rising.

    Args:
        rate_per_s: How many a second, on average.
        count: How many.
        seed: Of the draws.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return tuple(float(moment) for moment in np.cumsum(gaps))
