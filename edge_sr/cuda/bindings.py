"""cuda-bindings 12 and 13: the CUDA runtime API, with stream capture and graphs.

Every function used here has one signature in both majors (12.9.10 and 13.5.0 were compared), and returns
(error, results...). Fields of cudaDeviceProp differ between them, so facts come from attributes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from edge_sr.cuda import Array, Bytes, CudaEvent, CudaStream, DeviceFacts, Held, MemoryInfo, check_contiguous
from edge_sr.cuda.failures import OUT_OF_MEMORY, cuda_failure, out_of_memory
from edge_sr.errors import BackendError

__all__ = ["BindingsCuda"]


def _import() -> tuple[Any, Any]:
    """The runtime and driver modules of cuda-bindings.

    Raises:
        BackendError: It is not installed.
    """
    try:
        from cuda.bindings import driver, runtime
    except ImportError as error:
        raise BackendError(
            f"cuda-bindings cannot be imported: {error}",
            hint="install it with: pip install 'edge-sr[jetson]'",
        ) from error
    return runtime, driver


class _Runtime:
    """The runtime API with its error codes as exceptions."""

    def __init__(self) -> None:
        self.api, self.driver = _import()

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a function and returns its results: None, the one, or a tuple.

        Raises:
            BackendError: It failed.
        """
        code, *results = getattr(self.api, name)(*arguments)
        if int(code) != 0:
            raise cuda_failure(name, int(code), self.text(code))
        return results[0] if len(results) == 1 else tuple(results) or None

    def text(self, code: Any) -> str:
        """The runtime's words for an error code."""
        text = self.api.cudaGetErrorString(code)[1]
        return text.decode() if isinstance(text, bytes) else str(text)

    def allocate(self, name: str, nbytes: int, *flags: int, kind: str) -> int:
        """Calls an allocating function and returns the address.

        Raises:
            BackendError: It failed; asked and free are named where memory ran out.
        """
        code, pointer = getattr(self.api, name)(nbytes, *flags)
        if int(code) == OUT_OF_MEMORY:
            self.api.cudaGetLastError()  # out of memory is not sticky; the next call must not see it again
            raise out_of_memory(nbytes, self.call("cudaMemGetInfo")[0], kind=kind)
        if int(code) != 0:
            raise cuda_failure(name, int(code), self.text(code))
        return int(pointer)


class _Stream(Held):
    def __init__(self, runtime: _Runtime) -> None:
        self._runtime = runtime
        self.raw = runtime.call("cudaStreamCreateWithFlags", runtime.api.cudaStreamNonBlocking)
        self.handle, self.is_capturing = int(self.raw), False
        self._opened()

    def synchronize(self) -> None:
        self._runtime.call("cudaStreamSynchronize", self.raw)

    def wait(self, event: CudaEvent) -> None:
        self._runtime.call("cudaStreamWaitEvent", self.raw, cast(_Event, event).raw, 0)

    def _free(self) -> None:
        self._runtime.call("cudaStreamDestroy", self.raw)


class _Event(Held):
    def __init__(self, runtime: _Runtime, *, timing: bool) -> None:
        self._runtime, self._timing = runtime, timing
        flags = runtime.api.cudaEventDefault if timing else runtime.api.cudaEventDisableTiming
        self.raw = runtime.call("cudaEventCreateWithFlags", flags)
        self._opened()

    def record(self, stream: CudaStream) -> None:
        queue = cast(_Stream, stream)
        # Inside a capture a plain record is an edge of the graph; an external one sets the event at each run.
        external = self._timing and queue.is_capturing
        flags = self._runtime.api.cudaEventRecordExternal if external else 0
        self._runtime.call("cudaEventRecordWithFlags", self.raw, queue.raw, flags)

    def synchronize(self) -> None:
        self._runtime.call("cudaEventSynchronize", self.raw)

    def elapsed_ms(self, since: CudaEvent) -> float:
        return float(self._runtime.call("cudaEventElapsedTime", cast(_Event, since).raw, self.raw))

    def _free(self) -> None:
        self._runtime.call("cudaEventDestroy", self.raw)


class _DeviceMemory(Held):
    def __init__(self, runtime: _Runtime, nbytes: int) -> None:
        self._runtime, self.nbytes = runtime, nbytes
        self.pointer = runtime.allocate("cudaMalloc", nbytes, kind="GPU")
        self._opened()

    def _free(self) -> None:
        self._runtime.call("cudaFree", self.pointer)


class _HostMemory(Held):
    def __init__(self, runtime: _Runtime, nbytes: int, *, mapped: bool) -> None:
        self._runtime, self.nbytes = runtime, nbytes
        flags = runtime.api.cudaHostAllocPortable | (runtime.api.cudaHostAllocMapped if mapped else 0)
        self._address = runtime.allocate("cudaHostAlloc", nbytes, flags, kind="page-locked host")
        self._opened()
        self.array: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self._address))
        self.pointer = int(runtime.call("cudaHostGetDevicePointer", self._address, 0)) if mapped else 0

    def _free(self) -> None:
        self.array = np.empty(0, np.uint8)
        self._runtime.call("cudaFreeHost", self._address)


