"""The images that a bundle is judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.records import DataFacts
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.image import DOWNSAMPLE_OPERATORS, downsample, from_unit, to_unit
from export.data import load_pairs

__all__ = ["REDUCTIONS", "Pairs", "read_pairs", "reduce_again"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

NOISY = "area-noise-jpeg80"
NOISE_LEVELS, JPEG_QUALITY = 3.0, 80
REDUCTIONS = (*DOWNSAMPLE_OPERATORS, NOISY)
"""How LR images can be made of HR images: the operators, and area with noise of 3 gray levels and JPEG 80."""


@dataclass(frozen=True)
class Pairs:
    """HR and LR images of the same scenes.

    Attributes:
        name: The folder's name.
        lr, hr: (N, 1, t, t) and (N, 1, T, T) float32 in [-1, 1].
        names: Of the files.
    """

    name: str
    lr: Float
    hr: Float
    names: tuple[str, ...]

    @property
    def lr_pixels(self) -> Gray:
        """(N, t, t) uint8."""
        return np.asarray(from_unit(self.lr[:, 0], 8), dtype=np.uint8)

    @property
    def hr_pixels(self) -> Gray:
        """(N, T, T) uint8."""
        return np.asarray(from_unit(self.hr[:, 0], 8), dtype=np.uint8)

    def facts(self, *, degradation: str, operator: str) -> DataFacts:
        """What a result says of them; the digest is over the pixels, LR first."""
        digest = hashlib.sha256(self.lr_pixels.tobytes() + self.hr_pixels.tobytes()).hexdigest()
        return DataFacts(
            name=self.name, images=self.names, sha256=digest, degradation=degradation, operator=operator
        )


def read_pairs(folder: Path, bundle: Bundle, *, limit: int = 0) -> Pairs:
    """Reads the pairs of a folder, the first ones by name.

    Args:
        folder: With hr_256/ and lr_64/.
        bundle: What will be run on them.
        limit: Images at most; 0 for all.

    Raises:
        ConfigError: There are none, one cannot be read, or they are not whole tiles of the bundle.
    """
    lr, hr, names = load_pairs(folder)
    small, large = bundle.manifest.tile, bundle.manifest.tile * bundle.manifest.scale
    if lr.shape[-2:] != (small, small) or hr.shape[-2:] != (large, large):
        found = " and ".join(f"{a.shape[-1]}x{a.shape[-2]}" for a in (lr, hr))
        raise ConfigError(
            f"wanted pairs of {small}x{small} and {large}x{large} pixels, got {found}",
            hint="quality judges whole tiles, without the blending of several",
        )
    kept = slice(limit or None)
    return Pairs(folder.resolve().name, lr[kept], hr[kept], tuple(names[kept]))


def reduce_again(pairs: Pairs, how: str, *, scale: int) -> Pairs:
    """The same HR images with LR images that are made of them; noise is the same for the same image.

    Args:
        pairs: Their own LR images are dropped.
        how: One of `REDUCTIONS`.
        scale: By how much.
    """
    lr = np.stack([_reduced(hr, how, scale, index) for index, hr in enumerate(pairs.hr_pixels)])
    return replace(pairs, name=f"{pairs.name}-{how}", lr=to_unit(lr)[:, None])


def _reduced(hr: Gray, how: str, scale: int, index: int) -> Gray:
    operator = "area" if how == NOISY else how
    small = downsample(hr.astype(np.float32), scale, operator)
    if how == NOISY:
        small += np.random.default_rng(index).normal(0, NOISE_LEVELS, small.shape).astype(np.float32)
    pixels: Gray = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    return _through_jpeg(pixels) if how == NOISY else pixels


def _through_jpeg(pixels: Gray) -> Gray:
    _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), np.uint8)
