"""Models that ONNX Runtime has optimised and saved, so that the next start need not do it again.

Such a model is laid out for the CPU that it was made on, and ONNX Runtime says so; it is kept, and refused
elsewhere, like any other engine.
"""

from __future__ import annotations

from pathlib import Path

from edge_sr.backends.engine_store import ONNX_RUNTIME, Target
from edge_sr.device import describe

__all__ = ["OPTIMISED_FLAGS", "optimised_target"]

OPTIMISED_FLAGS = "optimisation=all"


def optimised_target(version: str, *, root: Path = Path("/")) -> Target:
    """What an optimised model runs on: this ONNX Runtime, and this CPU's instruction sets.

    Args:
        version: ONNX Runtime's.
        root: Where `proc/cpuinfo` is read.
    """
    cpu = describe(root).cpu
    return Target(ONNX_RUNTIME, version, "cpu", " ".join([cpu.machine, *cpu.flags]))
