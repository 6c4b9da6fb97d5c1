"""The engine: encode, the reverse-diffusion loop, decode, over buffers that are made once.

    LR tile ─► encoder ─► condition, ... ─► step x N (two latents ping-pong) ─► decoder ─► HR tile

Graphs are joined by the names of their tensors: what a graph reads is either one of the loop's own tensors or
an output of a graph before it. A loop is prepared once for a schedule and a batch size: every step has its
own binding, so that running it is one call a step, and nothing is allocated, copied or waited for inside.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Backend, Binding, Buffer, CanCapture, Captured, Engine, Resource, Stream
from edge_sr.bundle import Bundle
from edge_sr.errors import UsageError
from edge_sr.manifest import Preset
from edge_sr.schedule import NoiseSchedule, Schedule, build_schedule, coefficients
from edge_sr.spec import (
    IMAGE,
    LATENT,
    LOOP_INPUTS,
    LOOP_OUTPUTS,
    OUTPUT,
    Component,
    Precision,
    TensorSpec,
)
from edge_sr.tiling import TileGrid, blend, extract, pad, plan_tiles, position_noise_into

__all__ = ["Output", "StageSeconds", "TileEngine", "Upscaler", "make_schedule"]

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StageSeconds:
    """Seconds spent in each stage; `host` is all that is not inside an engine: noise, tiles, copies."""

    encode: float = 0.0
    loop: float = 0.0
    decode: float = 0.0
    host: float = 0.0

    def __add__(self, other: StageSeconds) -> StageSeconds:
        """Stage by stage."""
        return StageSeconds(
            self.encode + other.encode,
            self.loop + other.loop,
            self.decode + other.decode,
            self.host + other.host,
        )


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


def make_schedule(bundle: Bundle, preset: Preset) -> Schedule:
    """The steps of a preset on the bundle's noise schedule.

    Raises:
        ScheduleError: The combination is not offered.
    """
    diffusion = bundle.manifest.diffusion
    noise = NoiseSchedule(
        diffusion.noise_schedule,
        timesteps=diffusion.timesteps,
        beta_start=diffusion.beta_start,
        beta_end=diffusion.beta_end,
        zero_terminal_snr=diffusion.zero_terminal_snr,
    )
    return build_schedule(
        noise,
        sampler=preset.sampler,
        prediction=diffusion.prediction,
        steps=preset.steps,
        spacing=preset.spacing,
        eta=preset.eta,
        clip=diffusion.clip,
        start=preset.start,
    )


class TileEngine(Resource):
    """A batch of tiles through the three graphs, for one schedule and one batch size."""

    def __init__(
        self,
        backend: Backend,
        engines: dict[Component, Engine],
        *,
        schedule: Schedule,
        batch: int,
        embedding: Float,
    ) -> None:
        """Allocates every buffer and binds every step.

        Args:
            backend: Where the engines run.
            engines: One a component.
            schedule: The steps.
            batch: Tiles at once.
            embedding: (T, D) float32, the time embedding of every training timestep.

        Raises:
            BackendError: A tensor that passes between two graphs has another shape in each.
        """
        self.backend, self.batch, self.schedule = backend, batch, schedule
        self.stream = backend.stream()
        self._replay: Captured | None = None
        self.buffers: dict[str, Buffer] = {}
        self._marks = [self.stream.mark() for _ in range(4)]
        try:
            self._prepare(engines, embedding)
        except BaseException:
            self.close()
            raise

    def _prepare(self, engines: dict[Component, Engine], embedding: Float) -> None:
        schedule = self.schedule
        self._allocate(engines)
        self._fill_constants(embedding)
        self._no_history = np.zeros(self.latent_shape, self.buffers["clean0"].dtype)
        self._encode = engines[Component.ENCODER].bind(self._named(engines[Component.ENCODER]))
        self._steps = [self._bind_step(engines[Component.STEP], i) for i in range(len(schedule.steps))]
        last = {LATENT: self.buffers[f"x{len(schedule.steps) % 2}"]}
        self._decode = engines[Component.DECODER].bind(self._named(engines[Component.DECODER], last))

    @property
    def noisy_steps(self) -> tuple[int, ...]:
        """The indices of the steps that add noise."""
        return tuple(i for i, step in enumerate(self.schedule.steps) if step.c != 0)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(N, L, h, w)."""
        return self.buffers["x0"].shape

    def capture(self) -> str:
        """Has the backend record encode, loop and decode as one piece of work, checked against a plain run.

        Returns:
            What the user should know: empty where it was recorded, or where there is nothing to record.

        Raises:
            BackendError: A run fails.
        """
        if self._replay is None and isinstance(self.backend, CanCapture):
            outputs = [self.buffers[OUTPUT]]
            self._replay = self.backend.capture(
                self._enqueue, prepare=self._upload_noise, outputs=outputs, stream=self.stream
            )
        return "" if self._replay is None else self._replay.note

    def run(self, image: Float, first_noise: Float, step_noise: Float, out: Float) -> StageSeconds:
        """Runs a batch; see `submit`."""
        started = time.perf_counter()
        self.submit(image, first_noise, step_noise, out)
        seconds = self.collect()
        total = time.perf_counter() - started
        return replace(seconds, host=total - seconds.encode - seconds.loop - seconds.decode)

    def submit(self, image: Float, first_noise: Float, step_noise: Float, out: Float) -> None:
        """Enqueues a batch, from upload to download, and does not wait for it.

        Args:
            image: (N, C, t, t) float32 in [-1, 1].
            first_noise: (N, L, h, w) float32, already scaled: what the loop starts from.
            step_noise: (S, N, L, h, w) float32, for the S steps that add noise.
            out: (N, C, T, T) float32, written by the time that `collect` returns.
        """
        self.buffers[IMAGE].upload(image, self.stream)
        self.buffers["x0"].upload(first_noise, self.stream)
        # Multiplied by zero, but zero times what a run before overflowed to is not zero.
        self.buffers["clean0"].upload(self._no_history, self.stream)
        for slot in range(len(self.noisy_steps)):
            self.buffers["noise"].at(slot).upload(step_noise[slot], self.stream)
        if self._replay is None:
            self._enqueue(self.stream)
        else:
            self._replay.launch(self.stream)
        self.buffers[OUTPUT].download(out, self.stream)

    def collect(self) -> StageSeconds:
        """Waits for the batch that was submitted last, and says how long its stages took on the device."""
        self.stream.synchronize()
        encode, loop, decode = (b.seconds_since(a) for a, b in itertools.pairwise(self._marks))
        return StageSeconds(encode, loop, decode)

    def run_loop(self) -> None:
        """The step loop alone, on whatever the buffers hold: for measuring its own cost."""
        for binding in self._steps:
            binding.enqueue(self.stream)

    def run_step(self, index: int) -> None:
        """One step alone, as `run_loop` does it."""
        self._steps[index].enqueue(self.stream)

    def _enqueue(self, stream: Stream) -> None:
        """Encode, loop and decode, with a mark before, between and after them."""
        start, encoded, looped, decoded = self._marks
        start.set()
        self._encode.enqueue(stream)
        encoded.set()
        for binding in self._steps:
            binding.enqueue(stream)
        looped.set()
        self._decode.enqueue(stream)
        decoded.set()

    def _upload_noise(self, seed: int) -> None:
        """Seeded noise in everything that a run reads: the inputs of a test case."""
        rng = np.random.default_rng(seed)
        for name in (IMAGE, "x0", "clean0"):
            self._upload_random(self.buffers[name], rng)
        for slot in range(len(self.noisy_steps)):
            self._upload_random(self.buffers["noise"].at(slot), rng)

    def _upload_random(self, buffer: Buffer, rng: np.random.Generator) -> None:
        buffer.upload(rng.standard_normal(buffer.shape).astype(buffer.dtype), self.stream)

    def _allocate(self, engines: dict[Component, Engine]) -> None:
        """A buffer for every tensor, the loop's ping-pong pairs and the per-step tables."""
        steps = len(self.schedule.steps)
        specs = {s.name: s for e in engines.values() for s in (*e.inputs, *e.outputs)}
        plain = set(specs) - LOOP_INPUTS - LOOP_OUTPUTS - {LATENT}
        buffers = self.buffers
        for name in sorted(plain):
            buffers[name] = self._buffer(specs[name], shared=name in (IMAGE, OUTPUT))
        for name, pair in (("x", ("x0", "x1")), ("x0_previous", ("clean0", "clean1"))):
            for key in pair:
                buffers[key] = self._buffer(specs[name])
        for name in ("coefficients", "time_embedding"):
            buffers[name] = self._buffer(specs[name], leading=(steps,))
        buffers["noise"] = self._buffer(specs["noise"], leading=(max(1, len(self.noisy_steps)),), shared=True)

    def _buffer(self, spec: TensorSpec, *, leading: tuple[int, ...] = (), shared: bool = False) -> Buffer:
        return self.backend.allocate(leading + spec.concrete(self.batch), spec.dtype, shared=shared)

    def _fill_constants(self, embedding: Float) -> None:
        """The scalars and the time embedding of every step, the same for each sample of the batch."""
        rows = embedding[[s.timestep for s in self.schedule.steps]]
        for name, table in (("coefficients", coefficients(self.schedule)), ("time_embedding", rows)):
            repeated = np.repeat(np.asarray(table, np.float32)[:, None], self.batch, axis=1)
            self.buffers[name].upload(repeated, self.stream)

    def _bind_step(self, engine: Engine, index: int) -> Binding:
        now, after = index % 2, (index + 1) % 2
        noise = self.noisy_steps.index(index) if index in self.noisy_steps else 0
        return engine.bind(
            self._named(
                engine,
                {
                    "x": self.buffers[f"x{now}"],
                    "x_next": self.buffers[f"x{after}"],
                    "x0_previous": self.buffers[f"clean{now}"],
                    "x0": self.buffers[f"clean{after}"],
                    "noise": self.buffers["noise"].at(noise),
                    "coefficients": self.buffers["coefficients"].at(index),
                    "time_embedding": self.buffers["time_embedding"].at(index),
                },
            )
        )

    def _named(self, engine: Engine, own: dict[str, Buffer] | None = None) -> dict[str, Buffer]:
        """The buffers of an engine's tensors by name."""
        available = self.buffers | (own or {})
        return {s.name: available[s.name] for s in (*engine.inputs, *engine.outputs)}

    def close(self) -> None:
        """Frees what was recorded, the marks, the buffers and the stream."""
        if self._replay is not None:
            self._replay.close()
        for mark in self._marks:
            mark.close()
        for buffer in self.buffers.values():
            buffer.close()
        self.stream.close()


