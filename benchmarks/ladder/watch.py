"""A backend that tells of every run of a graph: which one, how long it took, and what it was bound to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy.typing as npt

from edge_sr.backends import Backend, Binding, Buffer, Engine, Resource, Stream
from edge_sr.spec import Component, Graph, TensorSpec

__all__ = ["Watch", "Watched", "unwatched"]

Watch = Callable[[Component, float, Mapping[str, Buffer], Stream], None]
"""Called after every run with the graph's component, the seconds it took to enqueue (on a CPU, to run), its
buffers by name, and the stream."""


def unwatched(component: Component, seconds: float, buffers: Mapping[str, Buffer], stream: Stream) -> None:
    """Nobody is told."""


class Watched(Resource):
    """Another backend, whose graphs tell of their runs.

    Args:
        inner: What runs the graphs; closed with this.
        watch: Who is told.
    """

    def __init__(self, inner: Backend, watch: Watch) -> None:
        self.inner, self.name, self._watch = inner, inner.name, watch

    def describe(self) -> dict[str, str]:
        """See `Backend`."""
        return self.inner.describe()

    def load(self, graph: Graph) -> Engine:
        """See `Backend`.

        Raises:
            BackendError: The inner backend refuses the graph.
        """
        return _WatchedEngine(self.inner.load(graph), graph.component, self._watch)

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> Buffer:
        """See `Backend`."""
        return self.inner.allocate(shape, dtype, shared=shared)

    def stream(self) -> Stream:
        """See `Backend`."""
        return self.inner.stream()

    def close(self) -> None:
        """Closes the inner backend."""
        self.inner.close()


class _WatchedEngine(Resource):
    def __init__(self, inner: Engine, component: Component, watch: Watch) -> None:
        self._inner, self._component, self._watch = inner, component, watch

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inner.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._inner.outputs

    def bind(self, buffers: Mapping[str, Buffer]) -> Binding:
        return _WatchedBinding(self._inner.bind(buffers), self._component, buffers, watch=self._watch)

    def close(self) -> None:
        self._inner.close()


class _WatchedBinding:
    def __init__(
        self, inner: Binding, component: Component, buffers: Mapping[str, Buffer], *, watch: Watch
    ) -> None:
        self._inner, self._component, self._buffers, self._watch = inner, component, buffers, watch

    def enqueue(self, stream: Stream) -> None:
        started = time.perf_counter()
        self._inner.enqueue(stream)
        self._watch(self._component, time.perf_counter() - started, self._buffers, stream)
