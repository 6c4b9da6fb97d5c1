"""The commands that ask how good the images are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.commands.options import (
    BATCH,
    BUNDLE,
    DEGRADATION,
    FILE,
    FOLDER,
    LIMIT,
    LPIPS,
    OUT,
    PAIRS,
    PRECISION,
    REDUCE,
    RESULTS,
    SEEDS,
    THREADS,
    progress,
    set_threads,
    tell,
)


@click.command()
@BUNDLE
@PAIRS
@LPIPS
@click.option(
    "--features", type=FILE, help="A tiny autoencoder's encoder (TAESD and the like): a second judge."
)
@click.option("--vae", type=FOLDER, help="The run that trained the autoencoder, for its ceiling.")
@PRECISION
@click.option("--preset", "presets", multiple=True, help="A preset to show beside the default; repeatable.")
@REDUCE
@SEEDS
@LIMIT
@BATCH
@THREADS
@DEGRADATION
@OUT
def quality(out: Path | None, **options: Any) -> None:
    """Score a bundle against bicubic, its own parts and the true HR images."""
    from benchmarks.quality import Request, run_quality
    from benchmarks.records import check_writable, save

    request = Request(**options)
    data = "-".join(filter(None, (request.pairs.name, request.reduction)))
    out = out or RESULTS / f"quality-{request.bundle.name}-{request.precision}-{data}"
    check_writable(out)
    set_threads(request.threads)
    outcome = run_quality(request, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    tell(outcome.markdown, written)


@click.command("few-step")
@BUNDLE
@click.option(
    "--student", "students", type=FOLDER, multiple=True, required=True, help="A student's bundle; repeatable."
)
@PAIRS
@LPIPS
@click.option(
    "--features", type=FILE, help="A tiny autoencoder's encoder (TAESD and the like): a second judge."
)
@click.option("--teacher-steps", type=click.IntRange(1), default=8, help="In which the teacher taught.")
@PRECISION
@click.option("--seeds", type=click.IntRange(1), default=2, help="Seeds 0, 1, ...")
@LIMIT
@BATCH
@THREADS
@DEGRADATION
@OUT
def few_step(out: Path | None, **options: Any) -> None:
    """Score distilled students beside their teacher: in as few steps, and in those it taught in."""
    from benchmarks.few_step import Request, run_few_step
    from benchmarks.few_step_report import few_step_report, few_step_sheet
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"few-step-{request.bundle.name}-{request.precision}-{request.pairs.name}"
    check_writable(out)
    set_threads(request.threads)
    outcome = run_few_step(request, arguments=sys.argv[1:], track=progress)
    markdown = few_step_report(outcome.record)
    tell(markdown, save(out, record=outcome.record, markdown=markdown, png=few_step_sheet(outcome)))


@click.command()
@BUNDLE
@click.option("--control", type=FOLDER, required=True, help="The same model, quantised naively.")
@click.option("--data", "pairs", type=FOLDER, required=True, help="Folder with hr_256/ and lr_64/.")
@LPIPS
@SEEDS
@LIMIT
@click.option(
    "--rounds", type=click.IntRange(3), default=60, help="Images that every row is timed on, in turns."
)
@BATCH
@THREADS
@DEGRADATION
@OUT
def ladder(out: Path | None, **options: Any) -> None:
    """FP32, FP16 (emulated), INT8 and a naive INT8 control side by side: what each costs and gains.

    The control is made of a recording, as the bundle was: python -m calibration quantize --method minmax
    --no-exclusions --out FOLDER. A run that is stopped goes on after the last seed that it finished.
    """
    from benchmarks.ladder.run import Request, run_ladder
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"ladder-{request.bundle.name}-{request.pairs.name}"
    check_writable(out)
    set_threads(request.threads)
    outcome = run_ladder(request, out, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    outcome.parts.clear(range(request.seeds))
    tell(outcome.markdown, written)


@click.command()
@BUNDLE
@PAIRS
@LPIPS
@click.option("--vae", type=FOLDER, help="The run that trained the autoencoder, for hallucination and loss.")
@PRECISION
@click.option("--samples", type=click.IntRange(4, 64), default=8, help="Samples that a spread is taken over.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of all samples.")
@click.option("--limit", type=click.IntRange(0), default=16, help="Images at most; 0 for all.")
@BATCH
@THREADS
@DEGRADATION
@OUT
def evidence(out: Path | None, **options: Any) -> None:
    """Hold what a result says of itself against the truth: residual, spread, invention, back-projection."""
    from benchmarks.evidence.run import Request, run_evidence
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"evidence-{request.bundle.name}-{request.precision}-{request.pairs.name}"
    check_writable(out)
    set_threads(request.threads)
    outcome = run_evidence(request, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    tell(outcome.markdown, written)


@click.command()
@BUNDLE
@click.option("--images", type=FOLDER, required=True, help="Folder of 8-bit PNG images larger than a tile.")
@PRECISION
@click.option("--side", type=click.IntRange(1), default=160, help="LR pixels of the square that is cut out.")
@click.option("--limit", type=click.IntRange(1), default=4, help="Images at most.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the noise.")
@THREADS
@OUT
def seams(out: Path | None, **options: Any) -> None:
    """Measure whether tiles show, blended at the end and blended after every step."""
    from benchmarks.records import check_writable, save
    from benchmarks.seams.report import seams_report
    from benchmarks.seams.run import Request, run_seams

    request = Request(**options)
    out = out or RESULTS / f"seams-{request.bundle.name}-{request.precision}"
    check_writable(out)
    result = run_seams(request, arguments=sys.argv[1:], track=progress)
    markdown = seams_report(result)
    tell(markdown, save(out, record=result, markdown=markdown))


@click.command()
@BUNDLE
@PAIRS
@click.option(
    "--lpips", type=FOLDER, required=True, help="Folder with squeezenet1_1.pth (and lpips' squeeze.pth)."
)
@click.option("--vae", type=FOLDER, help="The run that trained the autoencoder, for its ceiling.")
@PRECISION
@click.option("--seeds", type=click.IntRange(1), default=1, help="Seeds 0, 1, ...")
@click.option("--limit", type=click.IntRange(0), default=48, help="Images at most; 0 for all.")
@BATCH
@THREADS
@DEGRADATION
@OUT
def curve(out: Path | None, **options: Any) -> None:
    """Draw PSNR against LPIPS over first noise, steps, eta and samples, each varied alone."""
    from benchmarks.curve import CurveRequest, run_curve
    from benchmarks.records import check_writable, save

    request = CurveRequest(**options)
    out = out or RESULTS / f"curve-{request.bundle.name}-{request.precision}"
    check_writable(out)
    set_threads(request.threads)
    outcome = run_curve(request, arguments=sys.argv[1:], track=progress)
    tell(outcome.markdown, save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png))


@click.command()
@BUNDLE
@click.option("--data", type=FOLDER, required=True, help="Folder of labelled radiographs.")
@click.option(
    "--labels", type=FILE, help="CSV: file, split, patient_id, label. [default: other_index.csv in --data]"
)
@click.option("--judge", type=FOLDER, required=True, help="The classifier's run; trained where it is not.")
@click.option("--iterations", type=click.IntRange(1), default=400, help="Of the classifier's training.")
@REDUCE
@SEEDS
@BATCH
@THREADS
@click.option("--source", default="not stated", help="Where the images come from, and their licence.")
@DEGRADATION
@OUT
def diagnostic(out: Path | None, iterations: int, **options: Any) -> None:
    """Train a classifier of pneumonia on true images, and see whether outputs change what it decides.

    Labels are normal, or begin with pneumonia; splits are train and test, by patient. Test images are pairs:
    hr_256/NAME is the labelled file, lr_64/NAME lies beside. Training and outputs are kept in the folder of
    --judge: a run that is stopped goes on, and another bundle finds the classifier trained.
    """
    from benchmarks.diagnostic.cases import LABELS
    from benchmarks.diagnostic.run import Request, run_diagnostic
    from benchmarks.diagnostic.training import Recipe
    from benchmarks.records import check_writable, save

    options["labels"] = options["labels"] or options["data"] / LABELS
    recipe = Recipe(iterations=iterations, threads=options["threads"])
    request = Request(recipe=recipe, **options)
    out = out or RESULTS / f"diagnostic-{request.bundle.name}"
    check_writable(out)
    set_threads(request.threads)
    outcome = run_diagnostic(request, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    tell(outcome.markdown, written)


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="FOLDER[:PRESET][@PRECISION]",
    help="A bundle, and how it is run; repeatable. Others are held against the first.",
)
@PAIRS
@REDUCE
@LPIPS
@PRECISION
@click.option("--seeds", type=click.IntRange(1), default=1, help="Seeds 0, 1, ...")
@LIMIT
@click.option(
    "--rounds", type=click.IntRange(3), default=20, help="Times that every model is timed, in turns."
)
@BATCH
@THREADS
@DEGRADATION
@OUT
def models(out: Path | None, **options: Any) -> None:
    """Set models of any kind side by side: quality, time in turns, memory; which does as well in less."""
    from benchmarks.models import Request, run_models
    from benchmarks.models_report import models_picture, models_report
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"models-{request.pairs.name}"
    check_writable(out)
    set_threads(request.threads)
    result = run_models(request, arguments=sys.argv[1:], track=progress)
    markdown = models_report(result)
    tell(markdown, save(out, record=result, markdown=markdown, png=models_picture(result)))
