"""Decoders of diffusers' autoencoders: AutoencoderKL, AutoencoderTiny, and VQModel with its codebook."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from export.errors import ExportError

CLASSES = ("AutoencoderKL", "AutoencoderTiny", "VQModel")


class Codebook(nn.Module):
    """Each latent pixel becomes the nearest entry (van den Oord et al. 2017, eq. 1)."""

    def __init__(self, entries: torch.Tensor) -> None:
        """entries: (K, L)."""
        super().__init__()
        self.entries = nn.Parameter(entries.clone(), requires_grad=False)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """latent: (N, L, h, w) -> (N, L, h, w)."""
        pixels = latent.permute(0, 2, 3, 1)
        half_squares = self.entries.square().sum(dim=1) / 2
        # |z - e|^2 / 2 less |z|^2 / 2, which is the same for every entry: (N, h, w, K)
        distances = half_squares - pixels @ self.entries.T
        return functional.embedding(distances.argmin(dim=-1), self.entries).permute(0, 3, 1, 2)


class Decoder(nn.Module):
    """Latent as the loop leaves it -> image."""

    def __init__(self, network: Any, *, scale: float, shift: float) -> None:
        """Takes what decodes of a network.

        Args:
            network: One of `CLASSES`, frozen.
            scale: The loop's latent is (latent - shift) * scale.
            shift: See there.

        Raises:
            ExportError: The network decodes in a way that is not expressed here.
        """
        super().__init__()
        if network.config.get("norm_type", "group") != "group":
            raise ExportError(
                f"the autoencoder's norm_type is {network.config.norm_type}, and only group is read",
                hint="this would need the codebook's entries in every normalisation",
            )
        if network.config.get("lookup_from_codebook"):
            raise ExportError(
                "the autoencoder decodes indices of its codebook, not latents",
                hint="a denoiser of tokens has no loop that is offered here",
            )
        self.scale, self.shift = scale, shift
        self.channels = network.config.latent_channels
        quantizer = getattr(network, "quantize", None)
        self.codebook = None if quantizer is None else Codebook(quantizer.embedding.weight)
        if self.codebook is not None:
            self.channels = self.codebook.entries.shape[1]
        self.post_quant_conv = getattr(network, "post_quant_conv", None)
        self.decoder = network.decoder

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """latent: (N, L, h, w), more channels than the autoencoder's left out -> (N, C, H, W)."""
        if latent.shape[1] > self.channels:
            latent = latent[:, : self.channels]
        if (self.scale, self.shift) != (1.0, 0.0):
            latent = latent / self.scale + self.shift
        if self.codebook is not None:
            latent = self.codebook(latent)
        if self.post_quant_conv is not None:
            latent = self.post_quant_conv(latent)
        image: torch.Tensor = self.decoder(latent)
        return image
