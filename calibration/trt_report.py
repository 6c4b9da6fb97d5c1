"""What TensorRT-RTX made of a bundle, as data, JSON and Markdown: the proof `rtx-portable`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.wiring import Finding
from edge_sr.errors import OutputError

__all__ = ["BATCHES", "LIMITS", "PROOF", "TARGETS", "GraphVerdict", "Verdict", "as_markdown", "write_verdict"]

PROOF = "rtx-portable"
LIMITS = (
    "This holds for TensorRT-RTX of that version, which is another product than JetPack's TensorRT: its "
    "targets do not include Orin's sm_87, and its parser is newer than JetPack's. Engines are built, not run."
)
TARGETS = ("8.0", "8.6", "8.9")
"""Compute capabilities: Ampere's, of whose family Orin's 8.7 is, and Ada's."""

BATCHES = (1, 1, 4)
"""Least, likeliest and greatest length of the free first axis."""


@dataclass(frozen=True)
class GraphVerdict:
    """What TensorRT-RTX makes of one graph.

    Attributes:
        component, precision, file, sha256: Which graph.
        is_parsed: Whether the parser reads it, in a strongly typed network.
        plan_bytes: Size of the engine for all targets; 0 where it was not built.
        int8: Layers with Q/DQ on data and weights, in the parsed network.
        weighted: Convolutions and matrix products, in the parsed network.
        normalizations: Normalisations in the file; `layers` has the network's.
        layers: Layers of the parsed network by kind.
        findings: What is not as it should be.
    """

    component: str
    precision: str
    file: str
    sha256: str
    is_parsed: bool
    plan_bytes: int
    int8: int
    weighted: int
    normalizations: int
    layers: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether it was built and nothing is wrong with it."""
        return self.plan_bytes > 0 and all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True)
class Verdict:
    """What TensorRT-RTX makes of a bundle."""

    library: str
    bundle: str
    digest: str
    graphs: tuple[GraphVerdict, ...]
    proof: str = PROOF
    limits: str = LIMITS
    targets: tuple[str, ...] = TARGETS
    batches: tuple[int, int, int] = BATCHES

    @property
    def is_good(self) -> bool:
        """Whether every graph is good."""
        return all(graph.is_good for graph in self.graphs)

    def as_json(self) -> dict[str, Any]:
        """The whole, as one JSON object."""
        return {**asdict(self), "is_good": self.is_good}


def as_markdown(verdict: Verdict) -> str:
    """The verdict for people."""
    least, _, most = verdict.batches
    lines = [
        f"# TensorRT's verdict: {verdict.proof}",
        "",
        f"Bundle {verdict.bundle} ({verdict.digest[:12]}), {verdict.library}, without a GPU, for "
        f"compute capabilities {', '.join(verdict.targets)}, batches {least} to {most}.",
        "",
        verdict.limits,
        "",
        "| graph | parsed | built | INT8 layers | norms (file) | plan, MB | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(graph) for graph in verdict.graphs),
    ]
    found = [(graph, finding) for graph in verdict.graphs for finding in graph.findings]
    notes = [f"- {g.file}: {f.severity}: {f.node}: {f.message} [{f.rule}]" for g, f in found]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _row(graph: GraphVerdict) -> str:
    norms = f"{graph.layers.get('NORMALIZATION', 0)} ({graph.normalizations})"
    errors = sum(finding.severity == "error" for finding in graph.findings)
    cells = [
        f"{graph.component} {graph.precision}",
        "yes" if graph.is_parsed else "no",
        "yes" if graph.plan_bytes else "no",
        f"{graph.int8} of {graph.weighted}",
        norms,
        f"{graph.plan_bytes / 1e6:.1f}",
        "good" if graph.is_good else f"{errors} errors",
    ]
    return f"| {' | '.join(cells)} |"


def write_verdict(verdict: Verdict, folder: Path) -> None:
    """Writes rtx-portable.json and rtx-portable.md.

    Raises:
        OutputError: The folder cannot be written.
    """
    texts = {"json": json.dumps(verdict.as_json(), indent=1), "md": as_markdown(verdict)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            (folder / f"{PROOF}.{suffix}").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
