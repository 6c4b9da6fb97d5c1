"""UNet-Lite: the denoiser, at the latent grid.

Three resolutions with skips, GroupNorm, SiLU and a timestep embedding; attention at the coarsest only, where
it is cheap. After Ho et al. 2020 and Dhariwal and Nichol 2021, at about a twentieth of their size.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from export.models.blocks import Attention, SplitBlock, TimedBlock
from export.models.denoiser import Denoiser


@dataclass(frozen=True)
class UNetConfig:
    """The sizes of UNet-Lite.

    Attributes:
        latent_channels, condition_channels: Channels of the noisy latent and of the condition.
        channels: Channels at the latent grid, at half and at a quarter of it; multiples of 16.
        embedding: Width of the timestep embedding.
        heads: Attention heads at the coarsest grid.
        attentions: Attention blocks there: after the first of its two other blocks, and after the second.
    """

    latent_channels: int = 24
    condition_channels: int = 64
    channels: tuple[int, int, int] = (96, 128, 160)
    embedding: int = 128
    heads: int = 5
    attentions: Literal[1, 2] = 1

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep and two linear layers (Ho et al. 2020); exported as a table."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """timesteps: (N,) int64 -> (N, D)."""
        half = self.width // 2
        exponents = torch.arange(half, device=timesteps.device) / half
        angles = timesteps[:, None].float() * torch.exp(-math.log(10000.0) * exponents)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


class UNetLite(Denoiser):
    """Predicts v from the noisy latent, the timestep embedding and the condition."""

    time: TimeEmbedding

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c0, c1, c2 = config.channels
        d = config.embedding
        self.time = TimeEmbedding(d)
        self.conv_in = nn.Conv2d(config.latent_channels + config.condition_channels, c0, 3, padding=1)
        self.enc0 = nn.ModuleList([TimedBlock(c0, c0, d), TimedBlock(c0, c0, d)])
        self.down0 = nn.Conv2d(c0, c1, 3, stride=2, padding=1)
        self.enc1 = nn.ModuleList([TimedBlock(c1, c1, d), TimedBlock(c1, c1, d)])
        self.down1 = nn.Conv2d(c1, c2, 3, stride=2, padding=1)
        self.mid1 = TimedBlock(c2, c2, d)
        self.attention = Attention(c2, config.heads)
        self.mid2 = TimedBlock(c2, c2, d)
        self.attention2 = Attention(c2, config.heads) if config.attentions == 2 else nn.Identity()
        self.up1 = nn.Conv2d(c2, c1, 3, padding=1)
        self.merge1 = TimedBlock(2 * c1, c1, d)
        self.up0 = nn.Conv2d(c1, c0, 3, padding=1)
        self.merge0 = TimedBlock(2 * c0, c0, d)
        self.dec0 = TimedBlock(c0, c0, d)
        self.norm_out = nn.GroupNorm(c0 // 16, c0)
        self.conv_out = nn.Conv2d(c0, config.latent_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def denoise(self, x: torch.Tensor, embedding: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x: (N, L, h, w), embedding: (N, D), condition: (N, K, h, w) -> v: (N, L, h, w)."""
        h0 = self.conv_in(torch.cat([x, condition], dim=1))
        for block in self.enc0:
            h0 = block(h0, embedding)
        h1 = self.down0(h0)
        for block in self.enc1:
            h1 = block(h1, embedding)
        h = self.mid1(self.down1(h1), embedding)
        h = self.attention2(self.mid2(self.attention(h), embedding))
        h = self.merge1(self.up1(upsample(h)), embedding, h1)
        h = self.merge0(self.up0(upsample(h)), embedding, h0)
        h = self.dec0(h, embedding)
        out: torch.Tensor = self.conv_out(functional.silu(self.norm_out(h)))
        return out


def split_skips(unet: UNetLite) -> UNetLite:
    """A copy in which no skip is concatenated: the same function, as it is exported."""
    split = copy.deepcopy(unet)
    c0, c1, _ = unet.config.channels
    split.merge1 = SplitBlock(split.merge1, c1)
    split.merge0 = SplitBlock(split.merge0, c0)
    return split.requires_grad_(requires_grad=False)


def upsample(x: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) -> (N, C, 2h, 2w), by repetition."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")
