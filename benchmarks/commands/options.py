"""The options that commands share, and what each does before and after its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

from benchmarks.pairs import REDUCTIONS
from edge_sr.bundle import default_bundle
from edge_sr.spec import Precision

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)
RESULTS = Path(__file__).parents[1] / "results"

# What several commands ask for, in the same words.
BUNDLE = click.option(
    "--bundle", type=FOLDER, default=default_bundle, show_default="the shipped cxr-x4", help="Bundle folder."
)
PAIRS = click.option(
    "--pairs", type=FOLDER, required=True, help="Folder with hr_256/ and lr_64/, or others by their sides."
)
LPIPS = click.option("--lpips", type=FOLDER, help="Folder with squeezenet1_1.pth (and lpips' squeeze.pth).")


def precision_option(default: Precision) -> Callable[[F], F]:
    """--precision, of the graphs."""
    return click.option(
        "--precision",
        type=click.Choice([str(p) for p in Precision]),
        default=str(default),
        callback=lambda _context, _option, value: Precision(value),
    )


PRECISION, INT8_PRECISION = precision_option(Precision.FP32), precision_option(Precision.INT8)
REDUCE = click.option(
    "--reduce", "reduction", type=click.Choice(REDUCTIONS), help="Make the LR images of the HR images, so."
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


def progress(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Goes through the items with a progress bar on a terminal, and with nothing elsewhere."""
    return tqdm(items, desc=what, disable=None, leave=False)


def set_threads(threads: int) -> None:
    """Torch's threads: as many as ONNX Runtime is given."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def tell(markdown: str, written: Sequence[Path]) -> None:
    """Prints a result, and where it was written to."""
    click.echo(markdown)
    for path in written:
        click.echo(f"wrote {path}", err=True)
