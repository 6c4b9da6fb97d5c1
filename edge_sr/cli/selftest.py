"""`edge-sr selftest`: does this machine compute what the model computes?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_sr import __version__
from edge_sr.backends import open_backend
from edge_sr.backends.engine_store import BuildFlags, default_engine_dir
from edge_sr.bundle import Bundle, find_bundle
from edge_sr.cli.build_engine import build
from edge_sr.cli.common import choose, engine_options, notes_of, open_upscaler, pick, tell
from edge_sr.doctor import examine
from edge_sr.image import write_atomic
from edge_sr.selftest import SelfTest, run_selftest

__all__ = ["selftest"]


@click.command()
@engine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write everything to a file to attach to a bug report; it holds no image and no name.",
)
def selftest(as_json: bool, report: Path | None, **options: Any) -> int:
    """Run golden inputs through every graph and the whole loop; PASS or FAIL.

    With --backend tensorrt, engines that are missing are built first. Where the machine has a power rail that
    can be read, it takes some seconds more to tell the energy of an image.
    The exit code is 1 on FAIL.
    """
    built = _build_missing(options) if options["backend"] == "tensorrt" else ()
    upscaler, running = open_upscaler(options["bundle"], options["backend"], **pick(options))
    with upscaler:
        upscaler.bundle.verify()
        outcome = run_selftest(upscaler)
        facts: dict[str, Any] = {
            "edge_sr": __version__,
            "bundle": upscaler.bundle.digest,
            "precision": str(upscaler.precision),
            "backend": running,
            "notes": [*built, *notes_of(upscaler)],
            "passed": outcome.passed,
            "checks": [{"name": c.name, "error": c.error, "tolerance": c.tolerance} for c in outcome.checks],
            "latency_ms": {name: round(value, 3) for name, value in outcome.latency_ms.items()},
            "energy": None if outcome.energy is None else asdict(outcome.energy),
            "load_seconds": {name: round(value, 3) for name, value in upscaler.load_seconds.items()},
        }
    if report is not None:
        machine = examine().to_json()
        text = json.dumps({**facts, "machine": machine}, indent=1)
        write_atomic(report, text.replace(str(Path.home()), "~").encode())  # a home names its owner
    tell(facts["notes"])
    click.echo(json.dumps(facts) if as_json else "\n".join(_lines(outcome, str(facts["precision"]), running)))
    return 0 if outcome.passed else 1


def _build_missing(options: dict[str, Any]) -> tuple[str, ...]:
    """Builds the engines that are not there yet; returns what the builder has to say."""
    folder = options["engine_dir"] or default_engine_dir()
    with open_backend("tensorrt", engine_dir=folder):
        pass  # where none can run, none need be built
    bundle = Bundle.open(find_bundle(options["bundle"]))
    asked = {"precision": options["precision"], "engine_dir": folder}
    if choose(bundle, "auto", **asked).name == "tensorrt":
        return ()
    flags = BuildFlags(batch=(1, 1, max(options["batch"], BuildFlags().batch[2])))
    return build(bundle, folder, choose(bundle, "tensorrt", **asked).precision, flags=flags).notes


def _lines(outcome: SelfTest, precision: str, running: str) -> list[str]:
    lines = [f"{precision} on {running}"]
    for check in outcome.checks:
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"{mark} {check.name:<24} error {check.error:.2e}, at most {check.tolerance:g}")
    latency = ", ".join(f"{name} {value:.1f} ms" for name, value in outcome.latency_ms.items())
    lines.append(f"median     {latency}")
    if energy := outcome.energy:
        lines.append(
            f"energy     {energy.gross_j:.3f} J an image, {energy.above_idle_j:.3f} J above idle; "
            f"{energy.mean_w:.2f} W, idle {energy.idle_w:.2f} W, at {energy.rail}"
        )
    return [*lines, "PASS" if outcome.passed else "FAIL"]
