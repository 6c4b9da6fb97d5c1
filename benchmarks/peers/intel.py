"""OpenVINO: our FP32 graphs, the same quantised by NNCF after training, and our own INT8 graphs.

FP32 is asked for where a layer is not INT8, as edge-sr computes it. Left to itself OpenVINO takes BF16 where
the CPU has it, which is twice as slow on one that has it without AMX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.calibrating import Samples, collect
from benchmarks.peers.laid import lay_steps, plain_loop
from benchmarks.peers.opening import open_snippet
from benchmarks.peers.protocol import Case, Upscale, missing_module
from edge_sr.bundle import Bundle
from edge_sr.spec import BATCH, Component, Precision

__all__ = ["FP32", "NNCF", "OURS"]

NOTE = "latency hint, one stream, batch of one, what is not INT8 in FP32"


@dataclass(frozen=True)
class OpenVino:
    """See `benchmarks.peers.protocol.Peer`.

    Attributes:
        source: The precision of the graphs that are converted.
        quantises: Whether NNCF then makes them INT8.
    """

    key: str
    label: str
    precision: str
    note: str
    source: Precision = Precision.FP32
    quantises: bool = False
    snippet: str = "openvino_loop"
    distributions: Sequence[str] = ("openvino", "numpy")

    def available(self, case: Case) -> str:
        """Whether OpenVINO is here, and for NNCF also that and images to calibrate with."""
        if reason := missing_module("openvino", *["nncf"] * self.quantises) or plain_loop(case):
            return reason
        if self.quantises and case.calibration is None:
            return "no images to calibrate with were given (--calibration)"
        has_all = all(self.source in case.opened().manifest.graphs[c] for c in Component)
        return "" if has_all else f"the bundle has no {self.source} graphs"

    def prepare(self, case: Case) -> None:
        """Converts the graphs, and quantises them."""
        import openvino

        bundle, folder = case.opened(), case.folder(self.key)
        models = {component: read_model(bundle, component, self.source) for component in Component}
        if self.quantises:
            samples = collect(case, case.folder(f"{self.key}-calibration"))
            models = {c: quantised(model, samples[c], c) for c, model in models.items()}
        for component, model in models.items():
            openvino.save_model(model, folder / f"{component}.xml", compress_to_fp16=False)
        lay_steps(case, bundle, folder)

    def open(self, case: Case) -> Upscale:
        """Compiles the models."""
        return open_snippet(self, case)


def read_model(bundle: Bundle, component: Component, precision: Precision) -> Any:
    """A graph as OpenVINO's model, for a batch of one: it is faster where it knows the sizes."""
    import openvino

    graph = bundle.graph(component, precision)
    model = openvino.Core().read_model(Path(graph.path))
    model.reshape({s.name: [1 if axis == BATCH else axis for axis in s.shape] for s in graph.inputs})
    return model


def quantised(model: Any, samples: Samples, component: Component) -> Any:
    """NNCF's post-training quantisation; the UNet, which has attention, as its documentation wants it."""
    import nncf

    kind = {"model_type": nncf.ModelType.TRANSFORMER} if component is Component.STEP else {}
    return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), **kind)


FP32 = OpenVino("openvino-fp32", "OpenVINO, FP32", "fp32", NOTE)
NNCF = OpenVino(
    "openvino-int8",
    "OpenVINO, INT8 (NNCF)",
    "int8",
    f"{NOTE}; post-training, on trajectories over the calibration images",
    quantises=True,
)
OURS = OpenVino(
    "openvino-our-int8", "OpenVINO, our INT8 graphs", "int8", f"{NOTE}; as they lie in the bundle, signed",
    source=Precision.INT8,
)  # fmt: skip
