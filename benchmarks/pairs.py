"""The images that a bundle is judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.records import DataFacts
from edge_sr.bundle import Bundle
from edge_sr.image import DOWNSAMPLE_OPERATORS, downsample, from_unit, split_luminance, to_unit
from export.data import load_pairs, load_squares

__all__ = ["REDUCTIONS", "Pairs", "read_pairs", "reduce_all", "to_gray"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

NOISY = "area-noise-jpeg80"
NOISE_LEVELS, JPEG_QUALITY = 3.0, 80
REDUCTIONS = (*DOWNSAMPLE_OPERATORS, NOISY)
"""How LR images can be made of HR images: the operators, and area with noise of 3 gray levels and JPEG 80."""


@dataclass(frozen=True)
class Pairs:
    """HR and LR images of the same scenes, as a model reads them: gray, or RGB; judged is the luminance.

    Attributes:
        name: The folder's name.
        lr, hr: (N, C, t, t) and (N, C, T, T) float32 in [-1, 1].
        names: Of the files.
    """

    name: str
    lr: Float
    hr: Float
    names: tuple[str, ...]

    @property
    def lr_pixels(self) -> Gray:
        """(N, t, t) uint8."""
        return to_gray(self.lr)

    @property
    def hr_pixels(self) -> Gray:
        """(N, T, T) uint8."""
        return to_gray(self.hr)

    def facts(self, *, degradation: str, operator: str) -> DataFacts:
        """What a result says of them; the digest is over the pixels, LR first."""
        digest = hashlib.sha256(self.lr_pixels.tobytes() + self.hr_pixels.tobytes()).hexdigest()
        return DataFacts(
            name=self.name, images=self.names, sha256=digest, degradation=degradation, operator=operator
        )


def to_gray(images: Float) -> Gray:
    """(N, C, H, W) in [-1, 1] -> (N, H, W) uint8, rounded as an image file would be; the luminance of RGB."""
    pixels = np.asarray(from_unit(images, 8), dtype=np.uint8)
    if images.shape[1] == 1:
        return pixels[:, 0]
    return np.stack([split_luminance(image)[0] for image in pixels.transpose(0, 2, 3, 1)])


def read_pairs(folder: Path, bundle: Bundle, *, limit: int = 0, reduction: str | None = None) -> Pairs:
    """Reads the pairs of a folder, the first ones by name, in the bundle's colours: whole tiles of it.

    Args:
        folder: With hr_256/ and lr_64/, for tiles of 64 that become 256; named by the sides.
        bundle: What will be run on them.
        limit: Images at most; 0 for all.
        reduction: Of `REDUCTIONS`, to make the LR images of the HR images; None reads the folder's own.

    Raises:
        ConfigError: There are none, or one is of another size than its folder's name says.
        ImageError: One cannot be read.
    """
    manifest, name, kept = bundle.manifest, folder.resolve().name, slice(limit or None)
    side, channels = manifest.tile * manifest.scale, manifest.channels
    if reduction is None:
        lr, hr, names = load_pairs(folder, channels=channels, lr_side=manifest.tile, hr_side=side)
        return Pairs(name, lr[kept], hr[kept], tuple(names[kept]))
    hr, names = load_squares(folder, f"hr_{side}", side=side, channels=channels)
    lr = reduce_all(hr[kept], reduction, scale=manifest.scale)
    return Pairs(f"{name}-{reduction}", lr, hr[kept], tuple(names[kept]))


def reduce_all(hr: Float, how: str, *, scale: int) -> Float:
    """LR images of HR images, in [-1, 1] both; noise is the same for the same place in the row.

    Args:
        hr: (N, C, T, T).
        how: One of `REDUCTIONS`.
        scale: By how much.
    """
    return to_unit(np.stack([_reduced(image, how, scale, i) for i, image in enumerate(from_unit(hr, 8))]))


def _reduced(hr: Gray, how: str, scale: int, index: int) -> Gray:
    """(C, T, T) -> (C, t, t)."""
    operator = "area" if how == NOISY else how
    small = np.stack([downsample(plane, scale, operator) for plane in hr.astype(np.float32)])
    if how == NOISY:
        small += np.random.default_rng(index).normal(0, NOISE_LEVELS, small.shape).astype(np.float32)
    pixels: Gray = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    return _through_jpeg(pixels) if how == NOISY else pixels


def _through_jpeg(planes: Gray) -> Gray:
    """Gray or RGB, (C, t, t), as it comes back from a file; OpenCV has blue first."""
    pixels = np.ascontiguousarray(planes[::-1].transpose(1, 2, 0))
    _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    read = np.asarray(cv2.imdecode(file, cv2.IMREAD_UNCHANGED), np.uint8).reshape(pixels.shape)
    return np.ascontiguousarray(read.transpose(2, 0, 1)[::-1])
