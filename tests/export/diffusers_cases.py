"""Pipelines in diffusers' layout made into bundles, and their images by diffusers and by this project's loop.

All start from the noise that belongs to a place and a seed here: it is handed to diffusers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers.pipelines.latent_diffusion import pipeline_latent_diffusion_superresolution as ldm_module
from diffusers.schedulers import scheduling_ddim

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.manifest import Diffusion
from edge_sr.pipeline import Upscaler, schedule_for
from edge_sr.schedule import coefficients
from edge_sr.spec import Component, Precision
from edge_sr.tiling import position_noise
from export.bundle import phantom, write_bundle
from export.diffusers_scheduler import Wish
from export.from_diffusers import Constants, DiffusersModel, complete_card, load_diffusers
from tests.export.diffusers_folders import write_pipeline

Float = npt.NDArray[np.float32]

LDM, UPSCALER = "LDMSuperResolutionPipeline", "StableDiffusionUpscalePipeline"
TILE, STEPS, SEED, LEVEL = 64, 4, 3, 20


class Case(NamedTuple):
    """A pipeline's parts, its model with rounded weights, and the bundle of it."""

    parts: dict[str, Any]
    model: DiffusersModel
    bundle: Bundle


def load(
    folder: Path, parts: dict[str, Any], kind: str = LDM, wish: Wish | None = None, **given: Any
) -> DiffusersModel:
    """Writes a pipeline, and reads it."""
    source = write_pipeline(folder, kind, **parts)
    return load_diffusers(source, wish=wish or Wish(steps=STEPS), constants=Constants(**given))


def make(folder: Path, kind: str, parts: dict[str, Any], *, tile: int = TILE, **given: Any) -> Case:
    """Writes a pipeline, and exports it."""
    model = load(folder / "pipeline", parts, kind, **given)
    card = complete_card({}, model, folder / "pipeline", tile=tile, overlap=tile // 4)
    image = phantom(tile, card["channels"])
    return Case(
        parts, model, write_bundle(model, card, folder / "bundle", image=image, commands=("made up",))
    )


def ours(bundle: Bundle, image: Float, *, seed: int = SEED, **changes: Any) -> Float:
    """The bundle's own pipeline on ONNX Runtime, clipped as an image file would be."""
    preset = bundle.diffusion.presets["default"].model_copy(update=changes)
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        return np.clip(upscaler.upscale(image, preset=preset, seed=seed).mean, -1, 1)


@torch.no_grad()
def through_torch(model: DiffusersModel, image: Float, noise: torch.Tensor) -> Float:
    """What the graphs are exported from, run step by step from that noise; no step adds any."""
    diffusion = Diffusion.model_validate(model.diffusion)
    schedule = schedule_for(diffusion, diffusion.presets["default"])
    step, decoder = (model.modules()[c] for c in (Component.STEP, Component.DECODER))
    x, nothing = noise, torch.zeros_like(noise)
    x0 = nothing
    for record, row in zip(schedule.steps, torch.from_numpy(coefficients(schedule)), strict=True):
        embedding = model.denoiser.time(torch.tensor([record.timestep]))
        x, x0 = step(x, x0, nothing, row[None], embedding, torch.from_numpy(image[None]))
    return np.asarray(decoder(x)[0].clamp(-1, 1).numpy(), np.float32)


def drawn(channels: int, side: int) -> Iterator[torch.Tensor]:
    """The noise that `ours` starts from and then adds, step by step, for an image of one tile."""
    for step in range(1000):
        noise = position_noise(SEED, step=step, channels=channels, y0=0, x0=0, height=side, width=side)
        yield torch.from_numpy(noise[None])


def their_ldm(
    parts: dict[str, Any], image: Float, monkeypatch: pytest.MonkeyPatch, *, eta: float, steps: int = STEPS
) -> Float:
    """diffusers' own LDMSuperResolutionPipeline, given our noise."""
    noise = drawn(3, image.shape[-1])
    for module in (ldm_module, scheduling_ddim):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(noise))
    pipeline = ldm_module.LDMSuperResolutionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    given = torch.from_numpy(image[None])
    made = pipeline(given, num_inference_steps=steps, eta=eta, output_type="pt").images
    return np.asarray(made[0].numpy() * 2 - 1, np.float32)


@torch.no_grad()
def their_upscaler(parts: dict[str, Any], image: Float, text: torch.Tensor, *, steps: int = STEPS) -> Float:
    """The loop of StableDiffusionUpscalePipeline without guidance, over diffusers' own parts.

    The class itself cannot be imported without transformers; where that is, a test holds this against it.
    """
    noise, level = next(drawn(7, image.shape[-1])), torch.tensor([LEVEL])
    lr = parts["low_res_scheduler"].add_noise(torch.from_numpy(image[None]), noise[:, 4:], level)
    x, scheduler = noise[:, :4], parts["scheduler"]
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        seen = torch.cat([scheduler.scale_model_input(x, timestep), lr], dim=1)
        out = parts["unet"](seen, timestep, encoder_hidden_states=text, class_labels=level).sample
        x = scheduler.step(out, timestep, x).prev_sample
    made = parts["vae"].decode(x / parts["vae"].config.scaling_factor).sample
    return np.asarray(made.clamp(-1, 1)[0].numpy(), np.float32)
