"""The same with the weights laid out channels last, which oneDNN likes better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDIMScheduler


def load(folder: Path, threads: int) -> tuple[Any, Any, int]:
    """Reads the modules and the scheduler's settings."""
    torch.set_num_threads(threads)
    settings = json.loads((folder / "scheduler.json").read_text())
    steps = settings.pop("steps")
    model = torch.load(folder / "model.pt", weights_only=False)
    model.to_memory_format(torch.channels_last)
    return model, DDIMScheduler(**settings), steps


@torch.inference_mode()
def upscale(
    pipeline: tuple[Any, Any, int], image: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Encodes, denoises, decodes."""
    model, scheduler, steps = pipeline
    pixels = torch.from_numpy(image).contiguous(memory_format=torch.channels_last)
    mean, features, condition = model.lr_encoder(pixels)
    latent = torch.from_numpy(noise).contiguous(memory_format=torch.channels_last)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        embedding = model.embedding[t].expand(len(latent), -1)
        out = model.unet.denoise(latent, embedding, condition)
        latent = scheduler.step(out, t, latent).prev_sample
    return model.decoder(latent * model.std + model.mean, features, mean).contiguous().numpy()
