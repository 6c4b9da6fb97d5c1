"""ONNX Runtime's CUDA provider: the second road on an NVIDIA GPU, where there is no TensorRT for Python.

Everything lies on the GPU and goes through one CUDA stream, which the sessions are given as theirs, so that a
run is enqueued and not waited for, and nothing passes through the host between graphs. There is no CUDA graph
and no second slot. `--backend auto` never takes it: it runs where it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Buffer, Resource, Stream, check_binding
from edge_sr.backends.gpu_memory import GpuBuffer, GpuStream
from edge_sr.backends.ort import check_names, first_line, import_onnxruntime
from edge_sr.cuda import Cuda, open_cuda
from edge_sr.doctor import probe_libraries
from edge_sr.errors import BackendError
from edge_sr.spec import Graph, TensorSpec

__all__ = ["PROVIDER", "OnnxRuntimeCudaBackend", "check_provider"]

PROVIDER = "CUDAExecutionProvider"
REINSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'edge-sr[gpu]'"


def check_provider(version: str, available: Sequence[str], distributions: Sequence[str]) -> None:
    """Whether an ONNX Runtime was built with CUDA.

    Args:
        version: Its version.
        available: Its execution providers, as it names them.
        distributions: The packages that are installed under its module name.

    Raises:
        BackendError: It was not, or was overwritten by one that was not.
    """
    if PROVIDER in available:
        return
    if len(distributions) > 1:
        why = f"{' and '.join(distributions)} are both installed, and overwrite each other's files"
    else:
        why = f"it was installed by {distributions[0]}" if distributions else "no package is known for it"
    raise BackendError(f"onnxruntime {version} has no {PROVIDER}: {why}", hint=REINSTALL)


class OnnxRuntimeCudaBackend(Resource):
    """Runs graphs on the first GPU with ONNX Runtime."""

    name = "onnxruntime-cuda"

    def __init__(
        self, *, threads: int = 0, engine_dir: Path | None = None, cuda: Cuda | str = "auto"
    ) -> None:
        """Opens the GPU.

        Args:
            threads: Accepted for the sake of callers that choose a backend by name; not used.
            engine_dir: The same.
            cuda: The GPU, or a name for `open_cuda`.

        Raises:
            BackendError: onnxruntime is missing or has no CUDA provider, or there is no GPU.
        """
        self._ort = import_onnxruntime()
        installed = tuple(probe_libraries()["onnxruntime"].distributions)
        check_provider(str(self._ort.__version__), self._ort.get_available_providers(), installed)
        self._ort.set_default_logger_severity(3)
        self.cuda = open_cuda(cuda) if isinstance(cuda, str) else cuda
        self._queue = self.cuda.stream()

    def describe(self) -> dict[str, str]:
        """Library, version, execution provider, device and CUDA adapter."""
        facts = self.cuda.facts
        return {
            "backend": self.name,
            "version": str(self._ort.__version__),
            "provider": f"{PROVIDER} on {facts.name} (sm {facts.sm}, CUDA {facts.driver})",
            "cuda": self.cuda.name,
            "threads": "1",
        }

    def load(self, graph: Graph) -> OnnxRuntimeCudaEngine:
        """Makes a session of an ONNX file on this backend's stream.

        Raises:
            BackendError: ONNX Runtime refuses the file or would run it on the CPU, or the file's tensors are
                not what the bundle says.
        """
        options = self._ort.SessionOptions()
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings = {"device_id": "0", "user_compute_stream": str(self._queue.handle), "use_tf32": "0"}
        providers = [(PROVIDER, settings), "CPUExecutionProvider"]
        try:
            session = self._ort.InferenceSession(str(graph.path), options, providers=providers)
        except Exception as error:  # its exceptions share no base class of their own
            raise BackendError(
                f"onnxruntime {self._ort.__version__} refuses {graph.path.name}: {first_line(error)}"
            ) from error
        if session.get_providers()[0] != PROVIDER:
            raise BackendError(
                f"onnxruntime would run {graph.path.name} on the CPU: its {PROVIDER} does not load here",
                hint="it wants the CUDA and cuDNN that its release names; --backend onnxruntime is the CPU",
            )
        check_names(graph, session)
        return OnnxRuntimeCudaEngine(self._ort, session, graph)

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> GpuBuffer:
        """Zeroed GPU memory; `shared` as for TensorRT."""
        return GpuBuffer(self.cuda, shape, dtype, shared=shared)

    def stream(self) -> GpuStream:
        """The one stream that all sessions run on."""
        return GpuStream(self.cuda, self._queue)

    def close(self) -> None:
        """Frees the stream, and lets go of the device."""
        self._queue.close()
        self.cuda.close()


class OnnxRuntimeCudaEngine(Resource):
    """A session on the GPU."""

    def __init__(self, ort: Any, session: Any, graph: Graph) -> None:
        self._ort, self._session = ort, session
        self.inputs: tuple[TensorSpec, ...] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs

    def bind(self, buffers: Mapping[str, Buffer]) -> OnnxRuntimeCudaBinding:
        """Attaches GPU buffers by name.

        Raises:
            BackendError: A name is missing or unknown, or a shape or element type does not fit.
        """
        if self._session is None:
            raise BackendError("this engine is closed")
        check_binding(self.inputs + self.outputs, buffers)
        binding = self._session.io_binding()
        for attach, specs in ((binding.bind_input, self.inputs), (binding.bind_output, self.outputs)):
            for spec in specs:
                buffer = cast(GpuBuffer, buffers[spec.name])
                attach(spec.name, "cuda", 0, np.dtype(spec.dtype), list(buffer.shape), buffer.pointer)
        return OnnxRuntimeCudaBinding(self._ort, self._session, binding, buffers)

    def close(self) -> None:
        """Frees the session."""
        self._session = None


class OnnxRuntimeCudaBinding:
    """A session with its buffers' addresses."""

    def __init__(self, ort: Any, session: Any, binding: Any, buffers: Mapping[str, Buffer]) -> None:
        self._options = ort.RunOptions()
        # Otherwise every run waits for the GPU at its end.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._run, self._binding = session._sess.run_with_iobinding, binding._iobinding
        self._held = (session, binding, dict(buffers))  # alive as long as the addresses are in use

    def enqueue(self, stream: Stream) -> None:
        """Enqueues a run on the backend's stream, whichever of its stream objects is given.

        Raises:
            BackendError: ONNX Runtime failed.
        """
        cast(GpuStream, stream).before_work()
        try:
            self._run(self._binding, self._options)
        except Exception as error:
            raise BackendError(f"onnxruntime failed: {first_line(error)}") from error
