"""Latents of the deployed loop for the pairs of a store: what the decoder is trained further on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from edge_sr.errors import ConfigError, OutputError
from edge_sr.schedule import NoiseSchedule, Schedule, build_schedule
from export.graphs import LatentScale
from export.latents import CHUNK, LatentStore
from export.models.unet_lite import UNetLite
from export.sampling import sample_latents
from export.train_unet import load_unet

NOISE_SCALES = (0.3, 1.0)  # of the first noise: presets differ in it, and the decoder serves them all
Half = npt.NDArray[np.float16]


class Sampler:
    """A trained UNet with the deployed loop around it.

    Attributes:
        scale: What its latents are standardised with.
    """

    def __init__(self, run: Path, *, steps: int, device: str) -> None:
        """Opens a run of train-unet.

        Args:
            run: Its folder.
            steps: Of the loop, DDIM.
            device: "cpu" or "cuda".

        Raises:
            ConfigError: The folder holds no run of train-unet.
        """
        unet, self.scale, diffusion = load_unet(run)
        self._unet: UNetLite = unet.to(device)
        noise = NoiseSchedule(diffusion["noise_schedule"], timesteps=diffusion["timesteps"])
        self._schedule: Schedule = build_schedule(
            noise, sampler="ddim", prediction=diffusion["prediction"], steps=steps
        )

    def sample(self, condition: torch.Tensor, *, noise_scale: float, seed: int) -> torch.Tensor:
        """condition: (N, K, h, w) -> latents as the decoder reads them, not standardised: (N, L, h, w)."""
        device = next(self._unet.parameters()).device
        latent, _ = sample_latents(
            self._unet, condition.to(device), self._schedule, seed=seed, noise_scale=noise_scale
        )
        return unscaled(latent, self.scale)


def unscaled(latent: torch.Tensor, scale: LatentScale) -> torch.Tensor:
    """A standardised latent, (N, L, h, w), as the decoder reads it."""
    mean, std = (t.to(latent.device)[None, :, None, None] for t in (scale.mean, scale.std))
    return latent * std + mean


def fill_samples(folder: Path, pairs: LatentStore, sampler: Sampler, *, count: int, seed: int) -> Half:
    """Samples a latent for each of the first pairs, or takes up a file that was begun.

    Each chunk has a first noise of its own scale, uniform over `NOISE_SCALES`.

    Args:
        folder: Where samples.npy goes.
        pairs: The UNet's store.
        sampler: Of the same UNet.
        count: Pairs, rounded up to a multiple of `CHUNK`, at most all.
        seed: Of the noise.

    Returns:
        (P, L, h, w), memory-mapped.

    Raises:
        ConfigError: The folder holds samples of another count or size.
        OutputError: The folder cannot be written.
    """
    chunks = min(-(-count // CHUNK), len(pairs) // CHUNK)
    shape = (chunks * CHUNK, *pairs.arrays["mu"].shape[1:])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _fill(folder, pairs, sampler, chunks=chunks, shape=shape, seed=seed)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def _fill(
    folder: Path, pairs: LatentStore, sampler: Sampler, *, chunks: int, shape: tuple[int, ...], seed: int
) -> Half:
    path, done_file = folder / "samples.npy", folder / "chunks_done"
    done = int(done_file.read_text()) if done_file.is_file() else 0
    mode = "r+" if done else "w+"
    samples: Half = np.lib.format.open_memmap(
        path, mode=mode, dtype=np.float16, shape=None if done else shape
    )
    if samples.shape != shape:
        raise ConfigError(
            f"{path} holds {samples.shape}, wanted {shape}", hint="give another --out, or remove that folder"
        )
    for index in tqdm(range(done, chunks), desc="sampling", initial=done, total=chunks, disable=None):
        rows = slice(index * CHUNK, (index + 1) * CHUNK)
        condition = torch.from_numpy(np.asarray(pairs.arrays["condition"][rows], np.float32))
        noise_scale = float(np.random.default_rng([seed, index]).uniform(*NOISE_SCALES))
        samples[rows] = sampler.sample(condition, noise_scale=noise_scale, seed=seed + index).cpu().numpy()
        samples.flush()  # type: ignore[attr-defined]  # a memmap
        done_file.write_text(str(index + 1))
    return samples
