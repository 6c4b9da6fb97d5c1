"""SR3 in pixel space: a U-Net that denoises the HR image beside the bicubically enlarged LR one.

After Saharia et al. 2021 (SR3), in the form that Jia 2025 (arXiv 2512.22209) gives it for gastric images:
five levels of 1, 2, 4, 8 and 16 times the width, two residual blocks a level, GroupNorm of 16 groups,
dropout 0.1, self-attention where the map is 64, 32 or 16 pixels a side. Five levels from 512 pixels end at
32, so that it is at 64 and 32 alone there: the source names 16 all the same. The width is 64, as is usual
for SR3.

Differences: the timestep is told by scale and shift between the two convolutions of a block; a level takes
its skips at its own width (the upsampling convolution narrows first), so that no normalisation group
straddles two of them and `split_skips` is exact; attention follows the last block of a level, on either side.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from export.models.blocks import Attention, SplitBlock, TimedBlock
from export.models.denoiser import Denoiser
from export.models.unet_lite import TimeEmbedding, upsample

HEAD_CHANNELS = 64  # channels an attention head, at least


@dataclass(frozen=True)
class SR3Config:
    """The sizes of an SR3 network. The defaults are the paper's size for gray images, 64 to 256 pixels.

    Attributes:
        image_channels: 1 for gray, 3 for colour; the network reads twice as many.
        scale: Enlargement.
        side: HR pixels a side of a tile: what `attention` counts from.
        width: Channels of the first level, a multiple of `groups`.
        multipliers: Of the width, a level each; the grid halves from one to the next.
        blocks: Residual blocks a level, on the way down and again on the way up.
        attention: Sides of the maps that have self-attention; those that no level has are left out.
        groups: Normalisation groups of every layer.
        dropout: Between the two convolutions of a block, while training.
        embedding: Width of the timestep embedding.
    """

    image_channels: int = 1
    scale: int = 4
    side: int = 256
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 16)
    blocks: int = 2
    attention: tuple[int, ...] = (16, 32, 64)
    groups: int = 16
    dropout: float = 0.1
    embedding: int = 256

    @property
    def latent_channels(self) -> int:
        """Channels of what the loop runs on: the image itself."""
        return self.image_channels

    def channels(self, level: int) -> int:
        """Channels of a level."""
        return self.width * self.multipliers[level]

    def has_attention(self, level: int) -> bool:
        """Whether a level's map has one of the sides that `attention` names."""
        return self.side >> level in self.attention

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)


PAPER = SR3Config()
PAPER_X8 = SR3Config(scale=8, side=512)
LITE = SR3Config(
    width=16,
    multipliers=(1, 2, 4, 8, 8),
    blocks=1,
    attention=(16, 32),
    groups=8,
    dropout=0.0,
    embedding=128,
)
"""3.5 M parameters, for CPUs: what two cores can train. Its runs are too short for dropout to be of use."""

SIZES = {"lite": LITE, "paper": PAPER, "paper-x8": PAPER_X8}


