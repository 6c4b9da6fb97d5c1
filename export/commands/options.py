"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
COUNT, NOT_NEGATIVE = click.IntRange(1), click.FloatRange(0)
VAE_HELP = "The run of train-vae, or an AutoencoderKL or AutoencoderTiny in diffusers' layout."


def originals_options(function: F) -> F:
    """Where the images to train on come from."""
    options = [
        click.option("--train", type=FOLDER, required=True, help="Folder of originals, at least 256 a side."),
        click.option("--views", default="", help="Only these views of index.csv, such as PA or PA,AP."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def training_options(function: F) -> F:
    """The options of a training command that validates on pairs."""
    options = [
        click.option("--val", type=FOLDER, required=True, help="Folder with hr_256/ and lr_64/."),
        click.option("--lpips", type=FOLDER, help="Folder with squeezenet1_1.pth and lpips' squeeze.pth."),
        run_options,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def run_options(function: F) -> F:
    """The options that every training command has."""
    options = [
        click.option(
            "--out", type=FOLDER, required=True, help="The run's folder; an unfinished run goes on."
        ),
        click.option("--iterations", type=COUNT, default=100_000, help="Optimiser steps at most."),
        click.option(
            "--minutes", type=NOT_NEGATIVE, default=0.0, help="Training time at most; 0 for no limit."
        ),
        click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=5e-4),
        click.option("--validate-every", type=COUNT, default=400, help="Iterations between validations."),
        click.option(
            "--checkpoint-every", type=NOT_NEGATIVE, default=60.0, help="Seconds between checkpoints."
        ),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu"),
        click.option(
            "--threads", type=click.IntRange(0, 256), default=0, help="CPU threads; 0 for torch's choice."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function
