"""torch.compile around the networks, with a scheduler of diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDIMScheduler


def load(folder: Path, threads: int) -> tuple[Any, ...]:
    """Reads the modules and the scheduler's settings."""
    torch.set_num_threads(threads)
    settings = json.loads((folder / "scheduler.json").read_text())
    steps = settings.pop("steps")
    model = torch.load(folder / "model.pt", weights_only=False)
    networks = (torch.compile(part) for part in (model.lr_encoder, model.unet.denoise, model.decoder))
    return (model, *networks, DDIMScheduler(**settings), steps)


@torch.no_grad()
def upscale(
    pipeline: tuple[Any, ...], image: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Encodes, denoises, decodes."""
    model, encode, denoise, decode, scheduler, steps = pipeline
    mean, features, condition = encode(torch.from_numpy(image))
    latent = torch.from_numpy(noise)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        embedding = model.embedding[t].expand(len(latent), -1)
        out = denoise(latent, embedding, condition)
        latent = scheduler.step(out, t, latent).prev_sample
    return decode(latent * model.std + model.mean, features, mean).numpy()