class Level(nn.Module):
    """The residual blocks of one grid on one side of the U, and attention behind the last of them."""

    def __init__(self, config: SR3Config, level: int, *, reads_skips: bool) -> None:
        super().__init__()
        c = config.channels(level)
        made = (
            TimedBlock(
                (1 + reads_skips) * c, c, config.embedding, groups=config.groups, dropout=config.dropout
            )
            for _ in range(config.blocks)
        )
        self.blocks = nn.ModuleList(made)
        self.attention = _attention(config, level) if config.has_attention(level) else nn.Identity()

    def down(self, h: torch.Tensor, embedding: torch.Tensor) -> list[torch.Tensor]:
        """h: (N, C, h, w), embedding: (N, D) -> what each block makes of it, for the other side."""
        made = []
        for index, block in enumerate(self.blocks):
            h = block(h, embedding)
            made.append(self.attention(h) if index + 1 == len(self.blocks) else h)
            h = made[-1]
        return made

    def up(self, h: torch.Tensor, embedding: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """h: (N, C, h, w), embedding: (N, D), skips: what `down` made, the last first -> (N, C, h, w)."""
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            h = block(h, embedding, skip)
        out: torch.Tensor = self.attention(h)
        return out


class SR3(Denoiser):
    """Predicts the noise from the noisy image, the timestep embedding and the enlarged LR image."""

    def __init__(self, config: SR3Config) -> None:
        super().__init__()
        self.config = config
        levels, c = range(len(config.multipliers)), config.channels
        self.time = TimeEmbedding(config.embedding)
        self.conv_in = nn.Conv2d(2 * config.image_channels, c(0), 3, padding=1)
        self.down_levels = nn.ModuleList(Level(config, i, reads_skips=False) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(c(i), c(i + 1), 3, stride=2, padding=1) for i in levels[:-1])
        self.middle = _Middle(config)
        self.up_levels = nn.ModuleList(Level(config, i, reads_skips=True) for i in levels)
        self.up = nn.ModuleList(nn.Conv2d(c(i + 1), c(i), 3, padding=1) for i in levels[:-1])
        self.norm_out = nn.GroupNorm(config.groups, c(0))
        self.conv_out = nn.Conv2d(c(0), config.image_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def denoise(self, x: torch.Tensor, embedding: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x, condition: (N, C, H, W), embedding: (N, D) -> the noise: (N, C, H, W)."""
        h, skips = self.conv_in(torch.cat([x, condition], dim=1)), []
        for index, level in enumerate(self.down_levels):
            skips.append(level.down(h if index == 0 else self.down[index - 1](h), embedding))
            h = skips[-1][-1]
        h = self.middle(h, embedding)
        for index in reversed(range(len(self.up_levels))):
            h = self.up_levels[index].up(h, embedding, skips[index])
            h = self.up[index - 1](upsample(h)) if index else h
        out: torch.Tensor = self.conv_out(functional.silu(self.norm_out(h)))
        return out


class _Middle(nn.Module):
    """Two blocks at the coarsest grid, and attention between them where its level has any."""

    def __init__(self, config: SR3Config) -> None:
        super().__init__()
        level = len(config.multipliers) - 1
        c = config.channels(level)
        self.block1, self.block2 = (
            TimedBlock(c, c, config.embedding, groups=config.groups, dropout=config.dropout) for _ in range(2)
        )
        self.attention = _attention(config, level) if config.has_attention(level) else nn.Identity()

    def forward(self, h: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """h: (N, C, h, w), embedding: (N, D) -> (N, C, h, w)."""
        out: torch.Tensor = self.block2(self.attention(self.block1(h, embedding)), embedding)
        return out


def _attention(config: SR3Config, level: int) -> Attention:
    channels = config.channels(level)
    return Attention(channels, max(1, channels // HEAD_CHANNELS), groups=config.groups)


class BicubicEncoder(nn.Module):
    """The LR image enlarged by the cubic kernel that OpenCV uses too (a = -0.75): the condition."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """lr: (N, C, h, w) -> (N, C, h * scale, w * scale)."""
        return functional.interpolate(lr, scale_factor=self.scale, mode="bicubic", align_corners=False)


def untrained(config: SR3Config, *, seed: int) -> SR3:
    """A frozen network of seeded random weights, those that training begins with at zero too.

    Good for nothing but its graphs: what they cost, and whether a device takes them.
    """
    torch.manual_seed(seed)
    network = SR3(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            module.reset_parameters()
    return network.eval().requires_grad_(requires_grad=False)


def split_skips(network: SR3) -> SR3:
    """A copy in which no skip is concatenated: the same function, as it is exported."""
    split = copy.deepcopy(network)
    for index, level in enumerate(split.up_levels):
        width = split.config.channels(index)
        level.blocks = nn.ModuleList(SplitBlock(block, width) for block in level.blocks)
    return split.requires_grad_(requires_grad=False)
