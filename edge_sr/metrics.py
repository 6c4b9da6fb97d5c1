"""Image quality in numpy: PSNR, SSIM, MS-SSIM, NRMSE, sharpness, and consistency with the input.

Every function takes 2-D arrays of any numeric dtype and computes in float64. Values are taken to lie in the
8-bit range [0, 255] unless ``data_range`` says otherwise: name the range beside every number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import ImageError

__all__ = [
    "MS_SSIM_MIN_SIDE",
    "fft_sharpness",
    "laplacian_variance",
    "lr_consistency",
    "ms_ssim",
    "nrmse",
    "psnr",
    "radial_power_spectrum",
    "ssim",
]

_Image = NDArray[Any]
_Plane = NDArray[np.float64]

_WINDOW = 11  # taps of the Gaussian window, Wang et al. 2004
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik 2003, section 3.2

MS_SSIM_MIN_SIDE = (_WINDOW - 1) * 2 ** (len(_MS_WEIGHTS) - 1) + 1
"""Shortest side in pixels that `ms_ssim` takes: 161."""

_POWER_FLOOR = 1e-12  # keeps the logarithm of an empty band finite: -120 dB


def psnr(a: _Image, b: _Image, *, data_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / mean squared error).

    Args:
        a: (H, W).
        b: (H, W).
        data_range: Largest possible value less the smallest.

    Returns:
        Decibels; infinity for equal images.

    Raises:
        ImageError: The images differ in shape, are not 2-D, or hold NaN or infinity.
    """
    x, y = _pair(a, b, data_range)
    error = float(np.mean((x - y) ** 2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def nrmse(a: _Image, b: _Image, *, data_range: float = 255.0) -> float:
    """Root of the mean squared error divided by the data range.

    Others divide by the norm, the mean or the extent of the reference: not comparable with this.

    Args:
        a: (H, W).
        b: (H, W).
        data_range: Largest possible value less the smallest.

    Returns:
        A fraction, 0 for equal images.

    Raises:
        ImageError: The images differ in shape, are not 2-D, or hold NaN or infinity.
    """
    x, y = _pair(a, b, data_range)
    return math.sqrt(float(np.mean((x - y) ** 2))) / data_range


def ssim(a: _Image, b: _Image, *, data_range: float = 255.0) -> float:
    """Structural similarity (Wang et al. 2004, equation 13).

    Gaussian window of 11 pixels and sigma 1.5, population covariance, averaged over the pixels whose window
    lies inside the image: scikit-image's ``gaussian_weights=True, use_sample_covariance=False``.

    Args:
        a: (H, W), at least 11 pixels a side.
        b: (H, W).
        data_range: Largest possible value less the smallest.

    Returns:
        At most 1, which equal images reach.

    Raises:
        ImageError: The images differ in shape, are not 2-D, too small, or hold NaN or infinity.
    """
    x, y = _pair(a, b, data_range)
    _require_side(x, _WINDOW, "SSIM")
    return _similarity(x, y, data_range)[0]


def ms_ssim(a: _Image, b: _Image, *, data_range: float = 255.0) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003, equation 7, five scales).

    Between scales, means of 2x2 pixels; an odd last row or column is repeated. A negative mean contrast
    at a scale counts as 0, since its fractional power is not real.

    Args:
        a: (H, W), at least `MS_SSIM_MIN_SIDE` pixels a side: scales are never left out.
        b: (H, W).
        data_range: Largest possible value less the smallest.

    Returns:
        From 0 to 1, which equal images reach.

    Raises:
        ImageError: The images differ in shape, are not 2-D, too small, or hold NaN or infinity.
    """
    x, y = _pair(a, b, data_range)
    _require_side(x, MS_SSIM_MIN_SIDE, "MS-SSIM")
    result: float = 1.0
    for weight in _MS_WEIGHTS[:-1]:
        result *= math.pow(max(_similarity(x, y, data_range)[1], 0.0), weight)
        x, y = _halve(x), _halve(y)
    return result * math.pow(max(_similarity(x, y, data_range)[0], 0.0), _MS_WEIGHTS[-1])


def laplacian_variance(image: _Image) -> float:
    """Variance of the 4-neighbour Laplacian, a no-reference measure of sharpness (and of noise).

    Borders are mirrored without the edge pixel, as OpenCV's ``Laplacian(image, CV_64F).var()``.
    It grows with the square of the values: compare only images in the same range.

    Args:
        image: (H, W), at least 2 pixels a side.

    Returns:
        Squared units of the image.

    Raises:
        ImageError: The image is not 2-D, too small, or holds NaN or infinity.
    """
    plane = _plane(image)
    _require_side(plane, 2, "the Laplacian")
    p = np.pad(plane, 1, mode="reflect")
    return float(np.var(p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * plane))


def fft_sharpness(image: _Image, *, cutoff: float = 0.125) -> float:
    """Mean log-magnitude of the spectrum above a cutoff frequency.

    The mean of 10 log10 P over all frequencies whose radius is above ``cutoff``, corners included, where P is
    the windowed periodogram of `radial_power_spectrum`: white noise of standard deviation s gives about
    20 log10 s - 2.5 dB (the mean logarithm of an exponential variate). Figures published as
    "FFT sharpness" elsewhere use definitions of their own and are not comparable.

    Args:
        image: (H, W), at least 8 pixels a side.
        cutoff: Cycles per pixel, in [0, 0.5). The default is the Nyquist frequency of a four times smaller
            image: what lies above was not in the input of a x4 model.

    Returns:
        Decibels relative to one unit of the image; -120 for nothing at all.

    Raises:
        ImageError: The image is not 2-D, too small, or holds NaN or infinity, or the cutoff is out of range.
    """
    power, radius = _periodogram(image)
    if not 0 <= cutoff < 0.5:
        raise ImageError(f"cutoff is {cutoff} cycles per pixel, wanted 0 up to 0.5")
    return float(np.mean(10 * np.log10(power[radius > cutoff] + _POWER_FLOOR)))


def radial_power_spectrum(image: _Image, *, bands: int = 16) -> _Plane:
    """Mean power in rings of equal width, from zero up to the Nyquist frequency.

    The mean is removed, the image is multiplied by a Hann window (so that its borders, which do not meet, do
    not look like detail), and the periodogram |FFT|^2 is divided by the sum of the squared window: white
    noise of standard deviation s gives 20 log10 s in every band. Frequencies beyond 0.5 (the corners) are
    left out.

    Args:
        image: (H, W), at least 8 pixels a side.
        bands: Number of rings, from 1 to a quarter of the shorter side.

    Returns:
        (bands,) float64, decibels relative to one squared unit of the image, low frequencies first.

    Raises:
        ImageError: The image is not 2-D, too small for the bands, or holds NaN or infinity.
    """
    power, radius = _periodogram(image)
    if not 1 <= bands <= min(power.shape) // 4:
        raise ImageError(f"{bands} bands were asked of {power.shape[0]}x{power.shape[1]} pixels")
    inside = radius < 0.5
    ring = (radius[inside] * 2 * bands).astype(np.intp)
    total = np.bincount(ring, weights=power[inside], minlength=bands)
    decibels: _Plane = 10 * np.log10(total / np.bincount(ring, minlength=bands) + _POWER_FLOOR)
    return decibels


def lr_consistency(downsampled: _Image, lr: _Image, *, data_range: float = 255.0) -> float:
    """PSNR of the downsampled result against the input it was made from; needs no ground truth.

    Args:
        downsampled: (h, w), the result brought to the input's size by the declared operator.
        lr: (h, w), the input.
        data_range: Largest possible value less the smallest.

    Returns:
        Decibels; infinity where they are equal.

    Raises:
        ImageError: The images differ in shape, are not 2-D, or hold NaN or infinity.
    """
    return psnr(downsampled, lr, data_range=data_range)


def _plane(image: _Image) -> _Plane:
    """A 2-D float64 copy of the image, checked to be finite."""
    plane = np.asarray(image, dtype=np.float64)
    if plane.ndim != 2 or not plane.size:
        raise ImageError(f"a metric needs a 2-D image, got shape {plane.shape}")
    if not np.isfinite(plane).all():
        raise ImageError("a metric needs finite values, the image holds NaN or infinity")
    return plane


def _pair(a: _Image, b: _Image, data_range: float) -> tuple[_Plane, _Plane]:
    """Both images as float64 planes of one shape, and the range checked."""
    x, y = _plane(a), _plane(b)
    if x.shape != y.shape:
        raise ImageError(f"images of {x.shape} and {y.shape} cannot be compared")
    if not (math.isfinite(data_range) and data_range > 0):
        raise ImageError(f"data_range is {data_range}, wanted a positive number")
    return x, y


def _require_side(plane: _Plane, side: int, metric: str) -> None:
    """Refuse an image with a side shorter than ``side``."""
    if min(plane.shape) < side:
        height, width = plane.shape
        raise ImageError(f"{metric} needs at least {side} pixels a side, got {height}x{width}")


def _similarity(x: _Plane, y: _Plane, data_range: float) -> tuple[float, float]:
    """Mean SSIM, and the mean of its contrast-structure factor alone."""
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_x, mean_y = _gaussian(x), _gaussian(y)
    var_x, var_y = _gaussian(x * x) - mean_x**2, _gaussian(y * y) - mean_y**2
    covariance = _gaussian(x * y) - mean_x * mean_y
    contrast = (2 * covariance + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float(np.mean(luminance * contrast)), float(np.mean(contrast))


def _gaussian(plane: _Plane) -> _Plane:
    """Filter with the SSIM window, keeping only pixels whose window lies inside."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    taps = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    taps /= taps.sum()
    rows, columns = (side - _WINDOW + 1 for side in plane.shape)
    down = sum((tap * plane[i : i + rows] for i, tap in enumerate(taps)), start=np.zeros(1))
    return sum((tap * down[:, i : i + columns] for i, tap in enumerate(taps)), start=np.zeros(1))


def _halve(plane: _Plane) -> _Plane:
    """Means of 2x2 pixels; an odd last row or column is repeated."""
    even = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    means: _Plane = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return means


def _periodogram(image: _Image) -> tuple[_Plane, _Plane]:
    """Windowed power and radius in cycles per pixel of every frequency."""
    plane = _plane(image)
    _require_side(plane, 8, "a spectrum")
    height, width = plane.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2 / np.sum(window**2)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    return power, radius
