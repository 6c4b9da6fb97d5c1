"""What the doctor found, as values, as JSON and as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_sr.device import Device, Gpu
from edge_sr.doctor.libraries import Library

__all__ = ["BACKENDS", "DoctorReport", "Finding", "Level", "architecture", "human_lines"]

BACKENDS = ("onnxruntime", "tensorrt")

Level = Literal["blocker", "warning", "note", "ok"]
LEVELS: tuple[Level, ...] = ("blocker", "warning", "note", "ok")


@dataclass(frozen=True)
class Finding:
    """One thing that is worth knowing.

    Attributes:
        level: "ok", "note" (good to know), "warning" (works, but not as well as it could) or "blocker".
        subject: What it is about, in a word.
        message: What was found, with values.
        hint: What to do; empty where there is nothing to do.
        blocks: The backends that cannot run because of it.
    """

    level: Level
    subject: str
    message: str
    hint: str = ""
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True)
class DoctorReport:
    """All facts and what follows from them. `state` is `edge_sr.telemetry.snapshot`."""

    device: Device
    state: dict[str, Any]
    libraries: dict[str, Library]
    findings: tuple[Finding, ...] = ()

    @property
    def works(self) -> dict[str, bool]:
        """For each backend, whether nothing was found that stops it."""
        blocked = {backend for finding in self.findings for backend in finding.blocks}
        return {backend: backend not in blocked for backend in BACKENDS}

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for `json.dumps`. It names no user, host or patient."""
        device = asdict(self.device)
        for personal in ("uid", "gids", "executable"):
            del device["process"][personal]
        return {
            "device": device,
            "state": self.state,
            "libraries": {name: asdict(library) for name, library in self.libraries.items()},
            "works": self.works,
            "findings": [asdict(finding) for finding in self.findings],
        }


def architecture(gpu: Gpu) -> str:
    """The CUDA architecture as compilers name it, "sm_87"."""
    capability = gpu.compute_capability
    return f"sm_{capability[0]}{capability[1]}" if capability else "architecture known only to CUDA"


def human_lines(report: DoctorReport) -> list[str]:
    """The report as lines of text for a terminal: facts, backends, then findings with the worst first."""
    lines = [f"{label:<10} {text}" for label, text in _facts(report) if text]
    lines += [f"{name:<11} {'nothing stops it' if ok else 'cannot run'}" for name, ok in report.works.items()]
    for finding in sorted(report.findings, key=lambda finding: LEVELS.index(finding.level)):
        lines.append(f"[{finding.level}] {finding.subject}: {finding.message}")
        lines += [f"    do: {finding.hint}"] if finding.hint else []
    return lines


def _facts(report: DoctorReport) -> Iterator[tuple[str, str]]:
    device, state = report.device, report.state
    board = device.board
    if board:
        soc = board.soc.name if board.soc else "unknown chip"
        yield "board", f"{board.model}; {board.module or 'unknown module'} ({board.part}), {soc}"
    yield "gpu", f"{device.gpu.name}, {architecture(device.gpu)}" if device.gpu else "none"
    yield "cpu", f"{device.cpu.name or device.cpu.machine}, {device.cpu.cores} cores"
    versions = {key: value for key, value in asdict(device.software).items() if value}
    yield "software", ", ".join(f"{key} {value}" for key, value in versions.items())
    yield (
        "python",
        ".".join(map(str, device.process.python)) + (" in a venv" if device.process.is_venv else ""),
    )
    if device.memory:
        memory = device.memory
        yield "memory", f"{memory.total_mib} MiB, {memory.available_mib} available, swap {memory.swap_mib}"
    if state["whole_module_rail"]:
        rail = state["whole_module_rail"]
        yield "power", f"{state['rails_w'][rail]:.1f} W at {rail}"
    if "gpu" in state["clocks_mhz"] and state["clocks_mhz"]["gpu"]["current_mhz"]:
        yield "clock", f"GPU at {state['clocks_mhz']['gpu']['current_mhz']:.0f} MHz"
    heat = ", ".join(f"{name} {degrees:.0f}" for name, degrees in state["temperatures_c"].items())
    yield "heat", f"{heat} °C" if heat else ""
    yield "container", device.container or ""
