"""The metrics of one image: names, what they mean, and how they are computed.

All are taken on 8-bit pixels against the true HR image, never against an autoencoder's decode of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.features import FeatureDistance
from edge_sr.evidence import invention_rates
from edge_sr.image import downsample, to_unit
from edge_sr.metrics import (
    fft_sharpness,
    laplacian_variance,
    lr_consistency,
    ms_ssim,
    nrmse,
    psnr,
    radial_power_spectrum,
    ssim,
)
from export.perceptual import LPIPS

__all__ = ["FEATURES_NAME", "LPIPS_NAME", "LPIPS_VERSION", "METRICS", "SPECTRUM", "Judge", "Metric", "Values"]

Gray = npt.NDArray[np.uint8]
Values = dict[str, float]

LPIPS_NAME = "lpips"
FEATURES_NAME = "feature_distance"
LPIPS_VERSION = "squeeze, version 0.1"
SPECTRUM_BANDS = 10  # rings up to the Nyquist frequency
SPECTRUM = tuple(f"power_to_{n / SPECTRUM_BANDS:.1f}_nyquist_db" for n in range(1, SPECTRUM_BANDS))
"""Mean power in rings of a tenth of the Nyquist frequency, but for the last: compare with the HR image's."""
CEILING_DB = 100.0
"""What equal images are given for an infinite PSNR. One gray level in one of 256x256 pixels is 96.3 dB."""


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    Attributes:
        label: Its name in tables, with the unit.
        better: 1 where more is better, -1 where less is, 0 where neither: compare with the true HR image's.
        digits: Decimals in tables.
    """

    label: str
    better: int
    digits: int


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "psnr_db": Metric("PSNR, dB", 1, 2),
        "ssim": Metric("SSIM", 1, 4),
        "ms_ssim": Metric("MS-SSIM", 1, 4),
        "nrmse": Metric("NRMSE", -1, 4),
        LPIPS_NAME: Metric("LPIPS", -1, 4),
        FEATURES_NAME: Metric("feature distance", -1, 4),
        "laplacian_variance": Metric("Laplacian variance", 0, 1),
        "fft_sharpness_db": Metric("FFT sharpness, dB", 0, 2),
        "lr_consistency_db": Metric("LR consistency, dB", 0, 2),
        "hallucinated_percent": Metric("hallucinated, %", -1, 2),
        "lost_percent": Metric("lost, %", -1, 2),
    }
)


class Judge:
    """Scores images against their HR and LR.

    Args:
        scale: HR pixels an LR pixel, along each axis.
        degradation: The operator of `edge_sr.image.downsample` for the consistency with the LR image.
        lpips: None leaves LPIPS out.
        features: A second judge; None leaves it out.
        has_spectrum: Whether the power in each ring of frequencies is taken too.
    """

    def __init__(
        self,
        *,
        scale: int,
        degradation: str,
        lpips: LPIPS | None,
        features: FeatureDistance | None = None,
        has_spectrum: bool = False,
    ) -> None:
        self._scale, self._degradation, self._lpips = scale, degradation, lpips
        self._features, self._has_spectrum = features, has_spectrum

    def compare(
        self, images: Sequence[Gray], hr: Gray, lr: Gray, *, reconstruction: Gray | None = None
    ) -> list[Values]:
        """Every metric of several images of one scene.

        They are scored together so that what depends on the HR image alone is computed once.

        Args:
            images: (H, W) uint8 each.
            hr: (H, W) uint8.
            lr: (h, w) uint8.
            reconstruction: (H, W) uint8, the autoencoder's decode of the HR image, beyond whose error a pixel
                counts as hallucinated or lost (`edge_sr.evidence.invention_rates`); None leaves both out.
        """
        distances, others = self.distances(images, hr), _distances(self._features, images, hr)
        return [
            {
                "psnr_db": min(CEILING_DB, psnr(image, hr)),
                "ssim": ssim(image, hr),
                "ms_ssim": ms_ssim(image, hr),
                "nrmse": nrmse(image, hr),
                **({LPIPS_NAME: distance} if self._lpips else {}),
                **({FEATURES_NAME: other} if self._features else {}),
                **self.inspect(image, lr),
                **({} if reconstruction is None else _invented(image, hr, reconstruction)),
            }
            for image, distance, other in zip(images, distances, others, strict=True)
        ]

    def inspect(self, image: Gray, lr: Gray) -> Values:
        """The metrics that need no HR image, which the HR image itself has too."""
        reduced = downsample(image.astype(np.float32), self._scale, self._degradation)
        power = radial_power_spectrum(image, bands=SPECTRUM_BANDS) if self._has_spectrum else ()
        return {
            "laplacian_variance": laplacian_variance(image),
            "fft_sharpness_db": fft_sharpness(image),
            "lr_consistency_db": min(CEILING_DB, lr_consistency(reduced, lr)),
            **{name: float(value) for name, value in zip(SPECTRUM, power, strict=False)},
        }

    def distances(self, images: Sequence[Gray], hr: Gray) -> list[float]:
        """LPIPS of each image; NaN for each where it is left out.

        Args:
            images: (H, W) uint8 each.
            hr: (H, W) uint8.
        """
        return _distances(self._lpips, images, hr)


def _distances(measure: LPIPS | FeatureDistance | None, images: Sequence[Gray], hr: Gray) -> list[float]:
    """The distance of each image from the HR image; NaN for each where there is no measure."""
    if measure is None:
        return [float("nan")] * len(images)
    stack = torch.from_numpy(to_unit(np.stack(images))[:, None])
    reference = torch.from_numpy(to_unit(hr)[None, None])  # broadcast: its features once
    with torch.inference_mode():
        return [float(value) for value in measure(stack, reference)]


def _invented(image: Gray, hr: Gray, reconstruction: Gray) -> Values:
    """Hallucination and loss rates, as latent-sr defines them."""
    rates = invention_rates(image, hr, reconstruction)
    return {"hallucinated_percent": 100 * rates.hallucination, "lost_percent": 100 * rates.loss}
