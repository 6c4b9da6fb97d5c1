"""A backend that runs a bundle as ever, and shows what flows through the inside of its graphs.

It stands in for the ONNX Runtime backend, so that what is recorded is what the deployed engine does: the same
tiles, noise and steps. The tensors to be seen are made outputs of a copy of the graph, in chunks that bound
the memory they take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from calibration.errors import CalibrationError
from calibration.graph import read_graph, shapes
from edge_sr.backends import Buffer, Resource, Stream, check_binding
from edge_sr.backends.host import HostBuffer, HostStream
from edge_sr.spec import Component, Graph, TensorSpec

__all__ = ["Observer", "ObservingBackend"]

Array = npt.NDArray[Any]
Observer = Callable[[Component, dict[str, Array]], None]
"""Called with every run of a graph: its inputs, outputs and the watched tensors, by name."""

CHUNK_BYTES = 256 << 20  # what watched tensors may take at once


class ObservingBackend(Resource):
    """ONNX Runtime on the CPU, with an observer."""

    name = "observing"

    def __init__(
        self,
        watched: Mapping[Component, Sequence[str]],
        observer: Observer,
        *,
        chunk_bytes: int | None = None,
    ) -> None:
        """Makes sessions when graphs are loaded.

        Args:
            watched: Names of tensors in each graph.
            observer: Told their values.
            chunk_bytes: Memory for them, at one sample; None for 256 MiB, or more for a large graph, since
                every chunk has a session with all weights.
        """
        self.watched, self.observer, self.chunk_bytes = watched, observer, chunk_bytes

    def describe(self) -> dict[str, str]:
        """What runs here."""
        return {
            "backend": self.name,
            "version": str(onnxruntime.__version__),
            "provider": "CPUExecutionProvider",
        }

    def load(self, graph: Graph) -> ObservedEngine:
        """Makes a session for each chunk of the watched tensors.

        Raises:
            CalibrationError: ONNX Runtime refuses the graph.
        """
        own = {spec.name for spec in (*graph.inputs, *graph.outputs)}
        watched = [name for name in self.watched[graph.component] if name not in own]
        model = read_graph(graph.path)
        chunks = _chunks(model, watched, self.chunk_bytes)
        return ObservedEngine(graph, [(_session(model, chunk), chunk) for chunk in chunks], self.observer)

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> HostBuffer:
        """Zeroed host memory."""
        return HostBuffer.zeros(shape, dtype)

    def stream(self) -> HostStream:
        """A stream whose work is done when it is enqueued."""
        return HostStream()


class ObservedEngine(Resource):
    """The sessions of one graph."""

    def __init__(self, graph: Graph, sessions: list[tuple[Any, list[str]]], observer: Observer) -> None:
        self.component, self.sessions, self.observer = graph.component, sessions, observer
        self.inputs: tuple[TensorSpec, ...] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs

    def bind(self, buffers: Mapping[str, Buffer]) -> ObservedBinding:
        """Attaches host buffers by name.

        Raises:
            BackendError: A name is missing or unknown, or a shape or element type does not fit.
        """
        check_binding(self.inputs + self.outputs, buffers)
        return ObservedBinding(self, {name: cast(HostBuffer, b).array for name, b in buffers.items()})


class ObservedBinding:
    """An engine with its arrays attached."""

    def __init__(self, engine: ObservedEngine, arrays: dict[str, Array]) -> None:
        self._engine, self._arrays = engine, arrays

    def enqueue(self, stream: Stream) -> None:
        """Runs every session on the same inputs, fills the outputs, and shows the observer everything.

        Raises:
            CalibrationError: ONNX Runtime failed.
        """
        engine = self._engine
        feeds = {spec.name: self._arrays[spec.name] for spec in engine.inputs}
        own = [spec.name for spec in engine.outputs]
        for index, (session, chunk) in enumerate(engine.sessions):
            names = chunk if index else [*own, *chunk]
            results = dict(zip(names, _run(session, names, feeds), strict=True))
            inputs = {} if index else feeds
            if not index:
                for name in own:
                    np.copyto(self._arrays[name], results[name])
            engine.observer(engine.component, {**inputs, **results})
            del results  # before the next chunk's come


def _chunks(model: Any, watched: Sequence[str], limit: int | None) -> list[list[str]]:
    """The watched tensors in groups of at most `limit` bytes for one sample, at least one group.

    Without a limit: where the weights, once a group, and the largest group take least together.
    """
    sizes = {name: 4 * math.prod(shape) for name, shape in shapes(model).items()}
    if limit is None:
        total = sum(sizes.get(name, 0) for name in watched)
        limit = max(CHUNK_BYTES, math.isqrt(total * model.ByteSize()))
    groups: list[list[str]] = [[]]
    taken = 0
    for name in watched:
        size = sizes.get(name, 0)
        if groups[-1] and taken + size > limit:
            groups.append([])
            taken = 0
        groups[-1].append(name)
        taken += size
    return groups


def _session(model: Any, extra: Sequence[str]) -> Any:
    """A session of the graph with more outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in extra)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Every session's arena would keep the room that all its watched tensors took.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(
            copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base class of their own
        raise CalibrationError(f"onnxruntime refuses the graph: {error}") from error


def _run(session: Any, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    try:
        values: list[Array] = session.run(names, feeds)
    except Exception as error:
        raise CalibrationError(f"onnxruntime failed while recording: {error}") from error
    return values
