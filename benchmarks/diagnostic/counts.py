"""Decisions counted: the confusion matrix, the rates that it gives, and how sure so few images make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from benchmarks.summary import CONFIDENCE, Interval

__all__ = ["RATES", "Counts", "confusion", "rate", "wilson"]


@dataclass(frozen=True)
class Counts:
    """A confusion matrix, ill being positive; means over seeds need not be whole."""

    true_positive: float
    false_positive: float
    true_negative: float
    false_negative: float


RATES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "accuracy": (("true_positive", "true_negative"), ("false_positive", "false_negative")),
        "precision": (("true_positive",), ("false_positive",)),
        "recall": (("true_positive",), ("false_negative",)),
        "specificity": (("true_negative",), ("false_positive",)),
        "false_negative_rate": (("false_negative",), ("true_positive",)),
        "false_positive_rate": (("false_positive",), ("true_negative",)),
    }
)
"""Rate -> what it is the share of, and what else there is."""


def confusion(says_ill: npt.ArrayLike, is_ill: npt.ArrayLike) -> Counts:
    """Counts decisions against the truth.

    Args:
        says_ill: (N,) booleans.
        is_ill: (N,) booleans.
    """
    says, ill = np.asarray(says_ill, np.bool_), np.asarray(is_ill, np.bool_)
    return Counts(*(float(np.sum(cell)) for cell in (says & ill, says & ~ill, ~says & ~ill, ~says & ill)))


def rate(counts: Counts, name: str) -> Interval | None:
    """A rate of `RATES` with its 95 % interval; None where nothing is there to be a share of."""
    of, rest = (sum(getattr(counts, cell) for cell in cells) for cells in RATES[name])
    return wilson(of, of + rest) if of + rest else None


def wilson(successes: float, total: float) -> Interval:
    """A share and its 95 % score interval (Wilson 1927): sound where the share is close to 0 or 1.

    Args:
        successes: From 0 to `total`.
        total: Independent trials, more than 0.
    """
    z2 = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2
    share = successes / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * total)) / total) / (1 + z2 / total)
    return Interval(share, float(max(0.0, middle - half)), float(min(1.0, middle + half)))
