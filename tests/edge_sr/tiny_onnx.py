"""A small ONNX graph as bundles have them: a convolution, a decomposed GroupNorm, a Q/DQ convolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, GROUPS, SIDE = 8, 4, 16


def write_tiny_onnx(path: Path, *, quantised: bool = True, half: bool = False, seed: int = 0) -> Path:
    """Writes `image` (N, 1, 16, 16) float32 -> `output` (N, 1, 16, 16) float32 at opset 18 and IR 10."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    dtype = np.float16 if half else np.float32
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.3, (CHANNELS, 1, 3, 3)).astype(dtype),
        "w2": rng.normal(0, 0.3, (1, CHANNELS, 3, 3)).astype(dtype),
        "scale": np.ones((CHANNELS, 1, 1), dtype),
        "ones": np.ones(GROUPS, dtype),
        "zeros": np.zeros(GROUPS, dtype),
        "grouped": np.array([0, GROUPS, -1], np.int64),
        "plain": np.array([0, CHANNELS, SIDE, SIDE], np.int64),
        "q_x": np.array(0.05, dtype),
        "q_w": np.full(1, 0.01, dtype),
        "z_x": np.array(0, np.int8),
        "z_w": np.zeros(1, np.int8),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=kind),
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], name="conv1"),
        helper.make_node("Reshape", ["c1", "grouped"], ["g"]),
        helper.make_node("InstanceNormalization", ["g", "ones", "zeros"], ["gn"], epsilon=1e-5),
        helper.make_node("Reshape", ["gn", "plain"], ["p"]),
        helper.make_node("Mul", ["p", "scale"], ["n"]),
        helper.make_node("Sigmoid", ["n"], ["s"]),
        helper.make_node("Mul", ["n", "s"], ["a"]),
        *(_quantised_inputs() if quantised else []),
        helper.make_node(
            "Conv", ["a_dq", "w2_dq"] if quantised else ["a", "w2"], ["c2"], pads=[1, 1, 1, 1], name="conv2"
        ),
        helper.make_node("Cast", ["c2"], ["output"], to=TensorProto.FLOAT),
    ]
    shape = ["N", 1, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _quantised_inputs() -> list[onnx.NodeProto]:
    """Q/DQ on both inputs of the second convolution: activations per tensor, weights per channel."""
    return [
        helper.make_node("QuantizeLinear", ["a", "q_x", "z_x"], ["a_q"]),
        helper.make_node("DequantizeLinear", ["a_q", "q_x", "z_x"], ["a_dq"]),
        helper.make_node("QuantizeLinear", ["w2", "q_w", "z_w"], ["w2_q"], axis=0),
        helper.make_node("DequantizeLinear", ["w2_q", "q_w", "z_w"], ["w2_dq"], axis=0),
    ]
