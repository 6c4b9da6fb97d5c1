"""An image's side of in-flight batching: it is cut into tiles, which are handed in and come back enlarged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from edge_sr.evidence import Moments
from edge_sr.manifest import Preset, samples_of
from edge_sr.pipeline.loop import StageSeconds, make_schedule
from edge_sr.pipeline.upscaler import Output, Upscaler
from edge_sr.schedule import Schedule, coefficients
from edge_sr.spec import Component
from edge_sr.tiling import TileGrid, blend, extract, pad, position_noise_into

__all__ = ["ImageInFlight", "Place", "TileInFlight", "Way"]

Float = npt.NDArray[np.float32]


@dataclass(eq=False)
class ImageInFlight:
    """An image under way.

    Attributes:
        is_awaited: Whether anybody still waits for it.
        is_left: Whether whoever enlarged it has ended, for better or worse.
        seconds: Its share of every call that it was part of, by stage.
    """

    is_awaited: Callable[[], bool]
    is_left: bool = False
    seconds: StageSeconds = field(default_factory=StageSeconds)

    @property
    def is_wanted(self) -> bool:
        """Whether its tiles are still of use."""
        return not self.is_left and self.is_awaited()


@dataclass(frozen=True)
class Way:
    """A preset as the step graph reads it.

    Attributes:
        schedule: Its steps.
        coefficients: (S, 7) float32, a row a step.
        embedding: (S, R, D) float32, likewise, for each of the step's evaluations.
        weights: (R, 2) float32, see `Guide`; (0, 2) for a model that was told no classes.
    """

    schedule: Schedule
    coefficients: Float
    embedding: Float
    weights: Float


@dataclass(eq=False)
class TileInFlight:
    """A sample of a tile.

    Attributes:
        pixels: (C, t, t) float32 in [-1, 1].
        first_noise: (L, h, w) float32, scaled: what its loop starts from; (0, 0, 0) where there is none.
        way: Its steps.
        draw: Writes the noise that belongs to its place into an array, by the number of the draw;
            None where there is no loop.
        enlarged: (C, T, T) float32, or why there is none.
    """

    pixels: Float
    first_noise: Float
    way: Way
    draw: Callable[[Float, int], None] | None = None
    enlarged: Future[Float] = field(default_factory=Future)


class Place:
    """What enlarges an image in a batch that is shared; as an `Upscaler`, to be used by one thread."""

    def __init__(
        self,
        upscaler: Upscaler,
        *,
        queue: Callable[[ImageInFlight, TileInFlight], None],
        wait: Callable[[Future[Float]], Float],
        is_awaited: Callable[[], bool],
    ) -> None:
        """Takes nothing yet.

        Args:
            upscaler: What is shared.
            queue: Takes a tile to the batch.
            wait: Waits for one.
            is_awaited: Whether anybody still waits for what is enlarged here; asked from another thread.
        """
        self.bundle, self.backend, self.precision = upscaler.bundle, upscaler.backend, upscaler.precision
        self._upscaler, self._queue, self._wait, self._is_awaited = upscaler, queue, wait, is_awaited

    def upscale(self, image: Float, *, preset: Preset | None, seed: int, first_sample: int = 0) -> Output:
        """Enlarges one image; see `Upscaler.upscale`.

        Returns:
            As there. Of the seconds, those of the three stages are the image's share of calls that it had
            with others, and `host` is the rest of the time that it took: waiting for others included.

        Raises:
            UsageError: As there.
            ScheduleError: As there.
            BackendError: The batch that it was in failed, or there is no batch any more.
            CancelledError: Nobody awaits it.
        """
        started, grid = time.perf_counter(), self._upscaler.grid_of(image)
        under_way, samples = ImageInFlight(self._is_awaited), Moments()
        tiles = self._tiles(image, grid, preset, seed=seed, first_sample=first_sample)
        with closing(self._enlarged(under_way, tiles)) as enlarged:
            for _ in range(samples_of(preset)):
                samples.add(blend(islice(enlarged, len(grid)), grid, scale=self.bundle.manifest.scale))
        spent = under_way.seconds
        host = time.perf_counter() - started - spent.encode - spent.loop - spent.decode
        return Output(samples.mean, samples.std, len(grid), replace(spent, host=max(0.0, host)))

    def _enlarged(self, image: ImageInFlight, tiles: Iterator[TileInFlight]) -> Generator[Float, None, None]:
        """The tiles enlarged, in their order; no more are handed in than twice fill the batch."""
        under_way: deque[Future[Float]] = deque()
        try:
            for tile in tiles:
                if len(under_way) == 2 * self._upscaler.batch:
                    yield self._wait(under_way.popleft())
                self._queue(image, tile)
                under_way.append(tile.enlarged)
            while under_way:
                yield self._wait(under_way.popleft())
        finally:
            image.is_left = True

    def _tiles(
        self, image: Float, grid: TileGrid, preset: Preset | None, *, seed: int, first_sample: int
    ) -> Iterator[TileInFlight]:
        """All tiles of the first sample, then of the next."""
        way, padded = self._way(preset), pad(image, grid)
        for sample in range(first_sample, first_sample + samples_of(preset)):
            for index, origin in enumerate(grid.origins):
                if preset is None:
                    yield TileInFlight(extract(padded, grid, index), np.empty((0, 0, 0), np.float32), way)
                    continue
                draw = partial(_draw, seed=seed, sample=sample, place=self._upscaler.latent_place(origin))
                first = np.empty(self._latent_shape, np.float32)
                draw(first, 0)
                first *= np.float32(way.schedule.initial_sigma * preset.noise_scale)
                yield TileInFlight(extract(padded, grid, index), first, way, draw)

    @property
    def _latent_shape(self) -> tuple[int, ...]:
        """(L, h, w)."""
        inputs = self._upscaler.engines[Component.STEP].inputs
        return next(s for s in inputs if s.name == "x").concrete(1)[1:]

    def _way(self, preset: Preset | None) -> Way:
        schedule = make_schedule(self.bundle, preset)
        rows = np.asarray(self._upscaler.embedding[[step.timestep for step in schedule.steps]], np.float32)
        table, guide = coefficients(schedule), self._upscaler.guide(preset)
        if guide is None:
            return Way(schedule, table, rows[:, None], np.empty((0, 2), np.float32))
        return Way(schedule, table, guide.rows(rows, 1), guide.weights)


def _draw(out: Float, draw: int, *, seed: int, sample: int, place: tuple[int, int]) -> None:
    position_noise_into(out, seed, step=draw, sample=sample, y0=place[0], x0=place[1])
