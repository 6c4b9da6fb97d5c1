"""Enlarged tiles before they are blended: each made alone, or their latents joined after every step.

The second is MultiDiffusion (Bar-Tal et al. 2023). It is written plainly here, with everything on the host
between two steps, to be compared with: a loop that stays on the device cannot meet its neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.rows import Runner
from edge_sr.manifest import Preset
from edge_sr.pipeline import make_schedule
from edge_sr.schedule import Schedule, coefficients
from edge_sr.spec import LATENT, OUTPUT, Component
from edge_sr.tiling import TileGrid, blend, extract, pad, position_noise

__all__ = ["joined_every_step", "made_alone"]

Float = npt.NDArray[np.float32]
BATCH = 4  # tiles at once


def made_alone(runner: Runner, image: Float, preset: Preset, *, seed: int) -> Float:
    """Enlarged tiles as the engine makes them, in the grid's order.

    Args:
        runner: The bundle.
        image: (1, h, w) float32 in [-1, 1].
        preset: How the loop runs; one sample.
        seed: Of the noise.

    Returns:
        (tiles, 1, T, T) float32.
    """
    manifest, latent = runner.upscaler.bundle.manifest, runner.upscaler.bundle.latent
    grid = runner.upscaler.grid(*image.shape[1:])
    padded, engine = pad(image, grid), runner.upscaler.tile_engine(preset, 1)
    latents = _latent_grid(grid, manifest.scale, latent.factor)
    draws = (0, *(index + 1 for index in engine.noisy_steps))
    noise = [_cut(_noise(seed, draw, latent.channels, latents), latents) for draw in draws]
    first = noise[0] * np.float32(engine.schedule.initial_sigma * preset.noise_scale)
    later = np.stack(noise[1:]) if noise[1:] else np.empty((0, *first.shape), np.float32)
    side = grid.tile * manifest.scale
    made = np.empty((len(grid), 1, 1, side, side), np.float32)
    for at in range(len(grid)):
        part = slice(at, at + 1)
        engine.run(extract(padded, grid, at)[None], first[part], later[:, part], made[at])
    return made[:, 0]


def joined_every_step(runner: Runner, image: Float, preset: Preset, *, seed: int) -> Float:
    """Enlarged tiles of a latent that is blended after every step, from the noise that the engine draws.

    Args:
        runner: The bundle.
        image: (1, h, w) float32 in [-1, 1].
        preset: How the loop runs; one sample.
        seed: Of the noise.

    Returns:
        (tiles, 1, T, T) float32.
    """
    manifest, latent = runner.upscaler.bundle.manifest, runner.upscaler.bundle.latent
    grid = runner.upscaler.grid(*image.shape[1:])
    latents = _latent_grid(grid, manifest.scale, latent.factor)
    schedule = make_schedule(runner.upscaler.bundle, preset)
    tiles = np.stack([extract(pad(image, grid), grid, index) for index in range(len(grid))])
    encoded = runner.encode(tiles)
    canvas = _noise(seed, 0, latent.channels, latents)
    canvas *= np.float32(schedule.initial_sigma * preset.noise_scale)
    clean = np.zeros_like(canvas)
    for index in range(len(schedule.steps)):
        noise = _noise(seed, index + 1, latent.channels, latents)
        canvas, clean = _step(runner, schedule, index, (canvas, clean, noise), latents, encoded)
    return runner.run(Component.DECODER, {**encoded, LATENT: _cut(canvas, latents)})[OUTPUT]


def _latent_grid(grid: TileGrid, scale: int, factor: int) -> TileGrid:
    """The same tiles in latent pixels, over the padded image."""

    def latent(pixels: int) -> int:
        return pixels * scale // factor

    height, width = latent(grid.padded_height), latent(grid.padded_width)
    rows, columns = (tuple(map(latent, origins)) for origins in (grid.rows, grid.columns))
    return TileGrid(
        height, width, latent(grid.tile), latent(grid.overlap), height, width, rows=rows, columns=columns
    )


def _noise(seed: int, step: int, channels: int, grid: TileGrid) -> Float:
    """What belongs to the places of the whole canvas."""
    size = {"height": grid.height, "width": grid.width}
    return position_noise(seed, step=step, channels=channels, y0=0, x0=0, **size)


def _cut(canvas: Float, grid: TileGrid) -> Float:
    """(L, H, W) -> (tiles, L, h, w)."""
    return np.stack([extract(canvas, grid, index) for index in range(len(grid))])


def _step(
    runner: Runner,
    schedule: Schedule,
    index: int,
    state: tuple[Float, Float, Float],
    grid: TileGrid,
    encoded: dict[str, Float],
) -> tuple[Float, Float]:
    """The latent and the clean latent after one step of all tiles, blended."""
    x, clean, noise = (_cut(canvas, grid) for canvas in state)
    row = coefficients(schedule)[[index]]
    embedding = runner.upscaler.bundle.time_embedding()[[schedule.steps[index].timestep]]
    after, cleaned = [], []
    for start in range(0, len(grid), BATCH):
        part = slice(start, start + BATCH)
        count = len(x[part])
        given = {"x": x[part], "x0_previous": clean[part], "noise": noise[part]}
        given |= {"coefficients": row.repeat(count, 0), "time_embedding": embedding.repeat(count, 0)}
        given |= {name: values[part] for name, values in encoded.items()}
        made = runner.run(Component.STEP, given)
        after += list(made["x_next"])
        cleaned += list(made["x0"])
    return blend(iter(after), grid, scale=1), blend(iter(cleaned), grid, scale=1)
