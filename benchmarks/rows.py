"""What the scoreboard compares, and how each row's images are made.

Every image of a row is made with the same seed, as `edge-sr upscale --seed` does it: the spread over seeds is
then what a user sees who names another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.pairs import Pairs, to_gray
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, UsageError
from edge_sr.image import resize_bicubic
from edge_sr.manifest import Preset
from edge_sr.pipeline import TileEngine, Upscaler
from edge_sr.spec import IMAGE, LATENT, OUTPUT, Component
from edge_sr.tiling import position_noise_into

__all__ = [
    "BICUBIC",
    "CEILING",
    "CONTROLS",
    "HR",
    "MEAN",
    "MODEL",
    "TRAINING_MEAN",
    "ZERO",
    "Autoencoder",
    "Extras",
    "Row",
    "Runner",
    "Track",
    "describe",
    "draw_noise",
    "make_rows",
    "plan_rows",
    "require_parts",
]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]
Track = Callable[[Sequence[Any], str], Iterable[Any]]
"""Wraps what is gone through, to show progress."""

HR, BICUBIC, MEAN, MODEL = "hr", "bicubic", "mean", "model"
CEILING, TRUE_LATENT = "ceiling", "true-latent"
TRAINING_MEAN, ZERO, ONE_STEP = "training-mean-latent", "zero-latent", "one-step"
CONTROLS = (TRAINING_MEAN, ZERO, ONE_STEP)
"""What the model is shown not to be: rows in which the diffusion does not do its work."""


@dataclass(frozen=True)
class Row:
    """A line of the scoreboard.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        preset: How the loop runs, where it does; such a row is made once a seed.
    """

    key: str
    label: str
    note: str
    preset: Preset | None = None


class Autoencoder(Protocol):
    """The autoencoder of a training run. A bundle has no encoder of HR images: devices need none."""

    def latent(self, lr: Float, hr: Float) -> Float:
        """lr: (N, C, t, t), hr: (N, C, T, T) -> the latent as the decoder graph takes it, (N, L, h, w)."""

    def reconstruct(self, lr: Float, hr: Float) -> Float:
        """The same -> the run's own decode of that latent: (N, C, T, T)."""


@dataclass(frozen=True)
class Extras:
    """What some rows need and not every bundle comes with; None leaves the row out.

    Attributes:
        autoencoder: For its ceiling, and for what the bundle's decoder makes of the true latent.
        zero: (L, 1, 1), what a latent of zeros is once it is standardised.
    """

    autoencoder: Autoencoder | None = None
    zero: Float | None = None


def plan_rows(bundle: Bundle, presets: Sequence[str], extras: Extras) -> list[Row]:
    """The rows for a bundle, in the table's order.

    Args:
        bundle: What is judged.
        presets: Names of presets to show beside the default.
        extras: What there is beside the bundle.

    Raises:
        UsageError: The bundle has no preset of that name.
        BundleError: It has no loop, and so no presets.
    """
    bicubic = Row(BICUBIC, "bicubic", "OpenCV INTER_CUBIC from the LR image")
    if bundle.manifest.diffusion is None and not presets:
        return [bicubic, Row(MODEL, "ours, one pass", "a plain network: no diffusion, and no seed")]
    diffusion = bundle.diffusion
    if unknown := [name for name in presets if name not in diffusion.presets]:
        raise UsageError(
            f"bundle {bundle.manifest.name} has no preset {', '.join(unknown)}",
            hint=f"it has {', '.join(diffusion.presets)}",
        )
    default = diffusion.presets[diffusion.default]
    others = [name for name in dict.fromkeys(presets) if name != diffusion.default]
    once = default.model_copy(update={"steps": 1})
    rows = [
        bicubic,
        Row(MEAN, "mean image (regression)", "the encoder's output alone: no diffusion"),
        Row(CEILING, "autoencoder ceiling", "the HR image, encoded and decoded by the run that trained both"),
        Row(
            TRUE_LATENT,
            "the bundle's decoder, true latent",
            "what a perfect loop would give; a decoder trained for the loop's latents may lose here",
        ),
        Row(MODEL, f"ours, {diffusion.default}", describe(default), default),
        *[_preset_row(name, diffusion.presets[name]) for name in others],
        Row(TRAINING_MEAN, "control: training-mean latent", "the decoder on the mean of all latents"),
        Row(ZERO, "control: zero latent", "the decoder on a latent of zeros"),
        Row(ONE_STEP, "control: one step", describe(once), once),
    ]
    needs = {CEILING: extras.autoencoder, TRUE_LATENT: extras.autoencoder, ZERO: extras.zero}
    left_out = {key for key, need in needs.items() if need is None}
    left_out |= set() if _has_mean(bundle) else {MEAN, TRAINING_MEAN, *needs}
    return [row for row in rows if row.key not in left_out]


