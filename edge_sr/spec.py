"""What flows between graphs, and the graphs themselves: precisions, components, tensor specifications."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "BATCH",
    "COEFFICIENTS",
    "GUIDANCE_INPUTS",
    "IMAGE",
    "LATENT",
    "LOOP_INPUTS",
    "LOOP_OUTPUTS",
    "OUTPUT",
    "Component",
    "Graph",
    "Precision",
    "TensorSpec",
]

BATCH = "N"
"""The symbol of the one axis whose length is free: the first."""

COEFFICIENTS = ("p", "q", "a", "b", "c", "d", "clip")
"""The columns of the step graph's `coefficients` input; see `edge_sr.schedule`."""

IMAGE, LATENT, OUTPUT = "image", "latent", "output"
"""What goes in, what the loop hands to the decoder, and what comes out of that."""

LOOP_INPUTS = frozenset({"x", "x0_previous", "noise", "coefficients", "time_embedding"})
LOOP_OUTPUTS = frozenset({"x_next", "x0"})
"""What the loop gives to the step graph, and takes from it; its other inputs are the image and the encoder's
outputs, by name."""

GUIDANCE_INPUTS = frozenset({"guidance", "partner"})
"""What the loop gives beside it to the step graph of a model that was told classes: how much an evaluation's
own prediction and its partner's weigh, (N, 2), and in which row the partner is, (N,) int32."""


class Precision(str, Enum):
    """The precision of a graph. `int8` and `int8-fp16` are two forms of one calibration plan."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_FP16 = "int8-fp16"

    def __str__(self) -> str:
        """The name as it stands in bundles and on the command line."""
        return self.value


class Component(str, Enum):
    """The graphs that a bundle may have, in the order in which an image passes through them."""

    ENCODER = "encoder"
    STEP = "step"
    DECODER = "decoder"

    def __str__(self) -> str:
        """The name as it stands in bundles."""
        return self.value


@dataclass(frozen=True)
class TensorSpec:
    """The name, element type and shape of one input or output of a graph.

    Attributes:
        name: The name in the graph.
        dtype: numpy's name of the element type, as in "float32".
        shape: Lengths of the axes; "N" where the length is free, which only the first may be.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def concrete(self, batch: int) -> tuple[int, ...]:
        """The shape for a batch of `batch` samples."""
        return tuple(batch if axis == BATCH else int(axis) for axis in self.shape)

    def accepts(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> bool:
        """Whether an array of this shape and element type may be bound to the tensor."""
        if len(shape) != len(self.shape) or np.dtype(dtype) != np.dtype(self.dtype):
            return False
        return all(want in (BATCH, have) for want, have in zip(self.shape, shape, strict=True))

    def __str__(self) -> str:
        """As in "latent: float32 (N, 16, 32, 32)"."""
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Graph:
    """One graph of a bundle, verified and ready to be loaded.

    Attributes:
        path: The ONNX file.
        component: Which stage it is.
        precision: What it computes in.
        sha256: Digest of the file, in hexadecimal.
        inputs, outputs: Its tensors, in the file's order.
    """

    path: Path
    component: Component
    precision: Precision
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
