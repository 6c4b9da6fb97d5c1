"""What one run of a graph costs, counted in the graph itself: for a floor under its time on a device.

Counted are the operators that do nearly all of the work: convolutions and matrix products. What lies between
them is taken to be fused into them, at no cost: it makes the floor lower, never higher.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from onnx import TensorProto, helper, shape_inference

from edge_sr.manifest import Cost
from edge_sr.roofline import WIDTHS
from edge_sr.spec import Precision

WEIGHTS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8)
Shapes = dict[str, tuple[int, ...]]


def count_cost(model: Any, precision: Precision = Precision.FP32) -> Cost:
    """The cost of one run for a batch of one.

    Args:
        model: An ONNX graph whose first axes alone are free; it is not changed.
        precision: What it computes in.
    """
    shapes, constants = _shapes(model), _constants(model)
    macs = elements = 0
    for node in model.graph.node:
        if node.op_type in MACS:
            macs += MACS[node.op_type](node, shapes)
            moved = [*node.input[:2], *node.output]
            elements += sum(math.prod(shapes[name]) for name in moved if name not in constants)
    weights = sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type in WEIGHTS)
    width = WIDTHS[precision]
    return Cost(macs=macs, weight_bytes=weights * width, activation_bytes=elements * width)


def count_macs(model: Any) -> list[tuple[Any, int]]:
    """The nodes that are counted, each with its multiply-accumulates for a batch of one."""
    shapes = _shapes(model)
    return [(n, MACS[n.op_type](n, shapes)) for n in model.graph.node if n.op_type in MACS]


def _shapes(model: Any) -> Shapes:
    """The shape of every tensor, for a batch of one."""
    copy = type(model)()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = 1
    graph = shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True).graph
    found = {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return found | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _constants(model: Any) -> set[str]:
    """Tensors that are the same in every run: initialisers, and what is made of nothing else."""
    names = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:  # in the order in which they run
        if names.issuperset(filter(None, node.input)):
            names.update(node.output)
    return names


def _convolution(node: Any, shapes: Shapes) -> int:
    """Every output is a sum over a kernel of (out, in / groups, h, w)."""
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _transposed(node: Any, shapes: Shapes) -> int:
    """Every input is spread over a kernel of (in, out / groups, h, w)."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: Any, shapes: Shapes) -> int:
    """(..., m, k) x (..., k, n)."""
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: Any, shapes: Shapes) -> int:
    """(m, k) x (k, n), either of which may be transposed."""
    transposed = any(a.name == "transA" and helper.get_attribute_value(a) for a in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


MACS: dict[str, Callable[[Any, Shapes], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "Gemm": _gemm,
}
"""Operator -> its multiply-accumulates."""
