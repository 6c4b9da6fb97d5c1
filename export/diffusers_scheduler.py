"""A scheduler of diffusers as the manifest has it: the training noise, the prediction, and a preset.

The training noise is read from any scheduler with a table of betas; how to run from those that the loop can
express. Whatever was read is then held against the scheduler itself, step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sr.manifest import Diffusion, Preset
from edge_sr.pipeline import schedule_for
from edge_sr.schedule import NoiseSchedule, Schedule, apply_step
from export.errors import ExportError
from export.models.diffusers_folder import import_diffusers, read_config

CONFIG = "scheduler_config.json"
SAMPLERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "LCMScheduler": "lcm",
}
"""Scheduler -> the sampler here that takes the same steps."""

NOISES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
STEPS = {"lcm": 4}  # where none are asked for; 50 for every other, as diffusers' own pipelines have it
TABLE_TOLERANCE = 1e-3  # of alpha_bar, relative: diffusers adds its table up in float32
STEP_TOLERANCE = 1e-4  # of x after each step, relative to the larger of 1 and its largest value
OTHER = "--sampler ddim runs the model by another sampler on the same training noise"


@dataclass(frozen=True)
class Wish:
    """How to run the loop, where not as the scheduler says.

    Attributes:
        sampler: One of the samplers here, with trailing spacing; None for the folder's scheduler.
        steps: Model calls.
        eta: Of DDIM: what diffusers' pipelines take when they are called.
    """

    sampler: str | None = None
    steps: int | None = None
    eta: float = 0.0


def read_scheduler(folder: Path) -> Any:
    """The scheduler of a folder, as diffusers makes it.

    Raises:
        ConfigError: The folder has none, or diffusers cannot be imported.
        ExportError: diffusers cannot make it, or it is no diffusion over a table of betas.
    """
    content = read_config(folder / CONFIG)
    kind = str(content.get("_class_name"))
    scheduler_class = getattr(import_diffusers(folder), kind, None)
    if not isinstance(scheduler_class, type) or not kind.endswith("Scheduler"):
        raise ExportError(f"{folder / CONFIG}: diffusers has no scheduler {kind}")
    try:
        scheduler = scheduler_class.from_config(content)  # type: ignore[attr-defined]
    except Exception as error:  # whatever it makes of values that it does not expect
        problem = " ".join(str(error).split())[:300]
        raise ExportError(f"{folder / CONFIG} cannot be read as {kind}: {problem}") from error
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ExportError(
            f"{kind} has no table of noise over training timesteps, which the loop is made of",
            hint="flow matching and continuous-time models would need a sampler of their own",
        )
    return scheduler


def read_diffusion(scheduler: Any, wish: Wish) -> dict[str, Any]:
    """The manifest's `diffusion`, checked against the scheduler.

    Raises:
        ExportError: The scheduler does something that the loop cannot express.
        ScheduleError: The wish is for a combination that is not offered.
    """
    config = scheduler.config
    trained = {
        "prediction": _prediction(config),
        "noise_schedule": NOISES.get(config.beta_schedule, config.beta_schedule),
        "timesteps": config.num_train_timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "zero_terminal_snr": bool(config.get("rescale_betas_zero_snr", False)),
        "clip": float(config.get("clip_sample_range", 1.0)) if _clips(config) else None,
    }
    _check_table(scheduler, trained)
    preset, end = _preset(scheduler, wish)
    content = {**trained, "end": end, "presets": {"default": preset}, "default": "default"}
    diffusion = Diffusion.model_validate(content)
    how = diffusion.presets[diffusion.default]
    schedule = schedule_for(diffusion, how)
    if wish.sampler is None:
        _give_table(scheduler, trained)
        _check_steps(scheduler, schedule, how)
    return content


def _prediction(config: Any) -> str:
    prediction = str(config.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise ExportError(
            f"the model predicts {prediction!r}, and only {', '.join(PREDICTIONS)} are offered",
            hint="this would need its formula for the clean latent in edge_sr/schedule.py",
        )
    return prediction


def _clips(config: Any) -> bool:
    """Whether the predicted clean latent is clipped, by default as the scheduler's class has it."""
    return bool(config.get("clip_sample", False)) and not config.get("thresholding", False)


def _check_table(scheduler: Any, trained: dict[str, Any]) -> None:
    """Raises ExportError where the noise over the timesteps is not what its name says."""
    theirs = np.asarray(scheduler.alphas_cumprod, np.float64)
    if scheduler.config.get("trained_betas") is not None or trained["noise_schedule"] not in NOISES.values():
        raise ExportError(
            f"the training noise is {scheduler.config.beta_schedule!r} or a table of its own, and only "
            f"{', '.join(NOISES)} are offered",
            hint="this would need the curve in edge_sr/schedule.py",
        )
    ours = _noise(trained).alphas_bar()
    error = np.abs(ours - theirs) / np.maximum(ours, 1e-4)  # below, float32 leaves diffusers no digits
    if not error.max() <= TABLE_TOLERANCE:
        raise ExportError(f"the training noise differs from diffusers' table by {error.max():.1e}")


