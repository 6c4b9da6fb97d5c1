"""A store of encoded training pairs, so that the UNet's training does not encode each of them again.

Arrays on disk, one row a pair: `condition`, `mu` and `log_variance` in float16, and the pairs themselves
(`lr`, `hr`, uint8). Filled in chunks and taken up again where a killed run left it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from edge_sr.errors import ConfigError, OutputError
from export.data import PairStream
from export.graphs import LatentScale
from export.models.autoencoder import Autoencoder

CHUNK = 16
SAME_TOLERANCE = 2e-2  # FP16 keeps three digits, and another autoencoder differs by far more
Rows = npt.NDArray[Any]


class LatentStore:
    """The arrays, opened for reading.

    Attributes:
        arrays: Memory-mapped, by name, (P, ...) each.

    Raises:
        ConfigError: The folder lacks one of them, or one is damaged.
    """

    def __init__(self, folder: Path) -> None:
        names = ("condition", "mu", "log_variance", "lr", "hr")
        try:
            self.arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in names}
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no encoded pairs in {folder}: {error}",
                hint="train-unet leaves them in its run, under latents/",
            ) from error

    def __len__(self) -> int:
        """Pairs."""
        return len(self.arrays["mu"])

    def scale(self) -> LatentScale:
        """Mean and standard deviation of the sampled latent over all pairs, a channel each."""
        mu = np.asarray(self.arrays["mu"], np.float64)
        variance = np.exp(np.asarray(self.arrays["log_variance"], np.float64)).mean(axis=(0, 2, 3))
        mean = mu.mean(axis=(0, 2, 3))
        std = np.sqrt(mu.var(axis=(0, 2, 3)) + variance)
        return LatentScale(torch.from_numpy(mean).float(), torch.from_numpy(std).float())

    def batches(self, *, batch: int, seed: int, start: int) -> Iterator[dict[str, Rows]]:
        """Endless random rows of every array; batch i depends on (seed, i) alone."""
        index = start
        while True:
            rows = np.sort(np.random.default_rng([seed, index]).integers(len(self), size=batch))
            yield {name: np.asarray(array[rows]) for name, array in self.arrays.items()}
            index += 1


def fill(folder: Path, vae: Autoencoder, stream: PairStream, *, pairs: int, device: str) -> LatentStore:
    """Encodes pairs into a store, or takes up one that was begun.

    Args:
        folder: Where the arrays go.
        vae: The trained autoencoder.
        stream: Batches of `CHUNK` pairs at full size.
        pairs: How many, rounded up to a multiple of `CHUNK`.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: The folder holds other pairs: of another count, autoencoder, seed or other images.
        OutputError: The folder cannot be written.
    """
    chunks = -(-pairs // CHUNK)
    done_file = folder / "chunks_done"
    done = int(done_file.read_text()) if done_file.is_file() else 0
    vae = vae.eval().to(device)
    first = _encode(vae, stream, 0, device)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if done:
            _check_same(folder, first, chunks * CHUNK)
        arrays = _arrays(folder, first, chunks * CHUNK, is_new=done == 0)
        for index in tqdm(range(done, chunks), desc="encoding", initial=done, total=chunks, disable=None):
            for name, rows in (_encode(vae, stream, index, device) if index else first).items():
                arrays[name][index * CHUNK : (index + 1) * CHUNK] = rows
            if (index + 1) % 8 == 0 or index + 1 == chunks:
                _mark_done(arrays, done_file, index + 1)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    return LatentStore(folder)


def _mark_done(arrays: dict[str, np.memmap[Any, Any]], done_file: Path, chunks: int) -> None:
    """Notes how far the store is filled, once that much is on the disk."""
    for array in arrays.values():
        array.flush()
    temporary = done_file.with_suffix(".tmp")
    temporary.write_text(str(chunks))
    temporary.replace(done_file)


def _check_same(folder: Path, first: dict[str, Rows], rows: int) -> None:
    """Compares a store with its first chunk, encoded again.

    Raises:
        ConfigError: They differ by more than the order of sums explains.
    """
    stored = LatentStore(folder)
    problem = f"it has {len(stored)}, {rows} are wanted" if len(stored) != rows else ""
    for name, wanted in first.items():
        found = stored.arrays[name][:CHUNK]
        if found.shape != wanted.shape or not np.allclose(
            found.astype(np.float32), wanted.astype(np.float32), rtol=SAME_TOLERANCE, atol=SAME_TOLERANCE
        ):
            problem = problem or f"its {name} is of another autoencoder, seed or set of images"
    if problem:
        raise ConfigError(
            f"{folder} holds other pairs: {problem}", hint="give another --out, or remove that folder"
        )


def _arrays(
    folder: Path, first: dict[str, Rows], rows: int, *, is_new: bool
) -> dict[str, np.memmap[Any, Any]]:
    """The arrays on disk, each row of the size and type of those of the first chunk."""
    mode: Literal["w+", "r+"] = "w+" if is_new else "r+"
    return {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode=mode, dtype=values.dtype, shape=(rows, *values.shape[1:])
        )
        for name, values in first.items()
    }


@torch.no_grad()
def _encode(vae: Autoencoder, stream: PairStream, index: int, device: str) -> dict[str, Rows]:
    lr, hr = (torch.from_numpy(a) for a in stream.batch(index))
    mean, features, condition = vae.lr_encoder(lr.to(device))
    mu, log_variance = vae.encode(hr.to(device), mean, features)
    halves = {"condition": condition, "mu": mu, "log_variance": log_variance}
    rows: dict[str, Rows] = {k: v.half().cpu().numpy() for k, v in halves.items()}
    return rows | {"lr": _bytes(lr), "hr": _bytes(hr)}


def _bytes(image: torch.Tensor) -> Rows:
    return np.asarray(((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy())
