"""From image files to enlarged image files: what the command line and the service do with the engine.

Host work overlaps the engine's: while one image is enlarged the next is decoded and the one before written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr import __version__
from edge_sr.errors import EdgeSRError, OutputError, UsageError
from edge_sr.image import (
    Limits,
    LoadedImage,
    downsample,
    encode_png,
    from_unit,
    merge_luminance,
    read_image,
    refuse_overwrite,
    split_luminance,
    to_unit,
    write_atomic,
)
from edge_sr.manifest import Preset
from edge_sr.metrics import lr_consistency
from edge_sr.pipeline import StageSeconds, Upscaler

__all__ = ["Failure", "Result", "Settings", "plan_outputs", "upscale_files", "upscale_image"]

DISCLAIMER = "AI-generated detail. Research use only. Not for diagnosis."
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """How every image of a job is enlarged.

    Attributes:
        preset: How the loop runs.
        seed: Unsigned 64-bit; the same seed gives the same bytes.
        limits: What an input may be.
    """

    preset: Preset
    seed: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Result:
    """An enlarged image and what is known about it.

    Attributes:
        name: The input, as it was given.
        pixels: (H, W) or (H, W, 3), the input's bit depth.
        std: (H, W) float32 in [-1, 1] units, the spread over samples; None for one sample.
        consistency_db: PSNR in dB of the output, reduced by the declared operator, against the input.
        tiles: How many tiles it took.
        seconds: Wall time in seconds by stage.
        notices: What was changed on the way, for the user to see.
        provenance: What made it, as text for the file.
    """

    name: str
    pixels: Pixels
    std: npt.NDArray[np.float32] | None
    consistency_db: float
    tiles: int
    seconds: dict[str, float]
    notices: tuple[str, ...]
    provenance: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """An input that gave no output; the rest of the batch goes on."""

    name: str
    error: EdgeSRError


def upscale_image(upscaler: Upscaler, image: LoadedImage, settings: Settings) -> Result:
    """Enlarges one decoded image.

    Raises:
        EdgeSRError: The preset is not offered, or the backend failed.
    """
    manifest = upscaler.bundle.manifest
    luminance, chroma = (image.pixels, None)
    notices = image.notices
    if image.is_colour and manifest.channels == 1:
        luminance, chroma = split_luminance(image.pixels)
        notices = (*notices, "colour: luminance through the model, chroma by bicubic interpolation")
    output = upscaler.upscale(_planes(luminance), preset=settings.preset, seed=settings.seed)
    pixels = from_unit(_unplaned(output.mean), image.bit_depth)
    consistency = _consistency(pixels, luminance, manifest.scale, manifest.degradation)
    if chroma is not None:
        pixels = merge_luminance(pixels, chroma, manifest.scale)
    return Result(
        name=image.name,
        pixels=pixels,
        std=None if output.std is None else _unplaned(output.std),
        consistency_db=consistency,
        tiles=output.tiles,
        seconds=_seconds(output.seconds),
        notices=notices,
        provenance=_provenance(upscaler, settings, consistency),
    )


def plan_outputs(inputs: Sequence[Path], out: Path) -> list[Path]:
    """Where each input's output goes: `out` itself for one input and a .png, otherwise a folder.

    Raises:
        UsageError: Two inputs would share an output, or several inputs are to go to one file.
        OutputError: An output would overwrite an input.
    """
    if out.suffix.lower() == ".png" and not out.is_dir():
        if len(inputs) != 1:
            raise UsageError(f"{len(inputs)} inputs cannot go to one file {out}", hint="give -o a folder")
        outputs = [out]
    elif out.suffix and not out.is_dir() and len(inputs) == 1 and not str(out).endswith("/"):
        raise UsageError(
            f"cannot write {out.suffix} files", hint="give -o a folder, or a name that ends in .png"
        )
    else:
        outputs = [out / f"{path.stem}.png" for path in inputs]
    twice = sorted({str(o) for o in outputs if outputs.count(o) > 1})
    if twice:
        raise UsageError(f"several inputs would be written to {', '.join(twice)}", hint="run them one by one")
    for output in outputs:
        refuse_overwrite(inputs, output)
    return outputs


def upscale_files(
    upscaler: Upscaler, inputs: Sequence[Path], outputs: Sequence[Path], settings: Settings
) -> Iterator[tuple[Path, Result | Failure]]:
    """Enlarges files in order and writes each whole or not at all.

    A file that fails is reported and the batch goes on. Yields each input's path and what became of it, once
    its output is on disk.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: list[Future[Any]] = [reader.submit(_timed_read, path, settings.limits) for path in inputs[:1]]
        pending: list[tuple[Path, Result, Future[float]]] = []
        for index, path in enumerate(inputs):
            decoded = ahead.pop()
            if index + 1 < len(inputs):
                ahead.append(reader.submit(_timed_read, inputs[index + 1], settings.limits))
            outcome = _enlarge(upscaler, path, decoded, settings)
            if pending:
                yield _written(*pending.pop())
            if isinstance(outcome, Failure):
                yield path, outcome
            else:
                pending.append((path, outcome, writer.submit(_timed_write, outputs[index], outcome)))
        if pending:
            yield _written(*pending.pop())


