"""Puts explicit Q/DQ into a graph: symmetric, zero-point 0, INT8 weights per channel, bias in float.

Where a pair goes depends on who reads the graph:

    TensorRT       on what quantised layers read, and on the residual of an Add, so that convolution and sum
                   become one kernel. Nothing between a convolution and its activation.
    ONNX Runtime   on what they write too, behind a Relu where there is one: its INT8 convolution writes INT8,
                   and without that pair it would run in FP32. Not where a convolution or a product reads it
                   that is not quantised, be it reshaped first: that would read INT8 all the same. Nor where a
                   Concat reads it, as the skips of foreign networks are: its halves have ranges of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from calibration.errors import CalibrationError
from calibration.graph import Index, constant
from calibration.layers import Layer
from calibration.plan import ComponentPlan
from calibration.ranges import LEVELS, scale_for
from calibration.wiring import PASS_THROUGH, WEIGHTED
from edge_sr.backends.unsigned import ACTIVATION, RECTIFIED

__all__ = ["insert", "quantise_weight", "weight_axis"]

Array = npt.NDArray[Any]


@dataclass
class _Points:
    """Where pairs go: tensor -> the inputs that read it through the pair, or everything that reads it."""

    read: dict[str, list[tuple[Any, int]]] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)


def insert(model: Any, layers: list[Layer], plan: ComponentPlan, *, writes_int8: bool) -> Any:
    """A copy of a graph in which a plan's layers are quantised; nodes are not in order yet.

    Args:
        model: The FP32 graph.
        layers: All its layers.
        plan: Which of them, and the scales of their activations.
        writes_int8: Whether what they write is quantised too, as ONNX Runtime wants it.

    Raises:
        CalibrationError: The plan names a layer that is not there, or lacks a scale.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    chosen = _chosen(layers, plan)
    index = Index(copy)
    points = _points(chosen, index, writes_int8=writes_int8, in_float=_in_float(chosen, index))
    rectified = {name for name in points.read.keys() | points.written if _is_rectified(name, index)}
    for layer in chosen:
        if layer.weight:
            _store_weight(copy.graph, layer, index)
    for zero_point in (ACTIVATION, RECTIFIED):
        copy.graph.initializer.append(constant(zero_point, np.array(0, np.int8)))
    for tensor in dict.fromkeys([*points.read, *sorted(points.written)]):
        zero_point = RECTIFIED if tensor in rectified else ACTIVATION
        _add_pair(copy.graph, tensor, _scale(plan, tensor), zero_point, points, index)
    return copy


