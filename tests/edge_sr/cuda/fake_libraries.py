"""cuda-bindings and PyCUDA that are not there: as much of each as its adapter calls, over host memory.

Both are somebody else's libraries. Work is done when it is enqueued; device addresses are host addresses.
"""

from __future__ import annotations

import ctypes
import enum
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

FREE, TOTAL = 3 << 30, 8 << 30


class Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900


TEXTS = {
    Error.cudaErrorMemoryAllocation: b"out of memory",
    Error.cudaErrorStreamCaptureUnsupported: b"operation not permitted when stream is capturing",
}
ATTRIBUTES = {
    "ComputeCapabilityMajor": 8,
    "ComputeCapabilityMinor": 7,
    "Integrated": 1,
    "CanMapHostMemory": 1,
}


class FakeRuntime:
    """`cuda.bindings.runtime`: every function returns (error, results...)."""

    cudaStreamNonBlocking, cudaEventDefault, cudaEventDisableTiming, cudaEventRecordExternal = 1, 0, 2, 1
    cudaHostAllocPortable, cudaHostAllocMapped = 1, 2
    cudaDeviceAttr = types.SimpleNamespace(**{f"cudaDevAttr{name}": name for name in ATTRIBUTES})
    cudaMemcpyKind = types.SimpleNamespace(
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, failures: dict[str, int] | None = None) -> None:
        self.failures = failures or {}
        self.live: dict[int, Any] = {}
        self.recording: list[Callable[[], Any]] | None = None
        self.graphs: dict[int, list[Callable[[], Any]]] = {}
        self.time, self.reached, self.external = 0, dict[int, int](), 0
        self.handles = iter(range(1, 1 << 30))

    def __getattribute__(self, name: str) -> Any:
        failures = object.__getattribute__(self, "__dict__").get("failures", {})
        if name in failures:
            return lambda *arguments: (failures[name], None)
        return object.__getattribute__(self, name)

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        return 0, TEXTS.get(
            Error(code) if code in set(Error) else Error.cudaSuccess, b"no CUDA-capable device is detected"
        )

    def cudaGetLastError(self) -> tuple[int]:
        return (0,)

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return 0, 1

    def cudaSetDevice(self, device: int) -> tuple[int]:
        return (0,)

    def cudaDriverGetVersion(self) -> tuple[int, int]:
        return 0, 12060

    def cudaDeviceGetAttribute(self, attribute: str, device: int) -> tuple[int, int]:
        return 0, ATTRIBUTES[attribute]

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return 0, FREE, TOTAL

    def cudaMalloc(self, nbytes: int) -> tuple[int, int | None]:
        if self.recording is not None:
            return Error.cudaErrorStreamCaptureUnsupported, None
        return self._allocate(nbytes)

    def cudaHostAlloc(self, nbytes: int, flags: int) -> tuple[int, int | None]:
        return self._allocate(nbytes)

    def cudaFree(self, pointer: int) -> tuple[int]:
        self.live.pop(pointer, None)
        return (0,)

    cudaFreeHost = cudaFree

    def cudaHostGetDevicePointer(self, pointer: int, flags: int) -> tuple[int, int]:
        return 0, pointer

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return 0, self._handle("stream")

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return 0, self._handle("event")

    def cudaStreamDestroy(self, handle: int) -> tuple[int]:
        return self.cudaFree(handle)

    cudaEventDestroy = cudaStreamDestroy

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (Error.cudaErrorStreamCaptureUnsupported if self.recording is not None else 0,)

    def cudaEventSynchronize(self, event: int) -> tuple[int]:
        return (0,)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[int]:
        return (0,)

    def cudaEventRecordWithFlags(self, event: int, stream: int, flags: int) -> tuple[int]:
        self.external += flags
        return self._do(lambda: self.reached.__setitem__(event, self.time))

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[int, float]:
        return 0, float(self.reached[end] - self.reached[start])

    def cudaMemcpyAsync(self, to: int, source: int, nbytes: int, kind: int, stream: int) -> tuple[int]:
        return self._do(lambda: ctypes.memmove(to, source, nbytes))

    def cudaMemsetAsync(self, pointer: int, value: int, nbytes: int, stream: int) -> tuple[int]:
        return self._do(lambda: ctypes.memset(pointer, value, nbytes))

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, int]:
        handle = self._handle("graph")
        self.graphs[handle], self.recording = self.recording or [], None
        return 0, handle

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int]:
        handle = self._handle("executable")
        self.graphs[handle] = self.graphs[graph]
        return 0, handle

    cudaGraphDestroy = cudaGraphExecDestroy = cudaStreamDestroy

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[int]:
        for work in self.graphs[executable]:
            self._do(work)
        return (0,)

    def _do(self, work: Callable[[], Any]) -> tuple[int]:
        if self.recording is not None:
            self.recording.append(work)
        else:
            self.time += 1
            work()
        return (0,)

    def _handle(self, kind: str) -> int:
        handle = next(self.handles)
        self.live[handle] = kind
        return handle

    def _allocate(self, nbytes: int) -> tuple[int, int | None]:
        if nbytes > FREE:
            return Error.cudaErrorMemoryAllocation, None
        memory = ctypes.create_string_buffer(nbytes)
        self.live[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)


