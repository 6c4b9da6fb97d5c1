"""ONNX graphs as they are read and written here: weights in plain FP32, nodes in order, checked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import CalibrationError

__all__ = [
    "HALF_OPSET",
    "IR_VERSION",
    "OPSET",
    "SMALL",
    "Index",
    "choosing",
    "constant",
    "element_types",
    "finish",
    "read_graph",
    "shapes",
    "store_weights_in_half",
]

OPSET = 18  # of every graph that comes in, and of all but one kind that goes out
HALF_OPSET = 19  # the first whose QuantizeLinear reads FP16; TensorRT 10.0 to 10.3 read up to 20
IR_VERSION = 10  # ONNX Runtime 1.23, the last for Python 3.10, refuses newer ones
CHOICES = frozenset({"ArgMin", "ArgMax"})
SMALL = 256  # initialisers of fewer values stay in FP32: biases, scales, constants of the update

Array = npt.NDArray[Any]


class Index:
    """What a graph holds, by name; of the graph as it was when this was made.

    Attributes:
        weights: Initialisers.
        producers: The node that writes a tensor.
        consumers: Every (node, input's place) that reads a tensor.
        inputs, outputs: Names of the graph's own tensors.
    """

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self.weights: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.producers: dict[str, Any] = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[tuple[Any, int]]] = defaultdict(list)
        for node in graph.node:
            for place, name in enumerate(node.input):
                self.consumers[name].append((node, place))
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initialiser, or is left out."""
        return not name or name in self.weights

    def array(self, name: str) -> Array:
        """An initialiser's values."""
        return np.asarray(numpy_helper.to_array(self.weights[name]))


def read_graph(path: Path) -> Any:
    """Reads a graph of a bundle, with the weights that are stored in FP16 unfolded to FP32.

    Raises:
        CalibrationError: It is no ONNX file, of another opset, or already quantised.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no public base class
        raise CalibrationError(f"{path.name} is no ONNX file: {error}") from error
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        raise CalibrationError(f"{path.name}: wanted opset {OPSET}, got {opsets}", hint="export it again")
    found = sorted({node.op_type for node in model.graph.node if "QuantizeLinear" in node.op_type})
    if found:
        raise CalibrationError(
            f"{path.name} is already quantised: it has {', '.join(found)}", hint="give the FP32 graph"
        )
    return _unfold(model)


def choosing(model: Any) -> set[str]:
    """The tensors that an ArgMin or ArgMax depends on, and what it writes.

    They are to be kept as they are at every precision: a rounding there makes another choice, no small error.
    """
    found: set[str] = set()
    for node in reversed(model.graph.node):  # every node stands behind those that it reads
        if node.op_type in CHOICES or found.intersection(node.output):
            found.update(*(node.input, node.output))
    return found - {""}


def constant(name: str, values: Array) -> Any:
    """An initialiser."""
    return numpy_helper.from_array(values, name)


def element_types(model: Any) -> dict[str, int]:
    """ONNX's element type of every tensor.

    Raises:
        CalibrationError: ONNX cannot tell, as with an operator that it does not know.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), strict_mode=True).graph
    except Exception as error:
        raise CalibrationError(f"the graph's types cannot be inferred: {_first_line(error)}") from error
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    return types | {tensor.name: int(tensor.data_type) for tensor in inferred.initializer}


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, for a batch of one.

    Raises:
        CalibrationError: ONNX cannot tell the shape of a tensor.
    """
    single = _without_weights(model)
    for value in (*single.graph.input, *single.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1  # and what is computed from it is then known too: see data_prop
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    unknown = [name for node in graph.node for name in node.output if 0 in found.get(name, (0,))]
    if unknown:
        raise CalibrationError(f"the shapes of {', '.join(unknown[:5])} cannot be told", hint="export again")
    return found


def _without_weights(model: Any) -> Any:
    """A copy to infer from: a weight is an input of its shape, since no shape depends on its values.

    Gigabytes would be written and read by the inference else, and more than two cannot be.
    """
    graph = model.graph
    large = [tensor for tensor in graph.initializer if math.prod(tensor.dims) > SMALL]
    known = {value.name for value in graph.input}
    told = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large if t.name not in known]
    names = {tensor.name for tensor in large}
    return helper.make_model(
        helper.make_graph(
            graph.node,
            graph.name,
            [*graph.input, *told],
            graph.output,
            [tensor for tensor in graph.initializer if tensor.name not in names],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


def finish(model: Any, *, opset: int = OPSET) -> Any:
    """Drops unused weights, puts nodes in order, sets the versions, and checks the graph.

    Raises:
        CalibrationError: ONNX's checker refuses it.
    """
    graph = model.graph
    _sort(graph)
    _drop_unread_weights(graph)
    del graph.value_info[:]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # its exceptions share no public base class
        raise CalibrationError(f"ONNX's checker refuses the graph: {_first_line(error)}") from error
    return model


def store_weights_in_half(model: Any) -> None:
    """Stores each large FP32 initialiser that FP16 holds exactly in FP16, behind a Cast."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) <= SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name, stored = tensor.name, f"{tensor.name}.half"
            casts.append(
                helper.make_node("Cast", [stored], [name], name=f"cast.{name}", to=TensorProto.FLOAT)
            )
            tensor.CopyFrom(numpy_helper.from_array(half, stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _unfold(model: Any) -> Any:
    """Replaces each Cast of an FP16 initialiser by the FP32 initialiser it makes."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in stored and node.attribute[0].i == TensorProto.FLOAT:
            values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            graph.initializer.append(constant(node.output[0], values))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unread_weights(graph)
    return model


def _drop_unread_weights(graph: Any) -> None:
    """In place, without a copy of those that stay: one protobuf message holds two gigabytes."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in read:
            del graph.initializer[place]


def _sort(graph: Any) -> None:
    """Puts every node behind those whose tensors it reads, and otherwise leaves the order alone."""
    known = {""} | {t.name for t in graph.initializer} | {v.name for v in graph.input}
    waiting, ordered = list(graph.node), []
    while waiting:
        taken = _take(waiting, known)
        if not taken:
            raise CalibrationError(f"nothing writes what the graph reads: {_missing(waiting, known)}")
        ordered += taken
        is_taken = {id(node) for node in taken}
        waiting = [node for node in waiting if id(node) not in is_taken]
    del graph.node[:]
    graph.node.extend(ordered)


def _take(nodes: Iterable[Any], known: set[str]) -> list[Any]:
    """The nodes that can run one after the other; what they write becomes known."""
    taken = []
    for node in nodes:
        if known.issuperset(node.input):
            known.update(node.output)
            taken.append(node)
    return taken


def _missing(nodes: Iterable[Any], known: set[str]) -> str:
    return ", ".join(sorted({name for node in nodes for name in node.input if name not in known})[:5])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