class _Graph(Held):
    def __init__(self, runtime: _Runtime, graph: Any) -> None:
        self._runtime = runtime
        try:
            self._executable = runtime.call("cudaGraphInstantiate", graph, 0)
        finally:
            runtime.call("cudaGraphDestroy", graph)
        self._opened()

    def launch(self, stream: CudaStream) -> None:
        self._runtime.call("cudaGraphLaunch", self._executable, cast(_Stream, stream).raw)

    def _free(self) -> None:
        self._runtime.call("cudaGraphExecDestroy", self._executable)


class BindingsCuda(Held):
    """The first GPU through cuda-bindings. Every thread may use it: they share the primary context."""

    name, can_capture = "cuda-bindings", True

    def __init__(self) -> None:
        """Opens the device.

        Raises:
            BackendError: cuda-bindings is not installed, or there is no driver or no device.
        """
        self._runtime = _Runtime()
        self._runtime.call("cudaGetDeviceCount")
        self._runtime.call("cudaSetDevice", 0)
        self._runtime.call("cudaFree", 0)  # creates the context now, so that a failure is named here
        self.facts = self._facts()

    def memory_info(self) -> MemoryInfo:
        """Free and total memory of the device."""
        return MemoryInfo(*map(int, self._runtime.call("cudaMemGetInfo")))

    def stream(self) -> _Stream:
        """A new stream."""
        return _Stream(self._runtime)

    def event(self, *, timing: bool = False) -> _Event:
        """A new event."""
        return _Event(self._runtime, timing=timing)

    def device_memory(self, nbytes: int) -> _DeviceMemory:
        """Memory of the device."""
        return _DeviceMemory(self._runtime, nbytes)

    def pinned_memory(self, nbytes: int) -> _HostMemory:
        """Page-locked host memory."""
        return _HostMemory(self._runtime, nbytes, mapped=False)

    def mapped_memory(self, nbytes: int) -> _HostMemory:
        """Page-locked host memory with a device address."""
        return _HostMemory(self._runtime, nbytes, mapped=True)

    def copy_in(self, pointer: int, array: Array, stream: CudaStream) -> None:
        """Enqueues host to device."""
        source = check_contiguous(array).ctypes.data
        self._copy(pointer, source, array.nbytes, kind="cudaMemcpyHostToDevice", stream=stream)

    def copy_out(self, array: Array, pointer: int, stream: CudaStream) -> None:
        """Enqueues device to host."""
        to = check_contiguous(array).ctypes.data
        self._copy(to, pointer, array.nbytes, kind="cudaMemcpyDeviceToHost", stream=stream)

    def copy_across(self, to: int, source: int, nbytes: int, *, stream: CudaStream) -> None:
        """Enqueues device to device."""
        self._copy(to, source, nbytes, kind="cudaMemcpyDeviceToDevice", stream=stream)

    def fill(self, pointer: int, value: int, nbytes: int, *, stream: CudaStream) -> None:
        """Enqueues setting every byte."""
        self._runtime.call("cudaMemsetAsync", pointer, value, nbytes, cast(_Stream, stream).raw)

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> _Graph:
        """Records what `work` enqueues.

        Raises:
            BackendError: Something in `work` cannot be captured.
        """
        queue, api = cast(_Stream, stream), self._runtime.api
        # Thread-local: an allocation by this thread is refused, one by another thread is its own affair.
        self._runtime.call(
            "cudaStreamBeginCapture", queue.raw, api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        queue.is_capturing = True
        try:
            work()
        except BaseException:
            self._abandon(queue)
            raise
        finally:
            queue.is_capturing = False
        return _Graph(self._runtime, self._runtime.call("cudaStreamEndCapture", queue.raw))

    def _abandon(self, queue: _Stream) -> None:
        """Ends a capture whose work failed, so that the stream is usable again."""
        code, graph = self._runtime.api.cudaStreamEndCapture(queue.raw)
        if int(code) == 0 and int(graph):
            self._runtime.call("cudaGraphDestroy", graph)
        self._runtime.api.cudaGetLastError()

    def _copy(self, to: int, source: int, nbytes: int, *, kind: str, stream: CudaStream) -> None:
        direction = getattr(self._runtime.api.cudaMemcpyKind, kind)
        self._runtime.call("cudaMemcpyAsync", to, source, nbytes, direction, cast(_Stream, stream).raw)

    def _facts(self) -> DeviceFacts:
        major, minor = self._attribute("ComputeCapabilityMajor"), self._attribute("ComputeCapabilityMinor")
        version = int(self._runtime.call("cudaDriverGetVersion"))
        return DeviceFacts(
            name=self._device_name(),
            compute_capability=(major, minor),
            is_integrated=bool(self._attribute("Integrated")),
            can_map_host_memory=bool(self._attribute("CanMapHostMemory")),
            total_bytes=self.memory_info().total_bytes,
            driver=f"{version // 1000}.{version % 1000 // 10}",
        )

    def _attribute(self, name: str) -> int:
        attribute = getattr(self._runtime.api.cudaDeviceAttr, f"cudaDevAttr{name}")
        return int(self._runtime.call("cudaDeviceGetAttribute", attribute, 0))

    def _device_name(self) -> str:
        """The name from the driver API; the runtime's is a field of a struct that differs between majors."""
        code, name = self._runtime.driver.cuDeviceGetName(128, 0)
        if int(code) != 0:
            raise cuda_failure("cuDeviceGetName", int(code), str(code))
        return str(name.split(b"\0")[0].decode())
