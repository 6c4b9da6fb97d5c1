"""Noise that belongs to a place: two tiles that share a latent pixel see the same value there.

It depends on the seed, the sample, the step and the absolute position alone, whatever the tiling, the batch
or the order of the work.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import UsageError

__all__ = ["NOISE_BLOCK", "position_noise", "position_noise_into"]

NOISE_BLOCK = 32
"""Side of the square blocks that noise is drawn in, in latent pixels. Changing it changes every result."""

_MASK64 = (1 << 64) - 1

# Taylor coefficients of sin(x), odd powers 17 down to 3: wrong by at most 5e-14 for |x| <= pi/2.
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1))


def position_noise(
    seed: int, *, step: int, channels: int, y0: int, x0: int, height: int, width: int, sample: int = 0
) -> NDArray[np.float32]:
    """Standard normal noise for one window of the latent plane.

    Args:
        seed: 64-bit unsigned integer.
        step: Which draw of the trajectory, from 0; every step has noise of its own.
        channels: Latent channels, at least 1. Channel c is the same however many there are.
        y0: First row in latent pixels of the whole image; may be negative.
        x0: First column; may be negative.
        height: Rows.
        width: Columns.
        sample: Which of several samples of one image, 64-bit unsigned integer.

    Returns:
        (channels, height, width) float32, finite, at most 6.8 in size.

    Raises:
        UsageError: seed, sample or step is not a 64-bit unsigned integer.
    """
    out = np.empty((channels, height, width), np.float32)
    position_noise_into(out, seed, step=step, y0=y0, x0=x0, sample=sample)
    return out


def position_noise_into(
    out: NDArray[np.float32], seed: int, *, step: int, y0: int, x0: int, sample: int = 0
) -> None:
    """Fill a window with the noise that belongs to its place, as `position_noise`.

    The latent plane is divided into blocks of `NOISE_BLOCK` pixels a side. A block's random words come from
    Philox4x64-10 (Salmon et al. 2011) with key (seed, sample) and counter (0, block row, block column, step),
    so no two share any; the words of the window become normal deviates by Box and Muller (1958). numpy
    promises that Philox's raw words never change (NEP 19), and only IEEE-exact operations and one logarithm
    follow, so results are the same across numpy versions, and across processors but for a rounding of the
    logarithm that almost never reaches float32.

    Args:
        out: (channels, height, width) float32, written in place.
        seed: 64-bit unsigned integer.
        step: Which draw of the trajectory.
        y0: First row in latent pixels of the whole image; may be negative.
        x0: First column; may be negative.
        sample: Which of several samples of one image.

    Raises:
        UsageError: seed, sample or step is not a 64-bit unsigned integer.
    """
    for name, value in (("seed", seed), ("sample", sample), ("step", step)):
        if not 0 <= value <= _MASK64:
            raise UsageError(f"{name} is {value}, wanted a 64-bit unsigned integer (0 to {_MASK64})")
    key = np.array([seed, sample], np.uint64)
    words = np.empty(((out.shape[0] + 1) // 2, *out.shape[1:]), np.uint64)
    for by, rows, in_block_y in _block_spans(y0, out.shape[1]):
        for bx, columns, in_block_x in _block_spans(x0, out.shape[2]):
            counter = np.array([0, by & _MASK64, bx & _MASK64, step], np.uint64)
            raw = np.random.Philox(key=key, counter=counter).random_raw(len(words) * NOISE_BLOCK**2)
            block = raw.reshape(-1, NOISE_BLOCK, NOISE_BLOCK)
            words[:, rows, columns] = block[:, in_block_y, in_block_x]
    _box_muller(words, out)


def _block_spans(start: int, length: int) -> list[tuple[int, slice, slice]]:
    """For each block that [start, start + length) meets: its index, the part of the window, of the block."""
    spans = []
    for block in range(start // NOISE_BLOCK, -(-(start + length) // NOISE_BLOCK)):
        origin = block * NOISE_BLOCK
        first, last = max(start, origin), min(start + length, origin + NOISE_BLOCK)
        spans.append((block, slice(first - start, last - start), slice(first - origin, last - origin)))
    return spans


def _box_muller(words: NDArray[np.uint64], out: NDArray[np.float32]) -> None:
    """Turn each word into two deviates: even channels take the cosine, odd channels the sine.

    The upper half of a word gives the radius. The lower gives an angle in (-pi/2, pi/2), whose sine is a
    polynomial, and one bit for the sign of the cosine, a square root: faster than libm, same everywhere.
    """
    radius = (words >> np.uint64(32)).astype(np.float64)
    radius += 0.5
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    lower = words.astype(np.uint32)  # keeps the lower half
    sine = _sine_of_half_turn(lower >> np.uint32(1))
    cosine = np.sqrt(np.maximum(1.0 - sine * sine, 0.0))
    sine *= radius
    cosine *= radius
    cosine *= 1.0 - 2.0 * (lower & np.uint32(1))
    out[0::2] = cosine
    out[1::2] = sine[: out.shape[0] // 2]


def _sine_of_half_turn(turn: NDArray[np.uint32]) -> NDArray[np.float64]:
    """sin(pi * ((turn + 0.5) / 2**31 - 0.5)) for 31-bit integers."""
    angle = turn.astype(np.float64)
    angle += 0.5 - 2.0**30
    angle *= np.pi * 2.0**-31
    square = angle * angle
    sine: NDArray[np.float64] = square * _SINE[0]
    for coefficient in _SINE[1:]:
        sine += coefficient
        sine *= square
    sine += 1.0
    sine *= angle
    return sine
