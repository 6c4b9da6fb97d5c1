"""Trains UNet-Lite to denoise the latents of a trained autoencoder."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edge_sr.errors import ConfigError
from edge_sr.schedule import NoiseSchedule, build_schedule
from export.data import PairStream, load_folder, load_pairs
from export.graphs import LatentScale
from export.latents import CHUNK, LatentStore, fill
from export.models.autoencoder import Autoencoder
from export.models.diffusers_folder import is_diffusers_folder
from export.models.diffusers_vae import load_diffusers_vae
from export.models.unet_lite import UNetConfig, UNetLite
from export.models.vae import VAE, VAEConfig
from export.perceptual import LPIPS
from export.sampling import sample_latents
from export.train import Batch, load_weights, mean_psnr, require_device, sheet

NOISE = NoiseSchedule("cosine", timesteps=1000)
PREDICTION = "v_prediction"
VALIDATION_STEPS = 20
DISTILLED = "distilled"  # how a student was distilled, in the configuration of its run
VALIDATION_IMAGES = 12


class UNetTask:
    """v-prediction (Salimans and Ho 2022, section 4) on standardised latents, all timesteps alike."""

    def __init__(
        self,
        config: UNetConfig,
        *,
        vae: Path,
        train: Path,
        val: Path,
        store: Path,
        lpips: Path | None,
        pairs: int = 6336,
        batch: int = 16,
        seed: int = 0,
        device: str = "cpu",
        views: frozenset[str] = frozenset(),
    ) -> None:
        """Encodes the pairs, or takes up a store that was begun.

        Args:
            config: Of the UNet; its latent and condition channels become those of the autoencoder.
            vae: An autoencoder's run, or a folder in diffusers' layout.
            train: A folder of originals.
            val: A folder of pairs.
            store: Where encoded pairs are kept.
            lpips: A folder of LPIPS weights, for the validation.
            pairs: How many to encode.
            batch: Pairs an iteration.
            seed: Where every random choice comes from.
            device: "cpu" or "cuda".
            views: Where not empty, only these views of the index beside `train`.

        Raises:
            ConfigError: A folder lacks what it should hold, or the store holds other pairs.
            ImageError: An image that cannot be read, or is too small.
            UsageError: CUDA is asked for and not there.
        """
        require_device(device)
        self.vae = load_vae(vae).to(device)
        stream = PairStream(load_folder(train, views=views), batch=CHUNK, crop=256, seed=seed + 1)
        self._store: LatentStore = fill(store, self.vae, stream, pairs=pairs, device=device)
        self.scale = self._store.scale()
        torch.manual_seed(seed)
        theirs = self.vae.config
        self._unet_config = replace(
            config, latent_channels=theirs.latent_channels, condition_channels=theirs.condition_channels
        )
        self.model: nn.Module = UNetLite(self._unet_config)
        self._batch, self._seed = batch, seed
        self._alphas_bar = torch.from_numpy(NOISE.alphas_bar()).float().to(device)
        self._lpips = LPIPS(lpips).to(device) if lpips else None
        self._lr, self._hr = (torch.from_numpy(a[:VALIDATION_IMAGES]) for a in load_pairs(val)[:2])

    def config(self) -> dict[str, Any]:
        """The configuration of the model and what its latents are standardised with."""
        scale = {"latent_mean": self.scale.mean.tolist(), "latent_std": self.scale.std.tolist()}
        noise = {"noise_schedule": NOISE.name, "timesteps": NOISE.timesteps, "prediction": PREDICTION}
        return {**self._unet_config.to_dict(), **scale, **noise}

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Encoded pairs: mu, log variance, condition, in float32."""
        for rows in self._store.batches(batch=self._batch, seed=self._seed, start=start):
            yield tuple(
                torch.from_numpy(np.asarray(rows[n], np.float32)) for n in ("mu", "log_variance", "condition")
            )

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """Mean squared error of v."""
        mu, log_variance, condition = batch
        latent = mu + torch.exp(0.5 * log_variance) * torch.randn_like(mu)
        mean, std = (t.to(mu.device)[None, :, None, None] for t in (self.scale.mean, self.scale.std))
        x0 = (latent - mean) / std
        timesteps = torch.randint(NOISE.timesteps, (len(mu),), device=mu.device)
        alpha_bar = self._alphas_bar[timesteps][:, None, None, None]
        noise = torch.randn_like(x0)
        signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        v = signal * noise - sigma * x0
        return {
            "loss": functional.mse_loss(model(signal * x0 + sigma * noise, timesteps, condition).float(), v)
        }

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """One sample of some validation images by the default loop, at full and at reduced first noise."""
        assert isinstance(model, UNetLite)
        device = next(model.parameters()).device
        lr, hr = self._lr.to(device), self._hr.to(device)
        mean, features, condition = self.vae.lr_encoder(lr)
        schedule = build_schedule(NOISE, sampler="ddim", prediction=PREDICTION, steps=VALIDATION_STEPS)
        figures, shown = {}, [self._lr, mean.cpu()]
        for noise_scale in (1.0, 0.8):
            latent, _ = sample_latents(model, condition, schedule, seed=0, noise_scale=noise_scale)
            image = self.vae.decoder(self._unscaled(latent), features, mean)
            figures[f"psnr_{noise_scale}"] = mean_psnr(image, hr)
            if self._lpips is not None:
                figures[f"lpips_{noise_scale}"] = float(self._lpips(image, hr).mean())
            shown.append(image.cpu())
        return figures, sheet([*shown, self._hr], rows=4)

    def _unscaled(self, latent: torch.Tensor) -> torch.Tensor:
        mean, std = (t.to(latent.device)[None, :, None, None] for t in (self.scale.mean, self.scale.std))
        return latent * std + mean


def load_vae(folder: Path) -> Autoencoder:
    """A trained autoencoder, frozen: of a run of train-vae, or of a folder in diffusers' layout.

    Raises:
        ConfigError: The folder holds neither.
    """
    if is_diffusers_folder(folder):
        return load_diffusers_vae(folder)
    config, weights = load_weights(folder)
    try:
        vae = VAE(VAEConfig(**config))
        vae.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"{folder} is no run of train-vae: {str(error).splitlines()[0]}") from error
    return vae.requires_grad_(requires_grad=False).eval()


def load_unet(folder: Path) -> tuple[UNetLite, LatentScale, dict[str, Any]]:
    """A trained UNet, frozen; what its latents are standardised with; and how it was trained, or distilled.

    Raises:
        ConfigError: The folder holds no run of train-unet or distill.
    """
    config, weights = load_weights(folder)
    config.pop(DISTILLED, None)
    try:
        mean, std = (torch.tensor(config.pop(key)) for key in ("latent_mean", "latent_std"))
        diffusion = {key: config.pop(key) for key in ("noise_schedule", "timesteps", "prediction")}
        unet = UNetLite(UNetConfig(**{**config, "channels": tuple(config["channels"])}))
        unet.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{folder} is no run of train-unet or distill: {error}") from error
    return unet.requires_grad_(requires_grad=False).eval(), LatentScale(mean, std), diffusion


def distilled_steps(folder: Path) -> int | None:
    """The one number of steps that a student's run is for; None for a run of train-unet.

    Raises:
        ConfigError: The folder holds no trained weights.
    """
    told = load_weights(folder)[0].get(DISTILLED)
    return None if told is None else int(told["steps"])
