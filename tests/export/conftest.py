"""What the tests of this room share: one thread, small images, small runs, and the bundle made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from edge_sr.bundle import Bundle
from export.bundle import phantom, write_bundle
from export.families import load_model
from export.train import TrainOptions, fit
from export.train_unet import UNetTask
from export.train_vae import VAETask
from tests.export.tiny import CARD, UNET_CONFIG, VAE_CONFIG, write_dataset


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Small work is slower on several threads, and the same sums come out in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, val/ and index.csv."""
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def vae_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny autoencoder."""
    out = tmp_path_factory.mktemp("runs") / "vae"
    task = VAETask(
        VAE_CONFIG, train=dataset / "train", val=dataset / "val", lpips=None, batch=2, crop=32, seed=0
    )
    fit(task, TrainOptions(out=out, iterations=4, validate_every=2, warmup=1))
    return out


@pytest.fixture(scope="session")
def unet_run(dataset: Path, vae_run: Path) -> Path:
    """A finished run of a tiny denoiser on that autoencoder's latents."""
    out = vae_run.with_name("unet")
    task = UNetTask(
        UNET_CONFIG,
        vae=vae_run,
        train=dataset / "train",
        val=dataset / "val",
        store=out / "latents",
        lpips=None,
        pairs=16,
        batch=4,
    )
    fit(task, TrainOptions(out=out, iterations=4, validate_every=4, warmup=1))
    return out


@pytest.fixture(scope="session")
def bundle(vae_run: Path, unet_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the two runs."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    model = load_model(vae_run, unet_run)
    return write_bundle(model, CARD, out, image=phantom(CARD["tile"], 1), commands=("made up",))
