"""The images that a bundle is judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.records import DataFacts
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.image import from_unit
from export.data import load_pairs

__all__ = ["Pairs", "read_pairs"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]


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
