"""What an image costs in energy: gross, and above what the idle machine draws, at one named rail."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_sr.telemetry import Energy, Sampler

__all__ = ["SECONDS", "EnergyPerImage", "energy_per_image"]

SECONDS = 2.0
"""How long each of the two measurements lasts: ten readings, at least."""


@dataclass(frozen=True)
class EnergyPerImage:
    """Energy at the named rail, not at the wall.

    Attributes:
        rail: What was measured.
        images: How many were run for it.
        gross_j: Joules an image.
        above_idle_j: Joules an image beyond what the idle machine would have used in that time.
        mean_w: Power while they ran, in watts.
        idle_w: Power of the idle machine just before, with everything loaded, in watts.
    """

    rail: str
    images: int
    gross_j: float
    above_idle_j: float
    mean_w: float
    idle_w: float


def energy_per_image(
    run: Callable[[], object],
    *,
    root: Path = Path("/"),
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> EnergyPerImage | None:
    """Measures the idle machine, then the same machine at work.

    The longer the better: a rail is read five times a second. Where it is tegrastats that reads it, the last
    reading comes up to a quarter of a second after the last image.

    Args:
        run: Makes one image, and returns when it is done.
        root: Where the machine's files are.
        seconds: How long each of the two lasts, but for one image at least.
        clock: A monotonic clock in seconds.
        wait: Does nothing for so many seconds.

    Returns:
        What was measured; None where no rail can be read that carries the whole module, or the CPU package.
    """
    idle_w = _idle_w(root, seconds, clock=clock, wait=wait)
    if idle_w is None:
        return None
    run()  # clocks rise, caches fill
    images, started = 0, clock()
    with Sampler(root, idle_w=idle_w, clock=clock) as sampler:
        while not images or clock() - started < seconds:
            run()
            images += 1
    return _per_image(sampler.energy, images)


def _idle_w(
    root: Path, seconds: float, *, clock: Callable[[], float], wait: Callable[[float], None]
) -> float | None:
    """Mean power of the machine while nothing is asked of it; at once None where there is no meter."""
    with Sampler(root, clock=clock) as sampler:
        if sampler.energy is not None:
            wait(seconds)
    return sampler.energy.mean_w if sampler.energy else None


def _per_image(energy: Energy | None, images: int) -> EnergyPerImage | None:
    if energy is None or energy.idle_w is None or energy.above_idle_j is None or energy.mean_w is None:
        return None
    return EnergyPerImage(
        rail=energy.rail,
        images=images,
        gross_j=energy.gross_j / images,
        above_idle_j=energy.above_idle_j / images,
        mean_w=energy.mean_w,
        idle_w=energy.idle_w,
    )
