"""Two sets of decisions on the same images: whether they differ, and how many images could tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

__all__ = ["ALPHA", "POWER", "detectable_difference", "holm", "images_needed", "mcnemar"]

ALPHA = 0.05  # two-sided
POWER = 0.8
HALVINGS = 60


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's test (1947), exact: the two-sided p of a fair coin, whatever the counts.

    Args:
        only_first: Images that the first one alone decides rightly.
        only_second: Images that the second one alone decides rightly.
    """
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**total))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, adjusted so that none is falsely below 5 % in 95 % of families.

    Holm (1979): sorted, times the number of those not yet passed, never falling.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for passed, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - passed) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def images_needed(discordance: float, difference: float) -> int:
    """How many images McNemar's test needs to see a difference, at 5 % two-sided with 80 % power.

    Connor (1987): n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2, for the normal approximation; the
    exact one takes a few more.

    Args:
        discordance: psi, the share of the images that exactly one of the two decides rightly. Where it is
            less than the difference, the difference is taken: it cannot be larger than that share.
        difference: d, of the two shares of right decisions, above 0 and at most 1.
    """
    psi = max(discordance, difference)
    z_alpha, z_beta = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(POWER)
    root = z_alpha * math.sqrt(psi) + z_beta * math.sqrt(psi - difference**2)
    return math.ceil((root / difference) ** 2)


def detectable_difference(discordance: float, images: int) -> float:
    """The least difference that so many images show with 80 % power; see `images_needed`. At most 1."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if images_needed(discordance, middle) > images:
            low = middle
        else:
            high = middle
    return high
