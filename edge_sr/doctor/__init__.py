"""Turns what is known of a machine into findings: what works, what does not, why, and what to do.

`examine` gathers the facts and judges them; nothing is printed, and no backend is imported: a library counts
as there when Python would find it. Whether it also loads is what `edge-sr selftest` tells.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_sr.device import Process, describe
from edge_sr.doctor.checks import CHECKS, MINIMUM_TENSORRT, trtexec_line
from edge_sr.doctor.libraries import Library, probe_libraries
from edge_sr.doctor.report import BACKENDS, DoctorReport, Finding, human_lines
from edge_sr.telemetry import snapshot

__all__ = [
    "BACKENDS",
    "MINIMUM_TENSORRT",
    "DoctorReport",
    "Finding",
    "Library",
    "examine",
    "human_lines",
    "probe_libraries",
    "trtexec_line",
]


def examine(root: Path = Path("/"), *, process: Process | None = None) -> DoctorReport:
    """Gather the facts of the machine whose files lie under `root`, and judge them."""
    facts = DoctorReport(describe(root, process=process), snapshot(root), probe_libraries())
    return replace(facts, findings=tuple(finding for check in CHECKS for finding in check(facts)))
