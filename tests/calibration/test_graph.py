"""Graphs as they are read: large weights once, and none of them where shapes and types are inferred."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.graph import OPSET, element_types, read_graph, shapes

SIDE = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """x (N, 64) @ weight, reshaped to (N, 8, 8) by a shape that is an initialiser; the weight is FP16."""
    weight = np.eye(SIDE, dtype=np.float16)
    nodes = [
        helper.make_node("Cast", ["weight.half"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Reshape", ["product", "sides"], ["y"]),
    ]
    stored = [numpy_helper.from_array(weight, "weight.half")]
    stored.append(numpy_helper.from_array(np.array([-1, 8, 8], np.int64), "sides"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIDE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 8])
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.save(model, tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def test_a_weight_that_was_stored_in_half_is_there_once_in_fp32(path: Path) -> None:
    model = read_graph(path)
    found = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert found == {"weight": TensorProto.FLOAT, "sides": TensorProto.INT64}
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Reshape"]


def test_shapes_and_types_are_inferred_without_the_weights_values(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = read_graph(path), []
    infer = onnx.shape_inference.infer_shapes

    def watched(given: onnx.ModelProto, **how: bool) -> onnx.ModelProto:
        seen.append(given.ByteSize())
        return infer(given, **how)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watched)
    assert shapes(model) == {"x": (1, SIDE), "product": (1, SIDE), "y": (1, 8, 8)} | {"weight": (SIDE, SIDE)}
    types = element_types(model)
    assert {name: types[name] for name in ("weight", "sides", "y")} == {
        "weight": TensorProto.FLOAT,
        "sides": TensorProto.INT64,
        "y": TensorProto.FLOAT,
    }
    assert max(seen) < SIDE * SIDE < model.ByteSize()
    assert [tensor.name for tensor in model.graph.initializer] == ["sides", "weight"]  # as it was
