"""The command line of the training side: `python -m export COMMAND`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_sr.errors import EdgeSRError
from export.commands.bundling import bundle, from_diffusers, untrained_sr3
from export.commands.options import FILE, FOLDER
from export.commands.training import (
    distill,
    train_class,
    train_decoder,
    train_regression,
    train_sr3,
    train_unet,
    train_vae,
)

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Trains super-resolution models and exports them to bundles. Needs torch."""


@cli.command("prepare")
@click.option("--images", type=FOLDER, required=True, help="Folder of originals, with folders in it or not.")
@click.option(
    "--metadata", type=FILE, required=True, help="CSV: Data_Entry_2017.csv, or file,patient_id,view."
)
@click.option("--out", type=FOLDER, required=True, help="The data set's folder; new or empty.")
@click.option("--views", default="PA", help="Only these views, such as PA or PA,AP; empty for all.")
@click.option("--split", default="70,20,10", help="Percent of the patients for train, val and test.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the split.")
def prepare(images: Path, metadata: Path, out: Path, views: str, split: str, seed: int) -> None:
    """Make a data set: originals to train on, and pairs of 256 and 64 pixels to judge with.

    No patient is on two sides. Images that cannot be used are left out and named.
    """
    from export.prepare import parse_shares, parse_views, prepare_dataset

    report = prepare_dataset(
        images, metadata, out, views=parse_views(views), shares=parse_shares(split), seed=seed
    )
    for path, reason in report.left_out.items():
        click.echo(f"left out: {path}: {reason}", err=True)
    if report.absent:
        click.echo(f"{report.absent} images of {metadata} are not in {images}", err=True)
    counts = ", ".join(f"{name} {count}" for name, count in report.images.items())
    click.echo(f"{out}: {counts} images; {len(report.left_out)} left out")


for command in (
    train_regression,
    train_vae,
    train_unet,
    train_sr3,
    train_class,
    train_decoder,
    distill,
    bundle,
    from_diffusers,
    untrained_sr3,
):
    cli.add_command(command)


def main() -> None:
    """Runs a command and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command; an error that is understood is one line, and a hint.

    Returns:
        The exit code.
    """
    try:
        cli.main(arguments, prog_name="python -m export", standalone_mode=False)
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
    return 0


if __name__ == "__main__":
    main()
