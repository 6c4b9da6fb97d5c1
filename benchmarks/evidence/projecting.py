"""When does a back-projection help? Every operator under every degradation of the LR image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.board import estimate
from benchmarks.evidence.records import Projection
from benchmarks.pairs import Pairs, reduce_all, to_gray
from benchmarks.rows import Runner, Track
from benchmarks.scores import CEILING_DB, Judge
from edge_sr.evidence import back_project
from edge_sr.image import DOWNSAMPLE_OPERATORS
from edge_sr.manifest import Preset
from edge_sr.metrics import psnr

__all__ = ["GIVEN", "judge_projection"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]
Table = npt.NDArray[np.float64]  # a line an image, a column an operator

GIVEN = "as given"
OPERATORS = (None, *DOWNSAMPLE_OPERATORS)


def judge_projection(
    runner: Runner, pairs: Pairs, preset: Preset, *, judge: Judge, seed: int, batch: int, track: Track
) -> tuple[Projection, ...]:
    """Outputs with no back-projection and with each, under each degradation.

    Args:
        runner: The bundle.
        pairs: The HR images, and the LR images as they are given.
        preset: How the loop runs; one sample is taken.
        judge: Knows LPIPS, or leaves it out.
        seed: Of the samples.
        batch: Images at once.
        track: Shows progress.
    """
    found: list[Projection] = []
    scale = runner.upscaler.bundle.manifest.scale
    for degradation in track((GIVEN, *DOWNSAMPLE_OPERATORS), "degradations"):
        planes = pairs.lr if degradation == GIVEN else reduce_all(pairs.hr, degradation, scale=scale)
        parts = [planes[at : at + batch] for at in range(0, len(planes), batch)]
        outputs = np.concatenate([runner.draw(part, preset, seed=seed) for part in parts])
        found += _rows(degradation, *_scores(outputs, planes, pairs, runner, judge))
    return tuple(found)


def _scores(outputs: Float, lr: Float, pairs: Pairs, runner: Runner, judge: Judge) -> tuple[Table, Table]:
    """PSNR in dB and LPIPS (NaN where it is left out) of every image with every operator."""
    scale = runner.upscaler.bundle.manifest.scale
    decibels, distances = [], []
    for output, small, hr in zip(outputs, lr, pairs.hr_pixels, strict=True):
        made = [back_project(output, small, scale=scale, operator=o) for o in DOWNSAMPLE_OPERATORS]
        images = to_gray(np.stack([output, *made]))
        decibels.append([min(CEILING_DB, psnr(image, hr)) for image in images])
        distances.append(judge.distances(list(images), hr))
    return np.array(decibels), np.array(distances)


def _rows(degradation: str, decibels: Table, distances: Table) -> list[Projection]:
    """Without back-projection, and with each operator."""
    has_lpips = not np.isnan(distances).any()
    return [
        Projection(
            degradation=degradation,
            operator=operator,
            psnr_db=float(decibels[:, column].mean()),
            lpips=float(distances[:, column].mean()) if has_lpips else None,
            gain_db=estimate(decibels[:, column] - decibels[:, 0]),
        )
        for column, operator in enumerate(OPERATORS)
    ]