class Upscaler(Resource):
    """A bundle on a backend at one precision: images of any size in, images `scale` times larger out."""

    def __init__(self, bundle: Bundle, backend: Backend, *, precision: Precision, batch: int = 1) -> None:
        """Loads the three graphs.

        Args:
            bundle: What to run.
            backend: Where; closed with the upscaler.
            precision: One that every component has.
            batch: Most tiles at once.

        Raises:
            BundleError: The bundle lacks the precision, or is damaged.
            BackendError: The backend refuses a graph.
        """
        self.bundle, self.backend, self.precision, self.batch = bundle, backend, precision, batch
        self.load_seconds: dict[str, float] = {}
        self.engines = {component: self._load(component) for component in Component}
        self._embedding = bundle.time_embedding()
        self._tile_engines: dict[tuple[Preset, int, int], TileEngine] = {}
        self._slots = 2 if isinstance(backend, CanCapture) else 1
        self.notes: list[str] = []

    def upscale(self, image: Float, *, preset: Preset, seed: int) -> Output:
        """Enlarges one image.

        Args:
            image: (C, h, w) float32 in [-1, 1], any size.
            preset: How to run the loop; `preset.samples` samples are averaged.
            seed: Unsigned 64-bit. Noise depends on it, on the sample and on the absolute position alone.

        Raises:
            UsageError: The image is not (C, h, w) with the C of the model, or the seed is out of range.
            ScheduleError: The preset's combination is not offered.
            BackendError: A graph failed.
        """
        manifest = self.bundle.manifest
        if image.ndim != 3 or image.shape[0] != manifest.channels:
            raise UsageError(f"wanted an image of {manifest.channels} channels (C, h, w), got {image.shape}")
        grid = self.grid(image.shape[1], image.shape[2])
        total, seconds = _Moments(), StageSeconds()
        for sample in range(preset.samples):
            result, spent = self._one_sample(image, grid, preset, seed, sample)
            total.add(result)
            seconds = seconds + spent
        return Output(total.mean, total.std, len(grid), seconds)

    def grid(self, height: int, width: int) -> TileGrid:
        """How an image of this size is cut."""
        manifest = self.bundle.manifest
        return plan_tiles(height, width, tile=manifest.tile, overlap=manifest.overlap, align=self._align)

    def tile_engine(self, preset: Preset, batch: int, *, slot: int = 0) -> TileEngine:
        """The prepared loop of a preset, batch size and slot, recorded where the backend can; made once."""
        key = (replace_samples(preset), batch, slot)
        if key not in self._tile_engines:
            engine = self._tile_engines[key] = TileEngine(
                self.backend,
                self.engines,
                schedule=make_schedule(self.bundle, preset),
                batch=batch,
                embedding=self._embedding,
            )
            note = engine.capture()
            if note and note not in self.notes:
                self.notes.append(note)
        return self._tile_engines[key]

    @property
    def _align(self) -> int:
        """The fewest LR pixels that are a whole number of latent pixels: tiles start on multiples of it."""
        factor = self.bundle.manifest.latent.factor
        return factor // math.gcd(factor, self.bundle.manifest.scale)

    def _load(self, component: Component) -> Engine:
        started = time.perf_counter()
        engine = self.backend.load(self.bundle.graph(component, self.precision))
        self.load_seconds[str(component)] = time.perf_counter() - started
        return engine

    def _one_sample(
        self, image: Float, grid: TileGrid, preset: Preset, seed: int, sample: int
    ) -> tuple[Float, StageSeconds]:
        started = time.perf_counter()
        spent: list[StageSeconds] = []
        tiles = self._enlarged(pad(image, grid), grid, preset, seed, sample, spent)
        result = blend(tiles, grid, scale=self.bundle.manifest.scale)
        seconds = sum(spent, StageSeconds())
        host = time.perf_counter() - started - seconds.encode - seconds.loop - seconds.decode
        return result, replace(seconds, host=max(0.0, host))  # host work may lie under the device's

    def _enlarged(
        self, padded: Float, grid: TileGrid, preset: Preset, seed: int, sample: int, spent: list[StageSeconds]
    ) -> Iterator[Float]:
        """The enlarged tiles in the grid's order; what each batch cost is appended to `spent`."""
        manifest = self.bundle.manifest
        side = grid.tile * manifest.scale
        under_way: deque[tuple[TileEngine, Float]] = deque()
        for turn, start in enumerate(range(0, len(grid), self.batch)):
            indices = range(start, min(start + self.batch, len(grid)))
            engine = self.tile_engine(preset, len(indices), slot=turn % self._slots)
            if len(under_way) == self._slots:
                yield from self._finished(under_way, spent)
            first, steps = self._noise(engine, [grid.origins[i] for i in indices], preset, seed, sample)
            images = np.stack([extract(padded, grid, i) for i in indices])
            out = np.empty((len(indices), manifest.channels, side, side), np.float32)
            engine.submit(images, first, steps, out)
            under_way.append((engine, out))
        while under_way:
            yield from self._finished(under_way, spent)

    def _finished(self, under_way: deque[tuple[TileEngine, Float]], spent: list[StageSeconds]) -> Float:
        """Waits for the batch that was submitted first."""
        engine, out = under_way.popleft()
        spent.append(engine.collect())
        return out

    def _noise(
        self, engine: TileEngine, origins: Sequence[tuple[int, int]], preset: Preset, seed: int, sample: int
    ) -> tuple[Float, Float]:
        """The noise that a batch starts from, scaled, and that of every step that adds some."""
        shape, scale = engine.latent_shape, self.bundle.manifest.scale
        first = np.empty(shape, np.float32)
        steps = np.empty((len(engine.noisy_steps), *shape), np.float32)
        for index, origin in enumerate(origins):
            y0, x0 = (place * scale // self.bundle.manifest.latent.factor for place in origin)
            position_noise_into(first[index], seed, step=0, sample=sample, y0=y0, x0=x0)
            for slot, step in enumerate(engine.noisy_steps):
                position_noise_into(steps[slot, index], seed, step=step + 1, sample=sample, y0=y0, x0=x0)
        first *= np.float32(engine.schedule.initial_sigma * preset.noise_scale)
        return first, steps

    def close(self) -> None:
        """Frees engines, buffers and the backend."""
        for loop in self._tile_engines.values():
            loop.close()
        self._tile_engines.clear()
        for engine in self.engines.values():
            engine.close()
        self.backend.close()


def replace_samples(preset: Preset) -> Preset:
    """The preset for one sample: what a prepared loop depends on, less what only its noise depends on."""
    return preset.model_copy(update={"samples": 1, "noise_scale": 1.0})


class _Moments:
    """Mean and standard deviation of arrays that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = None
        self._squares: Any = None

    def add(self, value: Float) -> None:
        self.count += 1
        if self.mean is None:
            self.mean, self._squares = value.copy(), np.zeros_like(value)
            return
        change = value - self.mean
        self.mean += change / np.float32(self.count)
        self._squares += change * (value - self.mean)

    @property
    def std(self) -> Float | None:
        """With one degree of freedom less than samples; None for one sample."""
        if self.count < 2:
            return None
        return np.asarray(np.sqrt(self._squares / np.float32(self.count - 1)), np.float32)
