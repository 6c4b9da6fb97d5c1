"""The images a calibration is made with: chosen by a seed, read, checked, and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError
from edge_sr.errors import ImageError
from edge_sr.image import opencv, read_image, split_luminance, to_planes
from edge_sr.manifest import Manifest

__all__ = ["MIN_IMAGES", "CalibrationSet", "choose_files", "read_set"]

MIN_IMAGES = 8  # fewer say little about the range of anything
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CalibrationSet:
    """Images as the engine takes them; their names stay out of everything that is stored.

    Attributes:
        names: The files, for messages.
        images: (C, h, w) float32 in [-1, 1] each.
        digest: SHA-256 over the decoded pixels and sizes of all of them, in order.
    """

    names: tuple[str, ...]
    images: tuple[Float, ...]
    digest: str


def choose_files(folder: Path, count: int, *, seed: int, least: int = MIN_IMAGES) -> list[Path]:
    """`count` image files of a folder, or of its lr_* folder if it holds pairs; all of them for a count of 0.

    Raises:
        CalibrationError: There are none, fewer than asked for, or fewer than `least`.
    """
    if not folder.is_dir():
        raise CalibrationError(f"no folder {folder}")
    lr = sorted(path for path in folder.glob("lr_*") if path.is_dir())
    files = sorted(p for p in (lr[0] if lr else folder).iterdir() if p.suffix.lower() in SUFFIXES)
    wanted = count or len(files)
    if len(files) < wanted or not files:
        raise CalibrationError(f"wanted {wanted or 'some'} images, {folder} holds {len(files)}")
    if wanted < least:
        raise CalibrationError(
            f"{wanted} images are too few to calibrate with, wanted at least {least}",
            hint="64 is a good number to record, 4 to measure sensitivity",
        )
    order = np.random.default_rng(seed).permutation(len(files))[:wanted]
    return [files[index] for index in sorted(order)]


def read_set(files: Sequence[Path], manifest: Manifest, *, side: int = 0) -> CalibrationSet:
    """Reads images as the bundle's model takes them.

    Args:
        files: What to read.
        manifest: Says how many channels the model has, and how large its tile is.
        side: Reduce each image to this side first, as OpenCV's INTER_CUBIC does; 0 for images that are
            low-resolution already.

    Raises:
        CalibrationError: An image cannot be read, is flat, smaller than a tile, or the same as another.
    """
    images = [_read(path, manifest, side) for path in files]
    digests = [_digest(image) for image in images]
    repeated = [
        f"{files[digests.index(d)].name} and {path.name}"
        for i, (path, d) in enumerate(zip(files, digests, strict=True))
        if digests.index(d) != i
    ]
    if repeated:
        named = ", ".join(repeated[:5])
        raise CalibrationError(f"images with the same pixels: {named}", hint="keep one of each")
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    return CalibrationSet(tuple(path.name for path in files), tuple(images), whole)


def _read(path: Path, manifest: Manifest, side: int) -> Float:
    try:
        pixels = read_image(path).pixels
    except ImageError as error:
        raise CalibrationError(f"{path.name}: {error.message}", hint=error.hint) from error
    if pixels.ndim == 3 and manifest.channels == 1:
        pixels, _ = split_luminance(pixels)
    if side:
        pixels = opencv().resize(pixels, (side, side), interpolation=opencv().INTER_CUBIC)
    height, width = pixels.shape[:2]
    if min(height, width) < manifest.tile:
        tile = manifest.tile
        raise CalibrationError(
            f"{path.name} is {width}x{height}, wanted at least one tile of {tile}x{tile}",
            hint="what a smaller image is padded with is not what the model will see",
        )
    if pixels.min() == pixels.max():
        raise CalibrationError(f"{path.name} is flat: every pixel is {pixels.min()}", hint="leave it out")
    return to_planes(pixels, manifest.channels)


def _digest(image: Float) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
