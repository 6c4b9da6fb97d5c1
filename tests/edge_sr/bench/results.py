"""Results that nobody measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sr.bench.records import BenchResult

DIGEST = "ab" * 32
CASE: dict[str, Any] = {
    "precision": "fp32",
    "preset": {"sampler": "ddim", "steps": 20},
    "size": 64,
    "batch": 4,
    "threads": 2,
}
ENVIRONMENT: dict[str, Any] = {
    "device": "NVIDIA Jetson Orin Nano",
    "cpu": "Cortex-A78AE",
    "cores": 6,
    "memory_mib": 7620,
    "system": "Linux aarch64",
    "kernel": "5.15.148-tegra",
    "container": None,
    "jetpack": "6.2",
    "cuda": "12.6",
    "driver": "540.4.0",
    "tensorrt": "10.3.0",
    "backend": "tensorrt",
    "backend_version": "tensorrt 10.3.0",
    "provider": "Orin (sm 8.7, CUDA 12.6)",
    "power_mode": "15W",
    "edge_sr": "0.1.0",
    "python": "3.10.12",
    "numpy": "1.26.4",
}
STATE: dict[str, Any] = {
    "power_mode": "15W",
    "clocks_mhz": {"gpu": 612.0},
    "locked": ["gpu"],
    "temperatures_c": {"gpu-thermal": 50.0},
    "rails_w": {"VDD_IN": 7.5},
    "throttle_counters": {"oc1_event_cnt": 0},
    "active_throttles": [],
    "load": 0.5,
}


def noisy(seconds: float, *, count: int = 40, seed: int = 0) -> list[float]:
    """Samples around `seconds`, 1 % apart."""
    return (seconds * np.random.default_rng(seed).normal(1, 0.01, count)).tolist()


def row_of(loop_s: float = 0.1, *, count: int = 40, seed: int = 0, **case: Any) -> dict[str, Any]:
    """A row whose loops take so long; `case` replaces parts of it, "steps" those of its preset."""
    preset = CASE["preset"] | {k: case.pop(k) for k in ("steps", "sampler") if k in case}
    loop = noisy(loop_s, count=count, seed=seed)
    short = [0.001] * count
    stages = dict.fromkeys(("read", "encode", "decode", "write", "step"), short)
    stages |= {"loop": loop, "latency": [seconds + 0.003 for seconds in loop]}
    batch = {"size": 1, "latency": loop, "enqueue": short, "compute": loop}
    load = {
        "share": 0.5,
        "per_second": 5.0,
        "arrived": [0.1, 0.2],
        "started": [0.1, 0.3],
        "finished": [0.3, 0.5],
    }
    return {
        "case": CASE | case | {"preset": preset},
        "start": None,
        "warm_up": {"seconds": [0.3, 0.1], "is_stable": True},
        "stages": stages,
        "batches": [batch],
        "loads": [load],
        "energy": None,
    }


def record_of(
    rows: Sequence[dict[str, Any]] | None = None, *, digest: str = DIGEST, **environment: Any
) -> dict[str, Any]:
    """A result as JSON has it; `environment` replaces parts of it."""
    return {
        "kind": "edge-sr/bench",
        "schema_version": 1,
        "created": "2026-01-31T12:00:00Z",
        "environment": ENVIRONMENT | environment,
        "bundle": {"name": "cxr-x4", "version": "1.0", "digest": digest},
        "settings": {
            "duration_s": 20.0,
            "seed": 0,
            "window": 5,
            "tolerance": 0.05,
            "parts": ["batches", "load"],
        },
        "before": STATE,
        "after": STATE,
        "processors": {"seconds": 10.0, "own": 1.9, "others": 0.01, "stolen": 0.0},
        "rows": list(rows) if rows is not None else [row_of()],
        "notices": [],
    }


def result_of(
    rows: Sequence[dict[str, Any]] | None = None, *, digest: str = DIGEST, **environment: Any
) -> BenchResult:
    """The same as a record."""
    return BenchResult.model_validate(record_of(rows, digest=digest, **environment))
