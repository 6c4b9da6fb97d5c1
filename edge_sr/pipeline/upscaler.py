"""Images of any size through the prepared loop: tiles, noise by position, batches on slots, samples."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Backend, CanCapture, Engine, Resource
from edge_sr.bundle import Bundle
from edge_sr.errors import UsageError
from edge_sr.evidence import Moments
from edge_sr.manifest import Preset, samples_of
from edge_sr.pipeline.guidance import Guide, make_guide
from edge_sr.pipeline.loop import StageSeconds, TileEngine, make_schedule
from edge_sr.schedule import Schedule
from edge_sr.spec import Component, Precision
from edge_sr.tiling import TileGrid, blend, extract, pad, plan_tiles, position_noise_into

__all__ = ["Enlarges", "Output", "Upscaler"]

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Output:
    """What the engine made of an image.

    Attributes:
        mean: (C, H, W) float32 in [-1, 1]: the sample, or the mean of the samples.
        std: (C, H, W) float32, the standard deviation over the samples; None for one sample.
        tiles: How many tiles the image was cut into.
        seconds: Where the time went.
    """

    mean: Float
    std: Float | None
    tiles: int
    seconds: StageSeconds


class Enlarges(Protocol):
    """What enlarges images: an `Upscaler`, or a place in one that is shared."""

    bundle: Bundle
    backend: Backend
    precision: Precision

    def upscale(self, image: Float, *, preset: Preset | None, seed: int, first_sample: int = 0) -> Output:
        """See `Upscaler.upscale`."""


class Upscaler(Resource):
    """A bundle on a backend at one precision: images of any size in, images `scale` times larger out."""

    def __init__(self, bundle: Bundle, backend: Backend, *, precision: Precision, batch: int = 1) -> None:
        """Loads the graphs.

        Args:
            bundle: What to run.
            backend: Where; closed with the upscaler, and where it cannot be made.
            precision: One that every graph has.
            batch: Most tiles at once.

        Raises:
            BundleError: The bundle lacks the precision, or is damaged.
            BackendError: The backend refuses a graph.
        """
        self.bundle, self.backend, self.precision, self.batch = bundle, backend, precision, batch
        self.load_seconds: dict[str, float] = {}
        self.engines: dict[Component, Engine] = {}
        self._tile_engines: dict[tuple[Preset | None, int, int, int], TileEngine] = {}
        self._slots = 2 if isinstance(backend, CanCapture) else 1
        self.notes: list[str] = []
        try:
            for component in bundle.manifest.components:
                self.engines[component] = self._load(component)
            self.embedding, self.classes = bundle.time_embedding(), bundle.class_embedding()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def upscale(self, image: Float, *, preset: Preset | None, seed: int, first_sample: int = 0) -> Output:
        """Enlarges one image.

        Args:
            image: (C, h, w) float32 in [-1, 1], any size.
            preset: How to run the loop; `preset.samples` samples are averaged. None where there is no loop.
            seed: Unsigned 64-bit. Noise depends on it, on the sample and on the absolute position alone.
                Where there is no loop, none is drawn.
            first_sample: The number of the first sample; who takes them one by one gets the same ones.

        Raises:
            UsageError: The image is not (C, h, w) with the C of the model, the seed is out of range, the
                preset is None for a bundle with a loop, or is not for one without, or it names a class or a
                guidance that the model does not have.
            ScheduleError: The preset's combination is not offered.
            BackendError: A graph failed.
        """
        grid = self.grid_of(image)
        total, seconds = Moments(), StageSeconds()
        for sample in range(first_sample, first_sample + samples_of(preset)):
            result, spent = self._one_sample(image, grid, preset, seed, sample)
            total.add(result)
            seconds = seconds + spent
        return Output(total.mean, total.std, len(grid), seconds)

    def grid_of(self, image: Float) -> TileGrid:
        """How an image is cut.

        Raises:
            UsageError: It is not (C, h, w) with the C of the model, or is empty.
        """
        channels = self.bundle.manifest.channels
        if image.ndim != 3 or image.shape[0] != channels:
            raise UsageError(f"wanted an image of {channels} channels (C, h, w), got {image.shape}")
        return self.grid(image.shape[1], image.shape[2])

    def grid(self, height: int, width: int) -> TileGrid:
        """How an image of this size is cut."""
        manifest = self.bundle.manifest
        return plan_tiles(height, width, tile=manifest.tile, overlap=manifest.overlap, align=self._align)

    def latent_place(self, origin: tuple[int, int]) -> tuple[int, int]:
        """The (row, column) of a tile's first latent pixel, to which its noise belongs.

        Raises:
            BundleError: There is no loop.
        """
        scale, factor = self.bundle.manifest.scale, self.bundle.latent.factor
        return origin[0] * scale // factor, origin[1] * scale // factor

    def tile_engine(self, preset: Preset | None, batch: int, *, slot: int = 0) -> TileEngine:
        """The prepared loop of a preset, batch size and slot, recorded where the backend can; made once.

        Classes share it: it is told the preset's each time.

        Raises:
            UsageError: There is no such class, or not that much guidance.
        """
        guide = self.guide(preset)
        key = (_prepared_for(preset), guide.evaluations if guide else 1, batch, slot)
        if key not in self._tile_engines:
            self._tile_engines[key] = self._recorded(make_schedule(self.bundle, preset), batch, guide)
        engine = self._tile_engines[key]
        if guide:
            engine.tell(guide)
        return engine

    def guide(self, preset: Preset | None) -> Guide | None:
        """What a preset tells the loop of classes; None for a model that was told none.

        Raises:
            UsageError: There is no such class, or not that much guidance.
        """
        return make_guide(self.bundle.manifest, self.classes, preset)

    @property
    def _align(self) -> int:
        """The fewest LR pixels that are a whole number of latent pixels: tiles start on multiples of it."""
        latent = self.bundle.manifest.latent
        factor = latent.factor if latent else 1
        return factor // math.gcd(factor, self.bundle.manifest.scale)

    def _load(self, component: Component) -> Engine:
        started = time.perf_counter()
        engine = self.backend.load(self.bundle.graph(component, self.precision))
        self.load_seconds[str(component)] = time.perf_counter() - started
        return engine

    def _recorded(self, schedule: Schedule, batch: int, guide: Guide | None) -> TileEngine:
        engine = TileEngine(
            self.backend,
            self.engines,
            schedule=schedule,
            batch=batch,
            embedding=self.embedding,
            guide=guide,
        )
        try:
            note = engine.capture()
        except BaseException as error:
            engine.__exit__(type(error), error, error.__traceback__)
            raise
        if note and note not in self.notes:
            self.notes.append(note)
        return engine

    def _one_sample(
        self, image: Float, grid: TileGrid, preset: Preset | None, seed: int, sample: int
    ) -> tuple[Float, StageSeconds]:
        started = time.perf_counter()
        spent: list[StageSeconds] = []
        tiles = self._enlarged(pad(image, grid), grid, preset, seed, sample, spent)
        result = blend(tiles, grid, scale=self.bundle.manifest.scale)
        seconds = sum(spent, StageSeconds())
        host = time.perf_counter() - started - seconds.encode - seconds.loop - seconds.decode
        return result, replace(seconds, host=max(0.0, host))  # host work may lie under the device's

    def _enlarged(
        self,
        padded: Float,
        grid: TileGrid,
        preset: Preset | None,
        seed: int,
        sample: int,
        spent: list[StageSeconds],
    ) -> Iterator[Float]:
        """The enlarged tiles in the grid's order; what each batch cost is appended to `spent`."""
        manifest = self.bundle.manifest
        side = grid.tile * manifest.scale
        under_way: deque[tuple[TileEngine, Float]] = deque()
        try:
            for turn, start in enumerate(range(0, len(grid), self.batch)):
                indices = range(start, min(start + self.batch, len(grid)))
                engine = self.tile_engine(preset, len(indices), slot=turn % self._slots)
                if len(under_way) == self._slots:
                    yield from self._finished(under_way, spent)
                first, steps = self._noise(engine, [grid.origins[i] for i in indices], preset, seed, sample)
                images = np.stack([extract(padded, grid, i) for i in indices])
                out = np.empty((len(indices), manifest.channels, side, side), np.float32)
                under_way.append((engine, out))
                engine.submit(images, first, steps, out)
            while under_way:
                yield from self._finished(under_way, spent)
        finally:  # after a failure, nothing may still write into what goes out of use here
            for engine, _ in under_way:
                engine.settle()

    def _finished(self, under_way: deque[tuple[TileEngine, Float]], spent: list[StageSeconds]) -> Float:
        """Waits for the batch that was submitted first."""
        engine, out = under_way.popleft()
        spent.append(engine.collect())
        return out

    def _noise(
        self,
        engine: TileEngine,
        origins: Sequence[tuple[int, int]],
        preset: Preset | None,
        seed: int,
        sample: int,
    ) -> tuple[Float, Float]:
        """The noise that a batch starts from, scaled, and that of every step that adds some."""
        shape = engine.latent_shape
        first = np.empty(shape, np.float32)
        steps = np.empty((len(engine.noisy_steps), *shape), np.float32)
        if preset is None:
            return first, steps
        for index, origin in enumerate(origins):
            y0, x0 = self.latent_place(origin)
            position_noise_into(first[index], seed, step=0, sample=sample, y0=y0, x0=x0)
            for slot, step in enumerate(engine.noisy_steps):
                position_noise_into(steps[slot, index], seed, step=step + 1, sample=sample, y0=y0, x0=x0)
        first *= np.float32(engine.schedule.initial_sigma * preset.noise_scale)
        return first, steps

    def close(self) -> None:
        """Frees the prepared loops, then the engines, then the backend.

        Raises:
            BackendError: Something could not be freed; all the rest was.
        """
        with ExitStack() as stack:
            for resource in (self.backend, *self.engines.values(), *self._tile_engines.values()):
                stack.callback(resource.close)
            self._tile_engines.clear()


def _prepared_for(preset: Preset | None) -> Preset | None:
    """What a prepared loop depends on: the preset less its noise's scale, its samples and its class."""
    others = {"samples": 1, "noise_scale": 1.0, "class_name": None, "guidance": None}
    return None if preset is None else preset.model_copy(update=others)