def _has_mean(bundle: Bundle) -> bool:
    """Whether the encoder makes an image, to which the decoder adds: what the controls are about."""
    return {Component.ENCODER, Component.DECODER} <= set(bundle.manifest.components)


def require_parts(bundle: Bundle, what: str) -> None:
    """Refuses what a benchmark cannot take apart.

    Raises:
        ConfigError: The model is for colour, or lacks an encoder, a step or a decoder.
    """
    manifest = bundle.manifest
    if manifest.channels != 1 or len(manifest.components) < len(Component):
        raise ConfigError(
            f"{what} takes models for gray images that have an encoder, a step and a decoder; "
            f"{manifest.name} has {manifest.channels} channels, {', '.join(manifest.components)}",
            hint="quality and ladder take every model with a loop",
        )


def _preset_row(name: str, preset: Preset) -> Row:
    return Row(f"preset-{name}", f"ours, {name}", describe(preset), preset)


def describe(preset: Preset) -> str:
    """A preset in a few words."""
    told = [f"{preset.sampler}, {preset.steps} step{'s' if preset.steps > 1 else ''}"]
    told += [f"noise x {preset.noise_scale:g}"] * (preset.noise_scale != 1)
    told += [f"from {preset.start:g} of the chain"] * (preset.start != 1)
    told += [f"eta {preset.eta:g}"] * (preset.eta != 0)
    told += [f"class {preset.class_name}"] * (preset.class_name is not None)
    told += [f"guidance {preset.guidance or 0:g}"] * (preset.guidance is not None)
    told += [f"mean of {preset.samples} samples"] * (preset.samples > 1)
    return ", ".join(told)


class Runner:
    """The graphs of a bundle, run apart and together on batches of whole tiles.

    Args:
        upscaler: The opened bundle; closed by whoever opened it.
    """

    def __init__(self, upscaler: Upscaler) -> None:
        self.upscaler = upscaler

    def encode(self, lr: Float) -> dict[str, Float]:
        """lr: (N, C, t, t) in [-1, 1] -> every output of the encoder graph, by name."""
        return self.run(Component.ENCODER, {IMAGE: lr})

    def decode(self, latent: Float, encoded: Mapping[str, Float]) -> Gray:
        """latent: (N, L, h, w), standardised -> images (N, H, W)."""
        return to_gray(self.run(Component.DECODER, {**encoded, LATENT: latent})[OUTPUT])

    def sample(self, lr: Float, preset: Preset, seed: int) -> Gray:
        """Images (N, H, W) of LR tiles (N, C, t, t), each as `Upscaler.upscale` makes it with this seed."""
        samples = [self.draw(lr, preset, seed=seed, index=index) for index in range(preset.samples)]
        return to_gray(np.sum(samples, axis=0) / np.float32(preset.samples))

    def draw(self, lr: Float, preset: Preset, *, seed: int, index: int = 0) -> Float:
        """One sample of each LR tile (N, C, t, t), before it is rounded: (N, C, T, T) in [-1, 1]."""
        engine = self.upscaler.tile_engine(preset, len(lr))
        output = np.empty(engine.output.shape, np.float32)
        engine.run(lr, *draw_noise(engine, preset, seed=seed, sample=index), output)
        return output

    def latent_shape(self, count: int) -> tuple[int, ...]:
        """(count, L, h, w)."""
        specs = {s.name: s for s in self.upscaler.engines[Component.DECODER].inputs}
        return specs[LATENT].concrete(count)

    def run(self, component: Component, inputs: Mapping[str, Float]) -> dict[str, Float]:
        """One graph on a batch: what it reads by name -> every output by name."""
        engine, backend = self.upscaler.engines[component], self.upscaler.backend
        count = len(next(iter(inputs.values())))
        specs = (*engine.inputs, *engine.outputs)
        with backend.stream() as stream:
            buffers = {s.name: backend.allocate(s.concrete(count), s.dtype) for s in specs}
            for spec in engine.inputs:
                buffers[spec.name].upload(np.ascontiguousarray(inputs[spec.name], spec.dtype), stream)
            engine.bind(buffers).enqueue(stream)
            results = {s.name: np.empty(buffers[s.name].shape, s.dtype) for s in engine.outputs}
            for name, result in results.items():
                buffers[name].download(result, stream)
            stream.synchronize()
            for buffer in buffers.values():
                buffer.close()
        return results


