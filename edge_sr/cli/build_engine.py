"""`edge-sr build-engine`: engines for this device, checked before they are published."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from edge_sr.backends import Backend, open_backend
from edge_sr.backends.engine_store import BuildFlags, default_engine_dir, graph_precision
from edge_sr.build import BuildProgress, BuildReport, Built, build_engines
from edge_sr.build.autotune import BUDGET_DB, Choice, Measurement, autotune
from edge_sr.bundle import Bundle, find_bundle
from edge_sr.cli.common import BUNDLE_OPTION, ENGINE_DIR, tell
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import check_engine, measure_golden
from edge_sr.spec import Component, Graph, Precision

__all__ = ["BuildBar", "build", "build_engine"]

TENSORRT = "tensorrt"
LEVEL = 3  # TensorRT's own default
LARGEST_BATCH = BuildFlags().batch[2]
ESTIMATE = (
    "the loss is an estimate: how far the golden image moves from FP32's, added to the error that the model "
    "has against true images"
)


@click.command()
@click.option(
    "--precision",
    type=click.Choice([str(p) for p in Precision if p is not Precision.INT8_FP16]),
    help="What to build; not needed with --autotune.",
)
@click.option(
    "--component",
    "components",
    type=click.Choice([str(c) for c in Component]),
    multiple=True,
    help="Build this graph alone; may be given several times. [default: all]",
)
@BUNDLE_OPTION
@ENGINE_DIR
@click.option(
    "--backend",
    type=click.Choice([TENSORRT, "onnxruntime"]),
    default=TENSORRT,
    show_default=True,
    help="onnxruntime saves graphs that are optimised for this CPU, for a faster start.",
)
@click.option(
    "--autotune", "tunes", is_flag=True, help="Build INT8 and FP16, time both, keep the better one."
)
@click.option("--force", is_flag=True, help="Build what is there already as well.")
@click.option("--max-batch", type=click.IntRange(1, 64), default=LARGEST_BATCH, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def build_engine(bundle: Path | None, tunes: bool, as_json: bool, **options: Any) -> None:
    """Build engines on the device where they will run.

    An engine belongs to one graph, one library version and one device. Its outputs are compared with the
    bundle's golden values before it is published; what is there already, and fits, is kept.
    """
    _check(tunes=tunes, **options)
    opened, folder = Bundle.open(find_bundle(bundle)), options["engine_dir"] or default_engine_dir()
    flags = BuildFlags(level=LEVEL, batch=(1, 1, options["max_batch"]))
    if tunes:
        choice, report = _tuned(opened, folder, flags)
        notes: tuple[str, ...] = (choice.reason, ESTIMATE, *report.notes)
    else:
        precision, components = Precision(options["precision"]), [*map(Component, options["components"])]
        how = {"backend": options["backend"], "force": options["force"], "flags": flags}
        report = build(opened, folder, precision, components=components, **how)
        choice, notes = None, report.notes
    tell(notes)
    click.echo(json.dumps(_record(report, choice, notes)) if as_json else "\n".join(_lines(report)))


def build(bundle: Bundle, folder: Path, precision: Precision, **options: Any) -> BuildReport:
    """Builds engines with a progress bar, checked by the bundle's golden values.

    Args:
        bundle: What to build.
        folder: Where to.
        precision: As `build_engines` takes it.
        options: Others that it takes.

    Raises:
        EdgeSRError: What `build_engines` raises.
    """

    def check(backend: Backend, graph: Graph) -> str:
        return check_engine(backend, graph, bundle)

    with BuildBar() as bar:
        return build_engines(
            bundle, precision=precision, engine_dir=folder, check=check, progress=bar.show, **options
        )


class BuildBar(ExitStack):
    """A progress bar on a terminal's stderr, one phase of one build at a time; nothing otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = self.enter_context(tqdm(disable=not sys.stderr.isatty(), leave=False, unit="step"))
        self._now = ""

    def show(self, progress: BuildProgress) -> None:
        """Shows how far a build is."""
        label = f"{progress.component}: {progress.phase}"
        if label != self._now:
            self._now = label
            self._bar.set_description(label, refresh=False)
            self._bar.reset(progress.total)
        self._bar.update(progress.done - self._bar.n)


def _check(
    *, tunes: bool, precision: str | None, backend: str, components: tuple[str, ...], **_: Any
) -> None:
    """Whether the options go together.

    Raises:
        click.UsageError: They do not.
    """
    if not (tunes or precision):
        raise click.UsageError("give --precision, or --autotune to have it measured")
    if tunes and (precision not in (None, Precision.INT8.value) or backend != TENSORRT or components):
        raise click.UsageError(
            "--autotune chooses between INT8 and FP16 for all of TensorRT's graphs: it goes with no other "
            "--precision, no --component and no --backend onnxruntime"
        )


def _tuned(bundle: Bundle, folder: Path, flags: BuildFlags) -> tuple[Choice, BuildReport]:
    """INT8 or FP16, whichever is better here."""
    with open_backend(TENSORRT, engine_dir=folder):
        pass  # where nothing can be timed, nothing need be built

    def build_into(precision: Precision, staged: Path) -> BuildReport:
        return build(bundle, staged, precision, timing_dir=folder, flags=flags)

    measure = partial(_measure, bundle)
    return autotune(build_into, measure, engine_dir=folder, budget_db=BUDGET_DB)


def _measure(bundle: Bundle, precision: Precision, folder: Path) -> Measurement:
    """Times the engines of a folder."""
    graphs = graph_precision(TENSORRT, precision)
    with (
        open_backend(TENSORRT, engine_dir=folder) as running,
        Upscaler(bundle, running, precision=graphs) as upscaler,
    ):
        return measure_golden(upscaler)


def _record(report: BuildReport, choice: Choice | None, notes: tuple[str, ...]) -> dict[str, Any]:
    target = report.target
    tuned = None if choice is None else {"precision": str(choice.precision), "reason": choice.reason}
    return {
        "target": {
            "library": target.library,
            "version": target.version,
            "compute_capability": target.compute_capability,
            "device": target.device,
        },
        "engines": [_engine(built) for built in report.engines],
        "autotune": tuned,
        "notes": list(notes),
    }


def _engine(built: Built) -> dict[str, Any]:
    sidecar = built.sidecar
    facts = ("kind", "bytes", "sha256", "created", "build_seconds", "checked")
    return {
        "component": str(sidecar.key.component),
        "precision": str(sidecar.key.precision),
        "path": str(built.path),
        "was_reused": built.was_reused,
        **{name: getattr(sidecar, name) for name in facts},
        "flags": sidecar.key.flags,
        "notes": list(sidecar.notes),
    }


def _lines(report: BuildReport) -> list[str]:
    target = report.target
    lines = [f"for {target.library} {target.version} on {target.device} ({target.compute_capability})"]
    for built in report.engines:
        sidecar = built.sidecar
        how = "kept" if built.was_reused else f"built in {sidecar.build_seconds:.1f} s"
        what = f"{sidecar.key.component} {sidecar.key.precision}"
        lines += [f"{what:<18} {sidecar.bytes / 1e6:.1f} MB, {how}; {sidecar.checked}", f"    {built.path}"]
    return lines
