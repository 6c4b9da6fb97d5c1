"""The command line of calibration: `python -m calibration COMMAND`."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

from calibration.consistency import consistency_command
from calibration.images import MIN_IMAGES, CalibrationSet, choose_files, read_set
from calibration.lint import lint_command
from calibration.ranges import METHODS
from calibration.trt_verdict import verdict_command
from edge_sr.bundle import Bundle
from edge_sr.errors import EdgeSRError
from edge_sr.image import read_image, to_planes, write_atomic
from edge_sr.spec import Component

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Makes FP16 and INT8 graphs for a bundle, and measures what they cost. Needs no torch and no GPU."""


cli.add_command(consistency_command)
cli.add_command(lint_command)
cli.add_command(verdict_command)


def image_options(function: F) -> F:
    """The options of every command that runs images."""
    options = [
        click.option("--bundle", type=FOLDER, required=True, help="The bundle, with its FP32 graphs."),
        click.option("--images", type=FOLDER, required=True, help="LR images, or pairs with an lr_* folder."),
        click.option("--count", default=0, help="How many of them, chosen by the seed; 0 for all."),
        click.option("--reduce-to", default=0, help="First reduce each image to this side; 0 for LR images."),
        click.option("--preset", default="", help="One of the bundle's presets.  [default: its default]"),
        click.option("--seed", default=0, help="Of the choice of images and of the noise."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@cli.command("record")
@image_options
@click.option("--out", type=FILE, required=True, help="The recording, .npz.")
@click.option("--picture", type=FILE, help="Draw how ranges move along the loop, as PNG.")
def record_command(bundle: Path, out: Path, picture: Path | None, **options: Any) -> None:
    """Record what flows through the graphs along whole trajectories of the deployed sampler."""
    from calibration.plan import read_layers
    from calibration.plots import plot_drift
    from calibration.record import record
    from calibration.recording import write_recording

    opened = Bundle.open(bundle)
    if picture and Component.STEP not in opened.manifest.graphs:
        raise click.UsageError(f"--picture draws along the loop, and bundle {opened.manifest.name} has none")
    images, preset = _images(opened, options), _preset(opened, options)
    recording = record(opened, images, preset=preset, seed=options["seed"], progress=_progress("images"))
    write_recording(out, recording)
    if picture:
        plot_drift(recording, read_layers(opened)[Component.STEP], picture)
    facts = recording.facts
    loop = f"{facts.steps} steps of {facts.sampler}, " if facts.steps else ""
    print(f"{out}: {facts.images_used} of {facts.images_asked} images, {loop}set {facts.set_digest[:12]}")


@cli.command("quantize")
@click.option("--bundle", type=FOLDER, required=True, help="The bundle, with its FP32 graphs.")
@click.option("--recording", type=FILE, help="From `record`; not needed with --plan.")
@click.option("--plan", "plan_file", type=FILE, help="From `sensitivity`; in place of a plan by rule.")
@click.option("--method", type=click.Choice(sorted(METHODS)), default="mse", help="How ranges are chosen.")
@click.option("--exclusions/--no-exclusions", default=True, help="Leave sensitive layers out by rule.")
@click.option("--out", type=FOLDER, help="The new bundle.  [default: in place]")
def quantize_command(
    bundle: Path,
    recording: Path | None,
    plan_file: Path | None,
    method: str,
    exclusions: bool,
    out: Path | None,
) -> None:
    """Write FP16 and INT8 graphs into a bundle, with the record of how they were made."""
    from calibration.half import check_fits
    from calibration.plan import make_plan, read_plan
    from calibration.quantize import compare_precisions, quantize_bundle
    from calibration.recording import read_recording

    if (recording is None) == (plan_file is None):
        raise click.UsageError("give either --recording or --plan")
    opened = Bundle.open(bundle)
    if recording is not None:
        read = read_recording(recording)
        check_fits(read)
        plan = make_plan(opened, read, method=method, exclude=exclusions)
    else:
        assert plan_file is not None
        plan = read_plan(plan_file)
    made = quantize_bundle(opened, plan, out or bundle)
    size = sum(path.stat().st_size for path in made.folder.iterdir())
    layers = sum(len(p.layers) for p in plan.components.values())
    print(f"{made.folder}: {layers} layers in INT8, {size / 1e6:.1f} MB, digest {made.digest[:12]}")
    for precision, error in compare_precisions(made).items():
        print(f"  {precision}: {error:.2f} gray levels from FP32 on the golden image (RMS)")


@cli.command("sensitivity")
@image_options
@click.option("--recording", type=FILE, required=True, help="From `record`.")
@click.option("--method", type=click.Choice(sorted(METHODS)), default="mse", help="How ranges are chosen.")
@click.option(
    "--budget", default=1.0, help="Largest difference of images from FP32's: gray levels of 255, RMS."
)
@click.option("--out", type=FOLDER, required=True, help="For the plan, tables and a picture.")
def sensitivity_command(
    bundle: Path, recording: Path, method: str, budget: float, out: Path, **options: Any
) -> None:
    """Measure each layer alone, and choose which to leave out of INT8."""
    from calibration.half import check_fits
    from calibration.plan import make_plan, read_layers, with_exclusions, write_plan
    from calibration.plots import plot_sensitivity
    from calibration.recording import read_recording
    from calibration.sensitivity import choose, measure_layers, measure_plans
    from calibration.trial import Trials

    opened, read = Bundle.open(bundle), read_recording(recording)
    check_fits(read)
    plan = make_plan(opened, read, method=method)
    images = _images(opened, options, least=2)
    trials = Trials(opened, images, preset=_preset(opened, options), seed=options["seed"])
    rows = measure_layers(trials, plan, progress=_progress("layers"))
    candidates = measure_plans(
        trials, plan, rows, truth=_truth(options["images"], trials.images), progress=_progress("plans")
    )
    out.mkdir(parents=True, exist_ok=True)
    _write_table(out / "layers.csv", [asdict(row) for row in rows])
    _write_json(out / "plans.json", [asdict(candidate) for candidate in candidates])
    chosen = choose(candidates, budget)
    write_plan(out / "plan.json", with_exclusions(plan, read_layers(opened), chosen.excluded))
    plot_sensitivity(rows, candidates, chosen.name, out / "sensitivity.png")
    error, speedup = chosen.image_error, chosen.speedup
    print(f"{out}: {chosen.name}, {error:.2f} gray levels from FP32, {speedup:.2f} times as fast")


@cli.command("correction")
@image_options
@click.option("--plan", "plan_file", type=FILE, required=True, help="From `sensitivity`.")
def correction_command(bundle: Path, plan_file: Path, **options: Any) -> None:
    """Try to correct INT8's error in the sampler: fit on half of the images, judge on the other half."""
    from calibration.correction import fit, halves, judge
    from calibration.plan import read_plan
    from calibration.trial import Trials

    opened, plan = Bundle.open(bundle), read_plan(plan_file)
    preset, seed = _preset(opened, options), options["seed"]
    to_fit, to_judge = (Trials(opened, h, preset=preset, seed=seed) for h in halves(_images(opened, options)))
    correction = fit(to_fit, plan)
    verdict = judge(to_judge, plan, correction)
    print(json.dumps({**asdict(verdict), "is_better": verdict.is_better, **asdict(correction)}, indent=1))


def _images(bundle: Bundle, options: dict[str, Any], *, least: int = MIN_IMAGES) -> CalibrationSet:
    files = choose_files(options["images"], options["count"], seed=options["seed"], least=least)
    return read_set(files, bundle.manifest, side=options["reduce_to"])


def _preset(bundle: Bundle, options: dict[str, Any]) -> str | None:
    diffusion = bundle.manifest.diffusion
    asked: str = options["preset"]
    return asked or (diffusion.default if diffusion else None)


def _truth(folder: Path, images: CalibrationSet) -> tuple[Any, ...] | None:
    """The true images of pairs, where the folder has them."""
    hr = sorted(path for path in folder.glob("hr_*") if path.is_dir())
    if not hr:
        return None
    channels = len(images.images[0])
    return tuple(to_planes(read_image(hr[0] / name).pixels, channels) for name in images.names)


def _progress(unit: str) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A bar on a terminal, nothing elsewhere."""
    return lambda items: iter(tqdm(items, desc=unit, disable=None, file=sys.stderr))


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: str(value) for key, value in row.items()} for row in rows])
    write_atomic(path, text.getvalue().encode())


def _write_json(path: Path, content: Any) -> None:
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def main() -> None:
    """Runs a command and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command; an error that is understood is one line, and a hint.

    Returns:
        The exit code: 0, 1 for such an error, 2 for wrong usage, 130 where it was interrupted.
    """
    try:
        code = cli.main(arguments, prog_name="python -m calibration", standalone_mode=False)
    except EdgeSRError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except click.exceptions.Abort:
        print("interrupted", file=sys.stderr)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(code or 0)


if __name__ == "__main__":
    main()
