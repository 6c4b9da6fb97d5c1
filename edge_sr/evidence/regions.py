"""Where samples differ most: boxes that a person can look up in the image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Region", "spread_facts", "uncertain_regions"]

Plane = npt.NDArray[Any]

REGIONS = 5  # at most; more than a person will look up
SHARE, SMALLEST = 8, 16  # a box has an eighth of the shorter side, at least 16 pixels


@dataclass(frozen=True)
class Region:
    """A square of the output, in its pixels.

    Attributes:
        x, y: Its upper left corner.
        width, height: Its sides.
        mean_std: Mean standard deviation inside, in gray levels.
    """

    x: int
    y: int
    width: int
    height: int
    mean_std: float


def uncertain_regions(std: Plane, *, count: int = REGIONS) -> tuple[Region, ...]:
    """The squares with the largest mean spread, the worst first; no two of them overlap.

    Spread lies along edges, so that connected areas above a threshold reach across the image; squares of one
    size say where to look.

    Args:
        std: (H, W), standard deviation over samples in gray levels.
        count: Most squares.

    Returns:
        Those whose mean is above the whole image's; none where the spread is even.
    """
    side = min(max(SMALLEST, min(std.shape) // SHARE), *std.shape)
    means, least = _box_means(std.astype(np.float64), side), float(std.mean(dtype=np.float64))
    found: list[Region] = []
    while len(found) < count:
        y, x = (int(place) for place in np.unravel_index(np.argmax(means), means.shape))
        if not means[y, x] > least * (1 + 1e-6):  # a rounding apart is even
            break
        found.append(Region(x, y, side, side, float(means[y, x])))
        means[max(0, y - side + 1) : y + side, max(0, x - side + 1) : x + side] = -np.inf
    return tuple(found)


def spread_facts(std: Plane, *, samples: int) -> dict[str, Any]:
    """What a result says of its spread: figures in gray levels, rounded, and the most uncertain regions.

    Args:
        std: (H, W), in gray levels.
        samples: Over how many it was taken.
    """
    regions = [asdict(region) for region in uncertain_regions(std)]
    for region in regions:
        region["mean_std"] = round(region["mean_std"], 3)
    return {
        "samples": samples,
        "mean_std": round(float(std.mean(dtype=np.float64)), 3),
        "p99_std": round(float(np.quantile(std, 0.99)), 3),
        "max_std": round(float(std.max()), 3),
        "regions": regions,
    }


def _box_means(plane: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """(H, W) -> (H - side + 1, W - side + 1), the mean of the box that begins at each place."""
    total = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    total[1:, 1:] = plane.cumsum(axis=0).cumsum(axis=1)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    means: npt.NDArray[np.float64] = sums / side**2
    return means
