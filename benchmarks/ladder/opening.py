"""Loads a rung's graphs: watched, and FP16 emulated or not."""

from __future__ import annotations

from benchmarks.ladder.rounding import RoundingBackend
from benchmarks.ladder.rungs import Rung, plain_backend
from benchmarks.ladder.watch import Watch, Watched, unwatched
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision

__all__ = ["open_rung"]


def open_rung(rung: Rung, *, threads: int, emulates_half: bool = True, watch: Watch = unwatched) -> Upscaler:
    """Loads a rung's graphs.

    Args:
        rung: Which.
        threads: CPU threads; 0 for all cores.
        emulates_half: Whether FP16 is rounded after each operator; otherwise ONNX Runtime upcasts it.
        watch: Told of every run of a graph.

    Raises:
        EdgeSRError: A graph is missing or damaged, or cannot be run as wanted.
    """
    is_half = rung.precision is Precision.FP16 and emulates_half
    backend = RoundingBackend(threads=threads) if is_half else plain_backend(threads)
    return Upscaler(rung.bundle, Watched(backend, watch), precision=rung.precision)
