"""The one place that knows TensorRT: `tensorrt` 10.3 to 11 and `tensorrt_rtx`, which share a Python API.

Networks are always strongly typed, so precision is what the graph says, and no FP16 or INT8 flag is set (11
has none). The differences, each in one function:
    10.3 to 10.x  networks are strongly typed only on request      `Library._network_flags`
    tensorrt_rtx  builds for a list of compute capabilities        `Library._set_targets`
    tensorrt_rtx  times nothing when it builds: no timing cache    `Library._set_timing_cache`
"""

from __future__ import annotations

import importlib
import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sr.backends.engine_store import BuildFlags
from edge_sr.errors import BackendError, EngineError
from edge_sr.spec import TensorSpec

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["MINIMUM", "BuildRequest", "BuildResult", "Library", "Progress", "open_library"]

FLAVOURS = ("tensorrt", "tensorrt_rtx")
MINIMUM = (10, 3)
"""JetPack 6.1's TensorRT: the oldest whose Python API and parser this is written for."""

OLDEST_PORTABLE = 80
"""Ampere: for Turing (SM75) TensorRT-RTX 1.7 refuses a matrix product in FP32, which the step graphs have."""

FREE = -1
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
REMEMBERED = 5

Progress = Callable[[str, int, int], bool]
"""(phase, steps done, steps in all) -> whether to go on."""


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        path: The ONNX file.
        flags: What may be chosen.
        workspace_bytes: Most scratch memory that a layer may use.
        timing_cache: An earlier build's, from the same device and version; empty for none.
        portable: Build for every compute capability that TensorRT-RTX knows, with no GPU at hand.
    """

    path: Path
    flags: BuildFlags
    workspace_bytes: int
    timing_cache: bytes = b""
    portable: bool = False


@dataclass(frozen=True)
class BuildResult:
    """What was built.

    Attributes:
        plan: The serialised engine.
        layers: Layers of the parsed network by type.
        timing_cache: To be handed to the next build; empty where there is none.
        notes: What the user should know.
    """

    plan: bytes
    layers: dict[str, int]
    timing_cache: bytes = b""
    notes: tuple[str, ...] = field(default=())


NO_TENSORRT = (
    "on a Jetson it comes with JetPack: python3 -m venv --system-site-packages; "
    "on a PC: pip install tensorrt-rtx-cu13"
)
NO_DRIVER = (  # JetPack 6's TensorRT wants it, and the NVIDIA runtime mounts it when a container starts
    "TensorRT is there, a library of the board's driver is not: start the container with --runtime nvidia; "
    "outside of one: sudo apt install nvidia-l4t-dla-compiler"
)


def open_library(name: str = "auto") -> Library:
    """Imports TensorRT.

    Args:
        name: "tensorrt", "tensorrt_rtx", or "auto" for the first that is here.

    Raises:
        BackendError: None is installed, or it is older than `MINIMUM`.
    """
    failures = []
    for flavour in FLAVOURS if name == "auto" else (name,):
        try:
            module = importlib.import_module(flavour)
        except (ImportError, OSError) as error:  # OSError: one of its own libraries is missing
            failures.append(f"{flavour} cannot be imported: {error}")
            continue
        if hasattr(module, "__version__"):
            return Library(module)
        failures.append(f"{flavour} here is only a folder of type stubs")
    raise BackendError("; ".join(failures), hint=NO_DRIVER if "libnvdla" in failures[0] else NO_TENSORRT)


class Library:
    """An imported TensorRT.

    Attributes:
        name: "tensorrt" or "tensorrt_rtx".
        version: As in "10.3.0".
        numbers: (major, minor).
    """

    def __init__(self, module: Any) -> None:
        """Takes a module.

        Raises:
            BackendError: It is older than `MINIMUM`.
        """
        self.module, self.name = module, str(module.__name__)
        self.version = str(module.__version__)
        self.numbers = tuple(map(int, re.findall(r"\d+", self.version)[:2]))
        self.complaints: deque[str] = deque(maxlen=REMEMBERED)
        if not self.is_rtx and self.numbers < MINIMUM:
            oldest = ".".join(map(str, MINIMUM))
            raise BackendError(
                f"TensorRT {self.version} is too old: {oldest} (JetPack 6.1) is the oldest that works",
                hint="use --backend onnxruntime, or build by hand: edge-sr info --trtexec",
            )
        self.logger = self._make_logger()
        self._runtime: trt.Runtime | None = None

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX."""
        return self.name == "tensorrt_rtx"

    @property
    def portable_targets(self) -> tuple[str, ...]:
        """Compute capabilities, as in "8.9", that TensorRT-RTX can build for unseen; TensorRT has none."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        known = sorted(int(name[2:]) for name in members if re.fullmatch(r"SM\d{2,3}", name))
        return tuple(f"{n // 10}.{n % 10}" for n in known if n >= OLDEST_PORTABLE)

    def build(self, request: BuildRequest, progress: Progress | None = None) -> BuildResult:
        """Parses an ONNX file and builds an engine.

        Raises:
            EngineError: The parser or the builder refuses it, or `progress` asked to stop.
        """
        builder = self.builder()
        network, _parser = self.parse(
            builder, request.path
        )  # the parser owns the weights until they are built
        config: trt.IBuilderConfig = builder.create_builder_config()
        notes = self._configure(config, request, progress)
        self._set_profile(builder, network, config, batch=request.flags.batch)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(f"{self} cannot build {request.path.name}: {self.complaint()}")
        return BuildResult(bytes(plan), self._layers(network), self._timing_cache(config), tuple(notes))

    def builder(self) -> trt.Builder:
        """A new builder."""
        self.complaints.clear()
        builder: trt.Builder = self.module.Builder(self.logger)
        return builder

    def parse(self, builder: trt.Builder, path: Path) -> tuple[trt.INetworkDefinition, trt.OnnxParser]:
        """The network of an ONNX file, strongly typed, and the parser, which must outlive it.

        Raises:
            EngineError: The parser refuses the file.
        """
        network: trt.INetworkDefinition = builder.create_network(self._network_flags())
        parser: trt.OnnxParser = self.module.OnnxParser(network, self.logger)
        if not parser.parse_from_file(str(path)):
            problems = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
            raise EngineError(
                f"{self} cannot read {path.name}: {problems or self.complaint()}",
                hint="export the bundle again with this edge-sr",
            )
        return network, parser

    def deserialize(self, plan: bytes, what: str) -> trt.ICudaEngine:
        """An engine from its plan.

        Args:
            plan: The serialised engine.
            what: What to call it in an error.

        Raises:
            EngineError: TensorRT refuses it.
        """
        self.complaints.clear()
        if self._runtime is None:
            self._runtime = self.module.Runtime(self.logger)
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"{self} refuses {what}: {self.complaint()}",
                hint="build it again: edge-sr build-engine",
            )
        return engine

    def tensors(self, engine: trt.ICudaEngine) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        """The inputs and the outputs of an engine, by name."""
        sides: tuple[dict[str, TensorSpec], dict[str, TensorSpec]] = ({}, {})
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == self.module.TensorIOMode.INPUT
            shape = tuple("N" if n == FREE else n for n in _axes(engine.get_tensor_shape(name)))
            dtype = DTYPES.get(engine.get_tensor_dtype(name).name, "unknown")
            sides[0 if is_input else 1][name] = TensorSpec(name, dtype, shape)
        return sides

    def complaint(self) -> str:
        """The last errors that TensorRT logged."""
        return "; ".join(self.complaints) or "it gives no reason"

    def __str__(self) -> str:
        """As in "tensorrt 10.3.0"."""
        return f"{self.name} {self.version}"

    def _network_flags(self) -> int:
        """Strong typing: a flag in 10 and in TensorRT-RTX 1; in 11 always on, and the flag deprecated."""
        if not self.is_rtx and self.numbers >= (11, 0):
            return 0
        return 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def _configure(
        self, config: trt.IBuilderConfig, request: BuildRequest, progress: Progress | None
    ) -> list[str]:
        module = self.module
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, request.workspace_bytes)
        config.builder_optimization_level = request.flags.level
        config.clear_flag(module.BuilderFlag.TF32)  # on by default; "fp32" is to mean FP32
        config.max_aux_streams = 0  # all of a run on the stream that it is given
        if progress is not None:
            config.progress_monitor = self._make_monitor(progress)
        self._set_targets(config, portable=request.portable)
        return self._set_timing_cache(config, request)

    def _set_targets(self, config: Any, *, portable: bool) -> None:
        """TensorRT-RTX builds for a list of compute capabilities; TensorRT for the GPU that is here."""
        if not self.is_rtx:
            return
        known = self.module.ComputeCapability
        targets = [getattr(known, f"SM{t.replace('.', '')}") for t in self.portable_targets]
        targets = targets if portable else [known.CURRENT]
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            if not config.set_compute_capability(target, index):
                raise EngineError(f"{self} does not build for {target}")

    def _set_timing_cache(self, config: trt.IBuilderConfig, request: BuildRequest) -> list[str]:
        """Attaches a timing cache, a fresh one where the old is refused; TensorRT-RTX has no use for one."""
        if self.is_rtx:
            return []
        cache = config.create_timing_cache(request.timing_cache)
        if cache is not None and config.set_timing_cache(cache, False):
            return []
        config.set_timing_cache(config.create_timing_cache(b""), False)
        return ["the timing cache was refused and is started afresh"]

    def _timing_cache(self, config: trt.IBuilderConfig) -> bytes:
        cache = None if self.is_rtx else config.get_timing_cache()
        return b"" if cache is None else bytes(cache.serialize())

    def _set_profile(
        self,
        builder: trt.Builder,
        network: trt.INetworkDefinition,
        config: trt.IBuilderConfig,
        *,
        batch: tuple[int, int, int],
    ) -> None:
        """The range of the free first axis of every input that has one."""
        profile: Any = builder.create_optimization_profile()  # takes tuples, though the stubs say Dims
        inputs = [network.get_input(i) for i in range(network.num_inputs)]
        shapes = {tensor.name: _axes(tensor.shape) for tensor in inputs}
        if inner := [f"{name} {shape}" for name, shape in shapes.items() if FREE in shape[1:]]:
            raise EngineError(f"only the first axis may be free, which is not so in {', '.join(inner)}")
        free = {name: shape[1:] for name, shape in shapes.items() if shape[:1] == (FREE,)}
        for name, rest in free.items():
            profile.set_shape(name, *((n, *rest) for n in batch))
        if free:
            config.add_optimization_profile(profile)

    def _layers(self, network: trt.INetworkDefinition) -> dict[str, int]:
        kinds = Counter(network.get_layer(i).type.name for i in range(network.num_layers))
        return dict(sorted(kinds.items()))

    def _make_logger(self) -> Any:
        """A logger that keeps the last errors for our own messages, and prints nothing."""
        module, complaints = self.module, self.complaints

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= module.ILogger.Severity.ERROR:
                    complaints.append(" ".join(message.split()))

        return Logger()

    def _make_monitor(self, progress: Progress) -> Any:
        """TensorRT's progress monitor, telling of its outermost phases."""
        module = self.module

        class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                module.IProgressMonitor.__init__(self)
                self.steps: dict[str, int] = {}
                self.goes_on = True

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                if not parent_phase:
                    self.steps[phase_name] = num_steps

            def step_complete(self, phase_name: str, step: int) -> bool:
                if phase_name in self.steps:
                    self.goes_on &= progress(phase_name, step + 1, self.steps[phase_name])
                return self.goes_on

            def phase_finish(self, phase_name: str) -> None:
                if steps := self.steps.pop(phase_name, 0):
                    progress(phase_name, steps, steps)

        return Monitor()


def _axes(dims: Any) -> tuple[int, ...]:
    """TensorRT's Dims, which is a sequence that its stubs do not call one."""
    return tuple(int(n) for n in dims)
