"""Which backend runs, at which precision, and why: what `--backend auto` decides.

TensorRT is preferred where engines for this device exist, ONNX Runtime runs otherwise, and the reason is
always said. Where no TensorRT is installed, or no engine lies in the folder, nothing of it is imported.
OpenVINO runs where it is asked for by name: its start costs more time than a few images gain.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edge_sr.backends import open_backend
from edge_sr.backends.engine_store import ONNX_RUNTIME, graph_precision
from edge_sr.backends.trt import TensorRTBackend, obstacle
from edge_sr.backends.unsigned import has_vnni
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError
from edge_sr.spec import Component, Precision

__all__ = ["AUTO", "OPENVINO", "BackendChoice", "choose_backend"]

AUTO, TENSORRT, OPENVINO = "auto", "tensorrt", "openvino"
FLAVOURS = ("tensorrt", "tensorrt_rtx")
ON_VNNI = {ONNX_RUNTIME: (Precision.INT8,), OPENVINO: (Precision.INT8_FP16, Precision.INT8)}
"""What runs on a CPU with VNNI, the best first. OpenVINO is nearer to FP32 with the form in which only what
layers read is quantised, and as fast within a few percent."""
_PLAN = re.compile(rf".*({'|'.join(Component)})-({'|'.join(Precision)})-[0-9a-f]{{16}}\.plan")


@dataclass(frozen=True)
class BackendChoice:
    """What runs.

    Attributes:
        name: Of the backend.
        precision: Of the graphs that it runs.
        reason: Why, in words.
    """

    name: str
    precision: Precision
    reason: str


def choose_backend(
    bundle: Bundle, name: str, *, precision: Precision | None, engine_dir: Path
) -> BackendChoice:
    """Decides what runs; a backend that is named is taken, whether it can run or not.

    Args:
        bundle: What is to be run.
        name: "auto", or the backend's name.
        precision: As asked for; where None, the bundle's own, but INT8 on a CPU with VNNI, and on TensorRT
            the one whose engines were built last, of those that fit.
        engine_dir: Where TensorRT's engines lie.
    """
    default = precision or bundle.manifest.default_precision
    if name not in (AUTO, TENSORRT):
        return BackendChoice(name, precision or _for_this_cpu(bundle, name), "asked for")
    if name == TENSORRT and precision:
        return BackendChoice(name, graph_precision(TENSORRT, precision), "asked for")
    wanted = [precision] if precision else [*_built(engine_dir), default]
    reasons = []
    for candidate in dict.fromkeys(graph_precision(TENSORRT, p) for p in wanted):
        reasons.append(_obstacle(bundle, candidate, engine_dir))
        if not reasons[-1]:
            why = "asked for" if name == TENSORRT else f"its {candidate} engines in {engine_dir} fit this GPU"
            return BackendChoice(TENSORRT, candidate, why)
    if name == TENSORRT:
        return BackendChoice(name, graph_precision(TENSORRT, default), "asked for")
    on_cpu = precision or _for_this_cpu(bundle, ONNX_RUNTIME)
    return BackendChoice(ONNX_RUNTIME, on_cpu, f"TensorRT is not used: {reasons[0]}")


def _for_this_cpu(bundle: Bundle, name: str) -> Precision:
    """INT8 where the CPU has the instructions that make it win, otherwise the bundle's own default.

    Measured in `benchmarks/results/loop-cxr-x4-int8.json` and `-fp32.json`. Without VNNI it was not.
    """
    best = ON_VNNI.get(name, ()) if has_vnni() else ()
    return next((p for p in best if p in bundle.precisions()), bundle.manifest.default_precision)


def _obstacle(bundle: Bundle, precision: Precision, engine_dir: Path) -> str:
    """What keeps TensorRT from running a bundle at a precision; empty where nothing does."""
    if not any(map(_is_installed, FLAVOURS)):
        return "it is not installed"
    if not _built(engine_dir):
        return f"no engines in {engine_dir} (build them with: edge-sr build-engine)"
    try:
        graphs = [bundle.graph(component, precision) for component in bundle.manifest.components]
    except BundleError as error:
        return str(error)
    return obstacle(graphs, lambda: cast(TensorRTBackend, open_backend(TENSORRT, engine_dir=engine_dir)))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it was imported already, and says nothing of where from
        return True


def _built(engine_dir: Path) -> list[Precision]:
    """The precisions of which there are engines, the newest first."""
    newest: dict[Precision, float] = {}
    for path in engine_dir.glob("*.plan"):
        if found := _PLAN.fullmatch(path.name):
            precision = Precision(found[2])
            newest[precision] = max(newest.get(precision, 0.0), path.stat().st_mtime)
    return sorted(newest, key=newest.__getitem__, reverse=True)
