"""Trains the autoencoder, and the condition that the UNet reads, on a regression that is trained or not."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from export.data import PairStream, load_folder, load_pairs
from export.models.vae import VAE, VAEConfig, kl_per_pixel
from export.perceptual import LPIPS
from export.train import Batch, mean_psnr, sheet
from export.train_regression import load_regression


@dataclass(frozen=True)
class VAELoss:
    """Weights of the terms.

    Attributes:
        kl: Of the KL divergence, in nats an HR pixel, against an L1 distance of images in [-1, 1]: small, so
            that the latent keeps what lowers the error, and drops what costs more than it tells.
        kl_warmup: Share of the run over which that weight rises from zero.
        perceptual: Of LPIPS, where its weights are given.
        guess: Of the squared error of the latent's mean as a condition with blocks foretells it; teaches the
            condition alone.
    """

    kl: float = 3e-4
    kl_warmup: float = 0.3
    perceptual: float = 0.05
    guess: float = 0.1


class VAETask:
    """L1 and LPIPS of the output, KL divergence of the latent, and how well the condition foretells it."""

    def __init__(
        self,
        config: VAEConfig,
        *,
        train: Path,
        val: Path,
        lpips: Path | None,
        batch: int = 16,
        crop: int = 128,
        seed: int = 0,
        views: frozenset[str] = frozenset(),
        regression: Path | None = None,
        weights: VAELoss | None = None,
    ) -> None:
        """Reads the images.

        Args:
            config: Of the autoencoder.
            train: A folder of originals.
            val: A folder of pairs.
            lpips: A folder of LPIPS weights; without it, there is no perceptual term.
            batch: Crops an iteration.
            crop: Their HR side in pixels, a multiple of 8, at most 256.
            seed: Where every random choice comes from.
            views: Where not empty, only these views of the index beside `train`.
            regression: A run of train-regression, whose weights are taken and stay as they are; where None,
                the regression is trained with the rest.
            weights: Of the terms; the defaults where None.

        Raises:
            ConfigError: A folder lacks what it should hold.
            ImageError: An image that cannot be read, or is too small.
        """
        torch.manual_seed(seed)
        vae = VAE(config)
        self.model: nn.Module = vae
        self._is_frozen = regression is not None
        if regression is not None:
            load_regression(regression, vae.lr_encoder)
            vae.lr_encoder.freeze_regression()
        self._vae_config = config
        self._batch, self._crop, self._seed = batch, crop, seed
        self._images = load_folder(train, views=views)
        self._lr, self._hr = (torch.from_numpy(a) for a in load_pairs(val)[:2])
        self._lpips = LPIPS(lpips) if lpips else None
        self._weights = weights or VAELoss()

    def config(self) -> dict[str, Any]:
        """The configuration of the model."""
        return self._vae_config.to_dict()

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Pairs: lr, hr."""
        stream = PairStream(self._images, batch=self._batch, crop=self._crop, seed=self._seed, start=start)
        for lr, hr in stream:
            yield torch.from_numpy(lr), torch.from_numpy(hr)

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """The terms, and their weighted sum."""
        lr, hr = batch
        out = model(lr, hr)
        terms = {
            "l1_mean": functional.l1_loss(out["mean"], hr),
            "l1": functional.l1_loss(out["output"], hr),
            "kl": kl_per_pixel(out["mu"], out["log_variance"], hr.shape[-1] * hr.shape[-2]),
        }
        kl = self._weights.kl * min(1.0, progress / self._weights.kl_warmup)
        loss = terms["l1"] + kl * terms["kl"]
        if "guess" in out:
            terms["guess"] = functional.mse_loss(out["guess"], out["mu"].detach())
            loss = loss + self._weights.guess * terms["guess"]
        if not self._is_frozen:
            loss = loss + terms["l1_mean"]
        if self._lpips is not None:
            self._lpips.to(hr.device)
            terms["lpips"] = self._lpips(out["output"], hr).mean()
            loss = loss + self._weights.perceptual * terms["lpips"]
        return {"loss": loss} | terms

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """PSNR of the mean image and of the reconstruction; the share of the latent that is foretold."""
        assert isinstance(model, VAE)
        device = next(model.parameters()).device
        means, outputs, left, total = [], [], 0.0, 0.0
        for lr, hr in zip(self._lr.split(8), self._hr.split(8), strict=True):
            mean, features, condition = model.lr_encoder(lr.to(device))
            mu, _ = model.encode(hr.to(device), mean, features)
            if model.guess is not None:
                left += float((model.guess(condition) - mu).square().sum())
            total += float((mu - mu.mean(dim=(0, 2, 3), keepdim=True)).square().sum())
            means.append(mean.cpu())
            outputs.append(model.decoder(mu, features, mean).cpu())
        mean, output = torch.cat(means), torch.cat(outputs)
        figures = {"psnr_mean": mean_psnr(mean, self._hr), "psnr": mean_psnr(output, self._hr)}
        if model.guess is not None:
            figures["foretold"] = 1 - left / total
        if self._lpips is not None:
            figures["lpips"] = float(self._lpips.cpu()(output[:24], self._hr[:24]).mean())
            figures["lpips_mean"] = float(self._lpips(mean[:24], self._hr[:24]).mean())
        return figures, sheet([self._lr, mean, output, self._hr], rows=4)
