"""Small FP32 graphs in the manner of the encoder: convolutions, a Relu, a residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.layers import find_layers, touched
from calibration.plan import ComponentPlan
from calibration.ranges import scale_for

CHANNELS, SIDE = 8, 12


def residual_graph(*, seed: int = 0) -> Any:
    """image -> first -> (conv1, Relu, conv2) + first -> last -> output, all 3x3."""
    rng = np.random.default_rng(seed)
    weights, nodes = [], []
    for name, source, target, inputs, outputs in (
        ("first", "image", "h", 1, CHANNELS),
        ("conv1", "h", "a", CHANNELS, CHANNELS),
        ("conv2", "relu", "b", CHANNELS, CHANNELS),
        ("last", "sum", "output", CHANNELS, 1),
    ):
        values = rng.normal(0, (9 * inputs) ** -0.5, (outputs, inputs, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"{name}.weight"))
        weights.append(
            numpy_helper.from_array(rng.normal(0, 0.1, outputs).astype(np.float32), f"{name}.bias")
        )
        nodes.append(
            helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [target], pads=[1, 1, 1, 1])
        )
    nodes.insert(2, helper.make_node("Relu", ["a"], ["relu"]))
    nodes.insert(4, helper.make_node("Add", ["h", "b"], ["sum"]))
    return _model(nodes, weights, {"image": ["N", 1, SIDE, SIDE]}, {"output": ["N", 1, SIDE, SIDE]})


def codebook_graph() -> Any:
    """image -> the nearest of 64 levels, a 256th apart -> its row of a table -> last -> output."""
    rng = np.random.default_rng(0)
    levels = 1 + np.arange(64) / 256
    weights = {
        "table": levels[None],
        "levels": levels,
        "two": np.array(2.0),
        "half": np.array(0.5),
        "entries": rng.standard_normal((64, 4)),
        "last.weight": rng.standard_normal((1, 4, 3, 3)),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["flat"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["flat", "table"], ["products"]),
        helper.make_node("Pow", ["levels", "two"], ["powers"]),  # as a large codebook's, which nobody folds
        helper.make_node("Mul", ["powers", "half"], ["squares"]),
        helper.make_node("Sub", ["squares", "products"], ["distances"]),
        helper.make_node("ArgMin", ["distances"], ["index"], name="choose", axis=3, keepdims=0),
        helper.make_node("Gather", ["entries", "index"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "last.weight"], ["output"], pads=[1, 1, 1, 1]),
    ]
    stored = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()]
    return _model(nodes, stored, {"image": ["N", 1, 8, 8]}, {"output": ["N", 1, 8, 8]})


def attention_graph() -> Any:
    """x: (N, 6, 4) -> two projections without a bias, in two heads -> their product, the scores."""
    rng = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(rng.standard_normal((4, 4)).astype(np.float32), f"{name}.weight")
        for name in "qk"
    ] + [numpy_helper.from_array(np.array([0, 0, 2, 2]), "heads")]
    nodes = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1])):
        nodes += [
            helper.make_node("MatMul", ["x", f"{name}.weight"], [name], name=name),
            helper.make_node("Reshape", [name, "heads"], [f"{name}.split"]),
            helper.make_node("Transpose", [f"{name}.split"], [f"{name}.moved"], perm=order),
        ]
    nodes.append(helper.make_node("MatMul", ["q.moved", "k.moved"], ["scores"], name="product"))
    return _model(nodes, stored, {"x": ["N", 6, 4]}, {"scores": ["N", 2, 6, 6]})


def plan_for(model: Any, values: dict[str, Any], *, excluded: tuple[str, ...] = ()) -> ComponentPlan:
    """A plan whose ranges are those of some values, by tensor, with room for what rounding adds to them."""
    layers = find_layers(model)
    scales = {name: float(scale_for(1.05 * np.abs(values[name]).max())) for name in touched(layers)}
    names = tuple(layer.name for layer in layers if layer.name not in excluded)
    return ComponentPlan(names, dict.fromkeys(excluded, "for a test"), scales)


def run(
    model: Any | bytes, feeds: dict[str, Any], *, all_tensors: bool = False, fused: bool = True
) -> dict[str, Any]:
    """Runs a graph in ONNX Runtime: with its fusions, or operator by operator as ONNX defines them."""
    import onnxruntime

    data = model if isinstance(model, bytes) else _with_outputs(model, all_tensors).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True)) | feeds


def _with_outputs(model: Any, all_tensors: bool) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    for node in copy.graph.node if all_tensors else []:
        extra = [name for name in node.output if name not in known]
        copy.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in extra)
    return copy


def _model(nodes: list[Any], weights: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "test", *sides, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
