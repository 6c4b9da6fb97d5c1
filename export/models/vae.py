"""The autoencoder of what the low-resolution image lacks.

Three convolutional networks, none of which normalises, so that tiles agree with each other:

    LREncoder   LR image            -> mean image (a regression), features, condition
    HREncoder   HR image, features  -> latent distribution          (training only)
    Decoder     latent, features, mean image -> HR image

The latent carries only what the LR image does not: the decoder sees the LR features and adds its output to
the mean image. The distribution is that of Kingma and Welling 2014 and the latent that of Rombach et al.
2022, with the conditional form of Sohn et al. 2015.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from export.models.autoencoder import Autoencoder
from export.models.blocks import PlainBlock

SCALE = 4  # HR pixels an LR pixel, along each axis
RESIDUAL_GAIN = 16.0  # brings HR minus the mean image (standard deviation about 0.05) to unit scale


@dataclass(frozen=True)
class VAEConfig:
    """The sizes of the autoencoder.

    Attributes:
        lr_width, lr_blocks: Channels and residual blocks of the LR encoder at the LR grid, before its deep
            part and again after it.
        lr_deep_width, lr_deep_blocks: Those of its deep part, at half the LR grid, which sees further;
            without blocks there is none, and nothing after it.
        condition_width, condition_blocks: Those of what makes the condition, at the latent grid; without
            blocks the condition is one convolution of the features.
        width: Channels of the HR encoder and the decoder at the LR grid (a quarter of HR).
        deep_width: Their channels at the latent grid (an eighth of HR).
        decoder_blocks: Residual blocks of the decoder at the LR grid; `deep_blocks` at the latent grid.
        condition_channels: Channels of the condition that the UNet reads, at the latent grid.
        latent_channels: Channels of the latent.
    """

    image_channels: int = 1
    lr_width: int = 64
    lr_blocks: int = 4
    lr_deep_width: int = 96
    lr_deep_blocks: int = 6
    width: int = 64
    deep_width: int = 96
    decoder_blocks: int = 5
    deep_blocks: int = 3
    condition_width: int = 96
    condition_blocks: int = 3
    condition_channels: int = 64
    latent_channels: int = 24

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON scalars."""
        return asdict(self)


class LREncoder(nn.Module):
    """Reads the LR image once; everything after it conditions on what it finds.

    A regression of the HR image (`regress`), trained first and alone, and on its features the condition that
    the UNet reads, which learns to foretell the latent.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width, deep_width = config.lr_width, config.lr_deep_width
        self.conv_in = nn.Conv2d(config.image_channels, width, 3, padding=1)
        self.blocks = _blocks(width, config.lr_blocks)
        if config.lr_deep_blocks:
            self.down = nn.Conv2d(width, deep_width, 3, stride=2, padding=1)
            self.deep = _blocks(deep_width, config.lr_deep_blocks)
            self.up = nn.Conv2d(deep_width, 4 * width, 3, padding=1)
            self.tail = _blocks(width, config.lr_blocks)
        self.to_mean = nn.Conv2d(width, config.image_channels * SCALE**2, 3, padding=1)
        to_latent_grid = nn.Conv2d(
            width,
            config.condition_width if config.condition_blocks else config.condition_channels,
            3,
            stride=2,
            padding=1,
        )
        if config.condition_blocks:
            self.condition_in = to_latent_grid
            self.condition_blocks = _blocks(config.condition_width, config.condition_blocks)
            self.to_condition = nn.Conv2d(config.condition_width, config.condition_channels, 3, padding=1)
        else:
            self.to_condition = to_latent_grid
        self._is_deep, self._has_condition_blocks = bool(config.lr_deep_blocks), bool(config.condition_blocks)

    def forward(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes the LR image.

        Args:
            lr: (N, C, h, w) float32 in [-1, 1], h and w even.

        Returns:
            mean: (N, C, 4h, 4w), the expected HR image; features: (N, F, h, w); condition: (N, K, h/2, w/2).
        """
        mean, features = self.regress(lr)
        return mean, features, self.condition(features)

    def regress(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """lr: (N, C, h, w) -> mean: (N, C, 4h, 4w), features: (N, F, h, w)."""
        features = self.blocks(self.conv_in(lr))
        if self._is_deep:
            deep = self.deep(self.down(features))
            features = self.tail(features + functional.pixel_shuffle(self.up(deep), 2))
        detail = functional.pixel_shuffle(self.to_mean(features), SCALE)
        return functional.interpolate(lr, scale_factor=SCALE, mode="nearest") + detail, features

    def freeze_regression(self) -> None:
        """Leaves the condition alone to be trained."""
        is_condition = ("condition_in.", "condition_blocks.", "to_condition.")
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(requires_grad=name.startswith(is_condition))

    def condition(self, features: torch.Tensor) -> torch.Tensor:
        """features: (N, F, h, w) -> (N, K, h/2, w/2)."""
        if self._has_condition_blocks:
            features = self.condition_blocks(self.condition_in(features))
        condition: torch.Tensor = self.to_condition(features)
        return condition


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[PlainBlock(channels) for _ in range(count)])


