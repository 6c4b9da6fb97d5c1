"""A ResNet-18 for gray images of 256x256 pixels (He et al. 2016), small enough to train on a CPU.

It differs from the original in three places. The first convolution has a stride of 4, so that every pixel is
read at a quarter of the cost; a judge of an image that was made smaller could not see what super-resolution
adds. Group normalisation (Wu and He 2018) stands in for batch normalisation, so that averaged weights need
no statistics of their own. Every image is standardised first, so that no decision rests on brightness.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["SIDE", "ResNet18", "ResNetConfig"]

SIDE = 256  # pixels of an image
GROUPS = 32
BLOCKS = 2  # in each of four stages
FLAT = 1e-3  # added to the deviation of an image in [-1, 1]: an empty one stays empty


@dataclass(frozen=True)
class ResNetConfig:
    """The network's size.

    Attributes:
        width: Channels of the first stage; each further one has twice as many.
    """

    width: int = 64

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Block(nn.Module):
    """Two convolutions beside an identity, or beside a projection where the shape changes."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, channels, 3, stride)
        self.second = _convolution(channels, channels, 3, 1)
        keeps = before == channels and stride == 1
        self.beside = nn.Identity() if keeps else _convolution(before, channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, h, w) -> (N, C', h/stride, w/stride)."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.beside(x))


class ResNet18(nn.Module):
    """One logit an image: above 0 is pneumonia."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        widths = [config.width * 2**stage for stage in range(4)]
        self.stem = nn.Sequential(_convolution(1, widths[0], 7, 4), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        blocks, before = [], widths[0]
        for stage, channels in enumerate(widths):
            for place in range(BLOCKS):
                blocks.append(Block(before, channels, 2 if stage and not place else 1))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, 1)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """image: (N, 1, 256, 256) in [-1, 1] -> (N, 8 * width), what the decision is taken from."""
        mean, std = image.mean(dim=(2, 3), keepdim=True), image.std(dim=(2, 3), keepdim=True)
        return self.blocks(self.stem((image - mean) / (std + FLAT))).mean(dim=(2, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image: (N, 1, 256, 256) in [-1, 1] -> (N,) logits."""
        return self.decide(self.features(image))

    def decide(self, features: torch.Tensor) -> torch.Tensor:
        """features: (N, 8 * width) -> (N,) logits."""
        return self.head(features)[:, 0]


def _convolution(before: int, channels: int, side: int, stride: int) -> nn.Sequential:
    """A convolution and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(before, channels, side, stride, padding=side // 2, bias=False),
        nn.GroupNorm(math.gcd(GROUPS, channels), channels),
    )
