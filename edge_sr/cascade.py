"""Enlarge by any whole factor with a model that has one: a pass or two of it, then an exact reduction.

A x4 model gives x4 in one pass and x16 in two, the second over the first's output. Any factor below is
reached by taking the means of what lies above it (OpenCV's INTER_AREA, fractions of pixels included). Detail
of a second pass is drawn on detail that was drawn before: it shows less of the truth than that of one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_sr.errors import UsageError
from edge_sr.evidence import Moments, back_project
from edge_sr.image import resize_area
from edge_sr.manifest import Preset, one_sample, samples_of
from edge_sr.pipeline import Enlarges, Output, StageSeconds

__all__ = ["MAX_PASSES", "ScalePlan", "enlarge", "plan_scale"]

Float = npt.NDArray[np.float32]

MAX_PASSES = 2


@dataclass(frozen=True)
class ScalePlan:
    """How a factor is reached.

    Attributes:
        scale: The wanted factor.
        model: The model's own.
        passes: How often the model runs over the whole image.
    """

    scale: int
    model: int
    passes: int

    @property
    def is_plain(self) -> bool:
        """Whether it is what the model does by itself."""
        return self.scale == self.model


def plan_scale(scale: int | None, model: int) -> ScalePlan:
    """How to reach a factor with a model.

    Args:
        scale: The wanted factor; None for the model's own.
        model: The model's own, at least 1.

    Raises:
        UsageError: It is no enlargement, or beyond what two passes reach.
    """
    wanted, most = model if scale is None else scale, model**MAX_PASSES
    if wanted != model and not 2 <= wanted <= most:
        raise UsageError(
            f"a scale of {wanted} was asked of a model that makes images {model} times larger",
            hint=f"a whole number from 2 to {most}" if most > 2 else "leave --scale out",
        )
    return ScalePlan(wanted, model, 1 if wanted <= model else 2)


def enlarge(
    upscaler: Enlarges,
    image: Float,
    *,
    plan: ScalePlan,
    preset: Preset | None,
    seed: int,
    operator: str | None = None,
) -> Output:
    """Enlarges an image sample by sample, each by the whole plan: the spread is that of what comes out.

    Args:
        upscaler: The model.
        image: (C, h, w) float32 in [-1, 1], any size.
        plan: From `plan_scale`, for this model.
        preset: How to run the loop; `preset.samples` samples are averaged. None where there is no loop.
        seed: Unsigned 64-bit.
        operator: Of a back-projection of every sample onto the input; None for none.

    Returns:
        As `Upscaler.upscale`, to the bit where the plan is plain and no operator is named: mean and std of
        (C, h * scale, w * scale).

    Raises:
        UsageError: As `Upscaler.upscale`; or the operator is unknown.
        ScheduleError: The preset's combination is not offered.
        BackendError: A graph failed.
    """
    if plan.is_plain and operator is None:
        return upscaler.upscale(image, preset=preset, seed=seed)
    total, tiles, seconds = Moments(), 0, StageSeconds()
    for sample in range(samples_of(preset)):
        output = _one_sample(upscaler, image, plan, preset, seed, sample)
        tiles, seconds = output.tiles, seconds + output.seconds
        result = output.mean
        if operator is not None:
            result = back_project(result, image, scale=plan.scale, operator=operator)
        total.add(result)
    return Output(total.mean, total.std, tiles, seconds)


def _one_sample(
    upscaler: Enlarges, image: Float, plan: ScalePlan, preset: Preset | None, seed: int, sample: int
) -> Output:
    """All passes of one sample, and the reduction."""
    result, tiles, seconds = image, 0, StageSeconds()
    for turn in range(plan.passes):
        seen = result if turn == 0 else np.clip(result, -1, 1)
        output = upscaler.upscale(
            seen, preset=one_sample(preset), seed=_seed(seed, turn), first_sample=sample
        )
        result, tiles, seconds = output.mean, tiles + output.tiles, seconds + output.seconds
    size = (image.shape[1] * plan.scale, image.shape[2] * plan.scale)
    if result.shape[1:] != size:
        result = np.stack([resize_area(plane, size) for plane in result])
    return Output(result, None, tiles, seconds)


def _seed(seed: int, turn: int) -> int:
    """A pass's own seed; noise belongs to a place, and a second pass would see the first one's again."""
    if turn == 0:
        return seed
    return int(np.random.SeedSequence([seed, turn]).generate_state(1, np.uint64)[0])
