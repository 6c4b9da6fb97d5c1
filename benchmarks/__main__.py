"""The command line of the judging side: `python -m benchmarks COMMAND`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from benchmarks.pairs import REDUCTIONS
from edge_sr.bundle import default_bundle
from edge_sr.errors import EdgeSRError
from edge_sr.spec import Precision

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)
RESULTS = Path(__file__).parent / "results"
EXIT_ERROR, EXIT_INTERRUPTED = 1, 130

# What several commands ask for, in the same words.
BUNDLE = click.option(
    "--bundle", type=FOLDER, default=default_bundle, show_default="the shipped cxr-x4", help="Bundle folder."
)
PAIRS = click.option("--pairs", type=FOLDER, required=True, help="Folder with hr_256/ and lr_64/.")
LPIPS = click.option("--lpips", type=FOLDER, help="Folder with squeezenet1_1.pth (and lpips' squeeze.pth).")
PRECISION = click.option(
    "--precision",
    type=click.Choice([str(p) for p in Precision]),
    default=str(Precision.FP32),
    callback=lambda _context, _option, value: Precision(value),
)
SEEDS = click.option("--seeds", type=click.IntRange(1), default=3, help="Seeds 0, 1, ...")
LIMIT = click.option("--limit", type=click.IntRange(0), default=0, help="Images at most; 0 for all.")
BATCH = click.option(
    "--batch", type=click.IntRange(1, 64), default=4, help="Images at once, where nothing is timed."
)
THREADS = click.option(
    "--threads", type=click.IntRange(0, 256), default=0, help="CPU threads; 0 for all cores."
)
DEGRADATION = click.option(
    "--degradation", default="not stated", help="How the LR images were made, in words."
)
OUT = click.option(
    "--out", type=FILE, show_default="in benchmarks/results", help="FOLDER/NAME of the results."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Judges bundles: quality, speed, peers. Needs torch."""


