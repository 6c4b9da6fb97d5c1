"""What NVIDIA's parser made of an ONNX graph, as plain data, and whether it is what the precision means.

The network is looked at before it is built: strongly typed, it says in which type each layer computes. What
the builder fuses afterwards cannot be seen without a GPU.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from calibration.wiring import (
    PASS_THROUGH,
    UPDATE_INPUTS,
    WEIGHTED,
    Finding,
    Problem,
    Wiring,
    label,
    quantised_sides,
)
from edge_sr.spec import LOOP_OUTPUTS, Precision

__all__ = ["CHECKS", "Layer", "ParsedNetwork", "inspect", "int8_layers", "normalizations", "read_network"]

INT8_KINDS = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"})
HALF_KINDS = INT8_KINDS | {"NORMALIZATION", "ACTIVATION", "SOFTMAX"}
"""Layers whose work is in FP16 where the precision says so: convolutions, norms, activations, attention."""

CARRIERS = frozenset({"CAST", "SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY"})
"""Layers that leave a tensor's values as they are, whole numbers at least."""

NORMALIZATIONS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization")
HALF = frozenset({Precision.FP16, Precision.INT8_FP16})
QUANTISED = frozenset({Precision.INT8, Precision.INT8_FP16})
FLOATS = frozenset({"FLOAT", "HALF", "BF16"})
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\x1e\]]+)")


@dataclass(frozen=True)
class Layer:
    """A layer of a parsed network.

    Attributes:
        name: The ONNX node it comes from; the parser's own name where it comes from none.
        kind: TensorRT's LayerType, as in "CONVOLUTION".
        inputs, outputs: (name, DataType) of each tensor, as in ("x", "HALF").
        is_inserted: Whether the parser added it by itself.
    """

    name: str
    kind: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    is_inserted: bool = False


class ParsedNetwork:
    """The layers of a network, its inputs, and who makes and reads which tensor."""

    def __init__(self, layers: Iterable[Layer], inputs: Iterable[str]) -> None:
        self.layers, self.inputs = tuple(layers), tuple(inputs)
        self.producer = {name: layer for layer in self.layers for name, _ in layer.outputs}
        self.readers: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for name, _ in layer.inputs:
                self.readers.setdefault(name, []).append(layer)

    def dependants(self, names: Iterable[str]) -> list[Layer]:
        """The layers whose values depend on these tensors, in order; their shapes do not count."""
        reached, found = set(names), []
        for layer in self.layers:
            if layer.kind != "SHAPE" and any(name in reached for name, _ in layer.inputs):
                reached.update(name for name, _ in layer.outputs)
                found.append(layer)
        return found

    def choosing(self) -> set[int]:
        """The ids of the layers that an ArgMin depends on, which stay in FP32: see `calibration.graph`."""
        needed: set[str] = set()
        found = set()
        for layer in reversed(self.layers):
            if layer.kind == "TOPK" or needed.intersection(name for name, _ in layer.outputs):
                needed.update(name for name, _ in layer.inputs)
                found.add(id(layer))
        return found

    def picking(self) -> set[int]:
        """The ids of the layers that bring an index from an ArgMin to a GATHER, and do nothing else to it."""
        indices: set[str] = set()
        found = set()
        for layer in self.layers:
            carries = layer.kind in CARRIERS and any(name in indices for name, _ in layer.inputs)
            if layer.kind == "TOPK" or carries:
                indices.update(name for name, kind in layer.outputs if kind.startswith("INT"))
                found.add(id(layer))
        return found

    def dequantiser(self, tensor: str) -> Layer | None:
        """The DEQUANTIZE that a tensor comes from, reshaped or not."""
        layer = self.producer.get(tensor)
        while layer is not None and layer.kind in ("SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY"):
            layer = self.producer.get(layer.inputs[0][0])
        return layer if layer is not None and layer.kind == "DEQUANTIZE" else None

    def counts(self) -> dict[str, int]:
        """Layers by kind."""
        return dict(sorted(Counter(layer.kind for layer in self.layers).items()))


def read_network(network: Any) -> ParsedNetwork:
    """A network of TensorRT's as plain data."""
    layers = [_read_layer(network.get_layer(place)) for place in range(network.num_layers)]
    return ParsedNetwork(layers, [network.get_input(place).name for place in range(network.num_inputs)])


