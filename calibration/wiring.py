"""An ONNX graph as one asks about it: who makes a tensor, who reads it, its type, its constant value.

Read by the lint and by the TensorRT verdict. It changes nothing, and does not look into subgraphs (If, Loop),
which none of our graphs has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from calibration.errors import CalibrationError

__all__ = [
    "FLOATS",
    "PASS_THROUGH",
    "UPDATE_INPUTS",
    "WEIGHTED",
    "Finding",
    "Problem",
    "Wiring",
    "label",
    "quantised_sides",
    "read_model",
    "type_name",
]

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that TensorRT runs in INT8 when both of their first two inputs come from DequantizeLinear."""

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})

UPDATE_INPUTS = ("coefficients", "noise", "x0_previous", "guidance", "partner")
"""Inputs of a step graph that only guidance and the sampler's update read: what depends on them is that."""

PASS_THROUGH = frozenset({"Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators across which TensorRT still sees that a tensor is dequantised."""

Problem = tuple[str, str]
"""Where, and what: a node, a tensor or "graph", and a message."""

_READS_SHAPE_ONLY = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where.

    Attributes:
        rule: The rule's name.
        severity: "error" where TensorRT or ONNX Runtime refuses, or silently runs something else or slower;
            "warning" where it only may.
        node: The node, or the tensor, or "graph".
        message: What was wanted, and what was found.
    """

    rule: str
    severity: str
    node: str
    message: str


def label(node: NodeProto) -> str:
    """A node's name; for one without, the name that TensorRT's parser gives it."""
    return node.name or f"node_of_{node.output[0]}"


def type_name(kind: int) -> str:
    """An element type as in "float16"; "unknown" where shape inference had no answer."""
    return TensorProto.DataType.Name(kind).lower() if kind else "unknown"


def read_model(path: Path) -> onnx.ModelProto:
    """An ONNX file.

    Raises:
        CalibrationError: It cannot be read, or is no ONNX file.
    """
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's decode error lies in another place in each of its versions
        raise CalibrationError(f"{path} is no ONNX file: {str(error).splitlines()[0]}") from error
    if not model.graph.node:
        raise CalibrationError(f"{path} is no ONNX file, or its graph is empty")
    return model


@dataclass
class Wiring:
    """Producers, readers, types and constants of a graph, by tensor name."""

    model: onnx.ModelProto
    producer: dict[str, NodeProto] = field(default_factory=dict, init=False)
    readers: dict[str, list[NodeProto]] = field(default_factory=dict, init=False)
    types: dict[str, int] = field(default_factory=dict, init=False)
    stored: dict[str, TensorProto] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.stored = {tensor.name: tensor for tensor in self.model.graph.initializer}
        for node in self.nodes:
            self.producer.update(dict.fromkeys(filter(None, node.output), node))
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(name, []).append(node)
        self.types = _types(self.model)

    @property
    def nodes(self) -> Iterable[NodeProto]:
        """The nodes in the file's order."""
        return self.model.graph.node

    @property
    def inputs(self) -> list[str]:
        """The graph's inputs; initialisers that are listed there too are left out."""
        return [value.name for value in self.model.graph.input if value.name not in self.stored]

    @property
    def outputs(self) -> list[str]:
        """The graph's outputs."""
        return [value.name for value in self.model.graph.output]

    @property
    def opset(self) -> int:
        """The version of ONNX's own operator set; 0 where none is declared."""
        return max((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), default=0)

    def all_of(self, *operators: str) -> list[NodeProto]:
        """The nodes of these operators, in the file's order."""
        return [node for node in self.nodes if node.op_type in operators]

    def maker(self, name: str, *operators: str) -> NodeProto | None:
        """The node that makes a tensor, if it is one of these operators."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type in operators else None

    def read_by(self, name: str, operators: Collection[str]) -> list[NodeProto]:
        """The nodes of these operators that read a tensor."""
        return [node for node in self.readers.get(name, []) if node.op_type in operators]

    def origin(self, name: str, through: Collection[str]) -> str:
        """The tensor that this one is, before operators of `through`, whose first input is the tensor."""
        while (node := self.producer.get(name)) is not None and node.op_type in through and node.input:
            name = node.input[0]
        return name

    def is_constant(self, name: str) -> bool:
        """Whether a tensor depends on nothing but what is stored in the file."""
        pending, seen = [name], {name}
        while pending:
            current = pending.pop()
            node = self.producer.get(current)
            if node is None and current not in self.stored:
                return False
            fresh = {i for i in (node.input if node is not None else ()) if i} - seen
            seen |= fresh
            pending += fresh
        return True

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of an initialiser or a Constant, also behind Cast or Identity; None for all else.

        The Cast is not applied: the values are as stored.
        """
        name = self.origin(name, ("Cast", "Identity"))
        if name in self.stored:
            return np.asarray(numpy_helper.to_array(self.stored[name]))
        node = self.maker(name, "Constant")
        if node is None or node.attribute[0].name == "sparse_value":
            return None
        value = helper.get_attribute_value(node.attribute[0])
        return np.asarray(numpy_helper.to_array(value) if isinstance(value, TensorProto) else value)

    def dependants(self, names: Iterable[str]) -> dict[str, NodeProto]:
        """The tensors whose values depend on those of `names`, each with its node; shapes do not count."""
        found: dict[str, NodeProto] = {}
        reached = set(names)
        for node in self.nodes:  # which ONNX wants in topological order
            if node.op_type not in _READS_SHAPE_ONLY and reached.intersection(node.input):
                found.update(dict.fromkeys(filter(None, node.output), node))
                reached.update(node.output)
        return found


def quantised_sides(wiring: Wiring, node: NodeProto) -> tuple[bool, bool]:
    """Whether data and weights of a weighted node come from DequantizeLinear."""
    data, weights = (wiring.maker(wiring.origin(n, PASS_THROUGH), "DequantizeLinear") for n in node.input[:2])
    return data is not None, weights is not None


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor, as far as shape inference can tell."""
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**types, **{tensor.name: tensor.data_type for tensor in graph.initializer}}
