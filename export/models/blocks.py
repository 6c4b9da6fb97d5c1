"""Layers that several networks share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

GROUP_CHANNELS = 16  # channels a normalisation group: wide enough for stable statistics at 8x8
Groups = int | None  # normalisation groups of every layer; None for groups of `GROUP_CHANNELS`


class PlainBlock(nn.Module):
    """Two 3x3 convolutions and an identity, without normalisation (EDSR, Lim et al. 2017).

    Free of normalisation so that what it computes at a pixel depends on that pixel's neighbourhood alone:
    the encoder and the decoder then give the same values however an image is cut into tiles.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.bias)
        nn.init.normal_(self.conv2.weight, std=1e-2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, h, w) -> (N, C, h, w)."""
        return x + self.conv2(functional.relu(self.conv1(x)))


class TimedBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, with a scale and a shift from the timestep embedding between.

    The scale-and-shift form is Dhariwal and Nichol 2021, section 3 (adaptive group normalisation).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        *,
        groups: Groups = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.GroupNorm(groups or in_channels // GROUP_CHANNELS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * out_channels)
        self.norm2 = nn.GroupNorm(groups or out_channels // GROUP_CHANNELS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(
        self, x: torch.Tensor, embedding: torch.Tensor, skip: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x: (N, C, h, w), embedding: (N, D), skip: what is concatenated to x -> (N, C', h, w)."""
        x = x if skip is None else torch.cat([x, skip], dim=1)
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)  # (N, C', 1, 1) each
        h = self.conv1(functional.silu(self.norm1(x)))
        h = functional.silu(self.norm2(h) * (1 + scale) + shift)
        return self.shortcut(x) + self.conv2(functional.dropout(h, self.dropout, self.training))


class SplitBlock(nn.Module):
    """A `TimedBlock` that reads two maps, computed without concatenating them: the same result.

    A convolution over a concatenation is the sum of two convolutions. Each half then has ranges of its own
    when it is quantised (the split shortcut of Q-Diffusion, Li et al. 2023), and TensorRT need not fuse a
    concatenation. The normalisation falls apart too, since no group straddles the two halves.
    """

    def __init__(self, block: TimedBlock, x_channels: int) -> None:
        super().__init__()
        parts = (slice(0, x_channels), slice(x_channels, None))
        group = block.norm1.num_channels // block.norm1.num_groups
        if x_channels % group or isinstance(block.shortcut, nn.Identity):
            raise ValueError(f"a block of {x_channels} + ... channels cannot be split")
        self.norm1_x, self.norm1_skip = (_norm_part(block.norm1, part) for part in parts)
        self.conv1_x, self.conv1_skip = (_conv_part(block.conv1, p, bias=p is parts[0]) for p in parts)
        self.shortcut_x, self.shortcut_skip = (
            _conv_part(block.shortcut, p, bias=p is parts[0]) for p in parts
        )
        self.modulation, self.norm2, self.conv2 = block.modulation, block.norm2, block.conv2

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """x: (N, C, h, w), embedding: (N, D), skip: (N, S, h, w) -> (N, C', h, w)."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1_x(functional.silu(self.norm1_x(x)))
        h = h + self.conv1_skip(functional.silu(self.norm1_skip(skip)))
        h = self.norm2(h) * (1 + scale) + shift
        return self.shortcut_x(x) + self.shortcut_skip(skip) + self.conv2(functional.silu(h))


def _norm_part(norm: nn.GroupNorm, part: slice) -> nn.GroupNorm:
    """The normalisation of some of the channels, whole groups of them."""
    weight, bias = norm.weight[part], norm.bias[part]
    made = nn.GroupNorm(len(weight) * norm.num_groups // norm.num_channels, len(weight), eps=norm.eps)
    made.load_state_dict({"weight": weight, "bias": bias})
    return made


def _conv_part(conv: nn.Conv2d, part: slice, *, bias: bool) -> nn.Conv2d:
    """The convolution over some of the input channels; one of the parts keeps the bias."""
    weight = conv.weight[:, part]
    made = nn.Conv2d(weight.shape[1], weight.shape[0], conv.kernel_size, padding=conv.padding, bias=bias)
    made.load_state_dict({"weight": weight, **({"bias": conv.bias} if bias else {})})
    return made


class Attention(nn.Module):
    """Self-attention over the pixels of a small feature map, with a residual (Ho et al. 2020)."""

    def __init__(self, channels: int, heads: int, *, groups: Groups = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups or channels // GROUP_CHANNELS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, h, w) -> (N, C, h, w)."""
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).unbind(1)
        weights = torch.softmax((q.transpose(-1, -2) @ k) * (c // self.heads) ** -0.5, dim=-1)
        mixed = (weights @ v.transpose(-1, -2)).transpose(-1, -2)  # (N, heads, C / heads, h * w)
        return x + self.out(mixed.reshape(n, c, h, w))
