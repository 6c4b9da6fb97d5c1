"""FP16 as a device computes it, on a CPU that has no FP16: rounded after each operator.

ONNX Runtime runs an FP16 graph on a CPU by upcasting: it puts casts around operators, then drops those that
cancel out. What remains is FP32 with FP16 weights, and an error of nearly nothing. Here the graph is
rewritten before ONNX Runtime sees it: every operator that is FP16 in the shipped graph computes in FP32 from
values that FP16 holds, and what it writes is cast to FP16 and back. What is FP32 in the shipped graph, the
latents and the step update, is left alone. Sums inside an operator are kept in FP32, as tensor cores do by
default; a device that sums in FP16 does worse than this.

That the casts stay is not taken on trust: the graph that ONNX Runtime has optimised is written out, and the
roundings in it are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sr.backends.ort import OnnxRuntimeBackend, OnnxRuntimeEngine
from edge_sr.backends.unsigned import has_vnni
from edge_sr.errors import BackendError, BundleError
from edge_sr.spec import Graph, Precision

__all__ = ["RoundingBackend", "count_roundings", "emulate_half"]

_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def emulate_half(model: Any) -> Any:
    """A copy of an FP16 graph that computes in FP32 and rounds what each FP16 operator writes.

    Args:
        model: Its inputs and outputs are FP32, as those of every graph of a bundle are.

    Raises:
        BundleError: The types of the graph cannot be told, or it would not be sound in FP32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        halves = _half_tensors(copy)
        _widen_weights(copy.graph)
        nodes = [made for node in copy.graph.node for made in _rounded(node, halves)]
        del copy.graph.node[:], copy.graph.value_info[:]
        copy.graph.node.extend(nodes)
        onnx.checker.check_model(copy, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"the FP16 graph cannot be emulated: {reason}") from error
    return copy


def count_roundings(model: Any) -> int:
    """How many casts to FP16 a graph has."""
    return sum(_casts_to_half(node) for node in model.graph.node)


class RoundingBackend(OnnxRuntimeBackend):
    """ONNX Runtime, which is given the emulation of every FP16 graph in place of the graph.

    Args:
        threads: Threads inside an operator; 0 for the cores this process may use.

    Attributes:
        roundings: Component -> how many roundings its graph has, all of which ONNX Runtime kept.
    """

    def __init__(self, *, threads: int = 0) -> None:
        super().__init__(threads=threads, unsigned=has_vnni())  # given, so that no stored model is taken
        self.roundings: dict[str, int] = {}

    def describe(self) -> dict[str, str]:
        """As ONNX Runtime's, and the roundings of every graph that was loaded."""
        counted = ", ".join(f"{component} {count}" for component, count in self.roundings.items())
        return super().describe() | {"roundings": counted}

    def load(self, graph: Graph) -> OnnxRuntimeEngine:
        """Makes a session of a graph, FP16 ones emulated.

        Raises:
            BundleError: The graph cannot be emulated.
            BackendError: ONNX Runtime refuses the graph, or removes roundings from it.
        """
        if graph.precision is not Precision.FP16:
            return super().load(graph)
        with TemporaryDirectory() as folder:
            path = Path(folder) / graph.path.name
            model = emulate_half(onnx.load(str(graph.path)))
            onnx.save(model, str(path))
            self.roundings[str(graph.component)] = self._check_kept(path, count_roundings(model))
            return super().load(replace(graph, path=path))

    def _check_kept(self, path: Path, wanted: int) -> int:
        """Counts the roundings that are left once ONNX Runtime has optimised the graph.

        Raises:
            BackendError: They are not as many as there should be.
        """
        target = path.with_suffix(".optimised.onnx")
        self.optimise(path, target)
        kept = count_roundings(onnx.load(str(target)))
        if kept != wanted:
            raise BackendError(
                f"{path.name}: {wanted} roundings to FP16 went in, onnxruntime kept {kept}",
                hint="FP16 is not emulated like that; use another version of onnxruntime",
            )
        return kept


def _half_tensors(model: Any) -> set[str]:
    """The tensors between nodes that are FP16."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == _HALF}


def _widen_weights(graph: Any) -> None:
    """FP16 initialisers in FP32, the same numbers."""
    for tensor in graph.initializer:
        if tensor.data_type == _HALF:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rounded(node: Any, halves: set[str]) -> Iterator[Any]:
    """A node, and behind it the roundings of what it writes in FP16."""
    casts = []
    for place, name in enumerate(list(node.output)):
        if name not in halves:
            continue
        narrow, exact = f"{name}.narrow", f"{name}.exact"
        if _casts_to_half(node):  # it rounds by itself
            node.output[place] = narrow
        else:
            node.output[place] = exact
            casts.append(helper.make_node("Cast", [exact], [narrow], name=f"round.{name}", to=_HALF))
        casts.append(helper.make_node("Cast", [narrow], [name], name=f"widen.{name}", to=_FLOAT))
    yield node
    yield from casts


def _casts_to_half(node: Any) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == _HALF for a in node.attribute)