class FakeDriverApi:
    """`cuda.bindings.driver`."""

    def cuDeviceGetName(self, size: int, device: int) -> tuple[int, bytes]:
        return 0, b"Orin\0\0\0"


class PyCudaError(Exception):
    """`pycuda._driver.Error`."""


def make_pycuda(*, failure: str = "") -> Any:
    """A module like `pycuda.driver`; with `failure`, its init fails with these words."""
    module: Any = types.ModuleType("pycuda.driver")
    module.Error = PyCudaError

    def init() -> None:
        if failure:
            raise PyCudaError(f"cuInit failed: {failure}")

    class Context:
        depth = 0

        def push(self) -> None:
            Context.depth += 1

        def pop(self) -> None:
            Context.depth -= 1

        def detach(self) -> None:
            pass

    class Device:
        def __init__(self, index: int) -> None: ...

        def retain_primary_context(self) -> Context:
            return Context()

        def compute_capability(self) -> tuple[int, int]:
            return 8, 7

        def name(self) -> str:
            return "Orin"

        def total_memory(self) -> int:
            return TOTAL

        def get_attribute(self, attribute: int) -> int:
            return 1

    class Stream:
        handle = 77

        def __init__(self, flags: int) -> None: ...

        def synchronize(self) -> None: ...

        def wait_for_event(self, event: Any) -> None: ...

    class Event:
        clock = 0

        def __init__(self, flags: int) -> None:
            self.at = 0

        def record(self, stream: Stream) -> Event:
            Event.clock += 1
            self.at = Event.clock
            return self

        def synchronize(self) -> Event:
            return self

        def time_since(self, other: Event) -> float:
            return float(self.at - other.at)

    class Allocation:
        def __init__(self, nbytes: int) -> None:
            if nbytes > FREE:
                raise PyCudaError("cuMemAlloc failed: out of memory")
            self.memory = ctypes.create_string_buffer(nbytes)

        def __int__(self) -> int:
            return ctypes.addressof(self.memory)

        get_device_pointer = __int__

        def free(self) -> None: ...

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any, order: str, flags: int) -> Any:
        return np.zeros(shape, dtype).view(_Pagelocked)

    class _Pagelocked(np.ndarray):
        @property
        def base(self) -> Any:
            address = self.ctypes.data
            return types.SimpleNamespace(get_device_pointer=lambda: address, free=lambda: None)

    def copy(to: int, source: int, nbytes: int) -> None:
        ctypes.memmove(int(to), int(source), nbytes)

    module.init, module.Device, module.Stream, module.Event = init, Device, Stream, Event
    module.mem_alloc, module.pagelocked_empty = Allocation, pagelocked_empty
    module.mem_get_info = lambda: (FREE, TOTAL)
    module.get_driver_version = lambda: 12060
    module.memcpy_htod_async = lambda to, array, stream: copy(to, array.ctypes.data, array.nbytes)
    module.memcpy_dtoh_async = lambda array, source, stream: copy(array.ctypes.data, source, array.nbytes)
    module.memcpy_dtod_async = lambda to, source, nbytes, stream: copy(to, source, nbytes)
    module.memset_d8_async = lambda to, value, nbytes, stream: ctypes.memset(to, value, nbytes)
    module.event_flags = types.SimpleNamespace(DEFAULT=0, DISABLE_TIMING=2)
    module.host_alloc_flags = types.SimpleNamespace(PORTABLE=1, DEVICEMAP=2)
    module.device_attribute = types.SimpleNamespace(INTEGRATED=1, CAN_MAP_HOST_MEMORY=2)
    return module


def install_bindings(monkeypatch: Any, runtime: Any) -> None:
    """Puts a fake `cuda.bindings` where `import` finds it."""
    cuda, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    bindings.runtime, bindings.driver = runtime, FakeDriverApi()  # type: ignore[attr-defined]
    cuda.bindings = bindings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)


def install_pycuda(monkeypatch: Any, driver: Any) -> None:
    """Puts a fake `pycuda` where `import` finds it."""
    package = types.ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
