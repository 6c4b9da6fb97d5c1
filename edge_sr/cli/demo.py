"""`edge-sr demo`: a real chest radiograph, made small and enlarged again, beside what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edge_sr.cli.common import (
    SAMPLING,
    choose_preset,
    engine_options,
    notes_of,
    open_upscaler,
    pick,
    sampling_options,
    tell,
)
from edge_sr.errors import ImageError
from edge_sr.figure import panels
from edge_sr.image import (
    LoadedImage,
    encode_png,
    read_image,
    refuse_overwrite,
    resize_area,
    resize_bicubic,
    split_luminance,
    write_atomic,
)
from edge_sr.jobs import Result, Settings, upscale_image
from edge_sr.metrics import psnr, ssim
from edge_sr.pipeline import Upscaler

__all__ = ["demo"]

RADIOGRAPH = "RG1_UNCR.dcm"  # a PA chest radiograph: CR, 1955x1841, 15 bit, MONOCHROME1
ORIGINAL = 1024  # the size that public sets of chest X-rays have, from which the model's pairs are sampled
PERCENTILES = (0.5, 99.5)  # of the stored values, that become black and white
Gray = npt.NDArray[np.uint8]


@click.command()
@click.option(
    "--input", "source", type=click.Path(path_type=Path), help="Any image instead of the radiograph."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("edge-sr-demo.png"),
    show_default=True,
)
@engine_options
@sampling_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def demo(source: Path | None, out: Path, as_json: bool, **options: Any) -> None:
    """Show a real radiograph before and after, with figures and a picture.

    The image is reduced to the model's input size and enlarged again, so that the result can be held against
    what was there.
    """
    given = out.with_name(f"{out.stem}-input.png")
    for file in (out, given):
        refuse_overwrite([] if source is None else [source], file)
    original = _radiograph() if source is None else _gray(read_image(source))
    upscaler, running = open_upscaler(options["bundle"], options["backend"], **pick(options))
    with upscaler:
        manifest = upscaler.bundle.manifest
        changes = {key: options[key] for key in SAMPLING}
        settings = Settings(choose_preset(upscaler.bundle, options["preset"], **changes), options["seed"])
        small, reference = _pair(original, manifest.tile, manifest.scale)
        result = _run(upscaler, small, settings)
        bicubic = resize_bicubic(small, manifest.scale)
        figures = {
            name: {"psnr_db": round(psnr(image, reference), 2), "ssim": round(ssim(image, reference), 4)}
            for name, image in (("bicubic", bicubic), ("edge-sr", result.pixels))
        }
        shown = [("input, pixels as squares", small), ("bicubic", bicubic), ("edge-sr", result.pixels)]
        picture = panels(
            [*shown, ("reference", reference)],
            captions=["", *(f"{f['psnr_db']:.2f} dB  SSIM {f['ssim']:.3f}" for f in figures.values()), ""],
            footer="Detail above the input's resolution is generated. Research use only, not for diagnosis.",
        )
        write_atomic(out, encode_png(picture, text=result.provenance))
        write_atomic(given, encode_png(small, text={}))
        facts: dict[str, Any] = {
            "picture": str(out),
            "input_picture": str(given),
            "input": [manifest.tile] * 2,
            "output": [manifest.tile * manifest.scale] * 2,
            "steps": settings.preset.steps if settings.preset else 0,
            "sampler": settings.preset.sampler if settings.preset else None,
            "backend": running,
            "notes": notes_of(upscaler),
            "precision": str(upscaler.precision),
            "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
            "load_seconds": {name: round(value, 3) for name, value in upscaler.load_seconds.items()},
            "figures": figures,
            **result.trust(has_evidence=False),
        }
    tell(facts["notes"])
    click.echo(json.dumps(facts) if as_json else "\n".join(_lines(facts)))


def _run(upscaler: Upscaler, small: Gray, settings: Settings) -> Result:
    """The second of two runs: the first also allocates and touches everything for the first time."""
    image = LoadedImage(small, "demo", "PNG")
    upscale_image(upscaler, image, settings)
    return upscale_image(upscaler, image, settings)


def _pair(original: Gray, tile: int, scale: int) -> tuple[Gray, Gray]:
    """The model's input and the reference, both sampled from the original without antialiasing."""
    side = min(original.shape)
    if side < tile * scale:
        raise ImageError(
            f"the image is {original.shape[1]}x{original.shape[0]}, wanted at least {tile * scale} a side"
        )
    y, x = (original.shape[0] - side) // 2, (original.shape[1] - side) // 2
    square = original[y : y + side, x : x + side]
    if side > ORIGINAL:
        square = resize_area(square, (ORIGINAL, ORIGINAL))
    return resize_bicubic(square, (tile, tile)), resize_bicubic(square, (tile * scale, tile * scale))


def _gray(image: LoadedImage) -> Gray:
    """8-bit luminance."""
    pixels = split_luminance(image.pixels)[0] if image.is_colour else image.pixels
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else np.asarray(pixels, np.uint8)


def _radiograph() -> Gray:
    """The radiograph that the PyPI package pydicom-data carries, as 8-bit gray, air black.

    Raises:
        ImageError: The packages that carry and read it are not installed.
    """
    try:
        import pydicom
        from pydicom.data import get_testdata_file
    except ImportError as error:
        raise ImageError(
            "the demo's radiograph is read with pydicom, which is not installed",
            hint="pip install 'edge-sr[demo]', or give --input FILE",
        ) from error
    path = get_testdata_file(RADIOGRAPH, download=False)
    if not path:
        raise ImageError(
            f"{RADIOGRAPH} is not here: the package pydicom-data carries it",
            hint="pip install 'edge-sr[demo]', or give --input FILE",
        )
    values = pydicom.dcmread(str(path)).pixel_array.astype(np.float64)
    low, high = np.percentile(values, PERCENTILES)
    inverted = (high - values) / (high - low)  # MONOCHROME1: small values are white
    return np.asarray(np.rint(np.clip(inverted, 0, 1) * 255), np.uint8)


def _lines(facts: dict[str, Any]) -> list[str]:
    seconds = facts["seconds"]
    stages = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in seconds.items())
    (w, h), (w4, h4) = facts["input"], facts["output"]
    loop = f"{facts['steps']} {facts['sampler']} steps" if facts["steps"] else "one pass"
    lines = [
        f"{w}x{h} -> {w4}x{h4}, {loop}, {facts['precision']}",
        f"backend    {facts['backend']}",
        f"compute    {sum(seconds.values()):.2f} s: {stages}",
    ]
    for name, figure in facts["figures"].items():
        lines.append(
            f"{name:<10} {figure['psnr_db']:.2f} dB, SSIM {figure['ssim']:.3f} against the reference"
        )
    return [
        *lines,
        f"picture    {facts['picture']}",
        f"input      {facts['input_picture']}, for `edge-sr serve` and its page",
    ]