def _read_layer(layer: Any) -> Layer:
    inputs = (layer.get_input(place) for place in range(layer.num_inputs))
    outputs = (layer.get_output(place) for place in range(layer.num_outputs))
    sides = [tuple((t.name, t.dtype.name) for t in side if t is not None) for side in (inputs, outputs)]
    match = _ONNX_NODE.search(layer.metadata or "")
    name = match.group(1) if match else layer.name
    return Layer(name, layer.type.name, sides[0], sides[1], is_inserted=match is None)


def int8_layers(network: ParsedNetwork) -> set[str]:
    """The names of the layers whose data and weights both come from DEQUANTIZE."""
    candidates = [layer for layer in network.layers if layer.kind in INT8_KINDS and len(layer.inputs) > 1]
    return {c.name for c in candidates if all(network.dequantiser(name) for name, _ in c.inputs[:2])}


def normalizations(wiring: Wiring) -> int:
    """How many normalisations a graph has, decomposed GroupNorms included."""
    return len(wiring.all_of(*NORMALIZATIONS))


@dataclass(frozen=True)
class Case:
    """A parsed network beside the graph that it was parsed from.

    Attributes:
        has_record: Whether a calibration record says which layers are INT8; it may exclude them all, and
            `excluded_problems` compares it with the graph layer by layer.
    """

    network: ParsedNetwork
    wiring: Wiring
    precision: Precision
    has_record: bool = False

    @property
    def update(self) -> list[Layer]:
        """The layers of the sampler's update; none but in a step graph."""
        return self.network.dependants(n for n in UPDATE_INPUTS if n in self.wiring.inputs)

    @property
    def int8_nodes(self) -> set[str]:
        """The names of the ONNX nodes that have Q/DQ on data and weights."""
        return {label(n) for n in self.wiring.all_of(*WEIGHTED) if all(quantised_sides(self.wiring, n))}


def inspect(
    network: ParsedNetwork, wiring: Wiring, precision: Precision, *, has_record: bool = False
) -> list[Finding]:
    """Where a parsed network is not what the precision of its graph means; `has_record`: see `Case`."""
    case = Case(network, wiring, precision, has_record)
    return [
        Finding(name, severity, node, message)
        for name, (severity, check) in CHECKS.items()
        for node, message in check(case)
    ]


def int8(case: Case) -> Iterator[Problem]:
    """Exactly the convolutions that have Q/DQ in the file have it in the network."""
    wanted, found = case.int8_nodes, int8_layers(case.network)
    for name in sorted(wanted - found):
        yield name, "quantised in the file, but not on data and weights in the parsed network"
    for name in sorted(found - wanted):
        yield name, "INT8 in the parsed network, but not in the file"
    if case.precision in QUANTISED and not found and not case.has_record:
        yield "graph", f"no layer is INT8 in a graph of precision {case.precision}"


def stray_qdq(case: Case) -> Iterator[Problem]:
    """Nothing else has Q/DQ: it leads to an INT8 layer or to the sum that one is fused with.

    ONNX Runtime wants the output of an INT8 layer quantised too; in `int8`, made for it, that may be.
    """
    inside = int8_layers(case.network) | {label(node) for node in case.wiring.all_of("Add")}
    for layer in case.network.layers:
        if layer.kind not in ("QUANTIZE", "DEQUANTIZE"):
            continue
        if case.precision not in QUANTISED:
            yield layer.name, f"{layer.kind} in a graph of precision {case.precision}"
        elif layer.kind == "DEQUANTIZE" and not _belongs(case, layer, inside):
            readers = case.network.readers.get(layer.outputs[0][0], [])
            yield (
                layer.name,
                f"feeds {', '.join(sorted(r.name for r in readers)) or 'nothing'}, which is not INT8",
            )


def _belongs(case: Case, layer: Layer, inside: set[str]) -> bool:
    """Whether a DEQUANTIZE feeds a layer of `inside`, or comes from one where outputs may be quantised."""
    if any(reader.name in inside for reader in _readers(case.network, layer.outputs[0][0])):
        return True
    source = case.network.producer.get(layer.inputs[0][0])
    while source is not None and source.kind in ("QUANTIZE", "ACTIVATION"):
        source = case.network.producer.get(source.inputs[0][0])
    return case.precision is Precision.INT8 and source is not None and source.name in inside


