"""TensorRT: engines built for this GPU by `edge-sr build-engine`, run without a copy or a wait between them.

An engine is found by its key, and its sidecar is compared before the plan is opened. An execution context
belongs to one stream and one batch size; it is made at the first run there, which TensorRT wants as a warm-up
anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy.typing as npt

from edge_sr.backends import Buffer, Resource, Stream, check_binding
from edge_sr.backends.capture import Replay, capture_work
from edge_sr.backends.engine_store import BuildFlags, EngineKey, EngineStore, Target, default_engine_dir
from edge_sr.backends.gpu_memory import GpuBuffer, GpuStream
from edge_sr.backends.trt_library import Library, open_library
from edge_sr.cuda import Cuda, open_cuda
from edge_sr.errors import BackendError, EngineError
from edge_sr.spec import Graph, TensorSpec

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["TensorRTBackend", "obstacle"]


class TensorRTBackend(Resource):
    """Runs engines on the first GPU."""

    name = "tensorrt"

    def __init__(
        self,
        *,
        engine_dir: Path | None = None,
        library: Library | str = "auto",
        cuda: Cuda | str = "auto",
        flags: BuildFlags | None = None,
        threads: int = 0,
    ) -> None:
        """Opens the GPU and TensorRT.

        Args:
            engine_dir: Where the engines are; `default_engine_dir()` where None.
            library: TensorRT, or a name for `open_library`.
            cuda: The GPU, or a name for `open_cuda`.
            flags: What the engines must have been built with; None for any.
            threads: Accepted for the sake of callers that choose a backend by name; not used.

        Raises:
            BackendError: There is no driver, no GPU, or no TensorRT that works.
        """
        self.library = open_library(library) if isinstance(library, str) else library
        self.cuda = open_cuda(cuda) if isinstance(cuda, str) else cuda
        self.store = EngineStore(engine_dir or default_engine_dir())
        self.flags = flags

    @property
    def target(self) -> Target:
        """What an engine must have been built for."""
        facts = self.cuda.facts
        return Target(self.library.name, self.library.version, facts.sm, facts.name)

    def describe(self) -> dict[str, str]:
        """Library, version, device, CUDA adapter, and where the engines come from."""
        return {
            "backend": self.name,
            "version": str(self.library),
            "provider": f"{self.cuda.facts.name} (sm {self.cuda.facts.sm}, CUDA {self.cuda.facts.driver})",
            "cuda": self.cuda.name,
            "cuda_graphs": "yes" if self.cuda.can_capture else "no",
            "engines": str(self.store.folder),
            "threads": "1",
        }

    def load(self, graph: Graph) -> TensorRTEngine:
        """Opens the engine that was built from a graph for this device.

        Raises:
            EngineError: There is none, or it is for another graph, version, device or flags; the message says
                which part differs, the hint how to build it. Or TensorRT refuses it.
        """
        flags = None if self.flags is None else str(self.flags)
        sidecar = self.store.find(EngineKey.of(graph, self.target, flags))
        plan = self.library.deserialize(self.store.read(sidecar), sidecar.file)
        _check_tensors(graph, self.library.tensors(plan), sidecar.file)
        return TensorRTEngine(self.library, plan, graph)

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> GpuBuffer:
        """Zeroed GPU memory.

        Args:
            shape: Lengths of the axes.
            dtype: The element type.
            shared: Whether the host reads or writes it in every run: then mapped, where that is coherent.
        """
        return GpuBuffer(self.cuda, shape, dtype, shared=shared)

    def stream(self) -> GpuStream:
        """A new CUDA stream."""
        return GpuStream(self.cuda)

    def capture(
        self,
        work: Callable[[Stream], None],
        *,
        prepare: Callable[[int], None],
        outputs: Sequence[Buffer],
        stream: Stream,
    ) -> Replay:
        """Records work as a CUDA graph; see `edge_sr.backends.capture.capture_work`.

        Raises:
            BackendError: The work fails even without a capture.
        """
        queue = cast(GpuStream, stream)
        return capture_work(self.cuda, work, prepare=prepare, outputs=outputs, stream=queue)

    def close(self) -> None:
        """Lets go of the device."""
        self.cuda.close()


def obstacle(graphs: Sequence[Graph], open_tensorrt: Callable[[], TensorRTBackend]) -> str:
    """What keeps TensorRT from running these graphs here, for `--backend auto`; empty where nothing does.

    Args:
        graphs: One a component.
        open_tensorrt: Opens the backend over the folder of engines that would be used.
    """
    try:
        with open_tensorrt() as backend:
            for graph in graphs:
                backend.store.find(EngineKey.of(graph, backend.target))
    except BackendError as error:
        return str(error)
    return ""


class TensorRTEngine(Resource):
    """An engine, and its execution contexts: one for each stream and batch size."""

    def __init__(self, library: Library, plan: trt.ICudaEngine, graph: Graph) -> None:
        self.inputs: tuple[TensorSpec, ...] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs
        self.library, self.label = library, f"{graph.precision} {graph.component}"
        self._plan: trt.ICudaEngine | None = plan
        self._contexts: dict[tuple[int, int], _Context] = {}

    def bind(self, buffers: Mapping[str, Buffer]) -> TensorRTBinding:
        """Attaches GPU buffers by name.

        Raises:
            BackendError: A name is missing or unknown, a shape or element type does not fit, or the batch is
                outside the range that the engine was built for.
        """
        batch = check_binding(self.inputs + self.outputs, buffers)
        self._check_batch(batch)
        pointers = {name: cast(GpuBuffer, buffer).pointer for name, buffer in buffers.items()}
        return TensorRTBinding(self, batch, pointers)

    def context(self, stream: GpuStream, batch: int) -> _Context:
        """The context of a stream and a batch size, made when it is first asked for.

        Raises:
            BackendError: The engine is closed, or TensorRT makes no context.
        """
        key = (stream.raw.handle, batch)
        if key not in self._contexts:
            self._contexts[key] = _Context(
                self.library, self.plan, self.inputs, batch=batch, label=self.label
            )
        return self._contexts[key]

    @property
    def plan(self) -> trt.ICudaEngine:
        """TensorRT's engine.

        Raises:
            BackendError: It is closed.
        """
        if self._plan is None:
            raise BackendError("this engine is closed")
        return self._plan

    def close(self) -> None:
        """Frees the contexts and the engine."""
        self._contexts.clear()
        self._plan = None

    def _check_batch(self, batch: int) -> None:
        name = self.inputs[0].name
        if self.plan.get_tensor_shape(name)[0] != -1:
            return
        smallest, _, largest = (int(shape[0]) for shape in self.plan.get_tensor_profile_shape(name, 0))
        if not smallest <= batch <= largest:
            raise BackendError(
                f"the {self.label} engine was built for batches of {smallest} to {largest}, wanted {batch}",
                hint=f"build it again: edge-sr build-engine --max-batch {batch}",
            )


class TensorRTBinding:
    """An engine with its buffers' addresses."""

    def __init__(self, engine: TensorRTEngine, batch: int, pointers: Mapping[str, int]) -> None:
        self._engine, self._batch = engine, batch
        self._addresses = tuple(pointers.items())

    def enqueue(self, stream: Stream) -> None:
        """Enqueues one run. Does not wait, and allocates nothing but at the first run on a stream.

        Raises:
            BackendError: TensorRT refuses.
        """
        queue = cast(GpuStream, stream)
        queue.before_work()
        self._engine.context(queue, self._batch).enqueue(self._addresses, queue)


