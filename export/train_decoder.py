"""Trains the decoder further, on latents that the deployed loop gives it beside those of real images.

The autoencoder's decoder has only seen latents of real images. Those of the loop are less sure of the finest
detail; a decoder that has seen them draws what is likely of it. A share of real latents keeps it reading what
a latent says: trained on samples alone, with LPIPS, it learned to ignore them (docs/research-log.md). The
networks before it stay as they are, so that the result takes the decoder's place. (Edge-SD-SR, CVPR 2025,
fine-tunes its decoder likewise.)
"""

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

from edge_sr.errors import ConfigError
from export.data import load_pairs, to_unit
from export.decoder_samples import Sampler, fill_samples
from export.latents import LatentStore
from export.models.autoencoder import Autoencoder
from export.perceptual import LPIPS
from export.train import Batch, load_weights, mean_psnr, require_device, sheet
from export.train_unet import load_vae

VALIDATION_IMAGES = 24
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecoderLoss:
    """What the decoder is trained on.

    Attributes:
        real: Share of crops whose latent is that of the real image.
        perceptual: Weight of LPIPS beside L1 of images in [-1, 1]: it decides what is drawn.
    """

    real: float = 0.35
    perceptual: float = 0.08


class DecoderTask:
    """L1 and LPIPS of decoded latents, real and sampled."""

    def __init__(
        self,
        *,
        vae: Path,
        unet: Path,
        val: Path,
        lpips: Path | None,
        store: Path,
        samples: int = 1600,
        steps: int = 20,
        batch: int = 8,
        crop: int = 128,
        seed: int = 0,
        device: str = "cpu",
        weights: DecoderLoss | None = None,
    ) -> None:
        """Samples the latents, or takes up samples that were begun.

        Args:
            vae: The run of train-vae.
            unet: The run of train-unet, whose store of pairs is read.
            val: A folder of pairs.
            lpips: A folder of LPIPS weights.
            store: Where the samples are kept.
            samples: How many of the UNet's pairs to sample a latent for.
            steps: Of the loop.
            batch: Crops an iteration.
            crop: Their HR side, a multiple of 8, at most 256.
            seed: Where every random choice comes from.
            device: "cpu" or "cuda".
            weights: The defaults where None.

        Raises:
            ConfigError: A folder lacks what it should hold.
            UsageError: CUDA is asked for and not there.
        """
        require_device(device)
        self._vae: Autoencoder = load_vae(vae).to(device)
        self._pairs = LatentStore(unet / "latents")
        sampler = Sampler(unet, steps=steps, device=device)
        self._samples = fill_samples(store, self._pairs, sampler, count=samples, seed=seed)
        self.model: nn.Module = self._vae.decoder.requires_grad_(requires_grad=True).train()
        self._batch, self._crop, self._seed = batch, crop, seed
        self._lpips = LPIPS(lpips).to(device) if lpips else None
        self._weights = weights or DecoderLoss()
        self._lr, self._hr = (torch.from_numpy(a[:VALIDATION_IMAGES]) for a in load_pairs(val)[:2])
        condition = self._vae.lr_encoder(self._lr.to(device))[2]
        self._validated = {
            f"{scale}": sampler.sample(condition, noise_scale=scale, seed=0) for scale in (0.4, 0.8)
        }
        self._validated["zero"] = torch.zeros_like(self._validated["0.8"])

    def config(self) -> dict[str, Any]:
        """That of the autoencoder, whose decoder this is."""
        config: dict[str, Any] = self._vae.config.to_dict()
        return config

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Crops: lr, hr and a latent, not standardised."""
        index = start
        while True:
            rng = np.random.default_rng([self._seed, index])
            rows = rng.integers(len(self._samples), size=self._batch)
            crops = [self._cut(int(row), rng) for row in rows]
            yield tuple(torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
            index += 1

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """The terms, and their weighted sum."""
        lr, hr, latent = batch
        with torch.no_grad():
            mean, features, _ = self._vae.lr_encoder(lr)
        output = model(latent, **self._beside(features, mean))
        terms = {"l1": functional.l1_loss(output, hr)}
        loss = terms["l1"]
        if self._lpips is not None:
            terms["lpips"] = self._lpips(output, hr).mean()
            loss = loss + self._weights.perceptual * terms["lpips"]
        return {"loss": loss} | terms

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """The loop's samples, a latent of zeros and the autoencoder's own latents, decoded."""
        device = next(model.parameters()).device
        lr, hr = self._lr.to(device), self._hr.to(device)
        mean, features, _ = self._vae.lr_encoder(lr)
        latents = {**self._validated, "real": self._vae.encode(hr, mean, features)[0]}
        figures, shown = {}, [self._lr, mean.cpu()]
        for name, latent in latents.items():
            image = model(latent, **self._beside(features, mean))
            figures[f"psnr_{name}"] = mean_psnr(image, hr)
            if self._lpips is not None:
                figures[f"lpips_{name}"] = float(self._lpips(image, hr).mean())
            shown.append(image.cpu())
        return figures, sheet([*shown, self._hr], rows=4)

    def _beside(self, features: torch.Tensor, mean: torch.Tensor) -> dict[str, torch.Tensor]:
        known = {"features": features, "mean": mean}
        return {name: known[name] for name in self._vae.decoder_inputs}

    def _latent(self, row: int, rng: np.random.Generator) -> Float:
        """A latent of a pair: (L, h, w), of the real image now and then, else of the loop."""
        if rng.random() >= self._weights.real:
            return np.asarray(self._samples[row], np.float32)
        mu, log_variance = (
            np.asarray(self._pairs.arrays[name][row], np.float32) for name in ("mu", "log_variance")
        )
        noise = rng.standard_normal(mu.shape, dtype=np.float32)
        return np.asarray(mu + np.exp(0.5 * log_variance) * noise, np.float32)

    def _cut(self, row: int, rng: np.random.Generator) -> tuple[Float, Float, Float]:
        """One random window of a pair and of its latent, on the latent's grid."""
        lr, hr = self._pairs.arrays["lr"][row], self._pairs.arrays["hr"][row]
        latent = self._latent(row, rng)
        side = self._crop * latent.shape[-1] // hr.shape[-1]  # in latent pixels
        y, x = (int(rng.integers(latent.shape[-1] - side + 1)) for _ in range(2))

        def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            unit = array.shape[-1] // latent.shape[-1]
            return array[:, y * unit : (y + side) * unit, x * unit : (x + side) * unit]

        return to_unit(cut(lr)), to_unit(cut(hr)), np.ascontiguousarray(cut(latent))


def use_decoder(vae: Autoencoder, run: Path) -> None:
    """Puts the decoder of a run of train-decoder into its autoencoder.

    Raises:
        ConfigError: The run holds no decoder of this autoencoder's.
    """
    _, weights = load_weights(run)
    try:
        vae.decoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"{run} is no run of train-decoder: {str(error).splitlines()[0]}") from error
