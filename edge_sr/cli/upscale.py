"""`edge-sr upscale`: image files in, larger image files out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

from edge_sr.cascade import plan_scale
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
from edge_sr.errors import EdgeSRError
from edge_sr.evidence import evidence_suffixes
from edge_sr.image import DOWNSAMPLE_OPERATORS
from edge_sr.jobs import Failure, Result, Settings, plan_outputs, upscale_files
from edge_sr.manifest import samples_of
from edge_sr.pipeline import Upscaler

__all__ = ["result_options", "settings_of", "upscale"]

F = TypeVar("F", bound=Callable[..., Any])


def result_options(function: F) -> F:
    """What is done with the loop's result, and what is said of it."""
    options = [
        click.option(
            "--scale",
            type=int,
            help="Enlarge this many times: one pass of the model or two, then an exact reduction. "
            "[default: the model's own]",
        ),
        click.option(
            "--back-project",
            type=click.Choice(DOWNSAMPLE_OPERATORS),
            help="Make the result agree exactly with the input under this degradation. Helps only where the "
            "input was made so; moves away from the truth otherwise.",
        ),
        click.option(
            "--min-consistency",
            type=float,
            metavar="DB",
            help="Fail an image whose result, made small again, has less PSNR against the input.",
        ),
        click.option(
            "--evidence/--no-evidence",
            default=None,
            help="Write beside OUT.png what was changed against bicubic (OUT.change.png) and, with several "
            "samples, their standard deviation in 16 bits (OUT.std.png) and as colour (OUT.uncertainty.png). "
            "[default: with --samples above 1]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Output folder, or one .png or .dcm for one input. DICOM stays DICOM in a folder.",
)
@engine_options
@sampling_options
@result_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each input, on stdout.")
def upscale(inputs: tuple[Path, ...], out: Path, as_json: bool, **options: Any) -> int:
    """Enlarge images (PNG, JPEG, TIFF, DICOM; 8 or 16 bit; any size).

    A file that fails is named and the others are done; the exit code is then 1.
    """
    plan_outputs(inputs, out)  # before anything is loaded
    upscaler, running = open_upscaler(options["bundle"], options["backend"], **pick(options))
    with upscaler:
        settings = settings_of(upscaler, options)
        beside = evidence_suffixes(samples_of(settings.preset)) if settings.has_evidence else ()
        outputs = plan_outputs(inputs, out, beside=beside)
        click.echo(f"{upscaler.bundle.manifest.name}, {upscaler.precision}, on {running}", err=True)
        failed, told = 0, tell(notes_of(upscaler))
        finished = upscale_files(upscaler, inputs, outputs, settings)
        with tqdm(total=len(inputs), unit="image", disable=not sys.stderr.isatty(), leave=False) as progress:
            for (path, outcome), output in zip(finished, outputs, strict=True):
                progress.update()
                failed += isinstance(outcome, Failure)
                with tqdm.external_write_mode(file=sys.stderr):
                    told += tell(notes_of(upscaler)[told:])
                    facts = {"backend": running, "notes": notes_of(upscaler)}
                    files = {s.split(".")[1]: str(output.with_suffix(s)) for s in beside}
                    _report(path, outcome, output, files, facts if as_json else None)
    if failed:
        click.echo(f"{failed} of {len(inputs)} failed", err=True)
    return 1 if failed else 0


def settings_of(upscaler: Upscaler, options: dict[str, Any]) -> Settings:
    """What the options ask for; a scale that the model cannot reach is refused before any image."""
    changes = {key: options[key] for key in SAMPLING}
    preset = choose_preset(upscaler.bundle, options["preset"], **changes)
    wanted = options["evidence"]
    return Settings(
        preset,
        options["seed"],
        scale=plan_scale(options["scale"], upscaler.bundle.manifest.scale).scale,
        back_project=options["back_project"],
        min_consistency_db=options["min_consistency"],
        has_evidence=(options["samples"] or 1) > 1 if wanted is None else wanted,
    )


def _report(
    path: Path,
    outcome: Result | Failure,
    output: Path,
    files: dict[str, str],
    facts: dict[str, Any] | None,
) -> None:
    """Tells what became of an input; `facts` go into its JSON object, and are None where none is wanted."""
    if isinstance(outcome, Failure):
        if facts is not None:
            click.echo(json.dumps({"input": str(path), **_error(outcome.error)}))
        click.echo(f"error: {outcome.error.message}", err=True)
        if outcome.error.hint:
            click.echo(f"hint: {outcome.error.hint}", err=True)
        return
    for notice in outcome.notices:
        click.echo(f"note: {path}: {notice}", err=True)
    if facts is None:
        click.echo(_line(path, outcome, output))
    else:
        click.echo(json.dumps(_record(path, outcome, output, files) | facts))


def _error(error: EdgeSRError) -> dict[str, str]:
    return {"error": error.message, "hint": error.hint, "kind": type(error).__name__}


def _record(path: Path, result: Result, output: Path, files: dict[str, str]) -> dict[str, Any]:
    height, width = result.pixels.shape[:2]
    return {
        "input": str(path),
        "output": str(output),
        "width": width,
        "height": height,
        "bit_depth": 8 * result.pixels.dtype.itemsize,
        "tiles": result.tiles,
        "seconds": {name: round(value, 6) for name, value in result.seconds.items()},
        "scale": result.scale,
        **result.trust(has_evidence=bool(files)),
        "evidence": files,
        "notices": list(result.notices),
        "provenance": json.loads(result.provenance["edge-sr"]),
    }


def _line(path: Path, result: Result, output: Path) -> str:
    height, width = result.pixels.shape[:2]
    total = sum(result.seconds.values())
    tiles = "" if result.tiles == 1 else f", {result.tiles} tiles"
    size = f"{width}x{height}{tiles}"
    return f"{path} -> {output}  {size}  {total:.2f} s  consistency {result.consistency_db:.1f} dB"