class HREncoder(nn.Module):
    """Encodes an HR image, given its LR features, to the mean and log variance of its latent."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        shuffled = config.image_channels * SCALE**2
        self.conv_in = nn.Conv2d(shuffled + config.lr_width, config.width, 3, padding=1)
        self.blocks = _blocks(config.width, 2)
        self.down = nn.Conv2d(config.width, config.deep_width, 3, stride=2, padding=1)
        self.deep = _blocks(config.deep_width, 2)
        self.conv_out = nn.Conv2d(config.deep_width, 2 * config.latent_channels, 1)
        # Begins with little noise: from a noisy start the decoder learns to ignore the latent, for good.
        nn.init.constant_(self.conv_out.bias[config.latent_channels :], -4.0)

    def forward(self, residual: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """residual: (N, C, H, W), HR minus mean image -> mean, log variance: (N, L, H/8, W/8) each."""
        x = torch.cat([functional.pixel_unshuffle(residual * RESIDUAL_GAIN, SCALE), features], dim=1)
        x = self.deep(self.down(self.blocks(self.conv_in(x))))
        mean, log_variance = self.conv_out(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)


class Decoder(nn.Module):
    """Decodes a latent to an HR image, with the LR features and the mean image beside it."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(config.latent_channels, config.deep_width, 3, padding=1)
        self.deep = _blocks(config.deep_width, config.deep_blocks)
        self.up = nn.Conv2d(config.deep_width, 4 * config.width, 3, padding=1)
        self.fuse = nn.Conv2d(config.width + config.lr_width, config.width, 3, padding=1)
        self.blocks = _blocks(config.width, config.decoder_blocks)
        self.conv_out = nn.Conv2d(config.width, config.image_channels * SCALE**2, 3, padding=1)

    def forward(self, latent: torch.Tensor, features: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """latent: (N, L, h/2, w/2), features: (N, F, h, w), mean: (N, C, 4h, 4w) -> (N, C, 4h, 4w)."""
        x = functional.pixel_shuffle(self.up(self.deep(self.conv_in(latent))), 2)
        x = self.blocks(functional.relu(self.fuse(torch.cat([x, features], dim=1))))
        return mean + functional.pixel_shuffle(self.conv_out(x), SCALE)


class VAE(Autoencoder):
    """The three networks together, as they are trained.

    Attributes:
        guess: Reads the latent's mean from the condition, to teach one that has blocks; training only.
    """

    decoder_inputs = ("features", "mean")

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.lr_encoder = LREncoder(config)
        self.hr_encoder = HREncoder(config)
        self.decoder = Decoder(config)
        self.guess: nn.Module | None = None
        if config.condition_blocks:
            self.guess = nn.Conv2d(config.condition_channels, config.latent_channels, 1)

    def encode(
        self, hr: torch.Tensor, mean: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """hr: (N, C, H, W) in [-1, 1] -> mean and log variance of the latent, (N, L, H/8, W/8) each."""
        mu, log_variance = self.hr_encoder(hr - mean, features)
        return mu, log_variance

    def forward(self, lr: torch.Tensor, hr: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encodes, samples and decodes; returns every value that a loss needs, by name."""
        mean, features = self.lr_encoder.regress(lr)
        mu, log_variance = self.encode(hr, mean.detach(), features)
        latent = mu + torch.exp(0.5 * log_variance) * torch.randn_like(mu)
        output = self.decoder(latent, features, mean.detach())
        values = {"mean": mean, "output": output, "mu": mu, "log_variance": log_variance}
        if self.guess is not None:
            values["guess"] = self.guess(self.lr_encoder.condition(features.detach()))
        return values


def kl_per_pixel(mu: torch.Tensor, log_variance: torch.Tensor, pixels: int) -> torch.Tensor:
    """KL divergence to the unit normal in nats an HR pixel (Kingma and Welling 2014, appendix B)."""
    nats = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum()
    return nats / (mu.shape[0] * pixels)
