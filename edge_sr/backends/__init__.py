"""Where graphs run: one narrow protocol, and the explicit list of what implements it.

    Backend ──load──► Engine ──bind──► Binding ──enqueue(stream)──► work
       ├──allocate──► Buffer
       └──stream────► Stream

`bind` checks names, shapes and element types once; `enqueue` then allocates nothing, does not synchronise,
and touches only the buffers that were bound. Every resource is a context manager, and closing twice is fine.
Backends are imported when they are opened, never before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_sr.errors import BackendError
from edge_sr.spec import BATCH, Graph, TensorSpec

__all__ = [
    "BACKENDS",
    "Announces",
    "Backend",
    "Binding",
    "Buffer",
    "CanCapture",
    "Captured",
    "Closable",
    "Engine",
    "Mark",
    "Resource",
    "Stream",
    "check_binding",
    "check_rows",
    "open_backend",
]

Array = npt.NDArray[Any]
Self = TypeVar("Self")  # Python 3.11 has it in typing


class Closable(Protocol):
    """What every resource of a backend is: a context manager whose close may be called twice."""

    def close(self) -> None:
        """Frees what is held."""

    def __enter__(self: Self) -> Self:
        """The resource itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""


class Resource:
    """The context manager's half of a `Closable`."""

    def close(self) -> None:
        """Frees what is held."""

    def __enter__(self: Self) -> Self:
        """The resource itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it. After an error a failure to do so is not raised: it would hide what caused it."""
        try:
            self.close()
        except BackendError:
            if error is None:
                raise


class Stream(Closable, Protocol):
    """A queue of work in order. On a CPU work is done when it is enqueued, and the queue is always empty."""

    def synchronize(self) -> None:
        """Waits until everything enqueued so far is done."""

    def mark(self) -> Mark:
        """A point in the work whose time can be taken; made once, set in every run."""


class Mark(Closable, Protocol):
    """A point in a stream's work."""

    def set(self) -> None:
        """Marks the point after what is enqueued so far. Does not wait."""

    def seconds_since(self, earlier: Any) -> float:
        """Seconds since another mark of the same stream; both have been reached."""


class Buffer(Closable, Protocol):
    """Memory that a backend owns, at an address that never changes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""

    def upload(self, array: Array, stream: Stream) -> None:
        """Copies an array of the same shape and element type in, in the stream's order."""

    def download(self, out: Array, stream: Stream) -> None:
        """Copies the content out, in the stream's order; complete after `stream.synchronize()`."""

    def copy(self, source: Any, stream: Stream) -> None:
        """Copies in another buffer of this backend, of the same shape and type, in the stream's order."""

    def at(self, index: int) -> Buffer:
        """The part at `index` of the first axis. It shares this memory, and closing it frees nothing."""

    def rows(self, start: int, stop: int) -> Buffer:
        """The parts from `start` up to `stop` of the first axis, which stays; shared as by `at`."""


class Binding(Protocol):
    """An engine with its buffers attached."""

    def enqueue(self, stream: Stream) -> None:
        """Enqueues one run. Allocates nothing and does not wait.

        Raises:
            BackendError: The run was refused or failed.
        """


class Engine(Closable, Protocol):
    """A loaded graph."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What must be bound to be read."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What must be bound to be written."""

    def bind(self, buffers: Mapping[str, Buffer]) -> Binding:
        """Attaches buffers by name.

        Raises:
            BackendError: A name is missing or unknown, a shape or element type does not fit, or the engine
                is closed.
        """


class Backend(Closable, Protocol):
    """A way to run graphs on this machine."""

    name: str

    def describe(self) -> dict[str, str]:
        """What runs here, for logs and results: library, version, device."""

    def load(self, graph: Graph) -> Engine:
        """Loads a graph.

        Raises:
            BackendError: The library refuses it, or its tensors are not what the bundle says.
        """

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> Buffer:
        """Zeroed memory of a shape and element type; `shared` where the host uses it in every run."""

    def stream(self) -> Stream:
        """A new stream."""


class Captured(Closable, Protocol):
    """Work that was recorded once, or, where that was not possible, is enqueued anew each time.

    Attributes:
        is_graph: Whether it was recorded.
        note: Why it was not; empty where it was.
    """

    is_graph: bool
    note: str

    def launch(self, stream: Stream) -> None:
        """Enqueues one run. Allocates nothing and does not wait.

        Raises:
            BackendError: The run was refused.
        """


@runtime_checkable
class CanCapture(Protocol):
    """A backend that can record work and replay it as one; a CPU has nothing to gain from that."""

    def capture(
        self,
        work: Callable[[Stream], None],
        *,
        prepare: Callable[[int], None],
        outputs: Sequence[Buffer],
        stream: Stream,
    ) -> Captured:
        """Records work and compares a replay with an eager run before it is used.

        Args:
            work: Enqueues one run on the stream that it is given; called several times.
            prepare: Uploads the inputs of test case 0 or 1 on `stream`; the two differ.
            outputs: What a run writes that must be right.
            stream: Where it runs, now and later.

        Raises:
            BackendError: The work fails even when it is not recorded.
        """


@runtime_checkable
class Announces(Protocol):
    """A backend that tells what the user should know of the graphs that it loaded.

    Attributes:
        notes: In sentences; empty where there is nothing to say.
    """

    notes: list[str]


BACKENDS: dict[str, str] = {
    "onnxruntime": "edge_sr.backends.ort:OnnxRuntimeBackend",
    "onnxruntime-cuda": "edge_sr.backends.ort_cuda:OnnxRuntimeCudaBackend",
    "openvino": "edge_sr.backends.ov:OpenVinoBackend",
    "tensorrt": "edge_sr.backends.trt:TensorRTBackend",
    "fake": "edge_sr.backends.fake:FakeBackend",
}
"""Name on the command line -> module and class."""


def open_backend(name: str, **options: Any) -> Backend:
    """Opens a backend by name.

    Args:
        name: One of `BACKENDS`.
        options: What that backend's constructor takes.

    Raises:
        BackendError: The name is unknown, or the backend cannot run here.
    """
    if name not in BACKENDS:
        raise BackendError(f"no backend {name!r}", hint=f"one of: {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)(**options)
    return backend


def check_binding(specs: tuple[TensorSpec, ...], buffers: Mapping[str, Buffer]) -> int:
    """Checks buffers against an engine's tensors; every `bind` calls this first.

    Returns:
        The batch size that all of them agree on.

    Raises:
        BackendError: Naming every tensor that is missing, unknown or of another shape or element type.
    """
    problems = [f"unknown tensor {name!r}" for name in sorted(set(buffers) - {s.name for s in specs})]
    batches: set[int] = set()
    for spec in specs:
        buffer = buffers.get(spec.name)
        if buffer is None:
            problems.append(f"missing {spec}")
        elif not spec.accepts(buffer.shape, buffer.dtype):
            problems.append(f"wanted {spec}, got {buffer.dtype.name} {buffer.shape}")
        else:
            batches |= {have for want, have in zip(spec.shape, buffer.shape, strict=True) if want == BATCH}
    if len(batches) > 1:
        problems.append(f"batch sizes differ: {sorted(batches)}")
    if problems:
        raise BackendError("; ".join(problems))
    return batches.pop() if batches else 1


def check_rows(shape: tuple[int, ...], start: int, stop: int) -> None:
    """Checks what `Buffer.rows` is asked for.

    Raises:
        BackendError: A buffer of this shape has no such parts, or they would be none.
    """
    if not shape or not 0 <= start < stop <= shape[0]:
        raise BackendError(f"no rows {start} to {stop} in a buffer of {shape}")
