"""The layers of a graph that can be quantised, and the rule by which some are left out at first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from calibration.graph import Index, choosing, shapes
from edge_sr.spec import Component

__all__ = ["Layer", "default_exclusions", "find_layers", "touched"]


@dataclass(frozen=True)
class Layer:
    """An operator that can run in INT8.

    Attributes:
        name: From its weight, "unet.enc0.0.conv1"; from its tensors where it has none.
        kind: Conv, Gemm, MatMul, or Add (of a convolution to something else).
        inputs: The activations it reads.
        weight: Its weight, an initialiser; empty where it has none.
        output: What it writes; behind a Relu that alone reads it, what that writes.
        is_rectified: Whether there is such a Relu.
        node: The tensor that the operator itself writes, by which it is found in the graph.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    weight: str
    output: str
    is_rectified: bool
    node: str


def find_layers(model: Any) -> list[Layer]:
    """Every layer that can be quantised, in the graph's order, each name once."""
    index, sizes, kept = Index(model), shapes(model), choosing(model)
    found: list[Layer] = []
    for node in model.graph.node:
        if kept.intersection(node.output):
            continue
        inputs, weight = _operands(node, index)
        if node.op_type == "Add" and len({sizes.get(name) for name in inputs}) != 1:
            continue  # a bias or a shift, which no kernel adds as a residual
        if inputs:
            found.append(_layer(node, inputs, weight, index))
    return _with_unique_names(found)


def touched(layers: list[Layer]) -> list[str]:
    """The activations that layers read and write, each once, in order."""
    return list(dict.fromkeys(name for layer in layers for name in (*layer.inputs, layer.output)))


def default_exclusions(model: Any, layers: list[Layer], component: Component) -> dict[str, str]:
    """Layer -> why it is left out, before anything is measured.

    Only of the step graph, whose errors add up over the loop: what reads the noisy latent first and what
    predicts last (as NVIDIA's recipe for diffusion has it), projections of the timestep, products of
    attention, and the sums along which the network carries its state.
    """
    if component is not Component.STEP:
        return {}
    first, last = _ends(model, layers)
    reasons = {layer.name: _rule(layer, first, last) for layer in layers}
    return {name: reason for name, reason in reasons.items() if reason}


def _rule(layer: Layer, first: set[str], last: set[str]) -> str:
    """Why a layer of the step graph is left out; empty for one that is not."""
    if layer.kind == "Add":
        return "by rule: a sum that carries the network's state from block to block"
    if not layer.weight:
        return "by rule: a product of attention"
    if layer.name in first:
        of_time = "a projection of the timestep, too small to gain anything"
        return f"by rule: {'reads the noisy latent first' if layer.kind == 'Conv' else of_time}"
    return "by rule: writes the prediction" if layer.name in last else ""


def _operands(node: Any, index: Index) -> tuple[tuple[str, ...], str]:
    """The activations and the weight of an operator; no activations where it cannot be quantised."""
    sources = list(node.input)
    if node.op_type in ("Conv", "Gemm") and sources[1] in index.weights and not index.is_constant(sources[0]):
        return (sources[0],), sources[1]
    if node.op_type == "MatMul" and not index.is_constant(sources[0]):
        if sources[1] not in index.weights:
            return tuple(sources), ""
        is_text = len(index.weights[sources[1]].dims) > 2  # keys or values that never change
        return ((), "") if is_text else ((sources[0],), sources[1])
    if node.op_type == "Add" and not any(map(index.is_constant, sources)):
        joins = any(name in index.producers and index.producers[name].op_type == "Conv" for name in sources)
        return (tuple(sources) if joins else ()), ""
    return (), ""


def _layer(node: Any, inputs: tuple[str, ...], weight: str, index: Index) -> Layer:
    readers, output = index.consumers[node.output[0]], node.output[0]
    is_rectified = len(readers) == 1 and readers[0][0].op_type == "Relu" and output not in index.outputs
    written = readers[0][0].output[0] if is_rectified else output
    return Layer(_name(node, weight, index), node.op_type, inputs, weight, written, is_rectified, output)


def _name(node: Any, weight: str, index: Index) -> str:
    if weight:
        return weight.removesuffix(".weight")
    if node.op_type == "Add":  # after the last convolution that it adds
        convs = [index.producers[n] for n in node.input if n in index.producers]
        weights = [conv.input[1] for conv in convs if conv.op_type == "Conv"]
        return f"{weights[-1].removesuffix('.weight')}.add"
    return node.name or node.output[0]


def _with_unique_names(layers: list[Layer]) -> list[Layer]:
    """Weights may be shared: the second layer of a name carries its tensor's name too."""
    seen: set[str] = set()
    unique = []
    for layer in layers:
        name = f"{layer.name}@{layer.node}" if layer.name in seen else layer.name
        seen.add(name)
        unique.append(Layer(name, *(getattr(layer, f) for f in list(Layer.__dataclass_fields__)[1:])))
    return unique


def _ends(model: Any, layers: list[Layer]) -> tuple[set[str], set[str]]:
    """The layers with weights that no such layer comes before, and those that none comes after."""
    by_node = {layer.node: layer for layer in layers if layer.weight}
    index = Index(model)
    behind: set[str] = set()  # tensors that depend on a layer with weights
    first: set[str] = set()
    followed: set[str] = set()
    for node in model.graph.node:
        layer = by_node.get(node.output[0])
        if layer and not behind.intersection(layer.inputs):
            first.add(layer.name)
        if layer or behind.intersection(node.input):
            behind.update(node.output)
    for layer in by_node.values():
        followed.update(_before(layer.inputs, index, by_node))
    return first, {layer.name for layer in by_node.values()} - followed


def _before(names: tuple[str, ...], index: Index, by_node: dict[str, Layer]) -> Iterator[str]:
    """The layers with weights among all that tensors depend on."""
    waiting, seen = list(names), set(names)
    while waiting:
        name = waiting.pop()
        if name in by_node:
            yield by_node[name].name
        node = index.producers.get(name)
        fresh = [n for n in node.input if n not in seen] if node else []
        seen.update(fresh)
        waiting += fresh
