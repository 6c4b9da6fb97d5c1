"""A small bundle with random weights, made-up pairs, and stand-ins for LPIPS weights and a training run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.rows import Track
from calibration.images import choose_files, read_set
from calibration.plan import make_plan
from calibration.quantize import quantize_bundle
from calibration.record import record
from calibration.recording import Recording
from edge_sr.bundle import Bundle
from export.bundle import phantom, read_card, write_bundle
from export.families import Model
from export.graphs import LatentScale
from export.models.unet_lite import UNetConfig, UNetLite
from export.models.vae import VAE, VAEConfig
from export.perceptual import LINEAR, TRUNK, squeezenet_features
from export.to_onnx import round_weights

ROOT = Path(__file__).parents[2]
VAE_CONFIG = VAEConfig(
    lr_width=16, lr_blocks=1, lr_deep_width=16, lr_deep_blocks=1, condition_width=8, condition_blocks=1,
    width=16, deep_width=16, decoder_blocks=1, deep_blocks=1, condition_channels=8, latent_channels=4,
)  # fmt: skip
UNET_CONFIG = UNetConfig(
    latent_channels=4, condition_channels=8, channels=(16, 32, 32), embedding=16, heads=2
)
CALIBRATION_IMAGES = 8
TAP_CHANNELS = (64, 128, 256, 384, 384, 512, 512)  # of the features that LPIPS compares
PRESETS = {
    "default": {"sampler": "ddim", "steps": 3, "noise_scale": 0.8},
    "ancestral": {"sampler": "ddpm", "steps": 3},
    "mean": {"sampler": "ddim", "steps": 2, "samples": 2},
}


def _model() -> Model:
    """Every parameter random, those of normalisations and those that begin at zero as well."""
    torch.manual_seed(0)
    vae, unet = VAE(VAE_CONFIG), UNetLite(UNET_CONFIG)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for network in (vae, unet):
        round_weights(network.eval().requires_grad_(requires_grad=False))
    scale = LatentScale(torch.tensor([0.5, -0.25, 0.0, 1.0]), torch.tensor([1.0, 2.0, 0.5, 1.5]))
    return Model(
        vae, unet, scale, {"noise_schedule": "cosine", "timesteps": 50, "prediction": "v_prediction"}
    )


@pytest.fixture(scope="session")
def model() -> Model:
    """The networks of the bundle."""
    return _model()


@pytest.fixture(scope="session")
def bundle(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of whole tiles of 64x64, made as the real one is."""
    card = read_card(ROOT / "export" / "cards" / "cxr-x4.json") | {"name": "small", "presets": PRESETS}
    out = tmp_path_factory.mktemp("bundles") / "small"
    return write_bundle(model, card, out, image=phantom(64, 1), commands=("none",))


@pytest.fixture(scope="session")
def vae_run(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training run that ended with the bundle's autoencoder."""
    folder = tmp_path_factory.mktemp("runs")
    saved = {"config": VAE_CONFIG.to_dict(), "weights": model.vae.state_dict()}
    torch.save(saved, folder / "weights.pt")
    return folder


@pytest.fixture(scope="session")
def lpips_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random LPIPS weights: a distance, though not the one of the paper."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("lpips")
    trunk = {f"features.{name}": value for name, value in squeezenet_features().state_dict().items()}
    linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(TAP_CHANNELS)}
    torch.save(trunk, folder / TRUNK)
    torch.save(linear, folder / LINEAR)
    return folder


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three made-up scenes, in hr_256/ and lr_64/."""
    folder = tmp_path_factory.mktemp("data") / "made-up"
    rng = np.random.default_rng(0)
    for kind in ("hr_256", "lr_64"):
        (folder / kind).mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png"):
        noise = rng.uniform(0, 255, (256, 256)).astype(np.float32)
        blurred = cv2.GaussianBlur(noise, (0, 0), 4)
        hr = np.clip(127 + 4 * (blurred - 127) + rng.normal(0, 4, blurred.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "hr_256" / name), hr)
        lr = cv2.resize(hr, (64, 64), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "lr_64" / name), lr)
    return folder


@pytest.fixture(scope="session")
def recording_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few phantoms to calibrate with."""
    folder = tmp_path_factory.mktemp("calibration")
    for seed in range(CALIBRATION_IMAGES):
        noise = np.random.default_rng(seed).normal(0, 20, (64, 64))
        pixels = np.clip(127.5 * (phantom(64, 1)[0] + 1) + noise, 0, 255)
        cv2.imwrite(str(folder / f"{seed}.png"), pixels.astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def recording(bundle: Bundle, recording_images: Path) -> Recording:
    """What the bundle does with them."""
    images = read_set(choose_files(recording_images, 0, seed=0), bundle.manifest)
    return record(bundle, images, preset="default", seed=0)


@pytest.fixture(scope="session")
def quantised(bundle: Bundle, recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle with FP16 and INT8 graphs, as it would be shipped."""
    plan = make_plan(bundle, recording, method="mse")
    return quantize_bundle(bundle, plan, tmp_path_factory.mktemp("quantised") / "small")


@pytest.fixture(scope="session")
def control(bundle: Bundle, recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, with naive INT8."""
    plan = make_plan(bundle, recording, method="minmax", exclude=False)
    return quantize_bundle(bundle, plan, tmp_path_factory.mktemp("naive") / "small")


@pytest.fixture
def quietly() -> Track:
    """Goes through items and shows nothing."""
    return lambda items, what: items
