"""What a graph costs is counted in the graph itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sr.bundle import Bundle
from edge_sr.spec import Component, Precision
from export.cost import count_cost


def graph(nodes: list[Any], inputs: dict[str, list[Any]], weights: dict[str, tuple[int, ...]]) -> Any:
    """A graph with one output `y`, whose shape is to be inferred."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    found = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "made up", sides, [output], found)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_convolution_costs_its_kernel_for_every_output() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    cost = count_cost(graph([conv], {"x": ["N", 4, 8, 8]}, {"w": (6, 2, 3, 3)}))
    outputs = 6 * 4 * 4
    assert cost.macs == outputs * 2 * 9
    assert cost.weight_bytes == 6 * 2 * 9 * 4
    assert cost.activation_bytes == (4 * 8 * 8 + outputs) * 4


def test_a_transposed_convolution_costs_its_kernel_for_every_input() -> None:
    conv = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    assert count_cost(graph([conv], {"x": ["N", 3, 5, 5]}, {"w": (3, 7, 2, 2)})).macs == 3 * 25 * 7 * 4


@pytest.mark.parametrize(("a", "flags"), [((5, 3), {}), ((3, 5), {"transA": 1})])
def test_a_product_with_weights_costs_its_length_for_every_output(
    a: tuple[int, int], flags: dict[str, int]
) -> None:
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], **flags)
    assert count_cost(graph([gemm], {"x": list(a)}, {"w": (3, 4)})).macs == 5 * 4 * 3


def test_a_product_of_two_activations_reads_both_and_what_is_between_is_free() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["p"]),
        helper.make_node("Softmax", ["p"], ["y"]),
    ]
    cost = count_cost(graph(nodes, {"x": ["N", 6, 10]}, {}))
    assert (cost.macs, cost.weight_bytes, cost.activation_bytes) == (6 * 6 * 10, 0, (60 + 60 + 36) * 4)


def test_weights_behind_a_cast_are_no_activations_and_narrow_numbers_are_narrower() -> None:
    nodes = [
        helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = graph(nodes, {"x": ["N", 4]}, {})
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((4, 8), np.float16), "half"))
    wide, narrow = (count_cost(model, p) for p in (Precision.FP32, Precision.INT8))
    assert (wide.weight_bytes, wide.activation_bytes) == (4 * 8 * 4, (4 + 8) * 4)
    assert (narrow.weight_bytes, narrow.activation_bytes) == (4 * 8, 4 + 8)
    assert wide.macs == narrow.macs


def test_an_exported_bundle_says_what_its_graphs_cost(bundle: Bundle) -> None:
    costs = [bundle.manifest.graphs[c][Precision.FP32].cost for c in Component]
    assert all(cost is not None and cost.macs > 0 and cost.weight_bytes > 0 for cost in costs)
