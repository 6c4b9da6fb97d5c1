"""Small models, images and runs for the tests of this room: seeded, and good for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.data import plain_pair
from export.families import Model
from export.graphs import LatentScale
from export.models.autoencoder import Autoencoder
from export.models.unet_lite import UNetConfig, UNetLite
from export.models.vae import VAE, VAEConfig

Gray = npt.NDArray[np.uint8]

VAE_CONFIG = VAEConfig(
    lr_width=8,
    lr_blocks=1,
    lr_deep_width=8,
    lr_deep_blocks=1,
    width=8,
    deep_width=8,
    decoder_blocks=1,
    deep_blocks=1,
    condition_width=8,
    condition_blocks=1,
    condition_channels=4,
    latent_channels=4,
)
UNET_CONFIG = UNetConfig(
    latent_channels=4, condition_channels=4, channels=(16, 32, 32), embedding=16, heads=2
)
DIFFUSION = {"prediction": "v_prediction", "noise_schedule": "cosine", "timesteps": 100}
CARD: dict[str, Any] = {
    "name": "tiny",
    "version": "0.1",
    "description": "Made up for tests.",
    "scale": 4,
    "channels": 1,
    "tile": 16,
    "overlap": 4,
    "degradation": "cubic",
    "data": "none",
    "data_licence": "none",
    "weights_licence": "Apache-2.0",
    "intended_use": "tests",
    "limits": ["everything"],
    "presets": {
        "quiet": {"sampler": "ddim", "steps": 3, "noise_scale": 0.8},
        "noisy": {"sampler": "ddim", "steps": 3, "eta": 1.0},
    },
    "default": "noisy",
}


def original(seed: int, *, height: int = 300, width: int = 300) -> Gray:
    """A made-up radiograph: broad blobs, and finer ones on them."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for top, step in ((200, 40), (55, 6)):
        field = rng.uniform(0, top, (height // step + 1, width // step + 1)).astype(np.float32)
        image += cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write_dataset(folder: Path, *, train: int = 4, val: int = 2) -> Path:
    """A folder with train/ and val/, as `python -m export prepare` makes them, views and all."""
    for side in ("train", "val/hr_256", "val/lr_64"):
        (folder / side).mkdir(parents=True)
    lines = ["file,split,patient_id,view"]
    for index in range(train):
        cv2.imwrite(str(folder / f"train/{index}.png"), original(index))
        lines.append(f"train/{index}.png,train,{index},{'PA' if index % 2 else 'AP'}")
    for index in range(val):
        for image, name in zip(plain_pair(original(100 + index)), ("hr_256", "lr_64"), strict=True):
            cv2.imwrite(str(folder / f"val/{name}/{index}.png"), image)
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def shaken(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """The model with every weight moved, those that begin at zero too, frozen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(requires_grad=False)


def tiny_vae() -> VAE:
    """A small autoencoder of ours."""
    torch.manual_seed(0)
    vae = shaken(VAE(VAE_CONFIG))
    assert isinstance(vae, VAE)
    return vae


def tiny_unet(config: UNetConfig = UNET_CONFIG) -> UNetLite:
    """A small denoiser that does something."""
    torch.manual_seed(1)
    unet = shaken(UNetLite(config), seed=1)
    assert isinstance(unet, UNetLite)
    return unet


def tiny_model(vae: Autoencoder | None = None, unet: UNetLite | None = None) -> Model:
    """A whole model, of these networks or of small ones of ours."""
    vae, unet = vae or tiny_vae(), unet or tiny_unet()
    channels = unet.config.latent_channels
    scale = LatentScale(torch.linspace(-0.2, 0.2, channels), torch.linspace(0.8, 1.2, channels))
    return Model(vae, unet, scale, DIFFUSION)