def _readers(network: ParsedNetwork, tensor: str) -> Iterator[Layer]:
    """The layers that read a tensor, reshaped or not."""
    for layer in network.readers.get(tensor, []):
        yield layer
        if layer.kind in ("SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY"):
            yield from _readers(network, layer.outputs[0][0])


def float_type(case: Case) -> Iterator[Problem]:
    """FP16 graphs do their work in FP16 but for update and choices, and the others in FP32."""
    wanted = "HALF" if case.precision in HALF else "FLOAT"
    update = {id(layer) for layer in case.update} | case.network.choosing()
    for layer in case.network.dependants(case.network.inputs):
        types = {kind for _, kind in layer.outputs if kind in FLOATS}
        if layer.kind in HALF_KINDS and id(layer) not in update and types - {wanted}:
            yield layer.name, f"{layer.kind} in {', '.join(sorted(types))}, wanted {wanted}"


def step_update(case: Case) -> Iterator[Problem]:
    """The sampler's update is in FP32, without casts."""
    if not LOOP_OUTPUTS.issubset(case.wiring.outputs):
        return
    for layer in case.update:
        types = {kind for _, kind in (*layer.inputs, *layer.outputs) if kind in FLOATS}
        if types - {"FLOAT"}:
            yield layer.name, f"{layer.kind} of the step update in {', '.join(sorted(types))}, wanted FLOAT"
        elif layer.kind == "CAST":
            origin = "the parser's own" if layer.is_inserted else "the graph's"
            yield layer.name, f"{origin} cast in the step update"


def implicit_cast(case: Case) -> Iterator[Problem]:
    """The parser casts nothing by itself that the graph does not."""
    picking = case.network.picking()
    for layer in case.network.dependants(case.network.inputs):
        if layer.kind == "CAST" and layer.is_inserted and id(layer) not in picking:
            types = f"{layer.inputs[0][1]} to {layer.outputs[0][1]}"
            yield layer.name, f"the parser casts {layer.inputs[0][0]} from {types}"


def wide_type(case: Case) -> Iterator[Problem]:
    """No 64-bit integers where values are computed, but for shapes, and for what picks rows of a table."""
    picking = case.network.picking()
    for layer in case.network.dependants(case.network.inputs):
        for name, kind in layer.outputs if id(layer) not in picking else ():
            if kind in ("INT64", "DOUBLE"):
                yield layer.name, f"{name} is computed in {kind}"


def normalization(case: Case) -> Iterator[Problem]:
    """Each GroupNorm is one NORMALIZATION layer."""
    wanted, found = normalizations(case.wiring), case.network.counts().get("NORMALIZATION", 0)
    if found != wanted:
        yield "graph", f"{found} NORMALIZATION layers for {wanted} normalisations"


def excluded_problems(wiring: Wiring, excluded: frozenset[str]) -> Iterator[Problem]:
    """Convolutions that are neither INT8 nor excluded by the calibration record, and those that are both.

    Args:
        wiring: A quantised graph.
        excluded: The layers of this graph that the record excludes, named after their weights.
    """
    for node in wiring.all_of("Conv", "ConvTranspose"):
        weight = wiring.origin(node.input[1], (*PASS_THROUGH, "Cast", "DequantizeLinear", "QuantizeLinear"))
        layer = weight.partition(".weight")[0]
        is_int8 = all(quantised_sides(wiring, node))
        is_excluded = not excluded.isdisjoint((layer, f"{layer}@{node.output[0]}"))
        if is_int8 and is_excluded:
            yield label(node), f"{layer} is INT8, though the calibration record excludes it"
        elif not is_int8 and not is_excluded:
            yield label(node), f"{layer} is not INT8, and the calibration record does not say why"


Check = Callable[[Case], Iterator[Problem]]

CHECKS: dict[str, tuple[str, Check]] = {
    "int8": ("error", int8),
    "stray-qdq": ("error", stray_qdq),
    "float-type": ("error", float_type),
    "step-update": ("error", step_update),
    "implicit-cast": ("warning", implicit_cast),
    "wide-type": ("error", wide_type),
    "normalization": ("error", normalization),
}
"""Severity and check by name."""
