"""Distils a trained UNet into students of half its steps, of half of those, and so on (see `export.halving`).

A student begins as its teacher, and is the teacher of the next. One thing is not as in the paper: its states
are training latents with noise, ours those which the teacher's own loop passes through, from a first noise
scaled as presets scale it. A loop that begins with less noise than the model was trained with never meets a
training latent with noise. For a student of one step the two are the same: noise alone.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_sr.bundle import hash_file
from edge_sr.errors import ConfigError, UsageError
from edge_sr.schedule import NoiseSchedule, Schedule, build_schedule
from export.data import load_pairs
from export.decoder_samples import unscaled
from export.halving import check_nested, distillation_loss, follow, student_prediction
from export.latents import LatentStore
from export.models.unet_lite import UNetLite
from export.perceptual import LPIPS
from export.sampling import sample_latents
from export.train import WEIGHTS, Batch, mean_psnr, require_device, sheet
from export.train_decoder import use_decoder
from export.train_unet import DISTILLED, distilled_steps, load_unet, load_vae

NOISE_SCALES = (0.6, 1.0)  # of the first noise: a student serves the presets between
VALIDATION_IMAGES = 12


class DistillTask:
    """One student, of half its teacher's steps."""

    def __init__(
        self,
        *,
        steps: int,
        teacher: Path,
        first: Path,
        first_steps: int,
        vae: Path,
        val: Path,
        lpips: Path | None,
        decoder: Path | None = None,
        batch: int = 8,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        """Opens the runs.

        Args:
            steps: The student's.
            teacher: The run that the chain began with, or that of the student before.
            first: The run of train-unet that the chain began with; its store of pairs is read.
            first_steps: In which it taught.
            vae: Its autoencoder.
            val: A folder of pairs.
            lpips: A folder of LPIPS weights, for the validation.
            decoder: A run of train-decoder, for the validation; the autoencoder's own where None.
            batch: Steps of the student an iteration: images times `steps`.
            seed: Where every random choice comes from.
            device: "cpu" or "cuda".

        Raises:
            ConfigError: A folder lacks what it should hold, or the runs do not belong together.
            ScheduleError: More steps than the model has timesteps.
            UsageError: CUDA is asked for and not there, or the batch is no whole number of images.
        """
        require_device(device)
        if batch % steps:
            raise UsageError(
                f"a batch of {batch} is no multiple of {steps} steps", hint="give another --batch"
            )
        self._vae = load_vae(vae).to(device)
        if decoder is not None:
            use_decoder(self._vae, decoder)
        self._network, self.scale, self._diffusion = load_unet(teacher)
        self._teacher = load_unet(teacher)[0].to(device)
        self._first, _, first_diffusion = load_unet(first)
        self._first.to(device)
        self._store = LatentStore(first / "latents")
        self._check(teacher, steps=2 * steps)
        self.model: nn.Module = self._network.requires_grad_(requires_grad=True).train()
        self._steps, self._digest = steps, hash_file(teacher / WEIGHTS)
        theirs, first_theirs = self._diffusion["prediction"], first_diffusion["prediction"]
        self._predicts = student_prediction(theirs)
        self._taught, self._learnt = self._schedule(theirs, 2 * steps), self._schedule(self._predicts, steps)
        check_nested(self._taught, self._learnt)
        self._wanted = self._schedule(first_theirs, first_steps)
        self._plain = self._schedule(first_theirs, steps)
        self._batch, self._seed = batch, seed
        self._lpips = LPIPS(lpips).to(device) if lpips else None
        self._lr, self._hr = (torch.from_numpy(a[:VALIDATION_IMAGES]) for a in load_pairs(val)[:2])
        self._encoded: tuple[torch.Tensor, ...] = self._vae.lr_encoder(self._lr.to(device))
        self._beside: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}

    def config(self) -> dict[str, Any]:
        """That of the teacher, and how the student was distilled."""
        scale = {"latent_mean": self.scale.mean.tolist(), "latent_std": self.scale.std.tolist()}
        told = {"steps": self._steps, "noise_scales": list(NOISE_SCALES), "teacher": self._digest}
        diffusion = {**self._diffusion, "prediction": self._predicts}
        return {**self._network.config.to_dict(), **scale, **diffusion, DISTILLED: told}

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Conditions, in float32."""
        images = self._batch // self._steps
        for rows in self._store.batches(batch=images, seed=self._seed, start=start):
            yield (torch.from_numpy(np.asarray(rows["condition"], np.float32)),)

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """That of every step of the student, on the way of its teacher."""
        (condition,) = batch
        low, high = NOISE_SCALES
        first_scale = low + (high - low) * torch.rand(len(condition), 1, 1, 1, device=condition.device)
        shape = (len(condition), self._network.config.latent_channels, *condition.shape[-2:])
        x = torch.randn(shape, device=condition.device) * first_scale
        with torch.no_grad(), torch.autocast(condition.device.type, enabled=False):
            states = follow(self._teacher, x, condition, self._taught)
        loss = distillation_loss(
            model, states, condition, student=self._learnt, alphas_bar=self._noise.alphas_bar()
        )
        return {"loss": loss}

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """The student's samples, held against the true images and against what its first teacher makes.

        "same" is the PSNR against the first teacher's image of the same noise, in the steps that it taught
        with; "plain", that of the first teacher itself in as few steps as the student.
        """
        assert isinstance(model, UNetLite)
        hr = self._hr.to(next(model.parameters()).device)
        figures: dict[str, float] = {}
        for scale in NOISE_SCALES:
            wanted, plain = self._references(scale)
            image = self._sample(model, self._learnt, scale)
            figures |= {
                f"psnr_{scale}": mean_psnr(image, hr),
                f"same_{scale}": mean_psnr(image, wanted),
                f"plain_{scale}": mean_psnr(plain, wanted),
            }
            if self._lpips is not None:
                figures[f"lpips_{scale}"] = float(self._lpips(image, hr).mean())
        return figures, sheet([self._lr, *(i.cpu() for i in (wanted, plain, image)), self._hr], rows=4)

    def _check(self, teacher: Path, *, steps: int) -> None:
        """A teacher of another number of steps, or runs that do not belong together.

        Raises:
            ConfigError: It is so.
        """
        own = distilled_steps(teacher)
        if own not in (None, steps):
            raise ConfigError(f"{teacher} was distilled to {own} steps, and cannot teach in {steps}")
        config, theirs = self._network.config, self._vae.config
        latent, condition = (self._store.arrays[name].shape[1] for name in ("mu", "condition"))
        wanted = (config.latent_channels, config.condition_channels)
        for what, found in (
            ("the autoencoder has", (theirs.latent_channels, theirs.condition_channels)),
            ("the pairs have", (latent, condition)),
        ):
            if found != wanted:
                raise ConfigError(
                    f"{teacher} was trained for {wanted} channels of latent and condition, {what} {found}",
                    hint="give the autoencoder that train-unet was given",
                )

    def _schedule(self, prediction: str, steps: int) -> Schedule:
        return build_schedule(self._noise, sampler="ddim", prediction=prediction, steps=steps)

    @property
    def _noise(self) -> NoiseSchedule:
        return NoiseSchedule(self._diffusion["noise_schedule"], timesteps=self._diffusion["timesteps"])

    def _references(self, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The first teacher's images, in the steps that it taught with and in the student's; made once."""
        if scale not in self._beside:
            wanted, plain = (self._sample(self._first, s, scale) for s in (self._wanted, self._plain))
            self._beside[scale] = wanted, plain
        return self._beside[scale]

    def _sample(self, unet: UNetLite, schedule: Schedule, scale: float) -> torch.Tensor:
        """An image of every validation pair, (N, 1, H, W), all from the same noise."""
        mean, features, condition = self._encoded
        latent, _ = sample_latents(unet, condition, schedule, seed=0, noise_scale=scale)
        image: torch.Tensor = self._vae.decoder(unscaled(latent, self.scale), features, mean)
        return image
