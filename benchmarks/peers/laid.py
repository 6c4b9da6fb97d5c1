"""What is laid out in a folder for a peer: graphs, the table of steps, a scheduler's settings, noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.protocol import Case
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset
from edge_sr.noise import position_noise_into
from edge_sr.pipeline import make_schedule
from edge_sr.schedule import coefficients
from edge_sr.spec import Component, Precision

__all__ = ["diffusers_settings", "draw_start", "lay_graphs", "lay_steps", "plain_loop", "scheduled"]

Float = npt.NDArray[np.float32]
BETA_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


def lay_graphs(case: Case, precision: Precision, folder: Path) -> None:
    """The bundle's three graphs, as they are shipped, and the table of steps."""
    bundle = case.opened()
    for component in Component:
        shutil.copyfile(bundle.graph(component, precision).path, folder / f"{component}.onnx")
    lay_steps(case, bundle, folder)


def lay_steps(case: Case, bundle: Bundle, folder: Path) -> None:
    """The step graph's scalars and time embedding of every step: steps.npz."""
    schedule = make_schedule(bundle, case.preset(bundle))
    rows = bundle.time_embedding()[[step.timestep for step in schedule.steps]]
    np.savez(folder / "steps.npz", coefficients=coefficients(schedule)[:, None], embedding=rows[:, None])


def plain_loop(case: Case) -> str:
    """Why the loops of the snippets cannot run the bundle's default preset; empty where they can."""
    bundle = case.opened()
    preset = case.preset(bundle)
    drawn = any(step.c for step in make_schedule(bundle, preset).steps)
    if preset.samples > 1 or preset.start < 1 or drawn:
        return "its loop takes one sample, from pure noise, and draws none on the way"
    return ""


def scheduled(case: Case) -> str:
    """The same, for loops with diffusers' DDIM scheduler."""
    sampler = case.preset(case.opened()).sampler
    return (
        plain_loop(case) if sampler == "ddim" else f"its loop is written for ddim, the preset has {sampler}"
    )


def diffusers_settings(bundle: Bundle, preset: Preset) -> dict[str, Any]:
    """The arguments of diffusers' DDIMScheduler that make the bundle's schedule, and the number of steps."""
    diffusion = bundle.diffusion
    clip = {} if diffusion.clip is None else {"clip_sample_range": diffusion.clip}
    return {
        "num_train_timesteps": diffusion.timesteps,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "beta_schedule": BETA_SCHEDULES[diffusion.noise_schedule],
        "prediction_type": diffusion.prediction,
        "rescale_betas_zero_snr": diffusion.zero_terminal_snr,
        "timestep_spacing": preset.spacing,
        "steps_offset": preset.offset,
        "set_alpha_to_one": diffusion.end == "clean",
        "clip_sample": diffusion.clip is not None,
        **clip,
        "steps": preset.steps,
    }


def lay_scheduler(case: Case, bundle: Bundle, folder: Path) -> None:
    """The same as a file: scheduler.json."""
    settings = diffusers_settings(bundle, case.preset(bundle))
    (folder / "scheduler.json").write_text(json.dumps(settings), encoding="utf-8")


def draw_start(bundle: Bundle, preset: Preset, *, seed: int) -> Float:
    """What `Upscaler.upscale` starts an image of one tile from: (1, L, h, w), scaled."""
    specs = {spec.name: spec for spec in bundle.graph(Component.STEP, Precision.FP32).inputs}
    first = np.empty(specs["x"].concrete(1), np.float32)
    position_noise_into(first[0], seed, step=0, sample=0, y0=0, x0=0)
    first *= np.float32(make_schedule(bundle, preset).initial_sigma * preset.noise_scale)
    return first
