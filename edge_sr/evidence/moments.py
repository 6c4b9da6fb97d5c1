"""Mean and spread of samples that come one by one, without keeping them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Moments"]

Float = npt.NDArray[np.float32]


class Moments:
    """Mean and standard deviation of arrays that come one by one (Welford 1962).

    Attributes:
        count: How many came.
        mean: Of their shape, float32; None before the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = None
        self._squares: Any = None

    def add(self, value: Float) -> None:
        """Takes one more, of the shape of the others."""
        self.count += 1
        if self.mean is None:
            self.mean, self._squares = value.copy(), np.zeros_like(value)
            return
        change = value - self.mean
        self.mean += change / np.float32(self.count)
        self._squares += change * (value - self.mean)

    @property
    def std(self) -> Float | None:
        """With one degree of freedom less than samples; None for one sample."""
        if self.count < 2:
            return None
        return np.asarray(np.sqrt(self._squares / np.float32(self.count - 1)), np.float32)
