"""The prepared loop: a batch of tiles through the graphs of a bundle, over buffers that are made once."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Backend, Binding, Buffer, CanCapture, Captured, Engine, Resource, Stream
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, UsageError
from edge_sr.manifest import Diffusion, Preset
from edge_sr.pipeline.guidance import Guide
from edge_sr.schedule import NoiseSchedule, Schedule, build_schedule, coefficients
from edge_sr.spec import (
    GUIDANCE_INPUTS,
    IMAGE,
    LATENT,
    LOOP_INPUTS,
    LOOP_OUTPUTS,
    OUTPUT,
    Component,
    TensorSpec,
)

__all__ = ["StageSeconds", "TileEngine", "make_schedule", "schedule_for"]

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


def make_schedule(bundle: Bundle, preset: Preset | None) -> Schedule:
    """The steps of a preset on the bundle's noise schedule; none for None, where there is no loop.

    Raises:
        ScheduleError: The combination is not offered.
        UsageError: A preset was given where there is no loop, or none where there is one.
    """
    diffusion = bundle.manifest.diffusion
    if diffusion is None and preset is None:
        return Schedule(())
    if diffusion is None or preset is None:
        have, given = "no" if diffusion is None else "a", "no" if preset is None else "a"
        raise UsageError(f"bundle {bundle.manifest.name} has {have} loop, but {given} preset was given")
    return schedule_for(diffusion, preset)


def schedule_for(diffusion: Diffusion, preset: Preset) -> Schedule:
    """The same, where there is a loop.

    Raises:
        ScheduleError: The combination is not offered.
    """
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
        offset=preset.offset,
        eta=preset.eta,
        clip=diffusion.clip,
        end=diffusion.end if preset.sampler == "ddim" else "clean",
        start=preset.start,
    )


class TileEngine(Resource):
    """A batch of tiles through the graphs of a bundle, for one schedule and one batch size.

    Where the loop is guided by a class, a tile takes two rows of every graph but the decoder: see `Guide`.

    Attributes:
        output: What a run ends at: the decoder's output, or the last x of a loop in pixel space.
        latent: What the loop ends at; the output where there is no loop.
    """

    def __init__(
        self,
        backend: Backend,
        engines: dict[Component, Engine],
        *,
        schedule: Schedule,
        batch: int,
        embedding: Float,
        guide: Guide | None = None,
    ) -> None:
        """Allocates every buffer and binds every step.

        Args:
            backend: Where the engines run.
            engines: One for every graph that the bundle has.
            schedule: The steps; none where there is no step graph.
            batch: Tiles at once.
            embedding: (T, D) float32, the time embedding of every training timestep; (0, 0) without a loop.
            guide: What is told of classes at first, see `tell`; None for a model that was told none.

        Raises:
            BackendError: A tensor that passes between two graphs has another shape in each.
        """
        self.backend, self.batch, self.schedule = backend, batch, schedule
        self._timesteps = embedding[[step.timestep for step in schedule.steps]]
        self._evaluations = guide.evaluations if guide else 1
        self._replay: Captured | None = None
        self.buffers: dict[str, Buffer] = {}
        self._held, self._is_open = ExitStack(), True
        self.stream = self._held.enter_context(backend.stream())
        try:
            self._marks = [self._held.enter_context(self.stream.mark()) for _ in range(4)]
            self._prepare(engines, guide)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def _prepare(self, engines: dict[Component, Engine], guide: Guide | None) -> None:
        count = len(self.schedule.steps)
        self._allocate(engines)
        if count:
            self._fill_constants(guide)
            self._no_history = np.zeros(self.buffers["clean0"].shape, self.buffers["clean0"].dtype)
        kept = self._ends(engines.get(Component.DECODER), count)
        self.latent = kept[LATENT if count else OUTPUT]
        self.output = kept.get(OUTPUT, self.latent)
        self._encode = self._bind(engines, Component.ENCODER, self.buffers)
        self._steps = [self._bind_step(engines[Component.STEP], i) for i in range(count)]
        self._decode = self._bind(engines, Component.DECODER, kept)

    @property
    def noisy_steps(self) -> tuple[int, ...]:
        """The indices of the steps that add noise."""
        return tuple(i for i, step in enumerate(self.schedule.steps) if step.c != 0)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(N, L, h, w) of the loop's noise; (N, 0, 0, 0) where there is no loop."""
        return (self.batch, *(self.buffers["x0"].shape[1:] if self.schedule.steps else (0, 0, 0)))

    def tell(self, guide: Guide) -> None:
        """Has the next batches guided so; nothing else is made anew.

        Raises:
            BackendError: It takes another number of evaluations than the first one.
        """
        self.buffers["time_embedding"].upload(guide.rows(self._timesteps, self.batch), self.stream)
        self.buffers["guidance"].upload(np.repeat(guide.weights, self.batch, axis=0), self.stream)

    def capture(self) -> str:
        """Has the backend record encode, loop and decode as one piece of work, checked against a plain run.

        Returns:
            What the user should know: empty where it was recorded, or where there is nothing to record.

        Raises:
            BackendError: A run fails.
        """
        if self._replay is None and isinstance(self.backend, CanCapture):
            outputs = [self.output]
            self._replay = self._held.enter_context(
                self.backend.capture(
                    self._enqueue, prepare=self._upload_noise, outputs=outputs, stream=self.stream
                )
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
            step_noise: (S, N, L, h, w) float32, for the S steps that add noise. Without a loop neither is
                read.
            out: (N, C, T, T) float32, written by the time that `collect` returns.
        """
        self.buffers[IMAGE].upload(self._rows_of(image), self.stream)
        if self.schedule.steps:
            self._upload_start(first_noise, step_noise)
        if self._replay is None:
            self._enqueue(self.stream)
        else:
            self._replay.launch(self.stream)
        self.output.download(out, self.stream)

    def collect(self) -> StageSeconds:
        """Waits for the batch that was submitted last; what its stages took on the device, absent ones 0."""
        self.stream.synchronize()
        stages = zip((self._encode, self._steps, self._decode), itertools.pairwise(self._marks), strict=True)
        return StageSeconds(
            *(after.seconds_since(before) if work else 0.0 for work, (before, after) in stages)
        )

    def settle(self) -> None:
        """Waits for what is under way after a failure, which was raised where it happened."""
        with suppress(BackendError):
            self.stream.synchronize()

    def run_loop(self) -> None:
        """The step loop alone, on whatever the buffers hold: for measuring its own cost."""
        for binding in self._steps:
            binding.enqueue(self.stream)

    def run_step(self, index: int) -> None:
        """One step alone, as `run_loop` does it."""
        self._steps[index].enqueue(self.stream)

    def _upload_start(self, first_noise: Float, step_noise: Float) -> None:
        """What the loop starts from."""
        self.buffers["x0"].upload(self._rows_of(first_noise), self.stream)
        # Multiplied by zero, but zero times what a run before overflowed to is not zero.
        self.buffers["clean0"].upload(self._no_history, self.stream)
        for slot in range(len(self.noisy_steps)):
            self.buffers["noise"].at(slot).upload(self._rows_of(step_noise[slot]), self.stream)

    def _rows_of(self, samples: Float) -> Float:
        """What the rows of samples hold: each its own, as often as it is evaluated."""
        return samples if self._evaluations == 1 else np.concatenate([samples] * self._evaluations)

    def _ends(self, decoder: Engine | None, steps: int) -> dict[str, Buffer]:
        """What the loop ends at and the decoder's tensors, of the first evaluations: the rest are copies."""
        names = {s.name for s in (*decoder.inputs, *decoder.outputs)} if decoder else set[str]()
        ends = {name: self.buffers[name] for name in names - {LATENT}}
        if steps:
            ends[LATENT] = self.buffers[f"x{steps % 2}"]
        if self._evaluations == 1:
            return ends
        return {name: buffer.rows(0, self.batch) for name, buffer in ends.items()}

    def _enqueue(self, stream: Stream) -> None:
        """Encode, loop and decode, with a mark before, between and after them."""
        start, encoded, looped, decoded = self._marks
        start.set()
        for bindings, mark in ((self._encode, encoded), (self._steps, looped), (self._decode, decoded)):
            for binding in bindings:
                binding.enqueue(stream)
            mark.set()

    def _upload_noise(self, seed: int) -> None:
        """Seeded noise in everything that a run reads: the inputs of a test case."""
        rng = np.random.default_rng(seed)
        for name in (IMAGE, "x0", "clean0") if self.schedule.steps else (IMAGE,):
            self._upload_random(self.buffers[name], rng)
        for slot in range(len(self.noisy_steps)):
            self._upload_random(self.buffers["noise"].at(slot), rng)

    def _upload_random(self, buffer: Buffer, rng: np.random.Generator) -> None:
        buffer.upload(rng.standard_normal(buffer.shape).astype(buffer.dtype), self.stream)

    def _allocate(self, engines: dict[Component, Engine]) -> None:
        """A buffer for every tensor that is not the loop's own, and then the loop's."""
        specs = {s.name: s for e in engines.values() for s in (*e.inputs, *e.outputs)}
        plain = set(specs) - LOOP_INPUTS - GUIDANCE_INPUTS - LOOP_OUTPUTS - {LATENT}
        for name in sorted(plain):
            self.buffers[name] = self._buffer(specs[name], shared=name in (IMAGE, OUTPUT))
        if self.schedule.steps:
            self._allocate_loop(specs)

    def _allocate_loop(self, specs: dict[str, TensorSpec]) -> None:
        """The loop's ping-pong pairs and the per-step tables."""
        buffers, steps = self.buffers, len(self.schedule.steps)
        for name, pair in (("x", ("x0", "x1")), ("x0_previous", ("clean0", "clean1"))):
            for key in pair:
                buffers[key] = self._buffer(specs[name])
        for name in ("coefficients", "time_embedding"):
            buffers[name] = self._buffer(specs[name], leading=(steps,))
        for name in GUIDANCE_INPUTS & set(specs):
            buffers[name] = self._buffer(specs[name])
        buffers["noise"] = self._buffer(specs["noise"], leading=(max(1, len(self.noisy_steps)),), shared=True)

    def _buffer(self, spec: TensorSpec, *, leading: tuple[int, ...] = (), shared: bool = False) -> Buffer:
        shape = leading + spec.concrete(self._evaluations * self.batch)
        return self._held.enter_context(self.backend.allocate(shape, spec.dtype, shared=shared))

    def _fill_constants(self, guide: Guide | None) -> None:
        """The scalars and the embedding of every step, the same for each sample of the batch."""
        rows = self._evaluations * self.batch
        for name, table in (
            ("coefficients", coefficients(self.schedule)),
            ("time_embedding", self._timesteps),
        ):
            repeated = np.repeat(np.asarray(table, np.float32)[:, None], rows, axis=1)
            self.buffers[name].upload(repeated, self.stream)
        if guide:
            self.buffers["partner"].upload(guide.partners(self.batch), self.stream)
            self.tell(guide)

    def _bind_step(self, engine: Engine, index: int) -> Binding:
        now, after = index % 2, (index + 1) % 2
        noise = self.noisy_steps.index(index) if index in self.noisy_steps else 0
        return engine.bind(
            self._named(
                engine,
                self.buffers
                | {
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

    def _bind(
        self, engines: dict[Component, Engine], component: Component, available: dict[str, Buffer]
    ) -> list[Binding]:
        """A graph that runs once, where there is one."""
        if component not in engines:
            return []
        return [engines[component].bind(self._named(engines[component], available))]

    def _named(self, engine: Engine, available: dict[str, Buffer]) -> dict[str, Buffer]:
        """The buffers of an engine's tensors by name."""
        return {s.name: available[s.name] for s in (*engine.inputs, *engine.outputs)}

    def close(self) -> None:
        """Waits for what is under way, which uses what is then freed: the record, buffers, marks, stream.

        Raises:
            BackendError: What was under way failed, or something could not be freed; all the rest was.
        """
        if self._is_open:
            self._is_open = False
            with self._held:
                self.stream.synchronize()
