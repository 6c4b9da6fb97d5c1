"""The store of encoded pairs: filled once, taken up where it was left, and never that of something else."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sr.errors import ConfigError
from export.data import Batch, PairStream
from export.latents import CHUNK, LatentStore, fill
from tests.export.tiny import original, shaken, tiny_vae

PAIRS = 10 * CHUNK


class Pairs(PairStream):
    """Small pairs, which are quick to encode, and a stream that may end early."""

    def __init__(self, *, stop_at: int | None = None, seed: int = 0) -> None:
        super().__init__([original(0)], batch=CHUNK, crop=64, seed=seed)
        self.stop_at = stop_at
        self.seen: list[int] = []

    def batch(self, index: int) -> Batch:
        if index == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(index)
        return super().batch(index)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.npy")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    fill(folder, tiny_vae(), Pairs(), pairs=PAIRS, device="cpu")
    return folder


def test_the_store_has_a_row_a_pair_of_everything(whole: Path) -> None:
    store = LatentStore(whole)
    shapes = {name: (array.shape, array.dtype.name) for name, array in store.arrays.items()}
    assert len(store) == PAIRS
    assert shapes == {
        "condition": ((PAIRS, 4, 8, 8), "float16"),
        "mu": ((PAIRS, 4, 8, 8), "float16"),
        "log_variance": ((PAIRS, 4, 8, 8), "float16"),
        "lr": ((PAIRS, 1, 16, 16), "uint8"),
        "hr": ((PAIRS, 1, 64, 64), "uint8"),
    }


def test_an_interrupted_store_is_taken_up_where_it_was_left(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, tiny_vae(), Pairs(stop_at=9), pairs=PAIRS, device="cpu")
    resumed = Pairs()
    fill(tmp_path, tiny_vae(), resumed, pairs=PAIRS, device="cpu")
    assert resumed.seen == [0, 8, 9]  # the first again, to compare; the eighth was not yet noted as done
    assert digests(tmp_path) == digests(whole)


def test_a_full_store_is_not_filled_again(whole: Path) -> None:
    before, stream = digests(whole), Pairs()
    fill(whole, tiny_vae(), stream, pairs=PAIRS, device="cpu")
    assert stream.seen == [0]
    assert digests(whole) == before


def test_a_store_of_another_autoencoder_seed_or_size_is_refused(whole: Path) -> None:
    before = digests(whole)
    other = shaken(tiny_vae(), seed=9)
    with pytest.raises(ConfigError, match="its condition is of another autoencoder, seed or set of images"):
        fill(whole, other, Pairs(), pairs=PAIRS, device="cpu")
    with pytest.raises(ConfigError, match="of another autoencoder, seed or set of images"):
        fill(whole, tiny_vae(), Pairs(seed=1), pairs=PAIRS, device="cpu")
    with pytest.raises(ConfigError, match=f"it has {PAIRS}, {2 * PAIRS} are wanted"):
        fill(whole, tiny_vae(), Pairs(), pairs=2 * PAIRS, device="cpu")
    assert digests(whole) == before


def test_the_scale_standardises_the_sampled_latent(whole: Path) -> None:
    store = LatentStore(whole)
    mu, log_variance = (
        torch.from_numpy(np.asarray(store.arrays[n], np.float32)) for n in ("mu", "log_variance")
    )
    noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0))
    latent = mu + torch.exp(0.5 * log_variance) * noise
    scale = store.scale()
    standard = (latent - scale.mean[None, :, None, None]) / scale.std[None, :, None, None]
    # 10 240 values a channel: their mean and spread are known to about a hundredth.
    assert standard.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (standard.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05


def test_a_batch_of_rows_depends_on_the_seed_and_its_index_alone(whole: Path) -> None:
    store = LatentStore(whole)
    first = list(islice(store.batches(batch=4, seed=1, start=0), 3))
    later = next(store.batches(batch=4, seed=1, start=2))
    assert all(np.array_equal(first[2][name], later[name]) for name in later)
    assert not np.array_equal(first[0]["mu"], first[1]["mu"])
