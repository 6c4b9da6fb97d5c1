"""The images that the judge is shown: true, bicubic, and the model's at every precision and seed.

What a precision made with a seed is kept in a folder, so that a run that was stopped goes on from there and
another judge is soon done.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

import edge_sr
from benchmarks import rows
from benchmarks.ladder import rounding
from benchmarks.ladder.opening import open_rung
from benchmarks.ladder.rungs import FP16, FP16_NOTE, FP32, INT8, Rung, deployed_preset, int8_form
from benchmarks.pairs import Pairs
from benchmarks.records import Environment
from benchmarks.rows import BICUBIC, HR, Runner, Track
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.image import resize_bicubic, write_atomic
from edge_sr.manifest import Preset
from edge_sr.spec import Precision

__all__ = ["Making", "Output", "images_of_seed", "make_output", "plain_outputs", "plan_rungs"]

Gray = npt.NDArray[np.uint8]
KEY_DIGITS = 16


@dataclass(frozen=True)
class Output:
    """A row of the report, and its images.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        images: (S, N, H, W), S being 1 where nothing is drawn.
        runs_on: What made them, where a backend did.
    """

    key: str
    label: str
    note: str
    images: Gray
    runs_on: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Making:
    """How the model's images are made.

    Attributes:
        kept: The folder of finished images; made where it is missing.
        seeds: Of the noise.
        batch, threads: Images at once; CPU threads, 0 for all cores.
        made_by: What else the images depend on.
    """

    kept: Path
    seeds: range
    batch: int
    threads: int
    made_by: Environment


def plain_outputs(pairs: Pairs, scale: int) -> list[Output]:
    """The true images, and bicubic."""
    bicubic = np.stack([resize_bicubic(image, scale) for image in pairs.lr_pixels])
    return [
        Output(HR, "true HR", "what the labels were given for", pairs.hr_pixels[None]),
        Output(BICUBIC, "bicubic", "OpenCV INTER_CUBIC from the LR image", bicubic[None]),
    ]


def plan_rungs(bundle: Bundle) -> tuple[Rung, ...]:
    """FP32, FP16 and INT8, as far as the bundle has them.

    Raises:
        ConfigError: It has no FP32 graphs.
    """
    named = "FP32, told nothing" if bundle.manifest.classes else "FP32"
    rungs = (
        Rung(FP32, named, "the bundle's default preset", bundle, Precision.FP32),
        Rung(FP16, "FP16 (emulated)", FP16_NOTE, bundle, Precision.FP16),
        Rung(INT8, "INT8", int8_form(), bundle, Precision.INT8),
    )
    there = bundle.precisions()
    if Precision.FP32 not in there:
        raise ConfigError(f"the bundle {bundle.manifest.name} has no FP32 graphs to hold the others against")
    return tuple(rung for rung in rungs if rung.precision in there)


def make_output(rung: Rung, pairs: Pairs, making: Making, *, track: Track) -> Output:
    """A rung's images, from before or made now.

    Args:
        rung: The row.
        pairs: The LR images.
        making: How.
        track: Shows progress.

    Raises:
        EdgeSRError: A graph cannot be run as wanted, or kept images cannot be read or written.
    """
    with open_rung(rung, threads=making.threads) as upscaler:
        runner = Runner(upscaler)
        preset = deployed_preset(rung.bundle)
        made = [
            images_of_seed(rung, runner, pairs, making, preset=preset, seed=seed, track=track)
            for seed in making.seeds
        ]
        return Output(rung.key, rung.label, rung.note, np.stack(made), upscaler.backend.describe())


def images_of_seed(
    rung: Rung, runner: Runner, pairs: Pairs, making: Making, *, preset: Preset, seed: int, track: Track
) -> Gray:
    """(N, H, W), kept once it is whole; from before where it is there.

    Raises:
        EdgeSRError: A graph failed, or kept images cannot be read or written.
    """
    path, batch = making.kept / f"{_key(rung, pairs, making, preset, seed)}.npy", making.batch
    if path.exists():
        return _read(path, pairs.hr_pixels.shape)
    parts = range(0, len(pairs.names), batch)
    images = np.concatenate(
        [
            runner.sample(pairs.lr[at : at + batch], preset, seed)
            for at in track(parts, f"{rung.label}, seed {seed}")
        ]
    )
    packed = io.BytesIO()
    np.save(packed, images)
    write_atomic(path, packed.getvalue())
    return images


def _key(rung: Rung, pairs: Pairs, making: Making, preset: Preset, seed: int) -> str:
    """Of all that the images depend on."""
    made_by = making.made_by.model_dump(mode="json", include={"cpu", "threads", "versions"})
    told = {
        "bundle": rung.bundle.digest,
        "precision": str(rung.precision),
        "preset": preset.model_dump(mode="json"),
        "lr": hashlib.sha256(pairs.lr_pixels.tobytes()).hexdigest(),
        "seed": seed,
        "batch": making.batch,
        "made by": made_by,
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def _code() -> str:
    """SHA-256 over the sources that make images, committed or not."""
    sources = [
        *sorted(Path(edge_sr.__file__).parent.rglob("*.py")),
        Path(rounding.__file__),
        Path(rows.__file__),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _read(path: Path, shape: tuple[int, ...]) -> Gray:
    """Images that an earlier run has kept.

    Raises:
        ConfigError: They are damaged.
    """
    try:
        images: Gray = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="remove it, and run again") from error
    if images.shape != shape or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}"
        raise ConfigError(f"{path}: wanted uint8 {shape}, got {found}", hint="remove it, and run again")
    return images
