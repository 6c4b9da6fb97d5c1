"""Autoencoders in diffusers' folder layout: AutoencoderKL (Rombach et al. 2022), AutoencoderTiny (TAESD).

Such an autoencoder, under a denoiser of ours, knows nothing of the LR image, so the condition is what it
makes of the bicubically enlarged one, and the decoder reads the latent alone. A gray image is repeated to
the channels that the network wants, and the channels of its output are averaged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from export.models.autoencoder import Autoencoder
from export.models.diffusers_folder import read_network
from export.models.vae import SCALE

CLASSES = ("AutoencoderKL", "AutoencoderTiny")
NO_VARIANCE = -30.0  # log variance of a latent that is a point; diffusers clamps at the same


@dataclass(frozen=True)
class DiffusersConfig:
    """What an adapted autoencoder is.

    Attributes:
        kind: Its class in diffusers, one of `CLASSES`.
        image_channels: Channels of the images it is given here; what it repeats them to is its own affair.
        latent_channels, condition_channels: Of the latent and of the condition: the same.
        condition_scale, condition_shift: The condition is (latent - shift) * scale, about unit variance.
    """

    kind: str
    image_channels: int
    latent_channels: int
    condition_channels: int
    condition_scale: float
    condition_shift: float

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON scalars."""
        return asdict(self)


class HREncoder(nn.Module):
    """HR image -> mean and log variance of its latent."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.quant_conv = getattr(network, "quant_conv", None)
        self.channels = network.config.in_channels
        self.latent_channels = network.config.latent_channels

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """image: (N, C, H, W) in [-1, 1] -> mean, log variance: (N, L, h', w') each."""
        code = self.encoder(
            image if image.shape[1] == self.channels else image.repeat(1, self.channels, 1, 1)
        )
        code = code if self.quant_conv is None else self.quant_conv(code)
        if code.shape[1] == self.latent_channels:
            return code, torch.full_like(code, NO_VARIANCE)
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)


class LREncoder(nn.Module):
    """LR image -> its bicubic enlargement, itself, and the enlargement's latent as the condition."""

    def __init__(self, hr_encoder: HREncoder, config: DiffusersConfig) -> None:
        super().__init__()
        self.hr_encoder = hr_encoder
        self.scale, self.shift = config.condition_scale, config.condition_shift

    def forward(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """lr: (N, C, h, w) in [-1, 1] -> mean (N, C, 4h, 4w), features: lr, condition (N, L, h', w')."""
        mean = functional.interpolate(lr, scale_factor=SCALE, mode="bicubic", align_corners=False)
        code, _ = self.hr_encoder(mean)
        return mean, lr, (code - self.shift) * self.scale


class Decoder(nn.Module):
    """Latent -> image; what it is told of the LR image, it has no use for."""

    def __init__(self, network: Any, image_channels: int) -> None:
        super().__init__()
        self.post_quant_conv = getattr(network, "post_quant_conv", None)
        self.decoder = network.decoder
        self.image_channels = image_channels

    def forward(
        self, latent: torch.Tensor, features: torch.Tensor | None = None, mean: torch.Tensor | None = None
    ) -> torch.Tensor:
        """latent: (N, L, h', w') -> (N, C, H, W)."""
        image: torch.Tensor = self.decoder(
            latent if self.post_quant_conv is None else self.post_quant_conv(latent)
        )
        return image if image.shape[1] == self.image_channels else image.mean(dim=1, keepdim=True)


class DiffusersVAE(Autoencoder):
    """A frozen autoencoder of diffusers, as the rest of this room wants one."""

    decoder_inputs = ()

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.config = _adapted_config(network)
        self.hr_encoder = HREncoder(network)
        self.lr_encoder = LREncoder(self.hr_encoder, self.config)
        self.decoder = Decoder(network, self.config.image_channels)

    def encode(
        self, hr: torch.Tensor, mean: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """hr: (N, C, H, W) in [-1, 1] -> mean and log variance of the latent, (N, L, h', w') each."""
        mu, log_variance = self.hr_encoder(hr)
        return mu, log_variance


def load_diffusers_vae(folder: Path) -> DiffusersVAE:
    """An autoencoder from a local folder, frozen, in FP32.

    Raises:
        ConfigError: diffusers is not installed, the folder lacks a file, the class is another, or the weights
            are damaged or do not fit the configuration.
    """
    hint = "give a folder of one of them, or a run of: python -m export train-vae"
    network = read_network(folder, CLASSES, hint=hint)
    return DiffusersVAE(network).requires_grad_(requires_grad=False).eval()


def _adapted_config(network: Any) -> DiffusersConfig:
    latents = network.config.latent_channels
    return DiffusersConfig(
        kind=type(network).__name__,
        image_channels=1,
        latent_channels=latents,
        condition_channels=latents,
        condition_scale=network.config.scaling_factor or 1.0,
        condition_shift=network.config.shift_factor or 0.0,
    )