def draw_noise(engine: TileEngine, preset: Preset, *, seed: int, sample: int = 0) -> tuple[Float, Float]:
    """What `Upscaler.upscale` draws for an image of one tile, repeated for each image of a batch.

    Returns:
        The first noise, scaled: (N, L, h, w); and that of the S steps that add some: (S, N, L, h, w).
    """
    count, *shape = engine.latent_shape
    first = np.empty(shape, np.float32)
    steps = np.empty((len(engine.noisy_steps), *shape), np.float32)
    position_noise_into(first, seed, step=0, sample=sample, y0=0, x0=0)
    for slot, step in enumerate(engine.noisy_steps):
        position_noise_into(steps[slot], seed, step=step + 1, sample=sample, y0=0, x0=0)
    first *= np.float32(engine.schedule.initial_sigma * preset.noise_scale)
    return np.repeat(first[None], count, axis=0), np.repeat(steps[:, None], count, axis=1)


def make_rows(
    runner: Runner,
    rows: Sequence[Row],
    pairs: Pairs,
    extras: Extras,
    *,
    seeds: Sequence[int],
    batch: int,
    track: Track,
) -> dict[str, Gray]:
    """Makes every row's images.

    Args:
        runner: The bundle.
        rows: What is wanted.
        pairs: The images.
        extras: What there is beside the bundle.
        seeds: Of the rows whose loop runs.
        batch: Images at once.
        track: Shows progress.

    Returns:
        Row key -> (S, N, H, W), S being 1 where no loop runs.
    """
    count = len(pairs.names)
    batches = [slice(start, start + batch) for start in range(0, count, batch)]
    loops = [row for row in rows if row.preset is not None]
    counts = {row.key: len(seeds) if row in loops else 1 for row in rows}
    made = {key: np.empty((n, *pairs.hr_pixels.shape), np.uint8) for key, n in counts.items()}
    for part in track(batches, "without a loop"):
        for key, images in _plain_images(runner, pairs.lr[part], pairs.hr[part], extras).items():
            if key in made:
                made[key][0, part] = images
    for row, slot, part in track(list(itertools.product(loops, range(len(seeds)), batches)), "loops"):
        made[row.key][slot, part] = runner.sample(pairs.lr[part], row.preset, seeds[slot])
    return made


def _plain_images(runner: Runner, lr: Float, hr: Float, extras: Extras) -> dict[str, Gray]:
    """The rows of a batch that need no loop."""
    manifest = runner.upscaler.bundle.manifest
    bicubic = np.stack([resize_bicubic(image, manifest.scale) for image in to_gray(lr)])
    if manifest.diffusion is None:
        return {BICUBIC: bicubic, MODEL: to_gray(runner.run(Component.DECODER, {IMAGE: lr})[OUTPUT])}
    if not _has_mean(runner.upscaler.bundle):
        return {BICUBIC: bicubic}
    encoded = runner.encode(lr)
    zeros = np.zeros(runner.latent_shape(len(lr)), np.float32)
    made = {
        BICUBIC: bicubic,
        MEAN: to_gray(encoded["mean"]),
        TRAINING_MEAN: runner.decode(zeros, encoded),
    }
    if extras.zero is not None:
        made[ZERO] = runner.decode(zeros + extras.zero, encoded)
    if extras.autoencoder is not None:
        made[CEILING] = to_gray(extras.autoencoder.reconstruct(lr, hr))
        made[TRUE_LATENT] = runner.decode(extras.autoencoder.latent(lr, hr), encoded)
    return made
