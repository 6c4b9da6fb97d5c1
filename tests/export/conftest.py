"""What the tests of this room share: one thread, small images, small runs, and the bundle made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from tests.export.diffusers_cases import Case


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


@pytest.fixture(scope="session")
def ldm(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """diffusers' LDMSuperResolutionPipeline, narrow."""
    from tests.export.diffusers_cases import LDM, make  # diffusers takes seconds to import
    from tests.export.diffusers_folders import ldm_parts

    return make(tmp_path_factory.mktemp("ldm"), LDM, ldm_parts())


@pytest.fixture(scope="session")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """diffusers' StableDiffusionUpscalePipeline, narrow, with a made-up text."""
    from export.from_diffusers import read_text
    from tests.export.diffusers_cases import LEVEL, UPSCALER, make
    from tests.export.diffusers_folders import NARROW_SD, sd_parts, write_text

    folder = tmp_path_factory.mktemp("upscaler")
    text = read_text(write_text(folder / "text.npy", NARROW_SD["cross_attention_dim"]))
    return make(folder, UPSCALER, sd_parts(), text=text, noise_level=LEVEL)
