"""`edge-sr bench`: how fast this machine is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from edge_sr.backends.choice import OPENVINO, BackendChoice
from edge_sr.backends.engine_store import ONNX_RUNTIME, graph_precision
from edge_sr.bench.records import BenchResult
from edge_sr.bench.run import PARTS, Part, Request, run_bench
from edge_sr.bench.storage import check_writable, to_json, write_result
from edge_sr.bench.subject import Wish
from edge_sr.bundle import Bundle, find_bundle
from edge_sr.cli.bench_lines import result_lines
from edge_sr.cli.common import (
    BACKEND,
    BUNDLE_OPTION,
    ENGINE_DIR,
    SAMPLING,
    THREADS,
    choose,
    choose_preset,
    sampling_options,
    tell,
)
from edge_sr.cli.trtexec import BY_HAND, trtexec_lines
from edge_sr.errors import UsageError
from edge_sr.spec import Precision

__all__ = ["bench", "parse_sweep"]

QUICK_S, DURATION_S = 3.0, 20.0
SWEEPS = {"steps": (1, 2, 5, 10, 20, 50), "size": (64, 128, 256, 512, 1024), "threads": (1, 2, 4, 8)}
LARGEST = {"steps": 1000, "size": 4096, "threads": 256}
TIMED = "--useCudaGraph --warmUp=500 --duration=10"


def parse_sweep(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, Any]:
    """`NAME` or `NAME=VALUE,VALUE` as a name and its values; an empty name where nothing is swept.

    Raises:
        click.BadParameter: The name is unknown, or a value is out of range or named twice.
    """
    if text is None:
        return "", ()
    name, has_values, values = text.partition("=")
    if name not in SWEEPS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(SWEEPS)}; for batches there is --batch")
    words = values.split(",") if has_values else [str(value) for value in SWEEPS[name]]
    if not all(word.isdecimal() and 1 <= int(word) <= LARGEST[name] for word in words):
        raise click.BadParameter(
            f"wanted {name}=N,N,... with numbers from 1 to {LARGEST[name]}, got {text!r}"
        )
    numbers = tuple(map(int, words))
    if len(set(numbers)) < len(numbers):
        raise click.BadParameter(f"a value is named twice in {text!r}")
    return name, numbers


@click.command()
@BUNDLE_OPTION
@BACKEND
@ENGINE_DIR
@click.option(
    "--precision",
    "precisions",
    type=click.Choice([str(p) for p in Precision]),
    multiple=True,
    help="May be given several times: they run in turns, and are compared. [default: as upscale has it]",
)
@THREADS
@click.option(
    "--batch",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Most tiles at once; throughput is measured at 1, 2, 4, ... up to it.",
)
@click.option(
    "--size",
    type=click.IntRange(8, 4096),
    help="Side of the LR image in pixels. [default: the bundle's tile]",
)
@sampling_options
@click.option(
    "--sweep",
    callback=parse_sweep,
    metavar="NAME[=N,N,...]",
    help=f"A row for each value of {', '.join(SWEEPS)}, in turns; images alone, nothing else is measured.",
)
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0.1, 86400),
    help=f"Seconds for the runs that count, beside warm-up, start and energy. [default: {DURATION_S:g}]",
)
@click.option("--quick", is_flag=True, help=f"Images alone, for {QUICK_S:g} seconds.")
@click.option(
    "--json",
    "out",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write raw samples and machine to a file, for edge-sr compare; - for stdout, with nothing else.",
)
@click.option("--trtexec", "by_hand", is_flag=True, help="Also print what trtexec would be told.")
def bench(out: Path | None, by_hand: bool, **options: Any) -> None:
    """Measure latency, throughput, start, memory and energy on this machine.

    Runs count after a warm-up, which ends when the medians of two windows of 5 runs are within 5 % of each
    other; or after 100 runs or the time of --duration, shared among the rows, and then it is told. A first
    image in a fresh process gives the cold start and the memory. Offered load is requests at random moments,
    at half and at four fifths of the throughput. Interrupted, it writes nothing: an old FILE stays as it was.
    """
    is_stdout = out is not None and str(out) == "-"
    if out is not None and not is_stdout:
        check_writable(out)
    request, choice = _request(**options)
    click.echo(f"{choice.name}: {choice.reason}", err=True)
    with _phases() as phase:
        result = run_bench(request, phase=phase)
    tell(result.notices)
    commands = list(_commands(request, result)) if by_hand else []
    click.echo(to_json(result) if is_stdout else "\n".join([*result_lines(result), *commands]))
    if out is not None and not is_stdout:
        write_result(out, result)


def _request(
    *, bundle: Path | None, backend: str, precisions: Sequence[str], sweep: tuple[str, Any], **options: Any
) -> tuple[Request, BackendChoice]:
    """What the options ask for.

    Raises:
        EdgeSRError: They do not go together, or the bundle cannot be used.
    """
    opened = Bundle.open(find_bundle(bundle))
    choice, chosen = _choose(opened, backend, precisions, options["engine_dir"])
    _check_sweep(sweep[0], choice, options)
    changes = {key: options[key] for key in SAMPLING}
    preset = choose_preset(opened, options["preset"], **changes)
    if preset is None and sweep[0] == "steps":
        raise UsageError(f"bundle {opened.manifest.name} has no loop, and so no steps to sweep")
    size = options["size"] or opened.manifest.tile
    wishes = [Wish(precision, preset, size, options["threads"]) for precision in chosen]
    request = Request(
        bundle=opened,
        backend=choice.name,
        wishes=tuple(row for wish in wishes for row in _swept(wish, *sweep)),
        batch=options["batch"],
        duration_s=options["duration_s"] or (QUICK_S if options["quick"] else DURATION_S),
        seed=options["seed"],
        parts=_parts(quick=options["quick"], swept=bool(sweep[0])),
        engine_dir=options["engine_dir"],
    )
    return request, choice


def _choose(
    bundle: Bundle, backend: str, precisions: Sequence[str], engine_dir: Path | None
) -> tuple[BackendChoice, tuple[Precision, ...]]:
    """The one backend of all rows, and their precisions.

    Raises:
        UsageError: Automatically, they would run on several.
    """
    found = [choose(bundle, backend, precision=p, engine_dir=engine_dir) for p in precisions or (None,)]
    if len({choice.name for choice in found}) > 1:
        places = ", ".join(f"{choice.precision} on {choice.name}" for choice in found)
        raise UsageError(f"rows would run on several backends: {places}", hint="name one with --backend")
    return found[0], tuple(dict.fromkeys(choice.precision for choice in found))


def _check_sweep(name: str, choice: BackendChoice, options: dict[str, Any]) -> None:
    """Whether what is swept can be, and is not asked for twice.

    Raises:
        UsageError: It cannot, or is.
    """
    if name == "threads" and choice.name not in (ONNX_RUNTIME, OPENVINO):
        raise UsageError(f"the backend {choice.name} has no threads to sweep", hint="--backend onnxruntime")
    if name and options[name]:
        raise UsageError(f"--{name} and --sweep {name} contradict each other", hint="give one of them")


def _swept(wish: Wish, name: str, values: Sequence[int]) -> Iterator[Wish]:
    """A wish for every value; the one itself where nothing is swept."""
    for value in values:
        if name == "steps" and wish.preset is not None:
            yield replace(wish, preset=wish.preset.model_copy(update={"steps": value}))
        elif name == "size":
            yield replace(wish, size=value)
        else:
            yield replace(wish, threads=value)
    if not name:
        yield wish


def _parts(*, quick: bool, swept: bool) -> tuple[Part, ...]:
    return () if quick or swept else PARTS


@contextmanager
def _phases() -> Iterator[Callable[[str], object]]:
    """Shows what is done on a terminal's stderr; nothing otherwise."""
    with tqdm(disable=not sys.stderr.isatty(), leave=False, bar_format="{desc} ({elapsed})") as bar:
        yield bar.set_description_str


def _commands(request: Request, result: BenchResult) -> Iterator[str]:
    """What trtexec would be told to time the same graphs, one by one."""
    rows = {graph_precision("tensorrt", row.case.precision): None for row in result.rows}
    yield from ("", f"by hand, each graph alone at batch {request.batch}; {BY_HAND}:")
    yield from trtexec_lines(request.bundle, precisions=tuple(rows), batch=request.batch, flags=TIMED)
