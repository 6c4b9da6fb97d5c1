"""Trains the class-guided denoiser of `export.models.class_unet` on labelled images."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_sr.errors import ConfigError
from edge_sr.schedule import NoiseSchedule, build_schedule
from export.data import to_unit
from export.labelled import Labelled, LabelledStream, read_labelled, reduced
from export.models.class_unet import ClassConfig, ClassUNet, Told
from export.models.sr3 import BicubicEncoder
from export.sampling import sample_latents
from export.train import Batch, load_weights, mean_psnr, sheet

NOISE = NoiseSchedule("cosine", timesteps=1000)
PREDICTION = "sample"
CLIP = 1.0  # of the predicted image, which is in [-1, 1]
NULL_SHARE = 0.15  # of the images whose class is not told: 10 to 20 % (Ho and Salimans 2022)
MOST_WEIGHT = 5.0  # of a timestep: min-SNR's gamma (Hang et al. 2023)
VALIDATION_STEPS, VALIDATION_IMAGES, VALIDATION_GUIDANCE = 8, 6, 4.0


class ClassTask:
    """Squared error of the clean image, weighted by the signal-to-noise ratio up to a limit."""

    def __init__(
        self, config: ClassConfig, *, labels: Path, batch: int = 8, crop: int = 256, seed: int = 0
    ) -> None:
        """Reads the images.

        Args:
            config: Of the network.
            labels: The table of images; see `read_labelled`.
            batch: Pairs an iteration.
            crop: HR side of a training crop.
            seed: Where every random choice comes from.

        Raises:
            ConfigError: The table cannot be read, or lacks a class.
            ImageError: An image cannot be read, or is too small.
            UsageError: The crop or the batch is out of range.
        """
        torch.manual_seed(seed)
        train, val = read_labelled(labels, config.names[:-1])
        self.model: nn.Module = ClassUNet(config)
        self._config, self._enlarge = config, BicubicEncoder(config.scale)
        self._stream = LabelledStream(train, batch=batch, crop=crop, scale=config.scale, seed=seed)
        self._alphas_bar = torch.from_numpy(NOISE.alphas_bar()).float()
        self._lr, self._hr, self._labels = _some(val, crop, config.scale)

    def config(self) -> dict[str, Any]:
        """The configuration of the model, and of its noise."""
        noise = {"noise_schedule": NOISE.name, "timesteps": NOISE.timesteps, "prediction": PREDICTION}
        return {**self._config.to_dict(), **noise}

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Labelled pairs: lr, hr, labels."""
        for made in self._stream.batches(start):
            yield tuple(torch.from_numpy(np.asarray(part)) for part in made)

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """The weighted error, and the plain one for the curve."""
        assert isinstance(model, ClassUNet)
        lr, hr, labels = batch
        null = torch.full_like(labels, len(self._config.names) - 1)
        labels = torch.where(torch.rand(len(labels), device=labels.device) < NULL_SHARE, null, labels)
        timesteps = torch.randint(NOISE.timesteps, (len(hr),), device=hr.device)
        alpha_bar = self._alphas_bar.to(hr.device)[timesteps]
        signal, sigma = (a.sqrt()[:, None, None, None] for a in (alpha_bar, 1 - alpha_bar))
        noisy = signal * hr + sigma * torch.randn_like(hr)
        embedding = model.time(timesteps) + model.classes(labels)
        error = (model.denoise(noisy, embedding, self._enlarge(lr)).float() - hr).square().mean(dim=(1, 2, 3))
        weight = (alpha_bar / (1 - alpha_bar)).clamp(max=MOST_WEIGHT) + 1
        return {"loss": (weight * error).mean(), "mse": error.detach().mean()}

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """Samples with the null class, and with the true and the wrong one guided strongly."""
        assert isinstance(model, ClassUNet)
        classes = len(self._config.names) - 1
        asked = {
            "null": (torch.full_like(self._labels, classes), 1.0),
            "true": (self._labels, VALIDATION_GUIDANCE),
            "wrong": ((self._labels + 1) % classes, VALIDATION_GUIDANCE),
        }
        made = {name: self._sample(model, labels, guidance) for name, (labels, guidance) in asked.items()}
        figures = {f"psnr_{name}": mean_psnr(image, self._hr) for name, image in made.items()}
        return figures, sheet([self._lr, *made.values(), self._hr], rows=VALIDATION_IMAGES)

    def _sample(self, model: ClassUNet, labels: torch.Tensor, guidance: float) -> torch.Tensor:
        schedule = build_schedule(
            NOISE, sampler="ddim", prediction=PREDICTION, steps=VALIDATION_STEPS, clip=CLIP
        )
        table = model.classes.weight
        told = Told(model, table[labels.to(table.device)], null=table[-1], guidance=guidance)
        images, _ = sample_latents(told, self._enlarge(self._lr.to(table.device)), schedule, seed=0)
        return images.cpu()


def _some(data: Labelled, crop: int, scale: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A few pairs of each class, from the images' corners where a crop is smaller: lr, hr, labels."""
    groups = [np.flatnonzero(data.labels == label) for label in np.unique(data.labels)]
    chosen = np.concatenate([group[: VALIDATION_IMAGES // len(groups)] for group in groups])
    pairs = [reduced(data.images[index][:crop, :crop], scale) for index in chosen]
    lr, hr = (torch.from_numpy(to_unit(np.stack(side)[:, None])) for side in zip(*pairs, strict=True))
    return lr, hr, torch.from_numpy(data.labels[chosen])


def load_class_unet(folder: Path) -> tuple[ClassUNet, dict[str, Any]]:
    """A trained denoiser, frozen, and how it was trained.

    Raises:
        ConfigError: The folder holds no run of train-class.
    """
    config, weights = load_weights(folder)
    try:
        diffusion = {key: config.pop(key) for key in ("noise_schedule", "timesteps", "prediction")}
        tuples = {key: tuple(config[key]) for key in ("names", "channels")}
        network = ClassUNet(ClassConfig(**{**config, **tuples}))
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{folder} is no run of train-class: {str(error).splitlines()[0]}") from error
    return network.requires_grad_(requires_grad=False).eval(), {**diffusion, "clip": CLIP}
