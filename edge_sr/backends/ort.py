"""ONNX Runtime through I/O binding: the default backend, on any CPU.

Inputs and outputs are bound once to memory that this package owns (ONNX Runtime uses a numpy array on the CPU
in place), so a run neither allocates nor copies what passes between graphs.

A graph that `edge-sr build-engine --backend onnxruntime` has optimised for this CPU is loaded in that form,
which computes the same and starts faster; one that does not fit is left aside, and `notes` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt

from edge_sr.backends import Buffer, Resource, Stream, check_binding
from edge_sr.backends.engine_store import EngineKey, EngineStore, default_engine_dir
from edge_sr.backends.host import HostBuffer, HostStream, usable_cores
from edge_sr.backends.optimised import OPTIMISED_FLAGS, optimised_target
from edge_sr.backends.unsigned import has_vnni, to_unsigned
from edge_sr.errors import BackendError, EngineError
from edge_sr.spec import Graph, Precision, TensorSpec

__all__ = ["OnnxRuntimeBackend", "check_names", "first_line", "import_onnxruntime"]

INSTALL_HINT = "install it with: pip install 'edge-sr[cpu]'"


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        BackendError: It is not installed, or broken.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"onnxruntime cannot be imported: {error}", hint=INSTALL_HINT) from error
    return onnxruntime


class OnnxRuntimeBackend(Resource):
    """Runs graphs on the CPU with ONNX Runtime.

    Attributes:
        store: Where models that were optimised before may lie.
        optimised: The components that were loaded in that form.
        notes: Why others that are stored were not.
    """

    name = "onnxruntime"

    def __init__(
        self, *, threads: int = 0, unsigned: bool | None = None, engine_dir: Path | None = None
    ) -> None:
        """Prepares the session options.

        Args:
            threads: Threads inside an operator; 0 for the cores this process may use.
            unsigned: Whether INT8 graphs are loaded in their unsigned form; None for where VNNI is present.
                Where it is given, no optimised model is looked for: those have the form that fits the CPU.
            engine_dir: Where optimised models lie; `default_engine_dir()` where None.

        Raises:
            BackendError: onnxruntime is not installed.
        """
        self._ort = import_onnxruntime()
        self._ort.set_default_logger_severity(3)  # errors only: its warnings are about its own fusions
        self.threads = threads or usable_cores()
        self.unsigned = has_vnni() if unsigned is None else unsigned
        self.store = EngineStore(engine_dir or default_engine_dir())
        self.optimised: list[str] = []
        self.notes: list[str] = []
        self._takes_optimised = unsigned is None

    def describe(self) -> dict[str, str]:
        """Library, version, execution provider and threads."""
        return {
            "backend": self.name,
            "version": str(self._ort.__version__),
            "provider": "CPUExecutionProvider",
            "threads": str(self.threads),
        }

    def load(self, graph: Graph) -> OnnxRuntimeEngine:
        """Makes a session of an ONNX file.

        Raises:
            BackendError: ONNX Runtime refuses the file, or its tensors are not what the bundle says.
        """
        options, stored = self._options(), self._optimised(graph)
        if stored is not None:
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = self._session(stored or self._model(graph), options, graph.path.name)
        check_names(graph, session)
        return OnnxRuntimeEngine(self._ort, session, graph)

    def optimise(self, onnx: Path, target: Path) -> None:
        """Writes what `load` makes of an ONNX file, so that the next load need not make it again.

        Raises:
            BackendError: ONNX Runtime refuses the file.
        """
        options = self._options()
        options.optimized_model_filepath = str(target)
        options.log_severity_level = (
            3  # it warns that the file belongs to this machine, which is what we want
        )
        model = to_unsigned(onnx.read_bytes()) if self.unsigned else str(onnx)
        self._session(model, options, onnx.name)

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Each session has threads of its own, which wait for the next operator by spinning. Without this,
        # those of one graph go on spinning, and take the cores from the next graph's.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not self.unsigned:  # x86 without VNNI overflows in sums, but for unsigned weights
            options.add_session_config_entry("session.x64quantprecision", "1")
        return options

    def _session(self, model: str | bytes, options: Any, name: str) -> Any:
        """A session; `name` is what an error calls the model."""
        try:
            return self._ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class of their own
            raise BackendError(
                f"onnxruntime {self._ort.__version__} refuses {name}: {first_line(error)}"
            ) from error

    def _model(self, graph: Graph) -> str | bytes:
        """What the session is made of: the file, or its unsigned form."""
        if graph.precision is Precision.INT8 and self.unsigned:
            return to_unsigned(graph.path.read_bytes())
        return str(graph.path)

    def _optimised(self, graph: Graph) -> bytes | None:
        """The model that was made of a graph before, where one is stored and fits."""
        stored = self.store.folder.glob(f"{graph.component}-{graph.precision}-*.onnx")
        if not self._takes_optimised or not any(stored):
            return None
        target = optimised_target(str(self._ort.__version__))
        try:
            data = self.store.read(self.store.find(EngineKey.of(graph, target, OPTIMISED_FLAGS)))
        except EngineError as error:
            self.notes.append(f"the graph is loaded as it is: {error}")
            return None
        self.optimised.append(str(graph.component))
        return data

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> HostBuffer:
        """Zeroed host memory."""
        return HostBuffer.zeros(shape, dtype)

    def stream(self) -> HostStream:
        """A stream whose work is done when it is enqueued."""
        return HostStream()


class OnnxRuntimeEngine(Resource):
    """A session."""

    def __init__(self, ort: Any, session: Any, graph: Graph) -> None:
        self._ort, self._session = ort, session
        self.inputs: tuple[TensorSpec, ...] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs

    def bind(self, buffers: Mapping[str, Buffer]) -> OnnxRuntimeBinding:
        """Attaches host buffers by name.

        Raises:
            BackendError: A name is missing or unknown, or a shape or element type does not fit.
        """
        if self._session is None:
            raise BackendError("this engine is closed")
        check_binding(self.inputs + self.outputs, buffers)
        binding = self._session.io_binding()
        held = {name: self._value(cast(HostBuffer, buffer)) for name, buffer in buffers.items()}
        for spec in self.inputs:
            binding.bind_ortvalue_input(spec.name, held[spec.name])
        for spec in self.outputs:
            binding.bind_ortvalue_output(spec.name, held[spec.name])
        return OnnxRuntimeBinding(self._session, binding, held)

    def _value(self, buffer: HostBuffer) -> Any:
        """The buffer as ONNX Runtime sees it: the same memory."""
        value = self._ort.OrtValue.ortvalue_from_numpy(buffer.array)
        if value.data_ptr() != buffer.array.ctypes.data:
            raise BackendError("onnxruntime copied a host buffer instead of using it")
        return value

    def close(self) -> None:
        """Frees the session."""
        self._session = None


class OnnxRuntimeBinding:
    """A session with its buffers attached."""

    def __init__(self, session: Any, binding: Any, held: Mapping[str, Any]) -> None:
        # The C-level binding is called directly: run_with_iobinding adds a Python layer around each step.
        self._run, self._binding = session._sess.run_with_iobinding, binding._iobinding
        self._held = (session, binding, held)  # alive as long as the addresses are in use

    def enqueue(self, stream: Stream) -> None:
        """Runs the graph; done on return.

        Raises:
            BackendError: ONNX Runtime failed.
        """
        try:
            self._run(self._binding, None)
        except Exception as error:
            raise BackendError(f"onnxruntime failed: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of what ONNX Runtime says of an error."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def check_names(graph: Graph, session: Any) -> None:
    """The bundle's word on a graph's tensors against the file's own.

    Raises:
        BackendError: They differ.
    """
    for kind, specs, found in (
        ("inputs", graph.inputs, session.get_inputs()),
        ("outputs", graph.outputs, session.get_outputs()),
    ):
        want = {s.name: (s.dtype, tuple(s.shape)) for s in specs}
        have = {t.name: (_dtype(t.type), tuple(t.shape)) for t in found}
        if want != have:
            raise BackendError(
                f"{graph.path.name}: the bundle names {kind} {want}, the file has {have}",
                hint="export the bundle again",
            )


def _dtype(name: str) -> str:
    """ONNX Runtime's "tensor(float)" as numpy's "float32"."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
