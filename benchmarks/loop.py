"""`python -m benchmarks loop`: what the loop costs beside its engine calls, and the whole beside eager torch.

Subjects that are compared run in turns, in one process with the same number of threads, each after a run of
its own that is not timed: the threads of one library would otherwise still spin while the other one works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.environment import environment
from benchmarks.records import BundleFacts, Check, LoopResult, Timing
from benchmarks.rows import Track
from benchmarks.torch_model import TorchModel, rebuild
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset
from edge_sr.pipeline import TileEngine, Upscaler
from edge_sr.spec import Precision
from edge_sr.tiling import position_noise_into
from export.bundle import check_close, phantom

__all__ = ["AGREEMENT", "run_loop", "take_turns", "timing"]

Float = npt.NDArray[np.float32]
AGREEMENT = 1e-3  # relative to the larger of 1 and the value: FP32 sums in another order, over all steps
LOOP_RATIO, TORCH_RATIO = 1.05, 0.5  # what is wanted
UNSTABLE = 0.1  # quartiles further apart than this share of the median make a run doubtful
LOOP, CALLS = "loop", "engine calls"
OURS = "ours"
LAYOUTS = {"torch": torch.contiguous_format, "torch, channels last": torch.channels_last}


def run_loop(
    folder: Path,
    precision: Precision,
    *,
    steps: int,
    repeats: int,
    threads: int,
    arguments: Sequence[str],
    track: Track,
) -> LoopResult:
    """Times a bundle.

    Args:
        folder: The bundle.
        precision: Of the engine's graphs; torch has FP32.
        steps: Of the default preset's loop.
        repeats: Measurements of each subject.
        threads: CPU threads of both libraries; 0 for all cores.
        arguments: Those of the command line.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle cannot be used, or torch and the engine disagree.
    """
    bundle = Bundle.open(folder)
    diffusion = bundle.manifest.diffusion
    preset = diffusion.presets[diffusion.default].model_copy(update={"steps": steps, "samples": 1})
    backend = open_backend("onnxruntime", threads=threads)
    used = int(backend.describe()["threads"])
    torch.set_num_threads(used)
    image = phantom(bundle.manifest.tile, bundle.manifest.channels)
    with Upscaler(bundle, backend, precision=precision) as upscaler:
        models = {name: rebuild(bundle).to_memory_format(layout) for name, layout in LAYOUTS.items()}
        agreement = agree(upscaler, models, preset, image) if precision is Precision.FP32 else {}
        loop = take_turns(loop_subjects(upscaler.tile_engine(preset, 1)), repeats=repeats, track=track)
        whole = take_turns(whole_subjects(upscaler, models, preset, image), repeats=repeats, track=track)
        facts = BundleFacts(
            name=bundle.manifest.name,
            version=bundle.manifest.version,
            digest=bundle.digest,
            precision=str(precision),
            backend=backend.describe(),
        )
    notes = {LOOP: f"{steps} steps by `run_loop`", CALLS: f"the sum of {steps} timed `Binding.enqueue`"}
    notes |= {OURS: "`Upscaler.upscale`: encode, loop, decode, noise and copies"}
    notes |= dict.fromkeys(LAYOUTS, "encode, loop, decode; noise is given")
    timings = {name: timing(seconds, note=notes[name]) for name, seconds in {**loop, **whole}.items()}
    peer = min(LAYOUTS, key=lambda name: timings[name].median)
    return LoopResult(
        environment=environment(arguments, threads=used),
        bundle=facts,
        preset=preset,
        image=(bundle.manifest.tile, bundle.manifest.tile),
        loop={name: timings[name] for name in loop},
        upscale={name: timings[name] for name in whole},
        agreement=agreement,
        peer=peer,
        checks=(
            _ratio("the loop over the sum of its engine calls", timings[LOOP], timings[CALLS], LOOP_RATIO),
            _ratio(f"one image over eager {peer}", timings[OURS], timings[peer], TORCH_RATIO),
        ),
        notices=_notices(timings, precision),
    )


def agree(
    upscaler: Upscaler, models: Mapping[str, TorchModel], preset: Preset, image: Float
) -> dict[str, float]:
    """The largest difference of the engine's result from each torch model's, given the same noise.

    Raises:
        ExportError: It is above `AGREEMENT`: they do not compute the same.
    """
    engine = upscaler.tile_engine(preset, 1)
    first, drawn = _noise(engine, preset)
    side = upscaler.bundle.manifest.tile * upscaler.bundle.manifest.scale
    ours = np.empty((1, len(image), side, side), np.float32)
    engine.run(image[None], first, drawn, ours)
    return {
        name: check_close(
            "the engine", ours, model.upscale(image[None], first, drawn, engine.schedule), tolerance=AGREEMENT
        )
        for name, model in models.items()
    }


def loop_subjects(engine: TileEngine) -> dict[str, Callable[[], float]]:
    """The loop, and its engine calls alone; each starts from the same latent and returns seconds."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(engine.latent_shape, np.float32)
    indices = range(len(engine.schedule.steps))

    def reset() -> None:
        """A loop that ran on from its own result could leave the range of numbers it was made for."""
        engine.buffers["x0"].upload(start, engine.stream)
        engine.stream.synchronize()

    def loop() -> float:
        reset()
        started = time.perf_counter()
        engine.run_loop()
        engine.stream.synchronize()
        return time.perf_counter() - started

    def calls() -> float:
        reset()
        total = 0.0
        for index in indices:
            started = time.perf_counter()
            engine.run_step(index)
            total += time.perf_counter() - started
        return total

    return {LOOP: loop, CALLS: calls}


