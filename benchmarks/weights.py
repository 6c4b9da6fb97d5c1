"""Weights out of a bundle's FP32 graphs, by the name of the module's parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError
from edge_sr.spec import Component, Precision

__all__ = ["GraphWeights", "latent_scale", "read_weights"]

Array = npt.NDArray[Any]
HALF = ".half"  # what `export.to_onnx` appends to the name of a weight that it stores in FP16


@dataclass(frozen=True)
class GraphWeights:
    """What a graph holds.

    Attributes:
        named: Every initialiser, in FP32, by name; those of a parameter have its name, as far as the exporter
            kept it: it folds normalisations into others, and stores equal values once, under one name.
        layers: Weight's name -> bias (None for none), for every convolution and linear layer.
        norms: Weight and bias of every normalisation, (C,) each, in the order in which the graph runs them.
    """

    named: Mapping[str, Array]
    layers: Mapping[str, Array | None]
    norms: tuple[tuple[Array, Array], ...]


def read_weights(bundle: Bundle, component: Component) -> GraphWeights:
    """The weights of one FP32 graph.

    Raises:
        BundleError: The bundle has no such graph, or a normalisation does not look as the export writes it.
    """
    graph = onnx.load(bundle.graph(component, Precision.FP32).path).graph
    named = _named(graph)
    layers = {
        node.input[1]: named[node.input[2]] if len(node.input) > 2 and node.input[2] else None
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    }
    return GraphWeights(named, layers, tuple(_norms(graph, named)))


def latent_scale(bundle: Bundle) -> tuple[Array, Array] | None:
    """Mean and deviation of the latent in training, (L, 1, 1) each; None where no name tells them."""
    if Component.DECODER not in bundle.manifest.graphs:
        return None
    named = _named(onnx.load(bundle.graph(Component.DECODER, Precision.FP32).path).graph)
    mean, std = named.get("latent_mean"), named.get("latent_std")
    return None if mean is None or std is None else (mean[0], std[0])


def _named(graph: Any) -> dict[str, Array]:
    """Every initialiser, in FP32, by name."""
    return {t.name.removesuffix(HALF): _fp32(numpy_helper.to_array(t)) for t in graph.initializer}


def _fp32(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _norms(graph: Any, named: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    """An InstanceNormalization is followed by a reshape, a product with the weight, a sum with the bias."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        if node.op_type != "InstanceNormalization":
            continue
        values = []
        reshape, *_ = readers[node.output[0]]
        last = reshape
        for operator in ("Mul", "Add"):
            last = next((n for n in readers[last.output[0]] if n.op_type == operator), None)
            constants = [named[name] for name in last.input if name in named] if last else []
            if last is None or len(constants) != 1:
                raise BundleError(f"{node.name} is no group normalisation as the export writes it")
            values.append(constants[0].reshape(-1))
        found.append((values[0], values[1]))
    return found
