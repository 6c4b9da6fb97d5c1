"""OpenVINO on the CPU, beside ONNX Runtime: asked for by name, for x86 with VNNI.

A run reads and writes the bound memory in place: tensors over the host buffers are set once, at `bind`. A
model is compiled for each batch size, since OpenVINO is faster where it knows the sizes: a step took 1.4
times as long where it did not.

INT8 graphs are loaded in their unsigned form. In the signed one OpenVINO 2026.4 computes something else from
the first residual sums on, at a cost of 10 dB; ONNX Runtime's two forms agree. CPUs without VNNI were not
tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt

from edge_sr.backends import Buffer, Resource, Stream, check_binding
from edge_sr.backends.host import HostBuffer, HostStream, usable_cores
from edge_sr.backends.unsigned import to_unsigned
from edge_sr.errors import BackendError
from edge_sr.spec import BATCH, Graph, TensorSpec

__all__ = ["OpenVinoBackend"]

DEVICE = "CPU"


def import_openvino() -> Any:
    """The openvino module.

    Raises:
        BackendError: It is not installed, or broken.
    """
    try:
        import openvino
    except ImportError as error:
        hint = "install it with: pip install 'edge-sr[openvino]'"
        raise BackendError(f"openvino cannot be imported: {error}", hint=hint) from error
    return openvino


class OpenVinoBackend(Resource):
    """Runs graphs on the CPU with OpenVINO."""

    name = "openvino"

    def __init__(self, *, threads: int = 0, engine_dir: Path | None = None) -> None:
        """Opens OpenVINO's runtime.

        Args:
            threads: Threads inside an operator; 0 for the cores this process may use.
            engine_dir: Accepted for the sake of callers that choose a backend by name; not used.

        Raises:
            BackendError: openvino is not installed.
        """
        self._openvino = import_openvino()
        self._core = self._openvino.Core()
        self.threads = threads or usable_cores()

    def describe(self) -> dict[str, str]:
        """Library, version, device and threads."""
        return {
            "backend": self.name,
            "version": str(self._openvino.__version__).partition("-")[0],  # what follows names the build
            "provider": DEVICE,
            "threads": str(self.threads),
        }

    def load(self, graph: Graph) -> OpenVinoEngine:
        """Reads an ONNX file, and compiles it for single samples.

        Raises:
            BackendError: OpenVINO refuses the file, or its tensors are not what the bundle says.
        """
        try:
            model = self._core.read_model(to_unsigned(graph.path.read_bytes()), b"")
        except (OSError, RuntimeError) as error:
            version = self.describe()["version"]
            raise BackendError(f"openvino {version} refuses {graph.path.name}: {_reason(error)}") from error
        _check_tensors(graph, model)
        return OpenVinoEngine(self, model, graph)

    def compile(self, model: Any, specs: tuple[TensorSpec, ...], batch: int) -> Any:
        """A model made for one batch size.

        Args:
            model: As it was read; left as it is.
            specs: Its inputs.
            batch: Samples.

        Raises:
            BackendError: OpenVINO refuses it.
        """
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # left to itself it takes BF16 for what is not INT8
        }
        try:
            sized = model.clone()
            sized.reshape({s.name: [batch if axis == BATCH else axis for axis in s.shape] for s in specs})
            return self._core.compile_model(sized, DEVICE, settings)
        except RuntimeError as error:
            raise BackendError(f"openvino cannot compile a graph: {_reason(error)}") from error

    def tensor(self, buffer: HostBuffer) -> Any:
        """The buffer as OpenVINO sees it: the same memory."""
        return self._openvino.Tensor(buffer.array, shared_memory=True)

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> HostBuffer:
        """Zeroed host memory."""
        return HostBuffer.zeros(shape, dtype)

    def stream(self) -> HostStream:
        """A stream whose work is done when it is enqueued."""
        return HostStream()


class OpenVinoEngine(Resource):
    """A model, compiled anew for each batch size that is bound."""

    def __init__(self, backend: OpenVinoBackend, model: Any, graph: Graph) -> None:
        self._backend, self._model = backend, model
        self.inputs: tuple[TensorSpec, ...] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs
        self._compiled = {1: backend.compile(model, self.inputs, 1)}

    def bind(self, buffers: Mapping[str, Buffer]) -> OpenVinoBinding:
        """Attaches host buffers by name.

        Raises:
            BackendError: A name is missing or unknown, or a shape or element type does not fit.
        """
        if self._model is None:
            raise BackendError("this engine is closed")
        batch = check_binding(self.inputs + self.outputs, buffers)
        if batch not in self._compiled:
            self._compiled[batch] = self._backend.compile(self._model, self.inputs, batch)
        request = self._compiled[batch].create_infer_request()
        for name, buffer in buffers.items():
            request.set_tensor(name, self._backend.tensor(cast(HostBuffer, buffer)))
        return OpenVinoBinding(request, buffers)

    def close(self) -> None:
        """Frees the model and what was compiled of it."""
        self._model, self._compiled = None, {}


class OpenVinoBinding:
    """An infer request with its buffers attached."""

    def __init__(self, request: Any, buffers: Mapping[str, Buffer]) -> None:
        self._infer = request.infer
        self._held = (request, dict(buffers))  # alive as long as the addresses are in use

    def enqueue(self, stream: Stream) -> None:
        """Runs the graph; done on return.

        Raises:
            BackendError: OpenVINO failed.
        """
        try:
            self._infer(share_outputs=True)  # otherwise it copies every output
        except RuntimeError as error:
            raise BackendError(f"openvino failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What an error of OpenVINO says last: before it stand the places in its source that it passed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _check_tensors(graph: Graph, model: Any) -> None:
    """The bundle's word on a graph's tensors against the file's own.

    Raises:
        BackendError: They differ.
    """
    for kind, specs, ports in (
        ("inputs", graph.inputs, model.inputs),
        ("outputs", graph.outputs, model.outputs),
    ):
        want = {s.name: (s.dtype, _free(s.shape)) for s in specs}
        have = {port.get_any_name(): (port.element_type.to_dtype().name, _shape(port)) for port in ports}
        if want != have:
            raise BackendError(
                f"{graph.path.name}: the bundle names {kind} {want}, the file has {have}",
                hint="export the bundle again",
            )


def _free(shape: tuple[int | str, ...]) -> tuple[int, ...]:
    """A shape with -1 where it is free."""
    return tuple(axis if isinstance(axis, int) else -1 for axis in shape)


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(axis.get_length() if axis.is_static else -1 for axis in port.get_partial_shape())
