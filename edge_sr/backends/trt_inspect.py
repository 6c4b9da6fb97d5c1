"""What TensorRT's parser made of a graph: whether it will run as it was meant to, before anything is built.

A quantised convolution whose weights or activations are not dequantised at its very input runs in floating
point without a word; a normalisation that is not recognised falls apart into a dozen small layers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sr.backends.trt_library import Library

__all__ = ["NetworkFacts", "inspect_graph"]

DEQUANTIZE = "DEQUANTIZE"
CONVOLUTIONS = ("CONVOLUTION", "DECONVOLUTION")


@dataclass(frozen=True)
class NetworkFacts:
    """A parsed network.

    Attributes:
        layers: How many layers of each type, by TensorRT's name of it.
        quantised: Convolutions that are dequantised at both inputs, in order.
        half_quantised: Convolutions that are dequantised at one input only: a mistake in the graph.
        plain: The other convolutions.
    """

    layers: dict[str, int]
    quantised: tuple[str, ...]
    half_quantised: tuple[str, ...]
    plain: tuple[str, ...]


def inspect_graph(library: Library, path: Path) -> NetworkFacts:
    """Parses an ONNX file and looks at the network; needs no GPU.

    Raises:
        EngineError: The parser refuses the file.
    """
    builder = library.builder()
    network, _parser = library.parse(builder, path)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    found: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for layer in layers:
        if layer.type.name in CONVOLUTIONS:
            found[_dequantised_inputs(layer, makers)].append(layer.name)
    kinds = Counter(layer.type.name for layer in layers)
    return NetworkFacts(dict(sorted(kinds.items())), *(tuple(found[n]) for n in (2, 1, 0)))


def _dequantised_inputs(layer: Any, makers: dict[str, Any]) -> int:
    """How many of a convolution's first two inputs, activations and weights, come from a DequantizeLinear."""
    inputs = [layer.get_input(i) for i in range(min(2, layer.num_inputs))]
    sources = [makers.get(tensor.name) for tensor in inputs if tensor is not None]
    return sum(source is not None and source.type.name == DEQUANTIZE for source in sources)
