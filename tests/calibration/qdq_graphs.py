"""Small ONNX graphs in the manner of a bundle's, at every precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sr.spec import Precision

CHANNELS, LATENT, SIDE, GROUPS, TIME = 16, 4, 8, 4, 8


class Sketch:
    """A graph as it is drawn: constants and nodes by name; each node has one output, named like the node."""

    def __init__(self, seed: int = 0) -> None:
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.rng = np.random.default_rng(seed)

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        self.constants[name] = np.asarray(value, dtype)
        return name

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def model(
        self,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, Sequence[int | str]],
        *,
        opset: int = 18,
        ir_version: int = 10,
    ) -> onnx.ModelProto:
        """A free first axis is "N"; all inputs and outputs are float32."""
        sides = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
            for side in (inputs, outputs)
        ]
        stored = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "sketch", sides[0], sides[1], stored)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)

    def quantise(
        self,
        name: str,
        tensor: str,
        *,
        scale: npt.ArrayLike = 0.05,
        zero_point: npt.ArrayLike = 0,
        dtype: npt.DTypeLike = np.float32,
        kind: npt.DTypeLike = np.int8,
    ) -> str:
        """Q/DQ of an activation: NAME.q and NAME, whose output is returned."""
        s = self.constant(f"{name}.scale", scale, dtype)
        z = self.constant(f"{name}.zero", zero_point, kind)
        q = self.add("QuantizeLinear", f"{name}.q", tensor, s, z)
        return self.add("DequantizeLinear", name, q, s, z)

    def int8_weights(
        self, name: str, shape: tuple[int, ...], *, axis: int = 0, dtype: npt.DTypeLike = np.float32
    ) -> str:
        """Weights stored as int8 behind a DequantizeLinear called NAME."""
        stored = self.constant(f"{name}.int8", self.rng.integers(-127, 128, shape), np.int8)
        s = self.constant(f"{name}.scale", np.full(shape[axis], 0.002), dtype)
        z = self.constant(f"{name}.zero", np.zeros(shape[axis]), np.int8)
        return self.add("DequantizeLinear", name, stored, s, z, axis=axis)

    def weights(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> str:
        return self.constant(name, self.rng.normal(0, 0.1, shape), dtype)


def quantised_convolution() -> Sketch:
    """`image` (N, 4, 8, 8) -> conv1 -> relu1 -> Q/DQ -> conv2; to be finished with `finished`."""
    sketch = Sketch()
    sketch.add("Conv", "conv1", "image", sketch.weights("w1", (4, 4, 3, 3)), pads=[1] * 4)
    sketch.add("Relu", "relu1", "conv1")
    data = sketch.quantise("data", "relu1")
    sketch.add("Conv", "conv2", data, sketch.int8_weights("w2", (4, 4, 3, 3)), pads=[1] * 4)
    return sketch


def finished(sketch: Sketch, output: str = "conv2", **options: Any) -> onnx.ModelProto:
    """The sketch's model, with the named tensor as its only output."""
    shape = ("N", 4, SIDE, SIDE)
    return sketch.model({"image": shape}, {output: shape}, **options)


