"""The buffers of a batch whose samples come and go: each row holds one sample, wherever it is in its loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Backend, Binding, Buffer, CanCapture, Engine, Resource, Stream
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

__all__ = ["BatchRows"]

Float = npt.NDArray[np.float32]

PAIRS = {"x": ("x", "x_next"), "x0": ("x0_previous", "x0")}
"""The two latents that ping-pong, by what each is called where it is read and where it is written."""


class BatchRows(Resource):
    """Rows for the samples of a batch, and the graphs of a bundle over the first rows, or some of them.

    A step reads one of each pair of latents and writes the other, for every row that is taken; which one is
    which changes with every step for all rows at once, so there are two bound steps for each batch size, and
    where the backend can capture, each is recorded and replayed. All of them share one set of buffers.

    Of a model that was told classes there are twice as many rows: behind those that are taken, a step puts
    the second evaluation of each sample that is guided (see `edge_sr.pipeline.guidance`). What it leaves
    there is of no use after it.

    Attributes:
        coefficients: (R, 7) float32, of the step that each row is about to make; the caller's to write.
        embedding: (R, D) float32, likewise.
        weights: (R, 2) float32, likewise, of each row's own prediction and its partner's.
        notes: What the user should know of how steps are run.
    """

    def __init__(self, backend: Backend, engines: dict[Component, Engine], *, capacity: int) -> None:
        """Allocates every buffer, and binds and records every step.

        Args:
            backend: Where the engines run.
            engines: One for every graph that the bundle has.
            capacity: B, rows.

        Raises:
            BackendError: A tensor differs between two graphs, or an engine was built for smaller batches.
        """
        self.capacity, self.notes = capacity, list[str]()
        self._backend, self._engines, self._has_loop = backend, engines, Component.STEP in engines
        self._is_guided = self._has_loop and self._step_reads >= GUIDANCE_INPUTS
        self._most = 2 * capacity if self._is_guided else capacity
        self._buffers: dict[str, Buffer] = {}
        self._bound: dict[tuple[Component, int, int, int], Binding] = {}
        self._now, self._is_open, self._held = 0, True, ExitStack()
        self._stream = self._held.enter_context(backend.stream())
        try:
            self._marks = [self._held.enter_context(self._stream.mark()) for _ in range(2)]
            self._allocate()
            self._launches = {
                (count, now): self._prepared(count, now)
                for count, now in itertools.product(range(1, self._most + 1), range(2))
                if self._has_loop
            }
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    @property
    def _step_reads(self) -> set[str]:
        return {spec.name for spec in self._engines[Component.STEP].inputs} if self._has_loop else set()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(L, h, w); (0, 0, 0) where there is no loop."""
        return self._buffers["x.0"].shape[1:] if self._has_loop else (0, 0, 0)

    def join(self, start: int, images: Sequence[Float], first_noise: Sequence[Float]) -> float:
        """Fills rows from `start` on, and encodes them where there is an encoder.

        Args:
            start: The first row.
            images: (C, t, t) float32 each, in [-1, 1].
            first_noise: (L, h, w) float32 each, scaled: what the loop starts from.

        Returns:
            Seconds of the encoder.

        Raises:
            BackendError: The device failed.
        """
        stop, latents = start + len(images), np.stack(first_noise)
        self._rows(IMAGE, start, stop).upload(np.stack(images), self._stream)
        if self._has_loop:
            self._rows(f"x.{self._now}", start, stop).upload(latents, self._stream)
            # Multiplied by zero, but zero times what a sample before overflowed to is not zero.
            self._rows(f"x0.{self._now}", start, stop).upload(np.zeros_like(latents), self._stream)
        return self._once(Component.ENCODER, start, stop)

    def put_noise(self, row: int, noise: Float) -> None:
        """The noise that a row's next step adds: (L, h, w) float32. Others' is multiplied by zero."""
        self._rows("noise", row, row + 1).upload(noise[None], self._stream)

    def step(self, count: int, guided: Sequence[int] = ()) -> float:
        """One step of rows 0 to count - 1, each by its own coefficients; gives its seconds.

        Nothing where there is no loop.

        Args:
            count: Rows that are taken.
            guided: Those with a second evaluation, for which rows count, count + 1, ... have what the caller
                wrote there. Of a model with classes alone.

        Raises:
            BackendError: The device failed.
        """
        if not self._has_loop:
            return 0.0
        rows = count + len(guided)
        tables: dict[str, npt.NDArray[Any]] = {
            "coefficients": self.coefficients,
            "time_embedding": self.embedding,
        }
        if self._is_guided:
            tables |= {"guidance": self.weights, "partner": self._partners(count, guided)}
        for name, table in tables.items():
            self._rows(name, 0, rows).upload(table[:rows], self._stream)
        for second, row in enumerate(guided, start=count):
            for name in (*self._read, f"x.{self._now}"):
                self._rows(name, second, second + 1).copy(self._rows(name, row, row + 1), self._stream)
        seconds = self._timed(self._launches[rows, self._now])
        self._now = 1 - self._now
        return seconds

    def _partners(self, count: int, guided: Sequence[int]) -> npt.NDArray[np.int32]:
        """The partner's row of each row: its own, where there is no second evaluation."""
        rows = np.arange(self._most, dtype=np.int32)
        for second, row in enumerate(guided, start=count):
            rows[[row, second]] = second, row
        return rows

    def decode(self, start: int, out: Float) -> float:
        """Decodes rows from `start` on into out, (n, C, T, T) float32; gives the decoder's seconds.

        Without a decoder, what the loop ended at is taken.

        Raises:
            BackendError: The device failed.
        """
        stop = start + len(out)
        seconds = self._once(Component.DECODER, start, stop)
        made = OUTPUT if Component.DECODER in self._engines else f"x.{self._now}"
        self._rows(made, start, stop).download(out, self._stream)
        self._stream.synchronize()
        return seconds

    def move(self, row: int, to: int) -> None:
        """Copies all that a sample has after a step to another row."""
        for name in (*self._kept, *(f"{pair}.{self._now}" for pair in PAIRS if self._has_loop)):
            self._rows(name, to, to + 1).copy(self._rows(name, row, row + 1), self._stream)

    def _allocate(self) -> None:
        specs = {s.name: s for e in self._engines.values() for s in (*e.inputs, *e.outputs)}
        after = (e for c, e in self._engines.items() if c is not Component.ENCODER)
        own = LOOP_INPUTS | GUIDANCE_INPUTS | {LATENT}
        self._kept = sorted({s.name for e in after for s in e.inputs} - own)
        self._read = sorted(self._step_reads - own)
        for name in sorted(set(specs) - LOOP_OUTPUTS - {LATENT, "x", "x0_previous"}):
            is_shared = name in LOOP_INPUTS | GUIDANCE_INPUTS or name in (IMAGE, OUTPUT)
            self._buffers[name] = self._buffer(specs[name], shared=is_shared)
        for pair, (read, _) in PAIRS.items() if self._has_loop else ():
            for turn in range(2):
                self._buffers[f"{pair}.{turn}"] = self._buffer(specs[read])
        tables = [specs.get(name) for name in ("coefficients", "time_embedding", "guidance")]
        self.coefficients, self.embedding, self.weights = (
            np.zeros(spec.concrete(self._most) if spec else (self._most, 0), np.float32) for spec in tables
        )

    def _buffer(self, spec: TensorSpec, *, shared: bool = False) -> Buffer:
        shape = spec.concrete(self._most)
        return self._held.enter_context(self._backend.allocate(shape, spec.dtype, shared=shared))

    def _rows(self, name: str, start: int, stop: int) -> Buffer:
        return self._buffers[name].rows(start, stop)

    def _binding(self, component: Component, start: int, stop: int) -> Binding:
        """A graph over some rows, bound when it is first asked for."""
        key = (component, start, stop, self._now)
        if key not in self._bound:
            engine, now = self._engines[component], self._now
            names = {read: f"{pair}.{now}" for pair, (read, _) in PAIRS.items()}
            names |= {written: f"{pair}.{1 - now}" for pair, (_, written) in PAIRS.items()}
            names[LATENT] = f"x.{now}"
            tensors = [s.name for s in (*engine.inputs, *engine.outputs)]
            buffers = {name: self._rows(names.get(name, name), start, stop) for name in tensors}
            self._bound[key] = engine.bind(buffers)
        return self._bound[key]

    def _prepared(self, count: int, now: int) -> Callable[[Stream], None]:
        """The step of so many rows in one of the two directions, recorded where the backend can."""
        self._now = now
        binding = self._binding(Component.STEP, 0, count)
        if not isinstance(self._backend, CanCapture):
            return binding.enqueue
        for component in set(self._engines) - {Component.STEP}:  # a GPU makes room at the first run
            self._binding(component, 0, count).enqueue(self._stream)
        written = [self._rows(f"{pair}.{1 - now}", 0, count) for pair in PAIRS]
        replay = self._held.enter_context(
            self._backend.capture(
                binding.enqueue, prepare=self._upload_noise, outputs=written, stream=self._stream
            )
        )
        if replay.note and replay.note not in self.notes:
            self.notes.append(replay.note)
        return replay.launch

    def _upload_noise(self, case: int) -> None:
        """Seeded noise in everything that a step reads: the inputs of a test case."""
        rng = np.random.default_rng(case)
        read = self._step_reads - {"x", "x0_previous", "partner"}
        if self._is_guided:
            self._buffers["partner"].upload(self._partners(0, ()), self._stream)
        for name in sorted(read) + [f"{pair}.{self._now}" for pair in PAIRS]:
            buffer = self._buffers[name]
            buffer.upload(rng.standard_normal(buffer.shape).astype(buffer.dtype), self._stream)

    def _once(self, component: Component, start: int, stop: int) -> float:
        """A run of a graph over some rows, where there is one; gives its seconds."""
        if component not in self._engines:
            return 0.0
        return self._timed(self._binding(component, start, stop).enqueue)

    def _timed(self, work: Callable[[Stream], None]) -> float:
        """Seconds of one call, which is waited for: whoever joins may do so before the next."""
        began, ended = self._marks
        began.set()
        work(self._stream)
        ended.set()
        self._stream.synchronize()
        return ended.seconds_since(began)

    def close(self) -> None:
        """Waits for what is under way, and frees the records, the buffers and the stream.

        Raises:
            BackendError: What was under way failed, or something could not be freed; all the rest was.
        """
        if self._is_open:
            self._is_open = False
            self._bound.clear()
            with self._held:
                self._stream.synchronize()
