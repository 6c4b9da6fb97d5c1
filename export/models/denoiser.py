"""What the rest of this room knows of a denoiser, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Denoiser(nn.Module):
    """A network that predicts from what the loop runs on, where the loop stands, and the condition.

    A family that tells its network more (a class) tells it by way of the embedding's row or the condition.

    Attributes:
        config: With `latent_channels` and `embedding`, the width of the timestep embedding, among others.
        time: timesteps (N,) int64 -> (N, D); exported as a table, a row a timestep.
    """

    config: Any
    time: Callable[[torch.Tensor], torch.Tensor]

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x: (N, L, h, w), timesteps: (N,) int64, condition: (N, K, h, w) -> the prediction, as x."""
        return self.denoise(x, self.time(timesteps), condition)

    def denoise(self, x: torch.Tensor, embedding: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """The same from the embedding's rows (N, D) instead of timesteps: what is exported."""
        raise NotImplementedError