def _noise(trained: dict[str, Any]) -> NoiseSchedule:
    return NoiseSchedule(
        trained["noise_schedule"],
        timesteps=trained["timesteps"],
        beta_start=trained["beta_start"],
        beta_end=trained["beta_end"],
        zero_terminal_snr=trained["zero_terminal_snr"],
    )


def _preset(scheduler: Any, wish: Wish) -> tuple[dict[str, Any], str]:
    """How to run, and where the last step goes."""
    config, kind = scheduler.config, type(scheduler).__name__
    sampler = wish.sampler or SAMPLERS.get(kind)
    if sampler is None:
        raise ExportError(
            f"the loop cannot express {kind}, only {', '.join(SAMPLERS)}",
            hint=f"{OTHER}; its results are not those of {kind}",
        )
    steps = wish.steps or STEPS.get(sampler, 50)
    preset: dict[str, Any] = {"sampler": sampler, "steps": steps}
    if sampler == "ddim":
        preset["eta"] = wish.eta
    elif wish.eta:
        raise ExportError(f"eta {wish.eta} means nothing to {sampler}", hint="leave --eta out")
    if wish.sampler is not None or sampler == "lcm":
        return preset, "clean"
    spacing = config.get("timestep_spacing", "leading")
    if spacing not in ("leading", "trailing"):
        raise ExportError(
            f"{kind} with timestep_spacing {spacing!r}: only leading and trailing are offered", hint=OTHER
        )
    preset["spacing"] = spacing
    if spacing == "leading":
        preset["offset"] = int(config.get("steps_offset", 0))
    ends_early = sampler == "ddim" and not config.get("set_alpha_to_one", True)
    return preset, "first" if ends_early else "clean"


def _give_table(scheduler: Any, trained: dict[str, Any]) -> None:
    """Gives a scheduler our table, which agrees with its own to float32: what then differs is its steps."""
    ours = _noise(trained).alphas_bar()
    theirs = np.asarray(scheduler.alphas_cumprod, np.float64)
    scheduler.alphas_cumprod = torch.from_numpy(np.where(ours > 0, ours, theirs))


def _check_steps(scheduler: Any, schedule: Schedule, preset: Preset) -> None:
    """Raises ExportError where the scheduler takes other steps: what no field here says of it, this finds."""
    scheduler.set_timesteps(preset.steps)
    visited = [int(t) for t in scheduler.timesteps]
    kind = type(scheduler).__name__
    if visited != [step.timestep for step in schedule.steps]:
        raise ExportError(f"{kind} visits other timesteps than {preset.sampler} does", hint=OTHER)
    rng = np.random.default_rng(0)
    x: Any = rng.standard_normal((1, 2, 4, 4))
    previous: Any = None
    for index, step in enumerate(schedule.steps):
        output = np.tanh(x + rng.standard_normal(x.shape))
        theirs, noise = _their_step(scheduler, x, output, index, preset)
        x, previous = apply_step(step, x, model_out=output, noise=noise, x0_previous=previous)
        error = float(np.abs(theirs - x).max() / max(1.0, float(np.abs(x).max())))
        if not error <= STEP_TOLERANCE:
            raise ExportError(
                f"step {index + 1} of {kind} is not that of {preset.sampler}: they differ by {error:.1e}",
                hint=f"{_likely(scheduler.config)}{OTHER}",
            )


def _their_step(scheduler: Any, x: Any, output: Any, index: int, preset: Preset) -> tuple[Any, Any]:
    """What the scheduler makes of x, and the noise that it draws for it."""
    options = {"eta": preset.eta} if preset.sampler == "ddim" else {}
    tensors = torch.from_numpy(output), scheduler.timesteps[index], torch.from_numpy(x)
    generator = torch.Generator().manual_seed(index)
    result = scheduler.step(*tensors, generator=generator, **options).prev_sample
    again = torch.Generator().manual_seed(index)
    return result.numpy(), torch.randn(x.shape, generator=again, dtype=torch.float64).numpy()


def _likely(config: Any) -> str:
    """What is known to make the difference, as the beginning of a hint."""
    if config.get("clip_sample"):
        return (
            "its noise estimate is of before the clipping, the loop's of after it: set clip_sample to false "
            "where the model is not trained for it; or "
        )
    return ""