@cli.command()
@BUNDLE
@PAIRS
@LPIPS
@click.option(
    "--features", type=FILE, help="A tiny autoencoder's encoder (TAESD and the like): a second judge."
)
@click.option("--vae", type=FOLDER, help="The run that trained the autoencoder, for its ceiling.")
@PRECISION
@click.option("--preset", "presets", multiple=True, help="A preset to show beside the default; repeatable.")
@click.option(
    "--reduce", "reduction", type=click.Choice(REDUCTIONS), help="Make the LR images of the HR images, so."
)
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
    _set_threads(request.threads)
    outcome = run_quality(request, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    _tell(outcome.markdown, written)


@cli.command("few-step")
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
    _set_threads(request.threads)
    outcome = run_few_step(request, arguments=sys.argv[1:], track=progress)
    markdown = few_step_report(outcome.record)
    _tell(markdown, save(out, record=outcome.record, markdown=markdown, png=few_step_sheet(outcome)))


@cli.command()
@BUNDLE
@PRECISION
@click.option("--steps", type=click.IntRange(1), default=20)
@click.option("--repeats", type=click.IntRange(3), default=30, help="Measurements of each.")
@THREADS
@OUT
def loop(out: Path | None, **options: Any) -> None:
    """Time the loop against its engine calls, and the whole against eager torch."""
    from benchmarks.loop import Request, run_loop
    from benchmarks.records import check_writable, save
    from benchmarks.report import loop_report

    request = Request(**options)
    out = out or RESULTS / f"loop-{request.bundle.name}-{request.precision}"
    check_writable(out)
    result = run_loop(request, arguments=sys.argv[1:], track=progress)
    markdown = loop_report(result)
    _tell(markdown, save(out, record=result, markdown=markdown))


@cli.command()
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
    _set_threads(request.threads)
    outcome = run_ladder(request, out, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    outcome.parts.clear(range(request.seeds))
    _tell(outcome.markdown, written)


@cli.command()
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
    _set_threads(request.threads)
    outcome = run_evidence(request, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    _tell(outcome.markdown, written)


@cli.command()
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
    _tell(markdown, save(out, record=result, markdown=markdown))


@cli.command()
@BUNDLE
@click.option(
    "--precision",
    type=click.Choice([str(p) for p in Precision]),
    default=str(Precision.INT8),
    callback=lambda _context, _option, value: Precision(value),
)
@click.option(
    "--batch", "batches", type=click.IntRange(1, 64), multiple=True, default=(1, 2, 4, 8), help="Of a server."
)
@click.option(
    "--load",
    "loads",
    type=click.FloatRange(0.01, 100),
    multiple=True,
    default=(0.5, 0.8, 1.0, 1.5),
    help="Arrivals over what one by one can do.",
)
@click.option(
    "--clients", type=click.IntRange(1, 64), multiple=True, default=(1, 2, 4, 8), help="Of a closed loop."
)
@click.option("--seconds", type=click.FloatRange(0.1), default=20.0, help="Of each load on each server.")
@click.option(
    "--rounds", type=click.IntRange(1), default=5, help="Times that each load is put on each server."
)
@click.option(
    "--large-side", type=click.IntRange(1), default=160, help="LR pixels of the large images' side."
)
@click.option("--large-share", type=click.FloatRange(0, 1), default=0.1, help="Of requests.")
@click.option("--queue-size", type=click.IntRange(1, 1000), default=16, help="Requests that may wait.")
@click.option("--lone", type=click.IntRange(1), default=5, help="Requests by themselves, of each size.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of arrivals and sizes.")
@THREADS
@OUT
def service(out: Path | None, **options: Any) -> None:
    """Load edge-sr serve over HTTP: batches of several sizes against one request after the other.

    Repeat --batch, --load and --clients for several. It takes seconds x rounds x batches x (loads + clients),
    and what is waiting at the end of each.
    """
    from benchmarks.records import check_writable, save
    from benchmarks.service.report import service_report
    from benchmarks.service.run import Request, run_service

    request = Request(**options)
    out = out or RESULTS / f"service-{request.bundle.name}-{request.precision}"
    check_writable(out)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers end with it
    try:
        result = run_service(request, arguments=sys.argv[1:], track=progress)
    finally:
        signal.signal(signal.SIGTERM, before)
    markdown = service_report(result)
    _tell(markdown, save(out, record=result, markdown=markdown))


@cli.command()
@BUNDLE
@click.option(
    "--precision",
    type=click.Choice([str(p) for p in Precision]),
    default=str(Precision.INT8),
    callback=lambda _context, _option, value: Precision(value),
)
@click.option("--backend", default="onnxruntime", help="Of edge-sr serve.")
@click.option("--seconds", type=click.FloatRange(5), default=60.0, help="Of the flood.")
@click.option("--queue-size", type=click.IntRange(1, 20), default=4, help="Requests that may wait.")
@click.option("--side", type=click.IntRange(8, 1024), default=64, help="LR pixels of the image's side.")
@THREADS
@OUT
def faults(out: Path | None, **options: Any) -> None:
    """Flood edge-sr serve, kill it, leave it, be slow, fill its disk; and see what it answers then.

    Linux alone. It takes the flood's seconds and about a minute.
    """
    from benchmarks.faults.report import faults_report
    from benchmarks.faults.run import Request, run_faults
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"faults-{request.bundle.name}-{request.precision}"
    check_writable(out)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers end with it
    try:
        result = run_faults(request, arguments=sys.argv[1:])
    finally:
        signal.signal(signal.SIGTERM, before)
    markdown = faults_report(result)
    _tell(markdown, save(out, record=result, markdown=markdown))


@cli.command()
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
    _set_threads(request.threads)
    outcome = run_curve(request, arguments=sys.argv[1:], track=progress)
    _tell(outcome.markdown, save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png))


@cli.command()
@BUNDLE
@click.option("--data", type=FOLDER, required=True, help="Folder of labelled radiographs.")
@click.option(
    "--labels", type=FILE, help="CSV: file, split, patient_id, label. [default: other_index.csv in --data]"
)
@click.option("--judge", type=FOLDER, required=True, help="The classifier's run; trained where it is not.")
@click.option("--iterations", type=click.IntRange(1), default=400, help="Of the classifier's training.")
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
    _set_threads(request.threads)
    outcome = run_diagnostic(request, arguments=sys.argv[1:], track=progress)
    written = save(out, record=outcome.record, markdown=outcome.markdown, png=outcome.png)
    _tell(outcome.markdown, written)


@cli.command()
@BUNDLE
@click.option("--pairs", type=FOLDER, help="Folder with hr_256/ and lr_64/; a made-up image without it.")
@click.option("--calibration", type=FOLDER, help="Images for NNCF, as the bundle was calibrated with.")
@click.option("--peer", "peers", multiple=True, help="A peer's key; repeatable. Without it, all of them.")
@click.option("--limit", type=click.IntRange(1), default=8, help="Images at most.")
@click.option("--rounds", type=click.IntRange(3), default=30, help="Measurements of each, in turns.")
@click.option("--imports", type=click.IntRange(1), default=5, help="Measurements of each import.")
@THREADS
@OUT
def peers(out: Path | None, **options: Any) -> None:
    """The same weights and steps through other runtimes, side by side: time, memory, size, lines."""
    from benchmarks.peers.picture import peers_picture
    from benchmarks.peers.report import peers_report
    from benchmarks.peers.run import Request, run_peers
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"peers-{request.bundle.name}"
    check_writable(out)
    result = run_peers(request, arguments=sys.argv[1:], track=progress)
    markdown = peers_report(result)
    _tell(markdown, save(out, record=result, markdown=markdown, png=peers_picture(result)))


@cli.command()
@BUNDLE
@click.option("--rounds", type=click.IntRange(3), default=20, help="Measurements of each, in turns.")
@THREADS
@OUT
def roofline(out: Path | None, **options: Any) -> None:
    """How near each stage comes to this machine's peak, measured beside it, and what stands between."""
    from benchmarks.records import check_writable, save
    from benchmarks.roofline.report import roofline_report
    from benchmarks.roofline.run import Request, run_roofline

    request = Request(**options)
    out = out or RESULTS / f"roofline-{request.bundle.name}"
    check_writable(out)
    result = run_roofline(request, arguments=sys.argv[1:], track=progress)
    markdown = roofline_report(result)
    _tell(markdown, save(out, record=result, markdown=markdown))


@cli.command()
@BUNDLE
@PAIRS
@click.option("--results", type=FOLDER, default=RESULTS, show_default="benchmarks/results", help="Results.")
@click.option(
    "--all", "measures", is_flag=True, help="First measure what has no result there: few images, few rounds."
)
@LPIPS
@click.option("--control", type=FOLDER, help="For --all: the naive control; made where it is not named.")
@click.option("--labelled", type=FOLDER, help="For --all: labelled radiographs (see diagnostic).")
@click.option("--judge", type=FOLDER, help="For --all: the classifier's run (see diagnostic).")
@THREADS
@DEGRADATION
@click.option("--out", type=FILE, show_default="in benchmarks/results", help="HTML file; .md beside it.")
def report(out: Path | None, **options: Any) -> None:
    """Make one page of all results of a bundle: answers first, then figures, images, limits.

    The page needs no other file and no script. Numbers are from the result files of this very bundle; a few
    images are made anew. Results of another model are named and left out. What --all measures is kept beside
    the other results, in files that end with -quick; what was measured in full is not measured again.
    """
    from benchmarks.records import check_writable
    from benchmarks.report_page.command import Request, run_report, save_report

    request = Request(**options)
    out = out or RESULTS / f"report-{request.bundle.name}.html"
    check_writable(out)
    _set_threads(request.threads)
    for path in save_report(out, run_report(request, arguments=sys.argv[1:], track=progress)):
        click.echo(f"wrote {path}", err=True)


def progress(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Goes through the items with a progress bar on a terminal, and with nothing elsewhere."""
    return tqdm(items, desc=what, disable=None, leave=False)


def _set_threads(threads: int) -> None:
    """Torch's threads: as many as ONNX Runtime is given."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def _tell(markdown: str, written: Sequence[Path]) -> None:
    click.echo(markdown)
    for path in written:
        click.echo(f"wrote {path}", err=True)


def run(arguments: Sequence[str]) -> int:
    """Runs a command; an error that is understood is one line, and a hint.

    Returns:
        The exit code.
    """
    try:
        code = cli.main(list(arguments), prog_name="python -m benchmarks", standalone_mode=False)
    except EdgeSRError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return EXIT_ERROR
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
