"""Trains the decoder further, on the latents that the deployed loop really gives it.

The autoencoder's decoder has only seen latents of real images. Those of the loop are less sure of the finest
detail; a decoder that has seen them draws what is likely of it. The networks before it stay as they are, so
that the result takes the decoder's place. (Edge-SD-SR, CVPR 2025, fine-tunes its decoder likewise.)
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
from tqdm import tqdm

from edge_sr.schedule import NoiseSchedule, build_schedule
from export.data import load_pairs, to_unit
from export.graphs import LatentScale
from export.latents import CHUNK, LatentStore
from export.models.autoencoder import Autoencoder
from export.perceptual import LPIPS
from export.sampling import sample_latents
from export.train import Batch, load_weights, mean_psnr, require_device, sheet
from export.train_unet import load_unet, load_vae

VALIDATION_IMAGES = 24
NOISE_SCALES = (0.5, 1.0)  # of the first noise: presets differ in it, and the decoder serves them all
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecoderLoss:
    """Weights of the terms beside L1 of images in [-1, 1]: LPIPS, which decides what is drawn."""

    perceptual: float = 0.1


class DecoderTask:
    """L1 and LPIPS of the decoded samples."""

    def __init__(
        self,
        *,
        vae: Path,
        unet: Path,
        val: Path,
        lpips: Path | None,
        store: Path,
        pairs: int = 1200,
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
            pairs: How many of the UNet's pairs to sample.
            steps: Of the loop, DDIM.
            batch: Crops an iteration.
            crop: Their HR side, a multiple of 8.
            seed: Where every random choice comes from.
            device: "cpu" or "cuda".
            weights: Of the loss.

        Raises:
            ConfigError: A folder lacks what it should hold.
            UsageError: CUDA is asked for and not there.
        """
        require_device(device)
        self._vae: Autoencoder = load_vae(vae).to(device)
        self._unet, self._scale, diffusion = load_unet(unet)
        self._unet = self._unet.to(device)
        noise = NoiseSchedule(diffusion["noise_schedule"], timesteps=diffusion["timesteps"])
        self._schedule = build_schedule(
            noise, sampler="ddim", prediction=diffusion["prediction"], steps=steps
        )
        self._pairs = LatentStore(unet / "latents")
        self._samples = self._fill(store, min(pairs, len(self._pairs)), seed)
        self.model: nn.Module = self._vae.decoder.requires_grad_(requires_grad=True).train()
        self._batch, self._crop, self._seed = batch, crop, seed
        self._lpips = LPIPS(lpips).to(device) if lpips else None
        self._weights = weights or DecoderLoss()
        self._lr, self._hr = (torch.from_numpy(a[:VALIDATION_IMAGES]) for a in load_pairs(val)[:2])
        self._val = self._sample(self._vae.lr_encoder(self._lr.to(device))[2], 0.8, seed=0)

    def config(self) -> dict[str, Any]:
        """That of the autoencoder, whose decoder this is."""
        config: dict[str, Any] = self._vae.config.to_dict()
        return config

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Crops: lr, hr and the sampled latent, not standardised."""
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
        """The default loop's samples decoded, and the autoencoder's own latents for comparison."""
        device = next(model.parameters()).device
        lr, hr = self._lr.to(device), self._hr.to(device)
        mean, features, _ = self._vae.lr_encoder(lr)
        image = model(self._val, **self._beside(features, mean))
        mu, _ = self._vae.encode(hr, mean, features)
        ceiling = model(mu, **self._beside(features, mean))
        figures = {"psnr": mean_psnr(image, hr), "psnr_ceiling": mean_psnr(ceiling, hr)}
        if self._lpips is not None:
            figures["lpips"] = float(self._lpips(image, hr).mean())
        return figures, sheet([self._lr, mean.cpu(), image.cpu(), self._hr], rows=4)

    def _beside(self, features: torch.Tensor, mean: torch.Tensor) -> dict[str, torch.Tensor]:
        known = {"features": features, "mean": mean}
        return {name: known[name] for name in self._vae.decoder_inputs}

    def _sample(self, condition: torch.Tensor, noise_scale: float, *, seed: int) -> torch.Tensor:
        """Latents of the loop, not standardised."""
        latent, _ = sample_latents(self._unet, condition, self._schedule, seed=seed, noise_scale=noise_scale)
        return unscaled(latent, self._scale)

    def _fill(self, store: Path, pairs: int, seed: int) -> npt.NDArray[np.float16]:
        """Samples in chunks into one array on disk, each chunk with a first noise of its own scale."""
        store.mkdir(parents=True, exist_ok=True)
        chunks, done_file = -(-pairs // CHUNK), store / "chunks_done"
        done = int(done_file.read_text()) if done_file.is_file() else 0
        shape = (chunks * CHUNK, *self._pairs.arrays["mu"].shape[1:])
        samples: npt.NDArray[np.float16] = np.lib.format.open_memmap(
            store / "samples.npy", mode="r+" if done else "w+", dtype=np.float16, shape=shape
        )
        device = next(self._unet.parameters()).device
        for index in tqdm(range(done, chunks), desc="sampling", initial=done, total=chunks, disable=None):
            rows = slice(index * CHUNK, (index + 1) * CHUNK)
            condition = torch.from_numpy(np.asarray(self._pairs.arrays["condition"][rows], np.float32))
            noise_scale = np.random.default_rng([seed, index]).uniform(*NOISE_SCALES)
            latent = self._sample(condition.to(device), float(noise_scale), seed=seed + index)
            samples[rows][: len(latent)] = latent.cpu().numpy()
            done_file.write_text(str(index + 1))
        return samples

    def _cut(self, row: int, rng: np.random.Generator) -> tuple[Float, Float, Float]:
        """One random window of a pair and of its sample, on the latent's grid."""
        lr, hr = self._pairs.arrays["lr"][row], self._pairs.arrays["hr"][row]
        latent = self._samples[row]
        side = self._crop * latent.shape[-1] // hr.shape[-1]  # in latent pixels
        y, x = (int(rng.integers(latent.shape[-1] - side + 1)) for _ in range(2))
        parts = []
        for array in (lr, hr, latent):
            unit = array.shape[-1] // latent.shape[-1]
            parts.append(array[:, y * unit : (y + side) * unit, x * unit : (x + side) * unit])
        return to_unit(parts[0]), to_unit(parts[1]), np.asarray(parts[2], np.float32)


def unscaled(latent: torch.Tensor, scale: LatentScale) -> torch.Tensor:
    """A standardised latent as the decoder reads it."""
    mean, std = (t.to(latent.device)[None, :, None, None] for t in (scale.mean, scale.std))
    return latent * std + mean


def use_decoder(vae: Autoencoder, run: Path) -> Autoencoder:
    """Puts the decoder of a run of train-decoder into its autoencoder.

    Raises:
        ConfigError: The run holds no decoder.
    """
    _, weights = load_weights(run)
    vae.decoder.load_state_dict(weights)
    return vae
