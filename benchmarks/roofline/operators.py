"""Where the time of a graph goes, operator by operator, as ONNX Runtime's own profiler has it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edge_sr.backends.ort import import_onnxruntime
from edge_sr.backends.unsigned import has_vnni, to_unsigned
from edge_sr.spec import Graph, Precision

__all__ = ["KINDS", "profile", "shares"]

KINDS = {
    "products": ("Conv", "FusedConv", "QLinearConv", "ConvInteger", "Gemm", "QGemm", "MatMul", "FusedMatMul",
                 "QLinearMatMul", "MatMulInteger"),
    "layouts": ("Transpose", "ReorderInput", "ReorderOutput", "Concat", "Split", "Slice", "Resize",
                "DepthToSpace", "Upsample"),
    "Q/DQ": ("QuantizeLinear", "DequantizeLinear"),
    "norms": ("InstanceNormalization", "LayerNormalization", "BatchNormalization"),
    "elementwise": ("Add", "Mul", "Sub", "Div", "Min", "Max", "Neg", "QLinearAdd", "QLinearMul", "QuickGelu",
                    "Relu", "Sigmoid", "QLinearSigmoid", "Softmax", "Cast", "Clip"),
}  # fmt: skip
"""Kind of work -> operators; all others are "rest"."""


def profile(graph: Graph, folder: Path, *, threads: int, runs: int) -> dict[str, float]:
    """Operator -> milliseconds of one run of a graph: the sum over its nodes of their medians over runs.

    Args:
        graph: In the form in which edge-sr loads it here.
        folder: Where the profiler writes.
        threads: CPU threads.
        runs: How many, after two that are left out.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    model = graph.path.read_bytes()
    model = to_unsigned(model) if graph.precision is Precision.INT8 and has_vnni() else model
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {s.name: rng.uniform(-1, 1, s.concrete(1)).astype(np.float32) for s in graph.inputs}
    for _ in range(runs + 2):
        session.run(None, feed)
    return _by_operator(json.loads(Path(session.end_profiling()).read_text()), left_out=2)


def _by_operator(events: list[dict[str, Any]], *, left_out: int) -> dict[str, float]:
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["args"]["op_name"], event["name"]].append(event["dur"])
    totals: dict[str, float] = defaultdict(float)
    for (operator, _), microseconds in durations.items():
        totals[operator] += float(np.median(microseconds[left_out:])) / 1e3
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def shares(milliseconds: dict[str, float]) -> dict[str, float]:
    """Kind of work -> its share of the sum."""
    kinds = {operator: kind for kind, operators in KINDS.items() for operator in operators}
    found = dict.fromkeys([*KINDS, "rest"], 0.0)
    for operator, spent in milliseconds.items():
        found[kinds.get(operator, "rest")] += spent
    total = sum(found.values())
    return {kind: spent / total for kind, spent in found.items()}
