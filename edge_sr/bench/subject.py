"""What is timed: an image from file to file, and a batch of tiles through the graphs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Resource, open_backend
from edge_sr.bench.records import Case
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError
from edge_sr.image import encode_png, from_unit, read_image, write_atomic
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.result import Settings, upscale_image
from edge_sr.spec import Precision

__all__ = ["BatchRun", "BatchSample", "ImageRun", "ImageSample", "Wish", "bench_image", "open_wish"]

Pixels = npt.NDArray[Any]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Wish:
    """A case as it is asked for.

    Attributes:
        precision: Of the graphs.
        preset: How the loop runs; None where there is none.
        size: Side of the square LR image, in pixels.
        threads: CPU threads; 0 for all cores.
    """

    precision: Precision
    preset: Preset | None
    size: int
    threads: int = 0


def open_wish(bundle: Bundle, backend: str, wish: Wish, *, batch: int, engine_dir: Path | None) -> Upscaler:
    """Opens the backend and loads the graphs of a case.

    Raises:
        EdgeSRError: It cannot be run.
    """
    running = open_backend(backend, threads=wish.threads, engine_dir=engine_dir)
    return Upscaler(bundle, running, precision=wish.precision, batch=batch)


def bench_image(bundle: Bundle, size: int) -> Pixels:
    """The bundle's golden image, mirrored at its edges until it is large enough, or cut.

    Returns:
        (size, size) or (size, size, 3) uint8.

    Raises:
        BundleError: The bundle has none.
    """
    golden = bundle.golden()
    if "image" not in golden:
        raise BundleError("the golden file lacks image", hint="export the bundle again")
    image: Float = golden["image"][0]
    side = image.shape[-1]
    places = np.arange(size) % (2 * side)
    mirrored = np.minimum(places, 2 * side - 1 - places)
    pixels = from_unit(image[:, mirrored][:, :, mirrored], 8)
    return np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


class ImageSample(NamedTuple):
    """Seconds of one image by stage; see `edge_sr.bench.records.Stages`."""

    read: float
    encode: float
    loop: float
    decode: float
    latency: float
    write: float


class ImageRun(Resource):
    """An image from file to file, as `edge-sr upscale` does it."""

    def __init__(self, upscaler: Upscaler, wish: Wish, *, seed: int, folder: Path) -> None:
        """Writes the image that is read.

        Args:
            upscaler: Kept open by the caller.
            wish: What is run on it.
            seed: Of the noise.
            folder: Where the files go; emptied by nobody.

        Raises:
            EdgeSRError: The preset is not offered, or the file could not be written.
        """
        self.upscaler, self.wish = upscaler, wish
        self._settings = Settings(wish.preset, seed)
        self._source, self._target = folder / "in.png", folder / "out.png"
        write_atomic(self._source, encode_png(bench_image(upscaler.bundle, wish.size), text={}))
        with ExitStack() as held:
            self._engine = upscaler.tile_engine(wish.preset, 1)
            self._before, self._after = (held.enter_context(self._engine.stream.mark()) for _ in range(2))
            self._held = held.pop_all()

    @property
    def case(self) -> Case:
        """What is measured; the threads are those that the backend says it has."""
        wish, facts = self.wish, self.upscaler.backend.describe()
        sizes = {"size": wish.size, "batch": self.upscaler.batch, "threads": int(facts["threads"])}
        return Case(precision=wish.precision, preset=wish.preset, **sizes)

    def __call__(self) -> ImageSample:
        """Runs once.

        Raises:
            EdgeSRError: It failed.
        """
        started = time.perf_counter()
        image = read_image(self._source)
        read = time.perf_counter()
        result = upscale_image(self.upscaler, image, self._settings)
        made = time.perf_counter()
        write_atomic(self._target, encode_png(result.pixels, text=result.provenance))
        written = time.perf_counter()
        encode, loop, decode = (result.seconds[name] for name in ("encode", "loop", "decode"))
        return ImageSample(read - started, encode, loop, decode, made - read, written - made)

    def latency(self) -> float:
        """Runs once; seconds from pixels to pixels."""
        return self().latency

    def step(self) -> float:
        """Seconds of one step of the loop alone on the device, on whatever the buffers hold; 0 without one.

        Raises:
            BackendError: It failed.
        """
        if not self._engine.schedule.steps:
            return 0.0
        self._before.set()
        self._engine.run_step(0)
        self._after.set()
        self._engine.stream.synchronize()
        return self._after.seconds_since(self._before)

    def close(self) -> None:
        """Frees the marks."""
        self._held.close()


class BatchSample(NamedTuple):
    """Seconds of one batch; see `edge_sr.bench.records.Batch`."""

    latency: float
    enqueue: float
    compute: float


class BatchRun:
    """A batch of tiles through the graphs, over buffers that are made once; the noise is drawn before."""

    def __init__(self, upscaler: Upscaler, preset: Preset | None, size: int, *, seed: int) -> None:
        """Prepares the loop.

        Args:
            upscaler: Kept open by the caller.
            preset: How the loop runs; None where there is none.
            size: Tiles at once.
            seed: Of images and noise, which are noise both.

        Raises:
            EdgeSRError: The preset is not offered, or the backend refuses so large a batch.
        """
        rng = np.random.default_rng(seed)
        self._engine = engine = upscaler.tile_engine(preset, size)
        manifest = upscaler.bundle.manifest
        shape = (size, manifest.channels, manifest.tile, manifest.tile)
        self._image = rng.uniform(-1, 1, shape).astype(np.float32)
        scale = engine.schedule.initial_sigma * (preset.noise_scale if preset else 1.0)
        self._first = (rng.standard_normal(engine.latent_shape) * scale).astype(np.float32)
        steps = (len(engine.noisy_steps), *engine.latent_shape)
        self._steps = rng.standard_normal(steps).astype(np.float32)
        self._out = np.empty(engine.output.shape, np.float32)

    def __call__(self) -> BatchSample:
        """Runs once.

        Raises:
            BackendError: A graph failed.
        """
        started = time.perf_counter()
        self._engine.submit(self._image, self._first, self._steps, self._out)
        enqueued = time.perf_counter()
        spent = self._engine.collect()
        done = time.perf_counter()
        return BatchSample(done - started, enqueued - started, spent.encode + spent.loop + spent.decode)