def whole_subjects(
    upscaler: Upscaler, models: Mapping[str, TorchModel], preset: Preset, image: Float
) -> dict[str, Callable[[], float]]:
    """One image through the engine, and through each torch model, which is spared the noise and the tiles."""
    engine = upscaler.tile_engine(preset, 1)
    first, drawn = _noise(engine, preset)

    def ours() -> float:
        started = time.perf_counter()
        upscaler.upscale(image, preset=preset, seed=0)
        return time.perf_counter() - started

    def peer(model: TorchModel) -> Callable[[], float]:
        def run() -> float:
            started = time.perf_counter()
            model.upscale(image[None], first, drawn, engine.schedule)
            return time.perf_counter() - started

        return run

    return {OURS: ours, **{name: peer(model) for name, model in models.items()}}


def take_turns(
    subjects: Mapping[str, Callable[[], float]], *, repeats: int, track: Track
) -> dict[str, list[float]]:
    """Measures every subject once a round, in an order that turns, each after a run that is not counted.

    Args:
        subjects: Each runs once and returns what it measured.
        repeats: Rounds.
        track: Shows progress.
    """
    names = list(subjects)
    measured: dict[str, list[float]] = {name: [] for name in names}
    for turn in track(range(repeats), ", ".join(names)):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            subjects[name]()
            measured[name].append(subjects[name]())
    return measured


def timing(seconds: Sequence[float], *, note: str) -> Timing:
    """The median and the quartiles of measurements."""
    low, median, high = (float(v) for v in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Timing(note=note, seconds=tuple(seconds), median=median, low=low, high=high)


def _noise(engine: TileEngine, preset: Preset) -> tuple[Float, Float]:
    """What `Upscaler.upscale` draws for one tile with seed 0."""
    first = np.empty(engine.latent_shape, np.float32)
    steps = np.empty((len(engine.noisy_steps), *engine.latent_shape), np.float32)
    position_noise_into(first[0], 0, step=0, sample=0, y0=0, x0=0)
    for slot, step in enumerate(engine.noisy_steps):
        position_noise_into(steps[slot, 0], 0, step=step + 1, sample=0, y0=0, x0=0)
    return first * np.float32(engine.schedule.initial_sigma * preset.noise_scale), steps


def _ratio(what: str, ours: Timing, other: Timing, limit: float) -> Check:
    """The ratio of two medians, held against a limit."""
    ratio = ours.median / other.median
    return Check(
        claim=f"{what}, ratio of medians", value=float(f"{ratio:.4g}"), limit=limit, holds=ratio <= limit
    )


def _notices(timings: Mapping[str, Timing], precision: Precision) -> tuple[str, ...]:
    notices = [
        f"'{name}' is unsteady: its quartiles are {(t.high - t.low) / t.median:.0%} of the median apart"
        for name, t in timings.items()
        if t.high - t.low > UNSTABLE * t.median
    ]
    if precision is not Precision.FP32:
        notices.append(f"torch computes in fp32, the engine in {precision}: their results were not compared")
    return tuple(notices)
