"""What this machine reaches with work that has nothing else in it: large products, and copies.

The products run in ONNX Runtime, as the graphs do, with as many threads; torch's FP32 product is beside them,
so that one library's weakness is not taken for the machine's limit. The best of all is the peak.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_sr.backends.ort import import_onnxruntime
from edge_sr.spec import Precision

__all__ = ["Probe", "bandwidth_probe", "product_probes"]

SIDES = (768, 1536)  # of square products: 2.4 and 9.4 MB in FP32, within and beyond a usual L2 cache
CONVOLUTION = (128, 32)  # channels and side: 0.15 G multiply-accumulates
IR_VERSION, OPSET = 10, 18


@dataclass(frozen=True)
class Probe:
    """A piece of work whose rate says what the machine can do.

    Attributes:
        name: What it is.
        precision: What it computes in; None for a copy.
        operations: Of one run: two a multiply-accumulate; for a copy the bytes that it reads and writes.
        run: Does it once.
    """

    name: str
    precision: Precision | None
    operations: int
    run: Callable[[], object]

    def seconds(self) -> float:
        """What one run takes, after one that is not counted."""
        self.run()
        started = time.perf_counter()
        self.run()
        return time.perf_counter() - started


def product_probes(threads: int) -> tuple[Probe, ...]:
    """Matrix products and a convolution in FP32 and INT8 (unsigned by signed, sums in INT32)."""
    found = [_convolution_probe(threads, precision) for precision in (Precision.FP32, Precision.INT8)]
    for side in SIDES:
        found += [_matrix_probe(side, threads, precision) for precision in (Precision.FP32, Precision.INT8)]
        found.append(_torch_probe(side))
    return tuple(found)


def _matrix_probe(side: int, threads: int, precision: Precision) -> Probe:
    operator = "MatMulInteger" if precision is Precision.INT8 else "MatMul"
    model = _model(operator, (side, side), (side, side), precision)
    left = _values((side, side), precision, signed=False, seed=0)
    name, session = f"{operator} of ONNX Runtime, {side}x{side}", _session(model, threads)
    return Probe(name, precision, 2 * side**3, lambda: session.run(None, {"a": left}))


def _convolution_probe(threads: int, precision: Precision) -> Probe:
    """Many channels, and a map that stays in the cache."""
    channels, side = CONVOLUTION
    shapes = ((1, channels, side, side), (channels, channels, 3, 3))
    operator = "QLinearConv" if precision is Precision.INT8 else "Conv"
    session = _session(_model(operator, *shapes, precision), threads)
    image = _values(shapes[0], precision, signed=False, seed=0)
    name = f"3x3 convolution of ONNX Runtime, {channels} channels, {side}x{side}"
    operations = 2 * (channels * side * 3) ** 2
    return Probe(name, precision, operations, lambda: session.run(None, {"a": image}))


def _values(shape: tuple[int, ...], precision: Precision, *, signed: bool, seed: int) -> npt.NDArray[Any]:
    rng = np.random.default_rng(seed)
    if precision is Precision.FP32:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(-127, 128, shape, np.int8) if signed else rng.integers(0, 256, shape, np.uint8)


def _model(operator: str, left: tuple[int, ...], right: tuple[int, ...], precision: Precision) -> bytes:
    """A graph of one product, whose right side is constant, as weights are."""
    constants = {"b": _values(right, precision, signed=True, seed=1)}
    reads, attributes = ["a", "b"], {}
    if operator == "QLinearConv":
        scale, zero = np.float32(0.01), np.uint8(128)
        constants |= {"s": np.array(scale), "z": np.array(zero), "w": np.zeros((), np.int8)}
        reads = ["a", "s", "z", "b", "s", "w", "s", "z"]
    if operator.endswith("Conv"):
        attributes = {"pads": [1, 1, 1, 1]}
    kinds = {"MatMulInteger": TensorProto.INT32, "QLinearConv": TensorProto.UINT8}
    put = helper.make_tensor_value_info("a", _kind(precision), left)
    out = helper.make_tensor_value_info("c", kinds.get(operator, TensorProto.FLOAT), left)
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    node = helper.make_node(operator, reads, ["c"], **attributes)
    graph = helper.make_graph([node], "product", [put], [out], weights)
    made = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    return bytes(made.SerializeToString())


def _kind(precision: Precision) -> int:
    return int(TensorProto.UINT8 if precision is Precision.INT8 else TensorProto.FLOAT)


def _session(model: bytes, threads: int) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _torch_probe(side: int) -> Probe:
    shape = (side, side)
    a, b = (torch.from_numpy(_values(shape, Precision.FP32, signed=True, seed=s)) for s in (0, 1))
    return Probe(f"torch.mm, {side}x{side}", Precision.FP32, 2 * side**3, lambda: torch.mm(a, b))


def bandwidth_probe(name: str, traffic_bytes: int) -> Probe:
    """A copy that reads and writes so many bytes in all; the threads are torch's."""
    source = torch.ones(max(1024, traffic_bytes // 8))
    target = torch.empty_like(source)
    return Probe(name, None, 8 * source.numel(), lambda: target.copy_(source))
