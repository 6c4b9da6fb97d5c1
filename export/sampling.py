"""The deployed sampler, in torch: for validation, and as the reference of the exported graphs."""

from __future__ import annotations

import torch

from edge_sr.schedule import Schedule, coefficients
from export.graphs import StepGraph
from export.models.denoiser import Denoiser


@torch.no_grad()
def sample_latents(
    unet: Denoiser,
    condition: torch.Tensor,
    schedule: Schedule,
    *,
    seed: int,
    noise_scale: float = 1.0,
    embeddings: torch.Tensor | None = None,
    is_quiet: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs the whole loop.

    Args:
        unet: The denoiser.
        condition: (N, K, h, w).
        schedule: The steps.
        seed: Of the noise.
        noise_scale: What the first noise is multiplied by.
        embeddings: (T, D), the time embeddings as they are deployed; the network's own where None.
        is_quiet: Leaves out the noise that steps add, as the self-test does.

    Returns:
        The latent, standardised, and the first noise, scaled: (N, L, h, w) each.
    """
    step = StepGraph(unet).eval()
    visited = torch.tensor([record.timestep for record in schedule.steps], device=condition.device)
    rows = unet.time(visited) if embeddings is None else embeddings[visited]
    return run_steps(
        step, condition, schedule, rows=rows, seed=seed, noise_scale=noise_scale, is_quiet=is_quiet
    )


@torch.no_grad()
def run_steps(
    step: StepGraph,
    condition: torch.Tensor,
    schedule: Schedule,
    *,
    rows: torch.Tensor,
    seed: int,
    noise_scale: float = 1.0,
    is_quiet: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loop of `sample_latents` over any step: `condition` is what it reads, `rows` (steps, D)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (condition.shape[0], step.unet.config.latent_channels, *condition.shape[-2:])

    def draw() -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(condition.device)

    first = x = draw() * (schedule.initial_sigma * noise_scale)
    x0 = torch.zeros_like(x)
    table = torch.from_numpy(coefficients(schedule)).to(condition.device)
    for record, row, embedding in zip(schedule.steps, table, rows, strict=True):
        noise = torch.zeros_like(x) if is_quiet or record.c == 0 else draw()
        n = shape[0]
        x, x0 = step(x, x0, noise, row.expand(n, -1), embedding.expand(n, -1), condition)
    return x, first
