"""edge-sr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision


def load(folder: Path, threads: int, precision: str, name: str) -> Upscaler:
    """Opens a bundle."""
    backend = open_backend(name, threads=threads)
    return Upscaler(Bundle.open(folder), backend, precision=Precision(precision))


def upscale(upscaler: Upscaler, image: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """image: (C, h, w) of any size."""
    diffusion = upscaler.bundle.diffusion
    return upscaler.upscale(image, preset=diffusion.presets[diffusion.default], seed=seed).mean
