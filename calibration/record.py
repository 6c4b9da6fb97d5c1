"""Records what flows through a bundle's graphs along whole trajectories of its deployed sampler."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError
from calibration.graph import read_graph
from calibration.histogram import Histogram
from calibration.images import CalibrationSet
from calibration.layers import find_layers, touched
from calibration.observe import ObservingBackend
from calibration.recording import VERSION, Facts, Recording
from edge_sr.bundle import Bundle
from edge_sr.errors import EdgeSRError
from edge_sr.manifest import Preset, one_sample
from edge_sr.pipeline import Upscaler, make_schedule
from edge_sr.spec import IMAGE, Component, Precision

__all__ = ["Recorder", "find_preset", "record"]

Array = npt.NDArray[Any]
Progress = Callable[[Iterable[int]], Iterator[int]]


class Recorder:
    """Counts what an `ObservingBackend` shows, and tells trajectories apart.

    Attributes:
        histograms: By component and tensor.
        batches: SHA-256 of what the first graph was given for each image.
    """

    def __init__(self, watched: dict[Component, list[str]], steps: int) -> None:
        """Args: watched: Tensors of every graph, in order. steps: Of the loop; 0 where there is none."""
        rows = {component: steps if component is Component.STEP else 1 for component in watched}
        self.histograms = {c: {name: Histogram(rows[c]) for name in names} for c, names in watched.items()}
        self.batches: list[str] = []
        self._first, self._steps, self._step = next(iter(watched)), steps, -1

    def begin_image(self) -> None:
        """Tells that what comes next belongs to another image."""
        self.batches.append("")

    def __call__(self, component: Component, values: dict[str, Array]) -> None:
        """Counts one run of a graph; it may come in parts, of which the first has the inputs."""
        if component is self._first and IMAGE in values:
            seen = self.batches[-1].encode() + values[IMAGE].tobytes()
            self.batches[-1] = hashlib.sha256(seen).hexdigest()
        if component is Component.STEP and "coefficients" in values:
            self._step = (self._step + 1) % self._steps
        step = self._step if component is Component.STEP else 0
        for name in values.keys() & self.histograms[component].keys():
            try:
                self.histograms[component][name].add(values[name], step=step)
            except CalibrationError as error:
                raise CalibrationError(f"{component}, {name}: {error.message}") from error

    def check_batches(self, names: tuple[str, ...]) -> None:
        """Checks that every image reached the first graph, and each a different one.

        Raises:
            CalibrationError: Naming the images of which it saw the same.
        """
        for index, (digest, name) in enumerate(zip(self.batches, names, strict=True)):
            first = self.batches.index(digest)
            if not digest:
                raise CalibrationError(f"{name} never reached the {self._first}")
            if first != index:
                raise CalibrationError(f"the {self._first} was given the same for {names[first]} and {name}")


def record(
    bundle: Bundle,
    images: CalibrationSet,
    *,
    preset: str | None,
    seed: int,
    progress: Progress = iter,
    chunk_bytes: int | None = None,
) -> Recording:
    """Runs every image through the deployed sampler, all steps, in FP32.

    Args:
        bundle: What is run.
        images: What it is run on.
        preset: Name of one of the bundle's presets, None where it has none. One sample is drawn, however many
            it averages.
        seed: Of the first image's noise; each further image takes the next.
        progress: Wraps the images' indices.
        chunk_bytes: Memory for the tensors that are watched; None as `ObservingBackend` has it.

    Raises:
        CalibrationError: A value is not finite, batches repeat, or a graph cannot be run.
        EdgeSRError: The engine failed; nothing is recorded then.
    """
    chosen = find_preset(bundle, preset)
    schedule = make_schedule(bundle, chosen)
    recorder = Recorder(_watched(bundle), len(schedule.steps))
    watched = {component: list(found) for component, found in recorder.histograms.items()}
    backend = ObservingBackend(watched, recorder, chunk_bytes=chunk_bytes)
    with Upscaler(bundle, backend, precision=Precision.FP32) as upscaler:
        for index in progress(range(len(images.images))):
            recorder.begin_image()
            _run(upscaler, images, index, chosen, seed)
    recorder.check_batches(images.names)
    facts = Facts(
        version=VERSION,
        graphs={str(c): bundle.graph(c, Precision.FP32).sha256 for c in bundle.manifest.components},
        set_digest=images.digest,
        images_asked=len(images.images),
        images_used=len(recorder.batches),
        preset=preset,
        sampler=chosen.sampler if chosen else None,
        steps=len(schedule.steps),
        timesteps=tuple(step.timestep for step in schedule.steps),
        noise_scale=chosen.noise_scale if chosen else None,
        seed=seed,
    )
    return Recording(facts, recorder.histograms)


def _run(upscaler: Upscaler, images: CalibrationSet, index: int, preset: Preset | None, seed: int) -> None:
    name = images.names[index]
    try:
        output = upscaler.upscale(images.images[index], preset=preset, seed=seed + index)
    except EdgeSRError as error:
        raise CalibrationError(f"recording stopped at {name}: {error.message}", hint=error.hint) from error
    if not np.isfinite(output.mean).all():
        raise CalibrationError(f"recording stopped at {name}: the output is not finite")


def find_preset(bundle: Bundle, name: str | None) -> Preset | None:
    """A preset of the bundle, of one sample; None for None.

    Raises:
        CalibrationError: There is none of that name.
        BundleError: The bundle has no loop, and so no presets.
    """
    if name is None:
        return None
    presets = bundle.diffusion.presets
    if name not in presets:
        raise CalibrationError(f"no preset {name!r}", hint=f"one of: {', '.join(presets)}")
    return one_sample(presets[name])


def _watched(bundle: Bundle) -> dict[Component, list[str]]:
    """The tensors of every layer that can be quantised."""
    models = {c: read_graph(bundle.graph(c, Precision.FP32).path) for c in bundle.manifest.components}
    return {c: touched(find_layers(model)) for c, model in models.items()}
