"""Histograms of magnitudes that come batch by batch, in bounded memory.

The range is a power of two and doubles when a value does not fit: neighbouring bins are then merged, exactly,
so that the result does not depend on the order in which the batches came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError

__all__ = ["BINS", "Distribution", "Histogram"]

BINS = 2048  # 16 bins for each of the 128 magnitudes of INT8

Counts = npt.NDArray[np.int64]
Steps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """How often each magnitude was seen.

    Attributes:
        counts: (B,) int64; bin i holds magnitudes in [i, i + 1) * upper / B, the last one `upper` too.
        upper: Where the last bin ends, above 0.
        amax: The largest magnitude that was seen.
    """

    counts: Counts
    upper: float
    amax: float

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of every bin: (B,) float64."""
        return (np.arange(len(self.counts), dtype=np.float64) + 0.5) * (self.upper / len(self.counts))


class Histogram:
    """The magnitudes of one tensor, and its least and largest value, for every step of the loop.

    Attributes:
        counts: (S, B) int64.
        upper: Where the last bin ends: a power of two, or 0 while nothing but zeros was seen.
        low, high: (S,) float64, the least and the largest value; nan where nothing was seen.
    """

    def __init__(self, steps: int = 1, *, bins: int = BINS) -> None:
        self.counts: Counts = np.zeros((steps, bins), np.int64)
        self.upper = 0.0
        self.low: Steps = np.full(steps, np.nan)
        self.high: Steps = np.full(steps, np.nan)

    def add(self, values: npt.NDArray[Any], *, step: int = 0) -> None:
        """Counts a batch.

        Raises:
            CalibrationError: A value is infinite or not a number.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(f"wanted finite values, got {low} to {high}")
        self.low[step] = np.fmin(self.low[step], low)
        self.high[step] = np.fmax(self.high[step], high)
        self._widen(max(-low, high))
        bins = self.counts.shape[1]
        places = np.abs(values.ravel())
        places *= np.float32(bins / self.upper) if self.upper else np.float32(0)
        found = np.bincount(places.astype(np.intp), minlength=bins + 1)
        found[bins - 1] += found[bins]  # a value of exactly `upper`
        self.counts[step] += found[:bins]

    def pooled(self) -> Distribution:
        """The magnitudes of all steps together.

        Raises:
            CalibrationError: Nothing was seen, or nothing but zeros.
        """
        if not self.upper:
            raise CalibrationError("nothing but zeros was recorded")
        amax = float(np.nanmax(np.maximum(-self.low, self.high)))
        return Distribution(self.counts.sum(axis=0), self.upper, amax)

    def _widen(self, amax: float) -> None:
        """Doubles the range until `amax` fits."""
        if amax <= self.upper or amax == 0.0:
            return
        wanted = 2.0 ** math.ceil(math.log2(amax))
        if not self.upper:
            self.upper = wanted  # what was counted so far are zeros, which stay in the first bin
        while self.upper < wanted:
            steps, bins = self.counts.shape
            halves = self.counts.reshape(steps, bins // 2, 2).sum(axis=2)
            self.counts = np.concatenate([halves, np.zeros_like(halves)], axis=1)
            self.upper *= 2.0