def _enlarge(upscaler: Upscaler, path: Path, decoded: Future[Any], settings: Settings) -> Result | Failure:
    try:
        image, seconds = decoded.result()
        result = upscale_image(upscaler, image, settings)
    except EdgeSRError as error:
        return Failure(str(path), error)
    except MemoryError:
        return Failure(str(path), OutputError(f"{path}: not enough memory", hint="give smaller images"))
    result.seconds["read"] = seconds
    return result


def _written(path: Path, result: Result, writing: Future[float]) -> tuple[Path, Result | Failure]:
    try:
        result.seconds["write"] = writing.result()
    except EdgeSRError as error:
        return path, Failure(str(path), error)
    return path, result


def _timed_read(path: Path, limits: Limits) -> tuple[LoadedImage, float]:
    started = time.perf_counter()
    return read_image(path, limits=limits), time.perf_counter() - started


def _timed_write(path: Path, result: Result) -> float:
    started = time.perf_counter()
    write_atomic(path, encode_png(result.pixels, text=result.provenance))
    return time.perf_counter() - started


def _planes(pixels: Pixels) -> npt.NDArray[np.float32]:
    """(H, W) or (H, W, C) -> (C, H, W) in [-1, 1]."""
    unit = to_unit(pixels)
    return unit[None] if unit.ndim == 2 else np.ascontiguousarray(unit.transpose(2, 0, 1))


def _unplaned(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(C, H, W) -> (H, W) or (H, W, C)."""
    return np.asarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))


def _consistency(output: Pixels, source: Pixels, scale: int, operator: str) -> float:
    """In dB, over all channels."""
    top = float(np.iinfo(source.dtype).max)
    channels = (
        [(output, source)] if source.ndim == 2 else [(output[..., c], source[..., c]) for c in range(3)]
    )
    values = [
        lr_consistency(
            downsample(o.astype(np.float32), scale, operator), s.astype(np.float32), data_range=top
        )
        for o, s in channels
    ]
    return float(np.mean(values))


def _seconds(spent: StageSeconds) -> dict[str, float]:
    return {"encode": spent.encode, "loop": spent.loop, "decode": spent.decode, "host": spent.host}


def _provenance(upscaler: Upscaler, settings: Settings, consistency: float) -> dict[str, str]:
    """What a file says of itself; nothing in it depends on when, where or for whom it was made."""
    manifest = upscaler.bundle.manifest
    runtime = upscaler.backend.describe()
    runtime.pop("engines", None)  # a folder of this machine, which may name its user
    facts = {
        "bundle": f"{manifest.name} {manifest.version}",
        "bundle_sha256": upscaler.bundle.digest,
        "precision": str(upscaler.precision),
        "seed": settings.seed,
        "preset": settings.preset.model_dump(mode="json"),
        "consistency_db": round(consistency, 2),
        "degradation": manifest.degradation,
        **runtime,
    }
    return {
        "Software": f"edge-sr {__version__}",
        "Disclaimer": DISCLAIMER,
        "edge-sr": json.dumps(facts, sort_keys=True),
    }
