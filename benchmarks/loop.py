"""`python -m benchmarks loop`: what the loop costs beside its engine calls, and the whole beside eager torch.

Subjects that are compared run in turns, in one process with the same number of threads, each after a run of
its own that is not timed: the threads of one library would otherwise still spin while the other one works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.environment import environment
from benchmarks.quality import bundle_facts
from benchmarks.records import Check, LoopResult, Timing
from benchmarks.rows import Track, draw_noise
from benchmarks.torch_model import TorchModel, rebuild
from edge_sr.backends import open_backend
from edge_sr.bench import turns
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import OUTPUT, Precision
from export.bundle import check_close, phantom

__all__ = ["AGREEMENT", "LAYOUTS", "Request", "agree", "run_loop", "take_turns", "timing"]

T = TypeVar("T")
Float = npt.NDArray[np.float32]
Subjects = dict[str, Callable[[], float]]  # each runs once and returns the seconds that it measured

AGREEMENT = 1e-3  # relative to the larger of 1 and the value: FP32 sums in another order, over all steps
LOOP_RATIO, TORCH_RATIO = 1.05, 0.5  # what is wanted
UNSTABLE = 0.1  # quartiles further apart than this share of the median make a run doubtful
SEED = 0
LOOP, CALLS, OURS = "loop", "engine calls", "ours"
LAYOUTS: dict[str, torch.memory_format] = {
    "torch": torch.contiguous_format,
    "torch, channels last": torch.channels_last,
}
NOTES = {
    LOOP: "all steps by `TileEngine.run_loop`",
    CALLS: "the same steps, each `Binding.enqueue` timed, summed",
    OURS: "`Upscaler.upscale`: noise, tiles, encode, loop, decode",
    **dict.fromkeys(LAYOUTS, "encode, loop, decode; the noise is given"),
}


@dataclass(frozen=True)
class Request:
    """What is to be timed, and how.

    Attributes:
        bundle: Its folder.
        precision: Of the engine's graphs; torch has FP32.
        steps: Of the default preset's loop.
        repeats: Measurements of each subject.
        threads: CPU threads of both libraries; 0 for all cores.
    """

    bundle: Path
    precision: Precision = Precision.FP32
    steps: int = 20
    repeats: int = 30
    threads: int = 0


def run_loop(request: Request, *, arguments: Sequence[str], track: Track) -> LoopResult:
    """Times a bundle.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle cannot be used, or torch and the engine disagree.
    """
    bundle = Bundle.open(request.bundle)
    preset = _preset(bundle, request.steps)
    backend = open_backend("onnxruntime", threads=request.threads)
    threads = int(backend.describe()["threads"])
    torch.set_num_threads(threads)
    with Upscaler(bundle, backend, precision=request.precision) as upscaler:
        models = {name: rebuild(bundle).to_memory_format(layout) for name, layout in LAYOUTS.items()}
        agreement = agree(upscaler, models, preset) if request.precision is Precision.FP32 else {}
        loop = _measure(loop_subjects(upscaler, preset), request, track)
        whole = _measure(whole_subjects(upscaler, models, preset), request, track)
        facts = bundle_facts(upscaler)
    peer = min(LAYOUTS, key=lambda name: whole[name].median)
    return LoopResult(
        environment=environment(arguments, threads=threads),
        bundle=facts,
        preset=preset,
        image=(bundle.manifest.tile, bundle.manifest.tile),
        loop=loop,
        upscale=whole,
        agreement=agreement,
        peer=peer,
        checks=(
            _ratio("the loop over the sum of its engine calls", loop[LOOP], loop[CALLS], LOOP_RATIO),
            _ratio(f"one image over eager {peer}", whole[OURS], whole[peer], TORCH_RATIO),
        ),
        notices=_notices({**loop, **whole}, request.precision),
    )


def _preset(bundle: Bundle, steps: int) -> Preset:
    """The default preset, of one sample and so many steps."""
    diffusion = bundle.diffusion
    return diffusion.presets[diffusion.default].model_copy(update={"steps": steps, "samples": 1})


def _image(upscaler: Upscaler) -> Float:
    """One made-up tile: (C, t, t)."""
    return phantom(upscaler.bundle.manifest.tile, upscaler.bundle.manifest.channels)


def agree(upscaler: Upscaler, models: Mapping[str, TorchModel], preset: Preset) -> dict[str, float]:
    """The largest difference of the engine's result from each torch model's, given the same noise.

    Raises:
        ExportError: It is above `AGREEMENT`: they do not compute the same.
    """
    engine, image = upscaler.tile_engine(preset, 1), _image(upscaler)[None]
    first, drawn = draw_noise(engine, preset, seed=SEED)
    ours = np.empty(engine.buffers[OUTPUT].shape, np.float32)
    engine.run(image, first, drawn, ours)
    found = {}
    for name, model in models.items():
        theirs = model.upscale(image, first, drawn, engine.schedule)
        found[name] = check_close("the engine", ours, theirs, tolerance=AGREEMENT)
    return found


def loop_subjects(upscaler: Upscaler, preset: Preset) -> Subjects:
    """The loop, and its engine calls alone; each starts from the same latent."""
    engine = upscaler.tile_engine(preset, 1)
    start, _ = draw_noise(engine, preset, seed=SEED)

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
        for index in range(len(engine.schedule.steps)):
            started = time.perf_counter()
            engine.run_step(index)
            total += time.perf_counter() - started
        return total

    return {LOOP: loop, CALLS: calls}


def whole_subjects(upscaler: Upscaler, models: Mapping[str, TorchModel], preset: Preset) -> Subjects:
    """One image through the engine, and through each torch model, which is spared the noise and the tiles."""
    engine, image = upscaler.tile_engine(preset, 1), _image(upscaler)
    first, drawn = draw_noise(engine, preset, seed=SEED)

    def ours() -> float:
        started = time.perf_counter()
        upscaler.upscale(image, preset=preset, seed=SEED)
        return time.perf_counter() - started

    def peer(model: TorchModel) -> Callable[[], float]:
        def run() -> float:
            started = time.perf_counter()
            model.upscale(image[None], first, drawn, engine.schedule)
            return time.perf_counter() - started

        return run

    return {OURS: ours, **{name: peer(model) for name, model in models.items()}}


def take_turns(subjects: Mapping[str, Callable[[], T]], *, repeats: int, track: Track) -> dict[str, list[T]]:
    """Measures every subject once a round, in an order that turns, each after a run that is not counted.

    Args:
        subjects: Each runs once and returns what it measured.
        repeats: Rounds.
        track: Shows progress.
    """
    return turns.take_turns(subjects, rounds=track(range(repeats), ", ".join(subjects)))


def timing(seconds: Sequence[float], *, note: str) -> Timing:
    """The median and the quartiles of measurements."""
    low, median, high = (float(v) for v in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Timing(note=note, seconds=tuple(seconds), median=median, low=low, high=high)


def _measure(subjects: Subjects, request: Request, track: Track) -> dict[str, Timing]:
    measured = take_turns(subjects, repeats=request.repeats, track=track)
    return {name: timing(seconds, note=NOTES[name]) for name, seconds in measured.items()}


def _ratio(what: str, ours: Timing, other: Timing, limit: float) -> Check:
    """The ratio of two medians, held against a limit."""
    ratio, claim = ours.median / other.median, f"{what}, ratio of medians"
    return Check(claim=claim, value=float(f"{ratio:.4g}"), limit=limit, holds=ratio <= limit)


def _notices(timings: Mapping[str, Timing], precision: Precision) -> tuple[str, ...]:
    notices = [
        f"'{name}' is unsteady: its quartiles are {(t.high - t.low) / t.median:.0%} of the median apart"
        for name, t in timings.items()
        if t.high - t.low > UNSTABLE * t.median
    ]
    if precision is not Precision.FP32:
        notices.append(f"torch computes in fp32, the engine in {precision}: their results were not compared")
    return tuple(notices)
