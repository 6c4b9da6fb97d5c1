"""A second judge of likeness that nothing here is trained with: a tiny autoencoder's encoder.

The distance of two images in the features of the encoder of a TAESD-like autoencoder (Bohan, "Tiny
AutoEncoder for Stable Diffusion" and its successors, MIT), compared as LPIPS compares them (Zhang et al.
2018) but without learned weights: features of unit length at every pixel, squared differences summed over
channels, means over pixels, summed over three resolutions. It is no published metric: it serves to see
whether rows that were trained with LPIPS are better to somebody else as well.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from edge_sr.errors import ConfigError

__all__ = ["FeatureDistance"]

TAPS = (1, 5, 9)  # the last block at the full, half and quarter grid
LAYERS = TAPS[-1] + 1
DOWN = (2, 6)  # strided convolutions, without bias
Tensors = dict[str, torch.Tensor]


class Block(nn.Module):
    """Three convolutions beside an identity, and a ReLU over their sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        named = {str(2 * n): nn.Conv2d(channels, channels, 3, padding=1) for n in range(3)}
        named |= {"1": nn.ReLU(), "3": nn.ReLU()}
        self.conv = nn.Sequential(OrderedDict(sorted(named.items())))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, h, w) -> (N, C, h, w)."""
        return functional.relu(self.conv(x) + x)


class FeatureDistance(nn.Module):
    """The distance of two images in the encoder's features. Frozen.

    Attributes:
        digest: Of the file of weights: its SHA-256.
    """

    def __init__(self, path: Path) -> None:
        """Reads the weights.

        Args:
            path: A state dict of the encoder, layers numbered from 0, such as taesd_encoder.pth.

        Raises:
            ConfigError: The file is missing, damaged, or of something else.
        """
        super().__init__()
        try:
            data = path.read_bytes()
            weights = torch.load(path, map_location="cpu", weights_only=True)
            self.layers = _layers({name: value.float() for name, value in weights.items()})
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # torch, zipfile and pickle have a dozen for damaged files
            reason = str(error).strip().split("\n", 1)[0]
            raise ConfigError(f"{path} holds no encoder of a tiny autoencoder: {reason}") from error
        self.digest = hashlib.sha256(data).hexdigest()
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """a: (N, 1, H, W) in [-1, 1]; b: the same, or (1, 1, H, W) -> (N,), at least 0."""
        distance = torch.zeros(len(a), device=a.device)
        for one, other in zip(self._features(a), self._features(b), strict=True):
            distance = distance + (one - other).square().sum(dim=1).mean(dim=(1, 2))
        return distance

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features of unit length, one map a tap."""
        x, found = ((image + 1) / 2).expand(-1, 3, -1, -1), []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in TAPS:
                found.append(functional.normalize(x, dim=1, eps=1e-6))
        return found


def _layers(weights: Tensors) -> nn.Sequential:
    channels = weights["0.weight"].shape[0]
    layers = nn.Sequential(
        *[
            nn.Conv2d(3, channels, 3, padding=1)
            if index == 0
            else nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)
            if index in DOWN
            else Block(channels)
            for index in range(LAYERS)
        ]
    )
    used = {name: value for name, value in weights.items() if int(name.partition(".")[0]) < LAYERS}
    layers.load_state_dict(used)
    return layers
