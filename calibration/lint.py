"""`python -m calibration lint`: checks ONNX graphs against what TensorRT 10.3 wants, without TensorRT.

What the rules are, and where they come from: `calibration.lint_rules`. A clean graph is no promise that it
builds: that is `calibration.trt_verdict`'s to say, for another TensorRT, and a Jetson's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import onnx

from calibration.lint_rules import RULES
from calibration.wiring import Finding, Wiring, read_model
from edge_sr.bundle import Bundle

__all__ = ["Finding", "Report", "lint_command", "lint_model", "lint_paths"]


@dataclass(frozen=True)
class Report:
    """What the lint says of one file."""

    file: Path
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)


def lint_model(model: onnx.ModelProto) -> list[Finding]:
    """Everything that is wrong with a graph, in the order of the rules."""
    wiring = Wiring(model)
    return [
        Finding(name, severity, node, message)
        for name, (severity, rule) in RULES.items()
        for node, message in rule(wiring)
    ]


def lint_paths(paths: Sequence[Path]) -> Iterator[Report]:
    """Lints ONNX files, and every graph of a bundle where a path is a folder.

    Raises:
        CalibrationError: A file cannot be read, or is no ONNX file.
        BundleError: A folder is no bundle, or was changed.
    """
    for path in paths:
        for file in _graphs(path) if path.is_dir() else [path]:
            yield Report(file, tuple(lint_model(read_model(file))))


def _graphs(folder: Path) -> list[Path]:
    """The files of a bundle's graphs, hashed."""
    bundle = Bundle.open(folder)
    named = [
        (component, precision) for component, graphs in bundle.manifest.graphs.items() for precision in graphs
    ]
    return [bundle.graph(component, precision).path for component, precision in named]


def as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """Reports as one JSON object."""
    files = [{"file": str(r.file), "findings": [asdict(f) for f in r.findings]} for r in reports]
    errors = sum(report.errors for report in reports)
    return {"files": files, "errors": errors, "warnings": sum(len(r.findings) for r in reports) - errors}


def as_lines(reports: Sequence[Report]) -> Iterator[str]:
    """Reports for people: a line a finding, and a line for what is clean."""
    for report in reports:
        for finding in report.findings:
            yield f"{report.file}: {finding.severity}: {finding.node}: {finding.message} [{finding.rule}]"
        if not report.findings:
            yield f"{report.file}: clean"


@click.command("lint")
@click.argument(
    "paths", nargs=-1, required=True, metavar="FILE|BUNDLE...", type=click.Path(exists=True, path_type=Path)
)
@click.option("--json", "as_object", is_flag=True, help="One JSON object instead of lines.")
@click.pass_context
def lint_command(context: click.Context, paths: tuple[Path, ...], *, as_object: bool) -> None:
    """Find what TensorRT 10.3 or ONNX Runtime 1.23 would refuse, or would not run in INT8, in ONNX files.

    Needs no TensorRT. Names rule, node and cause; exits 1 where there are errors.
    """
    reports = list(lint_paths(paths))
    click.echo(json.dumps(as_json(reports), indent=1) if as_object else "\n".join(as_lines(reports)))
    if any(report.errors for report in reports):
        context.exit(1)
