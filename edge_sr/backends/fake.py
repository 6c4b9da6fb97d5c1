"""A backend of plain numpy: deterministic, without weights, for tests and dry runs.

It never reads the ONNX file. From the tensors that the bundle names it computes something of the right shapes
that depends on every input: the step applies the real update of `edge_sr.schedule` around a made-up network,
so that schedules, buffers, tiling and batching are exercised as they are with a real model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Buffer, Resource, Stream, check_binding
from edge_sr.backends.host import HostBuffer, HostStream
from edge_sr.errors import BackendError
from edge_sr.spec import COEFFICIENTS, GUIDANCE_INPUTS, LOOP_INPUTS, Component, Graph, TensorSpec

__all__ = ["FakeBackend"]

Array = npt.NDArray[Any]


class FakeBackend(Resource):
    """Runs made-up networks in numpy.

    Attributes:
        fail_after: Refuse every run after this many, to see what a failure does; None for never.
        runs: How many runs were asked for.
    """

    name = "fake"

    def __init__(
        self, *, threads: int = 0, engine_dir: Path | None = None, fail_after: int | None = None
    ) -> None:
        """Args: threads, engine_dir: accepted for callers that choose a backend by name; not used."""
        self.fail_after, self.runs = fail_after, 0

    def describe(self) -> dict[str, str]:
        """What runs here."""
        return {"backend": self.name, "version": "0", "provider": "numpy", "threads": "1"}

    def load(self, graph: Graph) -> FakeEngine:
        """An engine with the graph's tensors; the file is not read."""
        return FakeEngine(self, graph)

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> HostBuffer:
        """Zeroed host memory."""
        return HostBuffer.zeros(shape, dtype)

    def stream(self) -> HostStream:
        """A stream whose work is done when it is enqueued."""
        return HostStream()


class FakeEngine(Resource):
    """The tensors of a graph, and a function over them."""

    def __init__(self, backend: FakeBackend, graph: Graph) -> None:
        self.backend, self.component = backend, graph.component
        self.inputs: tuple[TensorSpec, ...] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs
        self._closed = False

    def bind(self, buffers: Mapping[str, Buffer]) -> FakeBinding:
        """Attaches host buffers by name.

        Raises:
            BackendError: A name is missing or unknown, or a shape or element type does not fit.
        """
        if self._closed:
            raise BackendError("this engine is closed")
        check_binding(self.inputs + self.outputs, buffers)
        arrays = {name: cast(HostBuffer, buffer).array for name, buffer in buffers.items()}
        return FakeBinding(self, arrays)

    def close(self) -> None:
        """Refuses further bindings."""
        self._closed = True


class FakeBinding:
    """An engine with its arrays attached."""

    def __init__(self, engine: FakeEngine, arrays: dict[str, Array]) -> None:
        self._engine, self._arrays = engine, arrays

    def enqueue(self, stream: Stream) -> None:
        """Computes the outputs.

        Raises:
            BackendError: The backend was told to fail.
        """
        backend = self._engine.backend
        backend.runs += 1
        if backend.fail_after is not None and backend.runs > backend.fail_after:
            raise BackendError(f"the fake backend was told to fail after {backend.fail_after} runs")
        compute = _step if self._engine.component is Component.STEP else _resample
        compute(self._engine, self._arrays)


def _resample(engine: FakeEngine, arrays: dict[str, Array]) -> None:
    """Every output is the mean of all inputs over their channels, enlarged by repetition or thinned out."""
    for index, output in enumerate(engine.outputs):
        out = arrays[output.name]
        total = np.zeros((len(out), 1, *out.shape[2:]), np.float32)
        for source in engine.inputs:
            mean = arrays[source.name].mean(axis=1, keepdims=True)
            total += _fit(mean, out.shape[2], out.shape[3]) / np.float32(len(engine.inputs))
        np.copyto(out, np.tanh(total) * np.float32(1 - 0.1 * index))


def _fit(image: Array, height: int, width: int) -> Array:
    """(N, 1, h, w) -> (N, 1, height, width), nearest."""
    rows = np.arange(height) * image.shape[2] // height
    columns = np.arange(width) * image.shape[3] // width
    return np.asarray(image[:, :, rows][:, :, :, columns])


def _step(engine: FakeEngine, arrays: dict[str, Array]) -> None:
    """x0 = clip(p x + q network), x_next = a x + b x0 + c noise + d x0_previous; the network is made up."""
    x = arrays["x"]
    table = {
        name: arrays["coefficients"][:, column, None, None, None] for column, name in enumerate(COEFFICIENTS)
    }
    network = np.tanh(x * np.float32(0.5))
    for spec in engine.inputs:
        if spec.name not in LOOP_INPUTS | GUIDANCE_INPUTS:
            network = network + np.float32(0.1) * _fit(
                arrays[spec.name].mean(axis=1, keepdims=True), x.shape[2], x.shape[3]
            )
    network = network + np.float32(0.01) * arrays["time_embedding"].mean(axis=1)[:, None, None, None]
    if "partner" in arrays:
        own, other = arrays["guidance"].T[:, :, None, None, None]
        network = own * network + other * network[arrays["partner"]]
    x0 = np.clip(table["p"] * x + table["q"] * network, -table["clip"], table["clip"])
    np.copyto(
        arrays["x_next"],
        table["a"] * x + table["b"] * x0 + table["c"] * arrays["noise"] + table["d"] * arrays["x0_previous"],
    )
    np.copyto(arrays["x0"], x0)
