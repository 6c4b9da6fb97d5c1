"""`edge-sr selftest`: does this machine compute what the model computes?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_sr import __version__
from edge_sr.cli.common import engine_options, open_upscaler
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

    The exit code is 1 on FAIL.
    """
    engine = {key: options[key] for key in ("precision", "threads", "batch")}
    upscaler, running = open_upscaler(options["bundle"], options["backend"], **engine)
    with upscaler:
        upscaler.bundle.verify()
        outcome = run_selftest(upscaler)
        facts = {
            "edge_sr": __version__,
            "bundle": upscaler.bundle.digest,
            "precision": str(upscaler.precision),
            "backend": running,
            "passed": outcome.passed,
            "checks": [{"name": c.name, "error": c.error, "tolerance": c.tolerance} for c in outcome.checks],
            "latency_ms": {name: round(value, 3) for name, value in outcome.latency_ms.items()},
            "load_seconds": {name: round(value, 3) for name, value in upscaler.load_seconds.items()},
        }
    if report is not None:
        machine = examine().to_json()
        write_atomic(report, json.dumps({**facts, "machine": machine}, indent=1).encode())
    click.echo(json.dumps(facts) if as_json else "\n".join(_lines(outcome, str(facts["precision"]), running)))
    return 0 if outcome.passed else 1


def _lines(outcome: SelfTest, precision: str, running: str) -> list[str]:
    lines = [f"{precision} on {running}"]
    for check in outcome.checks:
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"{mark} {check.name:<24} error {check.error:.2e}, at most {check.tolerance:.0e}")
    latency = ", ".join(f"{name} {value:.1f} ms" for name, value in outcome.latency_ms.items())
    return [*lines, f"median     {latency}", "PASS" if outcome.passed else "FAIL"]
