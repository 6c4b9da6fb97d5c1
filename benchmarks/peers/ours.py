"""edge-sr itself, by the same protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.protocol import OURS, OURS_FP32, Case, Float, Upscale, snippet_module
from edge_sr.spec import Component, Precision

__all__ = ["FP32", "INT8"]


@dataclass(frozen=True)
class EdgeSR:
    """See `benchmarks.peers.protocol.Peer`."""

    key: str
    label: str
    precision: str
    note: str = (
        "`Upscaler.upscale`: noise, tiles, encode, loop, decode; the others are spared noise and tiles"
    )
    distributions: Sequence[str] = ("edge-sr[cpu]",)
    snippet: str = "edge_sr_bundle"

    def available(self, case: Case) -> str:
        """Whether the bundle has the precision."""
        graphs = case.opened().manifest.graphs
        has_all = all(Precision(self.precision) in graphs[component] for component in Component)
        return "" if has_all else f"the bundle has no {self.precision} graphs"

    def prepare(self, case: Case) -> None:
        """A bundle is ready."""

    def open(self, case: Case) -> Upscale:
        """Loads the graphs as they are shipped, not a model that an earlier command has optimised."""
        os.environ.pop("STATE_DIRECTORY", None)
        os.environ["XDG_CACHE_HOME"] = str(case.folder("cache"))
        snippet = snippet_module(self)
        upscaler = snippet.load(case.bundle, case.threads, self.precision)

        def upscale(image: Float, seed: int) -> Float:
            made: Float = snippet.upscale(upscaler, image, seed)
            return made

        return upscale


INT8 = EdgeSR(OURS, "edge-sr, INT8", "int8")
FP32 = EdgeSR(OURS_FP32, "edge-sr, FP32", "fp32")
