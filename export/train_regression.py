"""Trains the LR encoder's regression alone: the expected HR image, which every later stage builds on.

Also a model of its own, for boards too weak for diffusion, and the reference row of what a mean can reach.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_sr.errors import ConfigError
from export.data import PairStream, load_folder, load_pairs
from export.models.vae import LREncoder, VAEConfig
from export.train import Batch, load_weights, mean_psnr, sheet

ROUNDING = 0.02  # in [-1, 1]: below it the loss is a squared error, which a mean minimises; above it, L1


class Regression(nn.Module):
    """The LR encoder, as it is trained here: its mean image alone."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.lr_encoder = LREncoder(config)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """lr: (N, C, h, w) in [-1, 1] -> (N, C, 4h, 4w)."""
        mean, _ = self.lr_encoder.regress(lr)
        return mean


class RegressionTask:
    """Charbonnier's distance (Lai et al. 2017) of the mean image."""

    def __init__(
        self,
        config: VAEConfig,
        *,
        train: Path,
        val: Path,
        batch: int = 8,
        crop: int = 128,
        seed: int = 0,
        views: frozenset[str] = frozenset(),
    ) -> None:
        """Reads the images.

        Args:
            config: Of the autoencoder that the LR encoder is part of.
            train: A folder of originals.
            val: A folder of pairs.
            batch: Crops an iteration.
            crop: Their HR side in pixels, a multiple of 8, at most 256.
            seed: Where every random choice comes from.
            views: Where not empty, only these views of the index beside `train`.

        Raises:
            ConfigError: A folder lacks what it should hold.
            ImageError: An image that cannot be read, or is too small.
        """
        torch.manual_seed(seed)
        self.model: nn.Module = Regression(config)
        self._config = config
        self._batch, self._crop, self._seed = batch, crop, seed
        self._images = load_folder(train, views=views)
        self._lr, self._hr = (torch.from_numpy(a) for a in load_pairs(val)[:2])

    def config(self) -> dict[str, Any]:
        """The configuration of the autoencoder."""
        return self._config.to_dict()

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Pairs: lr, hr."""
        stream = PairStream(self._images, batch=self._batch, crop=self._crop, seed=self._seed, start=start)
        for lr, hr in stream:
            yield torch.from_numpy(lr), torch.from_numpy(hr)

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """The distance, and PSNR-like mean squared error for the curve."""
        lr, hr = batch
        error = (model(lr) - hr).float()
        charbonnier = (error.square() + ROUNDING**2).sqrt().mean()
        return {"loss": charbonnier, "mse": error.detach().square().mean()}

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """PSNR of the mean image."""
        device = next(model.parameters()).device
        mean = torch.cat([model(lr.to(device)).cpu() for lr in self._lr.split(8)])
        return {"psnr": mean_psnr(mean, self._hr)}, sheet([self._lr, mean, self._hr], rows=4)


def load_regression(folder: Path, lr_encoder: LREncoder) -> None:
    """Puts the weights of a run of train-regression into an LR encoder.

    Raises:
        ConfigError: The folder holds no such run, or one of another size.
    """
    _, weights = load_weights(folder)
    try:
        lr_encoder.load_state_dict({n.removeprefix("lr_encoder."): v for n, v in weights.items()})
    except RuntimeError as error:
        raise ConfigError(f"{folder} is no run of train-regression: {str(error).splitlines()[0]}") from error
