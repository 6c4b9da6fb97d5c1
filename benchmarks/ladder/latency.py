"""Time per stage and end to end, the rows in turns, so that what disturbs the machine meets all of them.

The FP16 row is timed with the graphs as they are shipped, which ONNX Runtime upcasts; its emulation would say
even less. Neither says anything of a device that has FP16.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.ladder.opening import open_rung
from benchmarks.ladder.rungs import Rung
from benchmarks.loop import take_turns
from benchmarks.rows import Track
from edge_sr.backends import Buffer, Stream
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Component

__all__ = ["Stages", "measure_latency"]

Float = npt.NDArray[np.float32]
SEED = 0
CALLS_A_ROUND = 2  # `take_turns` runs each subject once before the run that it counts


@dataclass(frozen=True)
class Stages:
    """Seconds of one image.

    Attributes:
        encoder, decoder: One run of the graph; 0 where the model has none.
        steps: One run each of the step graph.
        whole: `Upscaler.upscale`: noise, tiles, encode, loop, decode; no file is read or written.
    """

    encoder: float
    steps: tuple[float, ...]
    decoder: float
    whole: float


class Stopwatch:
    """Keeps the seconds of every run of a graph."""

    def __init__(self) -> None:
        self._seconds: dict[Component, list[float]] = {component: [] for component in Component}

    def __call__(
        self, component: Component, seconds: float, buffers: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """See `benchmarks.ladder.watch.Watch`."""
        self._seconds[component].append(seconds)

    def take(self, whole: float) -> Stages:
        """The stages of an image that took `whole` seconds, and forgets them."""
        seconds = self._seconds
        encoder, decoder = sum(seconds[Component.ENCODER]), sum(seconds[Component.DECODER])
        stages = Stages(encoder, tuple(seconds[Component.STEP]), decoder, whole)
        for kept in seconds.values():
            kept.clear()
        return stages


def measure_latency(
    rungs: Sequence[Rung], images: Float, preset: Preset, *, rounds: int, threads: int, track: Track
) -> dict[str, list[Stages]]:
    """Times every row once a round, each after a run of its own that is not counted, in an order that turns.

    Args:
        rungs: The rows.
        images: (N, C, t, t) LR tiles; all rows have the same one in a round, and the next in the next.
        preset: How the loop runs.
        rounds: How many.
        threads: CPU threads; 0 for all cores.
        track: Shows progress.

    Returns:
        Row -> the stages of each round.

    Raises:
        EdgeSRError: A graph cannot be run.
    """
    with ExitStack() as stack:
        subjects: dict[str, Callable[[], Stages]] = {}
        for rung in rungs:
            watch = Stopwatch()
            upscaler = open_rung(rung, threads=threads, emulates_half=False, watch=watch)
            subjects[rung.key] = _subject(stack.enter_context(upscaler), watch, images, preset)
        return take_turns(subjects, repeats=rounds, track=track)


def _subject(upscaler: Upscaler, watch: Stopwatch, images: Float, preset: Preset) -> Callable[[], Stages]:
    """Runs the image of the round once."""
    calls = itertools.count()

    def run() -> Stages:
        image = images[next(calls) // CALLS_A_ROUND % len(images)]
        started = time.perf_counter()
        upscaler.upscale(image, preset=preset, seed=SEED)
        return watch.take(time.perf_counter() - started)

    return run
