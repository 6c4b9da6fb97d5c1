"""Makes a graph strongly typed FP16, with FP32 inputs, outputs, latents and step update.

Four things stay in FP32, since they are what errors would pile up in:

    the update     all that depends on the sampler's numbers, the noise, the previous x0 or guidance
    image sums     an Add that writes an output from a graph's input: the mean image plus its detail
    choices        all that an ArgMin depends on: the codebook of a VQ autoencoder, behind the latent
    the edges      inputs and outputs of the graph, so that every precision of a bundle has the same tensors

Normalisations stay in FP16: TensorRT sums them in FP32 by itself (INormalizationLayer computes in FP32 unless
told otherwise), and so does ONNX Runtime. Their inputs must fit FP16, which `check_fits` asks of a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from calibration.errors import CalibrationError
from calibration.graph import HALF_OPSET, OPSET, Index, choosing, constant, element_types, finish
from calibration.recording import Recording
from calibration.wiring import UPDATE_INPUTS

__all__ = ["OPERATORS", "check_fits", "to_half"]

CARRIERS = frozenset({"Resize", "Identity"})  # what may lie between an input and an image sum
LARGEST = 65504.0  # of FP16
HEADROOM = 4.0  # between what was recorded and that

# fmt: off
OPERATORS = frozenset({
    "Add", "ArgMax", "ArgMin", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace",
    "DequantizeLinear", "Div", "Erf", "Gather", "Gemm", "Identity", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "MatMul", "Max", "Min", "Mul", "Neg", "Pad", "QuantizeLinear",
    "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "SpaceToDepth",
    "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
})
# fmt: on
"""What is known to mean the same in FP16."""

_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_STAYS = {"Resize": (1, 2, 3), "QuantizeLinear": (2,), "DequantizeLinear": (2,)}  # keep their type


def to_half(model: Any) -> Any:
    """A copy of a graph in FP16, checked. Of opset 19 if it has Q/DQ, whose FP16 form opset 18 does not know.

    Raises:
        CalibrationError: An operator is not known to be safe, or FP16 does not hold a weight.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _check_operators(copy, choosing(copy))
    has_pairs = any(node.op_type == "QuantizeLinear" for node in copy.graph.node)
    finish(copy, opset=OPSET)
    floats = {name for name, kind in element_types(copy).items() if kind == _FLOAT}
    wide = _wide(copy)
    _Halving(copy, floats, wide).run()
    return finish(copy, opset=HALF_OPSET if has_pairs else OPSET)


def check_fits(recording: Recording) -> None:
    """Checks that nothing that was recorded comes near the largest number of FP16.

    Raises:
        CalibrationError: Something does.
    """
    for component, histograms in recording.histograms.items():
        for tensor, histogram in histograms.items():
            if histogram.upper and histogram.pooled().amax * HEADROOM > LARGEST:
                reached = f"{component}: {tensor} reached {histogram.pooled().amax:.0f}"
                raise CalibrationError(
                    f"{reached}, and FP16 ends at {LARGEST:.0f}",
                    hint="this model needs FP32 or BF16 there",
                )


class _Halving:
    """One graph while it is rewritten."""

    def __init__(self, model: Any, floats: set[str], wide: set[str]) -> None:
        self.graph, self.floats, self.wide = model.graph, floats, wide
        self.index = Index(model)
        self.outputs = set(self.index.outputs)
        self.added: dict[str, Any] = {}  # tensor -> the Cast or the initialiser that was made

    def run(self) -> None:
        for node in list(self.graph.node):
            is_wide = node.output[0] in self.wide
            for place, name in self._float_inputs(node):
                node.input[place] = self._read(name, is_wide=is_wide)
            if not is_wide:
                self._narrow(node)
        nodes = [item for item in self.added.values() if isinstance(item, onnx.NodeProto)]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(
            item for item in self.added.values() if isinstance(item, onnx.TensorProto)
        )

    def _float_inputs(self, node: Any) -> Iterator[tuple[int, str]]:
        kept = _STAYS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            if name in self.floats and place not in kept:
                yield place, name

    def _read(self, name: str, *, is_wide: bool) -> str:
        """The name under which a node of that width reads a float tensor."""
        if name in self.index.weights:
            return name if is_wide else self._half_weight(name)
        was_wide = name in self.wide or name in self.index.inputs
        if was_wide == is_wide:
            return self._inside(name)
        made = f"{name}.{'wide' if is_wide else 'half'}"
        kind = _FLOAT if is_wide else _HALF
        source = self._inside(name)
        self.added.setdefault(made, helper.make_node("Cast", [source], [made], name=f"cast.{made}", to=kind))
        return made

    def _inside(self, name: str) -> str:
        """A narrow output of the graph is cast at its edge; inside it has another name."""
        is_edge = name in self.outputs and name not in self.wide and name in self.floats
        return f"{name}.narrow" if is_edge else name

    def _half_weight(self, name: str) -> str:
        made = f"{name}.fp16"
        if made not in self.added:
            values = self.index.array(name)
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= LARGEST:
                raise CalibrationError(f"{name} holds {largest}, and FP16 ends at {LARGEST:.0f}")
            self.added[made] = constant(made, values.astype(np.float16))
        return made

    def _narrow(self, node: Any) -> None:
        """Gives a narrow node's outputs their names inside, and its attributes the type."""
        for place, name in enumerate(node.output):
            inside = self._inside(name)
            if inside != name:
                node.output[place] = inside
                self.added[name] = helper.make_node("Cast", [inside], [name], name=f"cast.{name}", to=_FLOAT)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
                attribute.i = _HALF


def _check_operators(model: Any, wide: set[str]) -> None:
    """Raises CalibrationError for what nobody looked at, but where all of it stays in FP32."""
    unknown = {
        node.op_type: node.name or node.output[0]
        for node in model.graph.node
        if node.op_type not in OPERATORS and not wide.issuperset(node.output)
    }
    if unknown:
        named = ", ".join(f"{operator} ({node})" for operator, node in sorted(unknown.items()))
        raise CalibrationError(f"operators that are not known to be safe in FP16: {named}")


def _wide(model: Any) -> set[str]:
    """The tensors that nodes write in FP32."""
    wide: set[str] = set()
    carriers: dict[str, list[str]] = {name: [] for name in Index(model).inputs}  # tensor -> what carries it
    for node in model.graph.node:
        if wide.union(UPDATE_INPUTS).intersection(node.input):
            wide.update(node.output)
        elif node.op_type in CARRIERS and node.input[0] in carriers:
            carriers[node.output[0]] = [*carriers[node.input[0]], node.output[0]]
    for node in model.graph.node:
        carried = [name for name in node.input if name in carriers]
        if node.op_type == "Add" and carried and set(node.output) & set(Index(model).outputs):
            wide.update(node.output, *(carriers[name] for name in carried))
    return wide | choosing(model)
