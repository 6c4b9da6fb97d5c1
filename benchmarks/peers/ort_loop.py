"""ONNX Runtime as people write it: our graphs, default options, arrays in and out every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.laid import lay_graphs, plain_loop
from benchmarks.peers.opening import open_snippet
from benchmarks.peers.protocol import Case, Upscale, missing_module
from edge_sr.spec import Component, Precision

__all__ = ["FP32", "INT8"]

NOTE = "`session.run` every step, no I/O binding, default options but for the number of threads"


@dataclass(frozen=True)
class OnnxRuntimeLoop:
    """See `benchmarks.peers.protocol.Peer`."""

    key: str
    label: str
    precision: str
    note: str
    snippet: str = "ort_loop"
    distributions: Sequence[str] = ("onnxruntime", "numpy")

    def available(self, case: Case) -> str:
        """Whether ONNX Runtime and the graphs are here."""
        graphs = case.opened().manifest.graphs
        has_all = all(Precision(self.precision) in graphs[component] for component in Component)
        reason = missing_module("onnxruntime") or plain_loop(case)
        return reason or ("" if has_all else f"the bundle has no {self.precision} graphs")

    def prepare(self, case: Case) -> None:
        """Copies the graphs."""
        lay_graphs(case, Precision(self.precision), case.folder(self.key))

    def open(self, case: Case) -> Upscale:
        """Makes the sessions."""
        return open_snippet(self, case)


FP32 = OnnxRuntimeLoop("ort-fp32", "ONNX Runtime, plain loop, FP32", "fp32", NOTE)
INT8 = OnnxRuntimeLoop(
    "ort-int8", "ONNX Runtime, plain loop, INT8", "int8", f"{NOTE}; the INT8 graphs as they lie in the bundle"
)
