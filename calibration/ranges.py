"""From the magnitudes of a tensor to the one that INT8's 127 stands for: small pure functions.

Symmetric quantisation maps a value x to round(x / s) in [-127, 127], with s = amax / 127. A smaller amax
rounds finer and clips more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError
from calibration.histogram import Distribution

__all__ = ["LEVELS", "METHODS", "choose_range", "entropy", "minmax", "mse", "percentile", "scale_for"]

LEVELS = 127  # the largest magnitude of symmetric INT8
PERCENTILE = 99.99  # of the magnitudes; what NVIDIA's pytorch-quantization takes by default
SMALLEST_SCALE = 2.0**-20  # well inside FP16's subnormal numbers
_CANDIDATES = 128  # ranges that `mse` tries

Float = npt.NDArray[np.float64]


def minmax(seen: Distribution) -> float:
    """The largest magnitude that was seen: nothing is clipped."""
    return seen.amax


def percentile(seen: Distribution, percent: float = PERCENTILE) -> float:
    """The magnitude that `percent` of the values do not exceed, percent in (0, 100]."""
    wanted = percent / 100.0 * float(seen.counts.sum())
    below = np.cumsum(seen.counts)
    last = int(np.searchsorted(below, wanted))
    missing = wanted - (float(below[last - 1]) if last else 0.0)
    edge = last + missing / float(seen.counts[last])
    return min(edge * seen.upper / len(seen.counts), seen.amax)


def mse(seen: Distribution) -> float:
    """The range with the least mean squared error of rounding and clipping together."""
    candidates = seen.amax * np.arange(_CANDIDATES // 16, _CANDIDATES + 1) / _CANDIDATES
    errors = [_squared_error(seen, float(amax)) for amax in candidates]
    return float(candidates[int(np.argmin(errors))])


def entropy(seen: Distribution) -> float:
    """The range whose 128 levels lose the least information (Migacz 2017, "8-bit inference with TensorRT").

    Minimises the Kullback-Leibler divergence of the quantised distribution from the clipped one.
    """
    counts = seen.counts.astype(np.float64)
    counts[0] = counts[1]  # exact zeros are quantised without error whatever the range; so does NVIDIA's tool
    top = math.ceil(seen.amax / seen.upper * len(counts))
    first = min(LEVELS + 1, top)
    lengths = np.unique(np.linspace(first, top, num=min(256, top - first + 1)).astype(int))
    losses = [_divergence(counts, int(length)) for length in lengths]
    best = int(lengths[int(np.argmin(losses))])
    return min(best * seen.upper / len(counts), seen.amax)


METHODS: dict[str, Callable[[Distribution], float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""The ways to choose a range, by name."""


def choose_range(seen: Distribution, method: str) -> float:
    """The range by the method of that name.

    Raises:
        CalibrationError: There is no such method.
    """
    if method not in METHODS:
        raise CalibrationError(f"no range method {method!r}", hint=f"one of: {', '.join(METHODS)}")
    return METHODS[method](seen)


def scale_for(amax: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The step of INT8 for each amax, rounded up to a number that FP16 holds.

    So the FP32 and the FP16 form of a graph have the same scales to the last bit, and `amax` still fits.
    """
    wanted = np.maximum(np.asarray(amax, np.float64) / LEVELS, SMALLEST_SCALE)
    half = wanted.astype(np.float16)
    below = half.astype(np.float64) < wanted
    return np.where(below, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)


def _squared_error(seen: Distribution, amax: float) -> float:
    """Summed over the histogram, each bin standing for its centre."""
    step = amax / LEVELS
    rounded = np.minimum(np.round(seen.centres / step), LEVELS) * step
    return float(seen.counts @ (seen.centres - rounded) ** 2)


def _divergence(counts: Float, length: int) -> float:
    """KL(P || Q) in nats: P the first bins with all that is clipped in the last, Q the same in 128 levels."""
    p = counts[:length].copy()
    p[-1] += counts[length:].sum()
    group = np.arange(length) * (LEVELS + 1) // length
    is_used = counts[:length] > 0
    mass = np.bincount(group, weights=counts[:length], minlength=LEVELS + 1)
    used = np.bincount(group, weights=is_used, minlength=LEVELS + 1)
    q = np.where(is_used, (mass / np.maximum(used, 1))[group], 0.0)
    p, q = p / p.sum(), q / max(q.sum(), 1.0)
    both = p > 0
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))))