class _Context:
    """An execution context, and the addresses it was last given."""

    def __init__(
        self,
        library: Library,
        plan: trt.ICudaEngine,
        inputs: tuple[TensorSpec, ...],
        *,
        batch: int,
        label: str,
    ) -> None:
        self._library, self._label = library, label
        self._current: dict[str, int] = {}
        self._context: trt.IExecutionContext | None = plan.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"TensorRT makes no context for the {label}: {library.complaint()}",
                hint="its scratch memory may not fit: stop other programs, or use a smaller batch",
            )
        for spec in inputs:
            self._demand(self._context.set_input_shape(spec.name, spec.concrete(batch)), f"shape of {spec}")

    def enqueue(self, addresses: tuple[tuple[str, int], ...], stream: GpuStream) -> None:
        """Enqueues a run with these addresses; those that are as before are not set again."""
        context = cast("trt.IExecutionContext", self._context)
        for name, pointer in addresses:
            if self._current.get(name) != pointer:
                self._demand(context.set_tensor_address(name, pointer), f"address of {name}")
                self._current[name] = pointer
        self._demand(context.execute_async_v3(stream.raw.handle), "run")

    def _demand(self, answer: bool, what: str) -> None:
        if not answer:
            raise BackendError(
                f"TensorRT refused the {what} of the {self._label}: {self._library.complaint()}"
            )


def _check_tensors(
    graph: Graph, found: tuple[dict[str, TensorSpec], dict[str, TensorSpec]], file: str
) -> None:
    """The bundle's word on a graph's tensors against the engine's own.

    Raises:
        EngineError: They differ.
    """
    wanted = ({s.name: s for s in graph.inputs}, {s.name: s for s in graph.outputs})
    if wanted != found:
        lists = [", ".join(str(s) for side in sides for s in side.values()) for sides in (wanted, found)]
        raise EngineError(
            f"{file}: the bundle names {lists[0]}; the engine has {lists[1]}", hint="export the bundle again"
        )
