"""A TensorRT that is not there: as much of its Python API as edge-sr uses, over the fake CUDA.

Somebody else's library, so it is faked here and not in the package. "Building" writes the tensors of the ONNX
file down; "running" computes in numpy what the fake backend would, when the fake stream gets to it.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.host import HostBuffer, HostStream
from edge_sr.cuda.fake import FakeCuda
from edge_sr.spec import Component, Graph, Precision, TensorSpec

TYPES = {1: "FLOAT", 10: "HALF"}
NUMPY = {"FLOAT": "float32", "HALF": "float16"}


class Flags(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlags(enum.IntEnum):
    TF32 = 7


class Pools(enum.IntEnum):
    WORKSPACE = 0


class Modes(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


class Types(enum.IntEnum):
    FLOAT = 0
    HALF = 1


@dataclass
class Calls:
    """What the library was asked for, and what it is told to refuse.

    Attributes:
        refused_run: Number of the run, from 1, that is refused; 0 for none.
        enqueues: (component, addresses) of every run.
    """

    network_flags: list[int] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    caches: list[bytes] = field(default_factory=list)
    opened: int = 0
    contexts: int = 0
    addresses_set: int = 0
    refused_run: int = 0
    enqueues: list[tuple[str, dict[str, int]]] = field(default_factory=list)


def make_tensorrt(cuda: FakeCuda, *, version: str = "10.3.0") -> tuple[Any, Calls]:
    """A module like `tensorrt`, and the record of what was done with it."""
    calls = Calls()
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    module.NetworkDefinitionCreationFlag, module.BuilderFlag = Flags, BuilderFlags
    module.MemoryPoolType, module.TensorIOMode = Pools, Modes
    module.ILogger, module.IProgressMonitor = _Logger, object
    module.Builder = lambda logger: _Builder(calls)
    module.OnnxParser = _Parser
    module.Runtime = lambda logger: _Runtime(cuda, calls)
    return module, calls


class _Severity(enum.IntEnum):
    ERROR = 1


class _Logger:
    Severity = _Severity


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]


class _Network:
    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self.inputs: list[_Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    num_layers = 1

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]

    def get_layer(self, index: int) -> Any:
        return types.SimpleNamespace(type=types.SimpleNamespace(name="CONVOLUTION"))


class _Parser:
    num_errors = 1

    def __init__(self, network: _Network, logger: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        import onnx  # slow, and only a build needs it

        if not Path(path).read_bytes().startswith(b"\x08"):  # an ONNX file starts with its IR version
            return False
        graph = onnx.load(path).graph
        self.network.record = {"file": Path(path).stem}
        for side, values in (("inputs", graph.input), ("outputs", graph.output)):
            self.network.record[side] = [_described(value) for value in values]
        self.network.inputs = [_Tensor(n, tuple(s)) for n, _, s in self.network.record["inputs"]]
        return True

    def get_error(self, index: int) -> Any:
        return types.SimpleNamespace(desc=lambda: "not an ONNX file")


def _described(value: Any) -> list[Any]:
    tensor = value.type.tensor_type
    return [value.name, TYPES[tensor.elem_type], [d.dim_value or -1 for d in tensor.shape.dim]]


class _Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+"


class _Config:
    progress_monitor: Any = None

    def __init__(self, calls: Calls) -> None:
        self._calls, self.cache, self.profiles = calls, _Cache(b""), [_Profile()]

    def set_memory_pool_limit(self, pool: Pools, size: int) -> None:
        self._calls.limits[pool.name] = size

    def clear_flag(self, flag: BuilderFlags) -> None:
        self._calls.cleared.append(flag.name)

    def create_timing_cache(self, data: bytes) -> _Cache:
        return _Cache(data)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        if ignore_mismatch or cache.data.startswith(b"broken"):
            return False
        self.cache = cache
        self._calls.caches.append(cache.data)
        return True

    def get_timing_cache(self) -> _Cache:
        return self.cache

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.profiles = [profile]


class _Profile:
    def __init__(self) -> None:
        self.ranges: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.ranges[name] = list(shapes)


class _Builder:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def create_network(self, flags: int) -> _Network:
        self._calls.network_flags.append(flags)
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config(self._calls)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        if config.progress_monitor is not None:
            config.progress_monitor.phase_start("Building", None, 2)
            config.progress_monitor.phase_start("Tactics", "Building", 9)
            config.progress_monitor.step_complete("Tactics", 0)
            if not config.progress_monitor.step_complete("Building", 0):
                return None  # type: ignore[return-value]
            config.progress_monitor.phase_finish("Building")
        return json.dumps(network.record | {"ranges": config.profiles[0].ranges}).encode()


class _Runtime:
    def __init__(self, cuda: FakeCuda, calls: Calls) -> None:
        self._cuda, self._calls = cuda, calls

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        self._calls.opened += 1
        try:
            return _Engine(json.loads(plan), self._cuda, self._calls)
        except ValueError:
            return None


class _Engine:
    def __init__(self, record: dict[str, Any], cuda: FakeCuda, calls: Calls) -> None:
        self.record, self.cuda, self.calls = record, cuda, calls
        self.sides = {n: side for side in ("inputs", "outputs") for n, _, _ in record[side]}
        self.tensors = {n: (t, s) for side in ("inputs", "outputs") for n, t, s in record[side]}

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Modes:
        return Modes.INPUT if self.sides[name] == "inputs" else Modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Types:
        return Types[self.tensors[name][0]]

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.tensors[name][1])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[list[int]]:
        return list(self.record["ranges"][name])

    def create_execution_context(self) -> _Context:
        self.calls.contexts += 1
        return _Context(self)

    @property
    def component(self) -> str:
        return next(str(c) for c in Component if str(c) in self.record["file"])


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._batch = 0
        self._run_of_this_context = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._batch = shape[0]
        return True

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._engine.calls.addresses_set += 1
        self._addresses[name] = pointer
        return pointer % 256 == 0

    def execute_async_v3(self, handle: int) -> bool:
        calls, engine = self._engine.calls, self._engine
        calls.enqueues.append((engine.component, dict(self._addresses)))
        if calls.refused_run == len(calls.enqueues):
            return False
        engine.cuda.kernel(handle, engine.component, self._kernel(dict(self._addresses)))
        return True

    def _kernel(self, addresses: dict[str, int]) -> Callable[[], None]:
        """The fake backend's network over the memory at these addresses, which must be there when it runs."""
        engine, arrays, places = self._engine, {}, []
        for name, (kind, shape) in engine.tensors.items():
            concrete = [self._batch if n == -1 else n for n in shape]
            dtype = np.dtype(NUMPY[kind])
            size = int(np.prod(concrete)) * dtype.itemsize
            arrays[name] = HostBuffer(engine.cuda.at(addresses[name], size).view(dtype).reshape(concrete))
            places.append((addresses[name], size))
        binding = FakeBackend().load(_graph(engine)).bind(arrays)

        def run() -> None:
            for place in places:
                engine.cuda.at(*place)
            binding.enqueue(HostStream())

        return run


def _graph(engine: _Engine) -> Graph:
    sides = [
        tuple(
            TensorSpec(n, NUMPY[t], tuple("N" if a == -1 else a for a in s))
            for n, t, s in engine.record[side]
        )
        for side in ("inputs", "outputs")
    ]
    return Graph(Path(), Component(engine.component), Precision.FP32, "", sides[0], sides[1])
