"""What true images give for the residual that every result reports, and the alarm threshold taken from it.

A true HR image is not perfectly consistent with its LR image: both were sampled from a larger original, with
aliasing. So how low a residual is alarming has to be measured, and it depends on the degradation and on the
images, not on the model.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError
from calibration.images import choose_files
from edge_sr.bundle import Bundle, new_copy, write_manifest
from edge_sr.card import Consistency
from edge_sr.errors import ImageError
from edge_sr.evidence import residual_db
from edge_sr.image import read_image, split_luminance
from edge_sr.manifest import SCHEMA_VERSION, Manifest

__all__ = ["consistency_command", "measure_consistency", "store_consistency"]

Pixels = npt.NDArray[Any]
FOLDER = click.Path(file_okay=False, path_type=Path)


def measure_consistency(manifest: Manifest, pairs: Path, *, quantile: float, data: str) -> Consistency:
    """The residuals of true images by the bundle's degradation, and their quantile.

    Args:
        manifest: Of the bundle.
        pairs: A folder with hr_* and lr_* folders of files with the same names.
        quantile: Share of the true images that may lie below the threshold, above 0 up to 0.5.
        data: Which images these are, in words.

    Raises:
        CalibrationError: Images are missing, too few for the quantile, or no pairs of the bundle's scale.
    """
    files = choose_files(pairs, 0, seed=0, least=math.ceil(1 / quantile))
    folders = sorted(path for path in pairs.glob("hr_*") if path.is_dir())
    if not folders:
        raise CalibrationError(f"{pairs} has no folder hr_* of true images", hint="it needs hr_*/ and lr_*/")
    small, large = [_read(path) for path in files], [_read(folders[0] / path.name) for path in files]
    values = [_residual(*three, manifest) for three in zip(files, large, small, strict=True)]
    digest = hashlib.sha256(b"".join(image.tobytes() for image in (*small, *large)))
    words = f"--pairs FOLDER/{pairs.resolve().name} --quantile {quantile:g}"
    return Consistency(
        operator=manifest.degradation,
        alarm_db=round(float(np.quantile(values, quantile)), 2),
        quantile=quantile,
        median_db=round(float(np.median(values)), 2),
        images=len(values),
        data=data,
        sha256=digest.hexdigest(),
        source=f"python -m calibration consistency {words}",
    )


def store_consistency(bundle: Bundle, known: Consistency, out: Path) -> Bundle:
    """Writes a bundle that knows it, whole or not at all; `out` may be the bundle's own folder.

    Raises:
        OutputError: The folder cannot be written.
    """
    changes = {"schema_version": SCHEMA_VERSION, "consistency": known}
    with new_copy(bundle, out) as folder:
        write_manifest(folder, bundle.manifest.model_copy(update=changes))
    return Bundle.open(out)


def _read(path: Path) -> Pixels:
    try:
        pixels = read_image(path).pixels
    except ImageError as error:
        raise CalibrationError(error.message, hint=error.hint) from error
    return pixels if pixels.ndim == 2 else split_luminance(pixels)[0]


def _residual(file: Path, large: Pixels, small: Pixels, manifest: Manifest) -> float:
    scale = manifest.scale
    if large.shape != (small.shape[0] * scale, small.shape[1] * scale) or large.dtype != small.dtype:
        raise CalibrationError(
            f"{file.name}: {large.dtype} of {large.shape} is not x{scale} of {small.dtype} of {small.shape}"
        )
    return residual_db(large, small, scale=scale, operator=manifest.degradation)


@click.command("consistency")
@click.option("--bundle", type=FOLDER, required=True, help="The bundle.")
@click.option("--pairs", type=FOLDER, required=True, help="True images: a folder with hr_* and lr_*.")
@click.option("--data", required=True, help="Which images, and how the LR ones were made, in words.")
@click.option(
    "--quantile",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    help="Share of true images that would raise an alarm.",
)
@click.option("--out", type=FOLDER, help="The new bundle.  [default: in place]")
def consistency_command(bundle: Path, pairs: Path, data: str, quantile: float, out: Path | None) -> None:
    """Store in a bundle how consistent true images are, as the threshold of an alarm."""
    opened = Bundle.open(bundle)
    known = measure_consistency(opened.manifest, pairs, quantile=quantile, data=data)
    made = store_consistency(opened, known, out or bundle)
    click.echo(
        f"{made.folder}: alarm below {known.alarm_db:.2f} dB, median of {known.images} true images "
        f"{known.median_db:.2f} dB, by {known.operator}; digest {made.digest[:12]}"
    )