class StepSketch(Sketch):
    """A step graph in one precision: convolutions, a decomposed GroupNorm, SiLU, attention, the update."""

    def __init__(self, precision: Precision) -> None:
        super().__init__()
        self.is_half = precision in (Precision.FP16, Precision.INT8_FP16)
        self.is_int8 = precision in (Precision.INT8, Precision.INT8_FP16)
        self.dtype: npt.DTypeLike = np.float16 if self.is_half else np.float32

    def draw(self) -> onnx.ModelProto:
        """The whole graph; an opset that knows FP16 scales where it needs one."""
        self.denoiser()
        self.update()
        latent: tuple[int | str, ...] = ("N", LATENT, SIDE, SIDE)
        inputs = dict.fromkeys(("x", "x0_previous", "noise", "condition"), latent)
        inputs |= {"coefficients": ("N", 7), "time_embedding": ("N", TIME)}
        opset = 19 if self.is_half and self.is_int8 else 18
        return self.model(inputs, {"x_next": latent, "x0": latent}, opset=opset)

    def denoiser(self) -> None:
        self.add("Concat", "joined", "x", "condition", axis=1)
        first = self.weight("conv_in.weight", (CHANNELS, 2 * LATENT, 3, 3))
        self.add("Conv", "conv_in", self.compute("joined"), first, pads=[1] * 4)
        projection = self.weight("time.weight", (CHANNELS, TIME))
        self.add("Gemm", "time", self.compute("time_embedding"), projection, transB=1)
        self.constant("axes", [2, 3], np.int64)
        self.add("Unsqueeze", "time.map", "time", "axes")
        self.add("Add", "modulated", self.group_norm("norm", "conv_in"), "time.map")
        self.add("Sigmoid", "sigmoid", "modulated")
        self.add("Mul", "silu", "modulated", "sigmoid")
        self.convolution("conv", "silu", CHANNELS)
        self.add("Add", "residual", "conv_in", self.attention("conv"))
        self.convolution("conv_out", "residual", LATENT, may_be_int8=False)

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        return self.weights(name, shape, self.dtype)

    def compute(self, tensor: str) -> str:
        """A float32 input in the precision of the denoiser."""
        return self.add("Cast", f"{tensor}.half", tensor, to=TensorProto.FLOAT16) if self.is_half else tensor

    def convolution(self, name: str, tensor: str, channels: int, *, may_be_int8: bool = True) -> None:
        shape, is_int8 = (channels, CHANNELS, 3, 3), self.is_int8 and may_be_int8
        if is_int8:
            data = self.quantise(f"{name}.data", tensor, dtype=self.dtype)
            weight = self.int8_weights(f"{name}.weight", shape, dtype=self.dtype)
        else:
            data, weight = tensor, self.weight(f"{name}.weight", shape)
        self.add("Conv", name, data, weight, self.weight(f"{name}.bias", (channels,)), pads=[1] * 4)

    def group_norm(self, name: str, tensor: str) -> str:
        """Decomposed, as torch's exporter does at opset 18."""
        self.constant(f"{name}.grouped", [0, GROUPS, -1], np.int64)
        self.constant(f"{name}.ones", np.ones(GROUPS), self.dtype)
        self.constant(f"{name}.zeros", np.zeros(GROUPS), self.dtype)
        self.add("Reshape", f"{name}.in", tensor, f"{name}.grouped")
        self.add("InstanceNormalization", name, f"{name}.in", f"{name}.ones", f"{name}.zeros")
        self.add("Shape", f"{name}.shape", tensor)
        self.add("Reshape", f"{name}.out", name, f"{name}.shape")
        gain = self.constant(f"{name}.gain", np.ones((CHANNELS, 1, 1)), self.dtype)
        return self.add("Mul", f"{name}.scaled", f"{name}.out", gain)

    def attention(self, tensor: str) -> str:
        self.constant("tokens", [0, CHANNELS, -1], np.int64)
        self.constant("map", [0, CHANNELS, SIDE, SIDE], np.int64)
        self.add("Reshape", "value", tensor, "tokens")
        self.add("Transpose", "key", "value", perm=[0, 2, 1])
        self.add("MatMul", "product", "key", "value")
        self.add("Softmax", "softmax", "product", axis=-1)
        self.add("MatMul", "mixed", "value", "softmax")
        return self.add("Reshape", "attended", "mixed", "map")

    def update(self) -> None:
        """x0 = p*x + q*out, x_next = a*x + b*x0 + c*noise + d*x0_previous, in float32, without the clip."""
        out = self.add("Cast", "out", "conv_out", to=TensorProto.FLOAT) if self.is_half else "conv_out"
        self.constant("places", [2, 3], np.int64)
        self.add("Unsqueeze", "columns", "coefficients", "places")
        for place, name in enumerate("pqabcd"):
            self.constant(f"{name}.at", [place], np.int64)
            self.add("Gather", name, "columns", f"{name}.at", axis=1)
        self.add("Add", "x0", self.add("Mul", "px", "p", "x"), self.add("Mul", "qo", "q", out))
        self.add("Add", "ab", self.add("Mul", "ax", "a", "x"), self.add("Mul", "bx", "b", "x0"))
        self.add("Add", "cd", self.add("Mul", "cn", "c", "noise"), self.add("Mul", "dx", "d", "x0_previous"))
        self.add("Add", "x_next", "ab", "cd")


def step_graph(precision: Precision) -> onnx.ModelProto:
    """A step graph that is right."""
    return StepSketch(precision).draw()


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """A node, to be changed."""
    return next(node for node in model.graph.node if node.name == name)
