"""The command line of the judging side: `python -m benchmarks COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.commands.judging import curve, diagnostic, evidence, few_step, ladder, models, quality, seams
from benchmarks.commands.options import (
    BUNDLE,
    DEGRADATION,
    FILE,
    FOLDER,
    LPIPS,
    PAIRS,
    RESULTS,
    THREADS,
    progress,
    set_threads,
)
from benchmarks.commands.timing import faults, loop, peers, roofline, service
from edge_sr.errors import EdgeSRError

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Judges bundles: quality, speed, peers. Needs torch."""


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
    set_threads(request.threads)
    for path in save_report(out, run_report(request, arguments=sys.argv[1:], track=progress)):
        click.echo(f"wrote {path}", err=True)


for command in (
    quality,
    few_step,
    ladder,
    evidence,
    seams,
    curve,
    diagnostic,
    models,
    loop,
    service,
    faults,
    peers,
    roofline,
):
    cli.add_command(command)


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
