"""The machine that is measured: what it is, and what state it is in."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edge_sr import __version__
from edge_sr.bench.records import Environment, Processors, State
from edge_sr.device import describe
from edge_sr.telemetry import CpuShares, load_average, power_mode, snapshot

__all__ = ["processors", "read_environment", "read_state"]

ROOT = Path("/")


def read_environment(facts: Mapping[str, str], *, root: Path = ROOT) -> Environment:
    """Where this runs.

    Args:
        facts: What the backend says of itself, `Backend.describe`.
        root: Where the machine's files are.
    """
    here, mode = describe(root), power_mode(root)
    cpu = here.cpu.name or here.cpu.machine
    board = here.board.model if here.board else here.gpu.name if here.gpu else cpu
    software = here.software
    return Environment(
        device=board,
        cpu=cpu,
        cores=_cores(),
        memory_mib=here.memory.total_mib if here.memory else None,
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        container=here.container,
        jetpack=software.jetpack,
        cuda=software.cuda,
        driver=software.driver,
        tensorrt=software.tensorrt,
        backend=facts["backend"],
        backend_version=facts["version"],
        provider=facts["provider"],
        power_mode=None if mode is None else mode.name or str(mode.id),
        edge_sr=__version__,
        python=platform.python_version(),
        numpy=np.__version__,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_state(root: Path = ROOT) -> State:
    """The machine now."""
    now = snapshot(root)
    mode, clocks = now["power_mode"], now["clocks_mhz"]
    running = {name: clock["current_mhz"] for name, clock in clocks.items() if clock["current_mhz"]}
    locked = tuple(
        name
        for name, clock in clocks.items()
        if clock["min_mhz"] is not None and clock["min_mhz"] == clock["max_mhz"]
    )
    return State(
        power_mode=None if mode is None else mode["name"] or str(mode["id"]),
        clocks_mhz=running,
        locked=locked,
        temperatures_c=now["temperatures_c"],
        rails_w=now["rails_w"],
        throttle_counters=now["throttle_counters"],
        active_throttles=tuple(now["active_throttles"]),
        load=load_average(root),
    )


def processors(shares: CpuShares | None) -> Processors | None:
    """The record of who had the processors."""
    return None if shares is None else Processors(**asdict(shares))
