"""A class-guided denoiser in pixel space: UNet-Lite over folded pixels, told a class beside the timestep.

The image is folded to the LR grid (Shi et al. 2016, backwards), so that one network serves every scale at
nearly the same cost; bicubic, folded likewise, is concatenated to it and added to what comes out. The class
is an embedding that is added to the timestep's (Dhariwal and Nichol 2021), from which every block takes a
scale and a shift of its channels (FiLM, Perez et al. 2018). The last class is the null class of
classifier-free guidance (Ho and Salimans 2022). Groups are normalised; two attention blocks stand at the
coarsest grid.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from export.models.denoiser import Denoiser
from export.models.unet_lite import UNetConfig, UNetLite, split_skips


@dataclass(frozen=True)
class ClassConfig:
    """The sizes of the network, and what it can be told.

    Attributes:
        names: The classes, the null class last.
        scale: HR pixels an LR pixel, along each axis.
        image_channels: Of the image.
        channels: Channels at the LR grid, at half and at a quarter of it; multiples of 16.
        embedding: Width of the embeddings of timestep and class.
        heads: Attention heads at the coarsest grid.
    """

    names: tuple[str, ...] = ("normal", "pneumonia", "none")
    scale: int = 4
    image_channels: int = 1
    channels: tuple[int, int, int] = (32, 64, 128)
    embedding: int = 128
    heads: int = 4

    @property
    def latent_channels(self) -> int:
        """Channels of what the loop runs on: the image itself."""
        return self.image_channels

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return {**asdict(self), "names": list(self.names), "channels": list(self.channels)}


class ClassUNet(Denoiser):
    """Predicts the clean image from the noisy one, bicubic, and the rows of timestep and class, added."""

    def __init__(self, config: ClassConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.image_channels * config.scale**2
        self.unet = UNetLite(
            UNetConfig(
                latent_channels=folded,
                condition_channels=folded,
                channels=config.channels,
                embedding=config.embedding,
                heads=config.heads,
                attentions=2,
            )
        )
        self.classes = nn.Embedding(len(config.names), config.embedding)
        nn.init.normal_(self.classes.weight, std=0.1)

    def time(self, timesteps: torch.Tensor) -> torch.Tensor:
        """UNet-Lite's own: (N,) int64 -> (N, D)."""
        out: torch.Tensor = self.unet.time(timesteps)
        return out

    def denoise(self, x: torch.Tensor, embedding: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x, condition: (N, C, H, W), embedding: (N, D), of timestep and class -> (N, C, H, W)."""
        folded, bicubic = (functional.pixel_unshuffle(image, self.config.scale) for image in (x, condition))
        change = self.unet.denoise(folded, embedding, bicubic)
        return functional.pixel_shuffle(bicubic + change, self.config.scale)


class Told(Denoiser):
    """A class-guided denoiser that was told a class: null + guidance * (class - null)."""

    def __init__(
        self, network: ClassUNet, told: torch.Tensor, *, null: torch.Tensor, guidance: float
    ) -> None:
        """Args: told: (N, D) or (D,), the class's rows. null: (D,). guidance: 1 for the class alone."""
        super().__init__()
        self.network, self.told, self.null, self.guidance = network, told, null, guidance
        self.config, self.time = network.config, network.time

    def denoise(self, x: torch.Tensor, embedding: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """See `ClassUNet.denoise`; embedding: (N, D), of the timestep."""
        told = self.network.denoise(x, embedding + self.told, condition)
        if self.guidance == 1:
            return told
        null = self.network.denoise(x, embedding + self.null, condition)
        return null + self.guidance * (told - null)


def split_class_skips(network: ClassUNet) -> ClassUNet:
    """A copy in which no skip is concatenated: see `split_skips`."""
    split = copy.deepcopy(network)
    split.unet = split_skips(network.unet)
    return split.requires_grad_(requires_grad=False)
