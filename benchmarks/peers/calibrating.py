"""What a post-training quantiser is shown: the inputs of each graph along the loop, for calibration images.

The images are those that the bundle's own INT8 graphs were calibrated with, where the folder holds them: they
are chosen as `python -m calibration record` does it, and their digest says whether they are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.laid import draw_start, lay_graphs
from benchmarks.peers.protocol import Case
from benchmarks.peers.snippets import ort_loop
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.image import opencv, read_image, split_luminance, to_planes
from edge_sr.spec import IMAGE, LATENT, Component, Precision

__all__ = ["Samples", "collect", "is_same_set", "read_calibration"]

Float = npt.NDArray[np.float32]
Samples = list[dict[str, Float]]
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
COUNT, SEED = 32, 0  # where the bundle does not say how many
STEP_SAMPLES = 320  # NNCF's default is 300


def read_calibration(folder: Path | None, bundle: Bundle) -> tuple[list[Float], str]:
    """Images as the model takes them, (C, t, t) in [-1, 1], and their digest.

    Raises:
        ConfigError: There is no such folder, or too few images in it.
    """
    if folder is None or not folder.is_dir():
        raise ConfigError(f"no folder of images to calibrate with: {folder}")
    record, manifest = bundle.manifest.calibration, bundle.manifest
    count, seed = (record.images_asked, record.seed) if record else (COUNT, SEED)
    lr = sorted(path for path in folder.glob("lr_*") if path.is_dir())
    files = sorted(p for p in (lr[0] if lr else folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if len(files) < count:
        raise ConfigError(f"wanted {count} images to calibrate with, {folder} holds {len(files)}")
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    images = [_read(files[index], manifest.tile, manifest.channels) for index in sorted(chosen)]
    digests = [hashlib.sha256(repr(i.shape).encode() + i.tobytes()).hexdigest() for i in images]
    return images, hashlib.sha256("".join(digests).encode()).hexdigest()


def is_same_set(folder: Path | None, bundle: Bundle) -> bool:
    """Whether the bundle's INT8 graphs were calibrated with these images."""
    record = bundle.manifest.calibration
    return record is not None and record.set_digest == read_calibration(folder, bundle)[1]


def _read(path: Path, tile: int, channels: int) -> Float:
    pixels = read_image(path).pixels
    if pixels.ndim == 3 and channels == 1:
        pixels, _ = split_luminance(pixels)
    if pixels.shape[:2] != (tile, tile):
        pixels = opencv().resize(pixels, (tile, tile), interpolation=opencv().INTER_CUBIC)
    return to_planes(pixels, channels)


def collect(case: Case, folder: Path) -> dict[Component, Samples]:
    """Runs the FP32 graphs over the calibration images, and keeps what goes into each.

    Args:
        case: Whose bundle and images.
        folder: Where the graphs may be laid out.

    Returns:
        Component -> one dictionary of its inputs a sample; of the steps about `STEP_SAMPLES`, evenly.

    Raises:
        ConfigError: There are too few images.
    """
    bundle = case.opened()
    images, _ = read_calibration(case.calibration, bundle)
    lay_graphs(case, Precision.FP32, folder)
    model = ort_loop.load(folder, case.threads)
    kept: dict[Component, Samples] = {component: [] for component in Component}
    for seed, image in enumerate(images):
        noise = draw_start(bundle, case.preset(bundle), seed=seed)
        for component, values in _trajectory(model, image[None], noise):
            kept[component].append(values)
    every = max(1, round(len(kept[Component.STEP]) / STEP_SAMPLES))
    # An odd number of steps apart, so that not every image gives the same ones.
    kept[Component.STEP] = kept[Component.STEP][:: every | 1]
    return kept


def _trajectory(
    model: tuple[Any, ...], image: Float, noise: Float
) -> Iterator[tuple[Component, dict[str, Float]]]:
    """The inputs of every run of a graph, in order: the plain loop, watched."""
    encoder, step, decoder, table = model
    values = {IMAGE: image, "x": noise, "x0_previous": np.zeros_like(noise), "noise": np.zeros_like(noise)}
    yield Component.ENCODER, _inputs(encoder, values)
    values |= ort_loop.run(encoder, values)
    for coefficients, embedding in zip(table["coefficients"], table["embedding"], strict=True):
        values |= {"coefficients": coefficients, "time_embedding": embedding}
        yield Component.STEP, _inputs(step, values)
        made = ort_loop.run(step, values)
        values |= {"x": made["x_next"], "x0_previous": made["x0"]}
    yield Component.DECODER, _inputs(decoder, values | {LATENT: values["x"]})


def _inputs(session: Any, values: dict[str, Float]) -> dict[str, Float]:
    return {put.name: values[put.name] for put in session.get_inputs()}
