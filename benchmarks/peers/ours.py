"""edge-sr itself, by the same protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.protocol import (
    OURS,
    OURS_FP32,
    OURS_OPENVINO,
    Case,
    Float,
    Upscale,
    missing_module,
    snippet_module,
)
from edge_sr.spec import Component, Precision

__all__ = ["FP32", "INT8", "OPENVINO"]

NOTE = "`Upscaler.upscale`: noise, tiles, encode, loop, decode; the others are spared noise and tiles"


@dataclass(frozen=True)
class EdgeSR:
    """See `benchmarks.peers.protocol.Peer`.

    Attributes:
        graphs: The precision of the graphs, as the bundle calls it.
        backend: What runs them, which is also its module.
    """

    key: str
    label: str
    precision: str
    graphs: Precision
    backend: str = "onnxruntime"
    note: str = NOTE
    distributions: Sequence[str] = ("edge-sr[cpu]",)
    snippet: str = "edge_sr_bundle"

    def available(self, case: Case) -> str:
        """Whether the backend is here, and the bundle has the precision."""
        if reason := missing_module(self.backend):
            return reason
        graphs = case.opened().manifest.graphs
        has_all = all(self.graphs in graphs[component] for component in Component)
        return "" if has_all else f"the bundle has no {self.graphs} graphs"

    def prepare(self, case: Case) -> None:
        """A bundle is ready."""

    def open(self, case: Case) -> Upscale:
        """Loads the graphs as they are shipped, not a model that an earlier command has optimised."""
        os.environ.pop("STATE_DIRECTORY", None)
        os.environ["XDG_CACHE_HOME"] = str(case.folder("cache"))
        snippet = snippet_module(self)
        upscaler = snippet.load(case.bundle, case.threads, self.graphs, self.backend)

        def upscale(image: Float, seed: int) -> Float:
            made: Float = snippet.upscale(upscaler, image, seed)
            return made

        return upscale


INT8 = EdgeSR(OURS, "edge-sr, INT8", "int8", Precision.INT8)
FP32 = EdgeSR(OURS_FP32, "edge-sr, FP32", "fp32", Precision.FP32)
OPENVINO = EdgeSR(
    OURS_OPENVINO, "edge-sr, INT8, OpenVINO backend", "int8", Precision.INT8_FP16, "openvino",
    note=f"`--backend openvino`, which takes the int8-fp16 graphs; {NOTE}",
    distributions=("edge-sr[cpu,openvino]",),
)  # fmt: skip
