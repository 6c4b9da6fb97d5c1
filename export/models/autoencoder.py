"""What the rest of this room knows of an autoencoder, whichever it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Autoencoder(nn.Module):
    """Three functions, two of which are exported: an LR encoder, an HR encoder (training only), a decoder.

    Attributes:
        config: With `image_channels`, `latent_channels` and `condition_channels`, among others.
        decoder_inputs: What the decoder reads beside the latent, as the LR encoder's outputs are called:
            some of "features" and "mean". The exported graphs pass on these alone.
        lr_encoder: lr (N, C, h, w) in [-1, 1] -> mean, features, condition. The mean image is (N, C, H, W);
            the condition is what the UNet reads, (N, K, h', w') at the latent's size.
        decoder: latent (N, L, h', w'), and by name what `decoder_inputs` says -> HR image (N, C, H, W).
    """

    config: Any
    decoder_inputs: tuple[str, ...]
    lr_encoder: nn.Module
    decoder: nn.Module

    def encode(
        self, hr: torch.Tensor, mean: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """hr: (N, C, H, W) in [-1, 1] -> mean and log variance of the latent, (N, L, h', w') each."""
        raise NotImplementedError
