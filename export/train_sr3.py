"""Trains SR3: a network that tells the noise in an HR image, or v, beside the bicubically enlarged LR one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edge_sr.errors import ConfigError
from edge_sr.schedule import NoiseSchedule, build_schedule
from export.data import HR, LR, PairStream, load_folder, load_pairs
from export.models.sr3 import SR3, BicubicEncoder, SR3Config
from export.perceptual import LPIPS
from export.sampling import sample_latents
from export.train import Batch, load_weights, mean_psnr, sheet

TIMESTEPS = 2000
NOISES = {
    "cosine": NoiseSchedule("cosine", timesteps=TIMESTEPS),
    "linear": NoiseSchedule("linear", timesteps=TIMESTEPS, beta_start=1e-6, beta_end=1e-2),
}
"""Training noise schedules; the betas of the linear one are those that 2000 steps are usually run with."""
PREDICTIONS = ("epsilon", "v_prediction")
"""SR3's own, the noise; and v (Salimans and Ho 2022, section 4), which is the image where no signal is."""
CLIP = 1.0  # of the predicted image, which is in [-1, 1]
VALIDATION_STEPS = 20
VALIDATION_IMAGES = 4  # whole images through the whole loop: some seconds each


class SR3Task:
    """Mean squared error (Ho et al. 2020, eq. 14), timesteps spread evenly over each batch."""

    def __init__(
        self,
        config: SR3Config,
        *,
        train: Path,
        val: Path,
        lpips: Path | None,
        batch: int = 16,
        crop: int = 64,
        noise: str = "cosine",
        prediction: str = "epsilon",
        seed: int = 0,
        views: frozenset[str] = frozenset(),
    ) -> None:
        """Reads the images.

        Args:
            config: Of the network, which is trained on crops and judged on whole images.
            train: A folder of originals.
            val: A folder of pairs.
            lpips: A folder of LPIPS weights, for the validation.
            batch: Crops an iteration.
            crop: Their HR side in pixels, a multiple of the coarsest level's pixels, at most 256.
            noise: One of `NOISES`.
            prediction: One of `PREDICTIONS`.
            seed: Where every random choice comes from.
            views: Where not empty, only these views of the index beside `train`.

        Raises:
            ConfigError: A folder lacks what it should hold, the crop does not fit the network, or the network
                is for images of another size than the data's.
            ImageError: An image that cannot be read, or is too small.
        """
        if (config.side, config.scale) != (HR, HR // LR):
            wanted = f"of {config.side // config.scale} and {config.side} pixels"
            raise ConfigError(f"the network wants pairs {wanted}, the data are of {LR} and {HR}")
        coarsest = 2 ** (len(config.multipliers) - 1)
        if crop % coarsest:
            raise ConfigError(
                f"a crop of {crop} pixels does not halve {len(config.multipliers) - 1} times",
                hint=f"give a multiple of {coarsest}",
            )
        torch.manual_seed(seed)
        self.model: nn.Module = SR3(config)
        self._config, self._noise, self._prediction = config, NOISES[noise], prediction
        self._batch, self._crop, self._seed = batch, crop, seed
        self._enlarge = BicubicEncoder(config.scale)
        self._alphas_bar = torch.from_numpy(self._noise.alphas_bar()).float()
        self._images = load_folder(train, views=views)
        self._lpips = LPIPS(lpips) if lpips else None
        self._lr, self._hr = (torch.from_numpy(a[:VALIDATION_IMAGES]) for a in load_pairs(val)[:2])

    def config(self) -> dict[str, Any]:
        """The configuration of the network, and how it is trained."""
        return {**self._config.to_dict(), "diffusion": diffusion_fields(self._noise, self._prediction)}

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Pairs: lr, hr."""
        stream = PairStream(self._images, batch=self._batch, crop=self._crop, seed=self._seed, start=start)
        for lr, hr in stream:
            yield torch.from_numpy(lr), torch.from_numpy(hr)

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """Mean squared error of the noise, or of v."""
        lr, hr = batch
        timesteps = spread_timesteps(len(hr), self._noise.timesteps).to(hr.device)
        alpha_bar = self._alphas_bar.to(hr.device)[timesteps][:, None, None, None]
        noise = torch.randn_like(hr)
        signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        wanted = noise if self._prediction == "epsilon" else signal * noise - sigma * hr
        found = model(signal * hr + sigma * noise, timesteps, self._enlarge(lr))
        return {"loss": functional.mse_loss(found.float(), wanted)}

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """One sample of some whole validation images by a short loop."""
        assert isinstance(model, SR3)
        device = next(model.parameters()).device
        lr, hr = self._lr.to(device), self._hr.to(device)
        condition = self._enlarge(lr)
        schedule = build_schedule(
            self._noise, sampler="ddim", prediction=self._prediction, steps=VALIDATION_STEPS, clip=CLIP
        )
        image, _ = sample_latents(model, condition, schedule, seed=0)
        figures = {"psnr": mean_psnr(image, hr)}
        if self._lpips is not None:
            figures["lpips"] = float(self._lpips.to(device)(image, hr).mean())
        shown = [self._lr, condition.cpu(), image.cpu(), self._hr]
        return figures, sheet(shown, rows=VALIDATION_IMAGES)


def diffusion_fields(noise: NoiseSchedule, prediction: str) -> dict[str, Any]:
    """How the network is trained, as the manifest has it."""
    betas = {} if noise.name == "cosine" else {"beta_start": noise.beta_start, "beta_end": noise.beta_end}
    told = {"noise_schedule": noise.name, "timesteps": noise.timesteps, **betas}
    return {**told, "prediction": prediction, "clip": CLIP}


def spread_timesteps(count: int, total: int) -> torch.Tensor:
    """Timesteps of a batch, one of each `count`-th of the chain: (N,) int64, each uniform over 0..total-1.

    Low-discrepancy sampling (Kingma et al. 2021, appendix I.1): the loss varies less from batch to batch.
    """
    offsets = (torch.rand(()) + torch.arange(count) / count) % 1
    return (offsets * total).long()


def load_sr3(folder: Path) -> tuple[SR3, dict[str, Any]]:
    """A trained network, frozen, and the manifest's fields of how it was trained.

    Raises:
        ConfigError: The folder holds no run of train-sr3.
    """
    config, weights = load_weights(folder)
    try:
        diffusion = config.pop("diffusion")
        sizes = {name: tuple(config[name]) for name in ("multipliers", "attention")}
        network = SR3(SR3Config(**{**config, **sizes}))
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{folder} is no run of train-sr3: {reason}") from error
    return network.requires_grad_(requires_grad=False).eval(), diffusion
