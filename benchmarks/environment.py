"""What a result says of where it was made: machine, versions, commit, command; never a path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records import Environment

__all__ = ["command", "environment"]

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "torch", "onnx")
CPU_INFO = Path("/proc/cpuinfo")


def environment(arguments: Sequence[str], *, threads: int) -> Environment:
    """This machine and checkout.

    Args:
        arguments: Those of the command line.
        threads: What the run was given.
    """
    return Environment(
        cpu=_cpu(),
        cores=_cores(),
        threads=threads,
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=f"{platform.system()} {platform.machine()}",
        versions={"python": platform.python_version(), **_versions()},
        commit=_commit(),
        command=command(arguments),
    )


def command(arguments: Sequence[str]) -> str:
    """The command, every path cut to its last part: results travel, and do not say where they were made."""
    return shlex.join(["python", "-m", "benchmarks", *map(_placeless, arguments)])


def _placeless(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{equals}FOLDER/{Path(value).name}" if os.sep in value else word


def _cpu() -> str:
    """The processor's name, as the system has it."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return next(iter(named), platform.processor() or "unknown")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The checkout's commit, marked where Python files differ from it; "unknown" outside one."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", "*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