def quantise_weight(values: Array, axis: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A weight in INT8 and the scale of each of its channels.

    Args:
        values: The weight.
        axis: The axis of its output channels, C long.

    Returns:
        int8 of the weight's shape in [-127, 127], and (C,) float32.
    """
    others = tuple(a for a in range(values.ndim) if a != axis)
    scales = scale_for(np.abs(values).max(axis=others))
    shape = [-1 if a == axis else 1 for a in range(values.ndim)]
    steps = np.round(values.astype(np.float64) / scales.reshape(shape))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8), scales


def weight_axis(node: Any) -> int:
    """The axis of a weight's output channels: 0 of Conv, and of Gemm with transB; else the last of two."""
    is_transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or is_transposed else 1


def _chosen(layers: list[Layer], plan: ComponentPlan) -> list[Layer]:
    if unknown := set(plan.layers) - {layer.name for layer in layers}:
        raise CalibrationError(
            f"the graph has no layers {', '.join(sorted(unknown))}", hint="make a new plan"
        )
    return [layer for layer in layers if layer.name in plan.layers]


def _scale(plan: ComponentPlan, tensor: str) -> float:
    if tensor not in plan.scales:
        raise CalibrationError(f"the plan has no scale for {tensor}", hint="make a new plan")
    return plan.scales[tensor]


def _in_float(chosen: list[Layer], index: Index) -> set[str]:
    """What is read as it is, by what is not quantised or by a Concat: nothing is put behind it."""
    quantised = {layer.node for layer in chosen}
    found = set[str]()
    for name, node in index.producers.items():
        if node.op_type == "Concat" or (node.op_type in WEIGHTED and name not in quantised):
            found.update(_before_moves(source, index) for source in node.input)
    return found


def _before_moves(tensor: str, index: Index) -> str:
    """The tensor that this one is, before it was reshaped or transposed."""
    while (node := index.producers.get(tensor)) is not None and node.op_type in PASS_THROUGH:
        tensor = node.input[0]
    return tensor


def _points(layers: list[Layer], index: Index, *, writes_int8: bool, in_float: set[str]) -> _Points:
    """Where pairs go; `in_float`: what is read as it is by others too, so that nothing is put behind it."""
    points = _Points()
    for layer in layers:
        node = index.producers[layer.node]
        for tensor in _read(layer, layers, writes_int8=writes_int8):
            places = [(node, place) for place, name in enumerate(node.input) if name == tensor]
            points.read.setdefault(tensor, []).extend(places)
        if writes_int8 and layer.output not in in_float:
            points.written.add(layer.output)
    return points


def _read(layer: Layer, layers: Iterable[Layer], *, writes_int8: bool) -> tuple[str, ...]:
    """The inputs of a layer that are quantised: for TensorRT, of a sum only the residual."""
    if layer.kind != "Add" or writes_int8:
        return layer.inputs
    convolved = {other.output for other in layers if other.kind == "Conv"}
    residual = next((name for name in layer.inputs if name not in convolved), layer.inputs[0])
    return (residual,)


def _is_rectified(tensor: str, index: Index) -> bool:
    return tensor in index.producers and index.producers[tensor].op_type == "Relu"


def _store_weight(graph: Any, layer: Layer, index: Index) -> None:
    """Puts INT8 values and a DequantizeLinear in the place of a weight."""
    node, made = index.producers[layer.node], f"{layer.weight}.dequantized"
    place = list(node.input).index(layer.weight)
    node.input[place] = made
    stored, scale, zero = (f"{layer.weight}.{part}" for part in ("int8", "scale", "zero_point"))
    if stored in {tensor.name for tensor in graph.initializer}:
        return
    axis = weight_axis(node)
    values, scales = quantise_weight(index.array(layer.weight), axis)
    zeros = np.zeros(len(scales), np.int8)  # ONNX Runtime wants them spelt out on older CPUs
    graph.initializer.extend([constant(stored, values), constant(scale, scales), constant(zero, zeros)])
    inputs = [stored, scale, zero]
    graph.node.append(
        helper.make_node("DequantizeLinear", inputs, [made], name=f"dequantize.{layer.weight}", axis=axis)
    )


def _add_pair(graph: Any, tensor: str, scale: float, zero_point: str, points: _Points, index: Index) -> None:
    """One QuantizeLinear and one DequantizeLinear for all that read a tensor through them."""
    source, made = tensor, f"{tensor}.dequantized"
    readers = index.consumers[tensor] if tensor in points.written else points.read[tensor]
    if tensor in points.written and tensor in index.outputs:
        source, made = _rename_output(tensor, index), tensor
    for node, place in readers:
        node.input[place] = made
    stored, step = f"{tensor}.quantized", f"{tensor}.scale"
    graph.initializer.append(constant(step, np.array(scale, np.float32)))
    graph.node.extend(
        [
            helper.make_node(
                "QuantizeLinear", [source, step, zero_point], [stored], name=f"quantize.{tensor}"
            ),
            helper.make_node(
                "DequantizeLinear", [stored, step, zero_point], [made], name=f"dequantize.{tensor}"
            ),
        ]
    )


def _rename_output(tensor: str, index: Index) -> str:
    """Gives what a layer writes another name: the graph's output is what comes out of the pair."""
    node = index.producers[tensor]
    node.output[list(node.output).index(tensor)] = f"{tensor}.float"
    return f"{tensor}.float"
