"""Every row's images and latents, from the same noise; and what they are worth.

One seed is done at a time, so that a long run can be taken up again after the last seed that it finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.board import score
from benchmarks.ladder.opening import open_rung
from benchmarks.ladder.rungs import FP32, Rung
from benchmarks.pairs import Pairs
from benchmarks.rows import HR, Runner, Track
from benchmarks.scores import Judge
from edge_sr.backends import Buffer, Stream
from edge_sr.manifest import Preset
from edge_sr.spec import Component

__all__ = [
    "COMPARED",
    "Images",
    "Ladder",
    "SeedResult",
    "Trajectory",
    "Values",
    "compare_seeds",
    "judge_seed",
    "open_ladder",
]

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Gray = npt.NDArray[np.uint8]
Images = Mapping[str, Gray]  # row -> (N, H, W)
Values = dict[str, dict[str, Double]]  # row -> metric -> (N,)

COMPARED = ("psnr_db", "ssim", "lpips")
"""The metrics that compare a row with FP32's own output."""


@dataclass(frozen=True)
class SeedResult:
    """What one seed gave, N images in T steps.

    Attributes:
        images: Row -> (N, H, W) uint8.
        errors: Row other than FP32 -> (N, T), after each step the root mean square difference of the latent
            from FP32's, which began with the same noise.
        latent_std: (N, T), the standard deviation of FP32's latent over all its values.
        values: Row -> metric against the true HR image -> (N,).
        to_fp32: Row other than FP32 -> metric against FP32's image -> (N,).
    """

    images: dict[str, Gray]
    errors: dict[str, Double]
    latent_std: Double
    values: Values
    to_fp32: Values


class Trajectory:
    """Keeps the latent after every step of a run."""

    def __init__(self) -> None:
        self._latents: list[Float] = []

    def __call__(
        self, component: Component, seconds: float, buffers: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """See `benchmarks.ladder.watch.Watch`."""
        if component is Component.STEP:
            latent = np.empty(buffers["x_next"].shape, np.float32)
            buffers["x_next"].download(latent, stream)
            stream.synchronize()
            self._latents.append(latent)

    def take(self) -> Float:
        """What was kept, and forgets it: (T, N, L, h, w)."""
        latents, self._latents = np.stack(self._latents), []
        return latents


@dataclass(frozen=True)
class Ladder:
    """All rows, opened side by side.

    Attributes:
        rows: Row -> what runs it, and what keeps its latents; FP32 is the first.
        preset: How the loop runs.
    """

    rows: Mapping[str, tuple[Runner, Trajectory]]
    preset: Preset

    def describe(self, key: str) -> dict[str, str]:
        """What a row runs on."""
        return self.rows[key][0].upscaler.backend.describe()

    def sample(self, lr: Float, seed: int) -> Iterator[tuple[str, Gray, Float]]:
        """Row, images (N, H, W) and trajectory (T, N, L, h, w), for every row.

        Args:
            lr: (N, C, t, t) float32 in [-1, 1].
            seed: Of the noise, the same for every image and every row.
        """
        for key, (runner, trajectory) in self.rows.items():
            images = runner.sample(lr, self.preset, seed)
            yield key, images, trajectory.take()


@contextmanager
def open_ladder(rungs: Sequence[Rung], *, threads: int, preset: Preset) -> Iterator[Ladder]:
    """Loads the graphs of every row, and frees them at the end.

    Args:
        rungs: The rows, FP32 first.
        threads: CPU threads; 0 for all cores.
        preset: How the loop runs.

    Raises:
        EdgeSRError: A graph cannot be run as wanted.
    """
    with ExitStack() as stack:
        rows = {}
        for rung in rungs:
            trajectory = Trajectory()
            upscaler = stack.enter_context(open_rung(rung, threads=threads, watch=trajectory))
            rows[rung.key] = (Runner(upscaler), trajectory)
        yield Ladder(rows, preset)


def judge_seed(
    ladder: Ladder, judge: Judge, pairs: Pairs, *, seed: int, batch: int, track: Track
) -> SeedResult:
    """Makes and scores every row's images with one seed.

    Args:
        ladder: The rows.
        judge: Scores images.
        pairs: The images.
        seed: Of the noise.
        batch: Images at once.
        track: Shows progress.
    """
    count, steps = len(pairs.names), ladder.preset.steps
    images = {key: np.empty(pairs.hr_pixels.shape, np.uint8) for key in ladder.rows}
    errors = {key: np.empty((count, steps)) for key in ladder.rows if key != FP32}
    latent_std = np.empty((count, steps))
    starts = range(0, count, batch)
    for start in track(starts, f"seed {seed}"):
        part = slice(start, start + batch)
        for key, made, latents in ladder.sample(pairs.lr[part], seed):
            images[key][part] = made
            if key == FP32:
                reference = latents.astype(np.float64)
                latent_std[part] = reference.std(axis=(2, 3, 4)).T
            else:
                errors[key][part] = np.sqrt(np.mean((latents - reference) ** 2, axis=(2, 3, 4))).T
    return SeedResult(images, errors, latent_std, *_scores(judge, images, pairs, track))


def _scores(judge: Judge, images: Images, pairs: Pairs, track: Track) -> tuple[Values, Values]:
    """Every metric against the true HR images, and those of `COMPARED` against FP32's."""
    scored = score(judge, {key: made[None] for key, made in images.items()}, pairs, track=track)
    against_truth = {key: _columns(seeds[0]) for key, seeds in scored.items() if key != HR}
    others = {key: made for key, made in images.items() if key != FP32}
    return against_truth, _compare(judge, others, images[FP32], pairs, track)


def compare_seeds(judge: Judge, results: Sequence[SeedResult], pairs: Pairs, *, track: Track) -> Values:
    """FP32 with each seed but the first, against FP32 with the first: what another seed changes.

    Returns:
        Seed's place, as text, -> metric -> (N,).
    """
    first, *others = (result.images[FP32] for result in results)
    named = {str(place): made for place, made in enumerate(others, start=1)}
    return _compare(judge, named, first, pairs, track)


def _compare(judge: Judge, images: Images, reference: Gray, pairs: Pairs, track: Track) -> Values:
    """Every set of images against one, image by image."""
    rows: dict[str, list[dict[str, float]]] = {key: [] for key in images}
    for index in track(range(len(reference)), "against FP32"):
        versions = [made[index] for made in images.values()]
        compared = judge.compare(versions, reference[index], pairs.lr_pixels[index])
        for key, values in zip(images, compared, strict=True):
            rows[key].append({name: values[name] for name in COMPARED if name in values})
    return {key: _columns(found) for key, found in rows.items()}


def _columns(values: Sequence[Mapping[str, float]]) -> dict[str, Double]:
    """Image -> metric becomes metric -> (N,)."""
    return {name: np.array([image[name] for image in values]) for name in values[0]}
