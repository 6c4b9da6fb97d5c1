"""PyCUDA: the CUDA driver API as boards have it where cuda-bindings is missing. It cannot capture graphs.

TensorRT works in the device's primary context, so that is the one used here. PyCUDA binds a context to a
thread by hand; each thread that comes along is bound once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn, cast

import numpy as np

from edge_sr.cuda import Array, Bytes, CudaEvent, CudaStream, DeviceFacts, Held, MemoryInfo, check_contiguous
from edge_sr.cuda.failures import OUT_OF_MEMORY, code_in_text, cuda_failure, out_of_memory
from edge_sr.errors import BackendError

__all__ = ["PyCuda"]

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which PyCUDA has no name for


def _import() -> Any:
    """PyCUDA's driver module.

    Raises:
        BackendError: It is not installed, or was built for another CUDA.
    """
    try:
        import pycuda.driver
    except ImportError as error:
        raise BackendError(
            f"PyCUDA cannot be imported: {error}", hint="install cuda-bindings: pip install 'edge-sr[jetson]'"
        ) from error
    return pycuda.driver


class _Driver:
    """The driver API, in the primary context, with its errors translated."""

    def __init__(self) -> None:
        self.api = _import()
        self._bound = threading.local()
        try:
            self.api.init()
            self.device = self.api.Device(0)
            self._context = self.device.retain_primary_context()
        except self.api.Error as error:
            raise cuda_failure("cuInit", 0, _words(error)) from error

    def call(self, function: Callable[..., Any], *arguments: Any, asked_bytes: int = 0) -> Any:
        """Calls a function with the context bound to this thread.

        Raises:
            BackendError: It failed; asked and free are named where memory ran out.
        """
        try:
            if not getattr(self._bound, "is_done", False):
                self._context.push()
                self._bound.is_done = True
            return function(*arguments)
        except self.api.Error as error:
            if asked_bytes and code_in_text(str(error)) == OUT_OF_MEMORY:
                raise out_of_memory(asked_bytes, int(self.api.mem_get_info()[0]), kind="GPU") from error
            raise cuda_failure(_function(error), 0, _words(error)) from error

    def release(self) -> None:
        """Unbinds the context from this thread and lets go of it."""
        if getattr(self._bound, "is_done", False):
            self._context.pop()
            self._bound.is_done = False
        self._context.detach()


def _function(error: Exception) -> str:
    """The call in PyCUDA's "cuMemAlloc failed: out of memory"."""
    return str(error).partition(" failed")[0] or "CUDA"


def _words(error: Exception) -> str:
    """The driver's text in PyCUDA's "cuMemAlloc failed: out of memory"."""
    return str(error).partition("failed: ")[2] or str(error)


class _Stream(Held):
    def __init__(self, driver: _Driver) -> None:
        self._driver = driver
        self.raw = driver.call(driver.api.Stream, NON_BLOCKING)
        self.handle = int(self.raw.handle)
        self._opened()

    def synchronize(self) -> None:
        self._driver.call(self.raw.synchronize)

    def wait(self, event: CudaEvent) -> None:
        self._driver.call(self.raw.wait_for_event, cast(_Event, event).raw)

    def _free(self) -> None:
        self.raw = None  # PyCUDA destroys the stream with its last reference


class _Event(Held):
    def __init__(self, driver: _Driver, *, timing: bool) -> None:
        self._driver = driver
        flags = driver.api.event_flags.DEFAULT if timing else driver.api.event_flags.DISABLE_TIMING
        self.raw = driver.call(driver.api.Event, flags)
        self._opened()

    def record(self, stream: CudaStream) -> None:
        self._driver.call(self.raw.record, cast(_Stream, stream).raw)

    def synchronize(self) -> None:
        self._driver.call(self.raw.synchronize)

    def elapsed_ms(self, since: CudaEvent) -> float:
        return float(self._driver.call(self.raw.time_since, cast(_Event, since).raw))

    def _free(self) -> None:
        self.raw = None


class _DeviceMemory(Held):
    def __init__(self, driver: _Driver, nbytes: int) -> None:
        self._driver, self.nbytes = driver, nbytes
        self._allocation = driver.call(driver.api.mem_alloc, nbytes, asked_bytes=nbytes)
        self.pointer = int(self._allocation)
        self._opened()

    def _free(self) -> None:
        self._driver.call(self._allocation.free)


class _HostMemory(Held):
    def __init__(self, driver: _Driver, nbytes: int, *, mapped: bool) -> None:
        self._driver, self.nbytes = driver, nbytes
        flags = driver.api.host_alloc_flags.PORTABLE | (
            driver.api.host_alloc_flags.DEVICEMAP if mapped else 0
        )
        array = driver.call(driver.api.pagelocked_empty, (nbytes,), np.uint8, "C", flags, asked_bytes=nbytes)
        self.array: Bytes = array
        self._allocation = array.base
        self.pointer = int(driver.call(self._allocation.get_device_pointer)) if mapped else 0
        self._opened()

    def _free(self) -> None:
        self.array = np.empty(0, np.uint8)
        self._driver.call(self._allocation.free)


class PyCuda(Held):
    """The first GPU through PyCUDA."""

    name, can_capture = "pycuda", False

    def __init__(self) -> None:
        """Opens the device.

        Raises:
            BackendError: PyCUDA is not installed, or there is no driver or no device.
        """
        self._driver = _Driver()
        self._opened()
        self.facts = self._facts()

    def memory_info(self) -> MemoryInfo:
        """Free and total memory of the device."""
        free, total = self._driver.call(self._driver.api.mem_get_info)
        return MemoryInfo(int(free), int(total))

    def stream(self) -> _Stream:
        """A new stream."""
        return _Stream(self._driver)

    def event(self, *, timing: bool = False) -> _Event:
        """A new event."""
        return _Event(self._driver, timing=timing)

    def device_memory(self, nbytes: int) -> _DeviceMemory:
        """Memory of the device."""
        return _DeviceMemory(self._driver, nbytes)

    def pinned_memory(self, nbytes: int) -> _HostMemory:
        """Page-locked host memory."""
        return _HostMemory(self._driver, nbytes, mapped=False)

    def mapped_memory(self, nbytes: int) -> _HostMemory:
        """Page-locked host memory with a device address."""
        return _HostMemory(self._driver, nbytes, mapped=True)

    def copy_in(self, pointer: int, array: Array, stream: CudaStream) -> None:
        """Enqueues host to device."""
        api, raw = self._driver.api, cast(_Stream, stream).raw
        self._driver.call(api.memcpy_htod_async, pointer, check_contiguous(array), raw)

    def copy_out(self, array: Array, pointer: int, stream: CudaStream) -> None:
        """Enqueues device to host."""
        api, raw = self._driver.api, cast(_Stream, stream).raw
        self._driver.call(api.memcpy_dtoh_async, check_contiguous(array), pointer, raw)

    def copy_across(self, to: int, source: int, nbytes: int, *, stream: CudaStream) -> None:
        """Enqueues device to device."""
        self._driver.call(self._driver.api.memcpy_dtod_async, to, source, nbytes, cast(_Stream, stream).raw)

    def fill(self, pointer: int, value: int, nbytes: int, *, stream: CudaStream) -> None:
        """Enqueues setting every byte."""
        self._driver.call(self._driver.api.memset_d8_async, pointer, value, nbytes, cast(_Stream, stream).raw)

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> NoReturn:
        """Refuses: PyCUDA has no graph API.

        Raises:
            BackendError: Always.
        """
        raise BackendError(
            "PyCUDA cannot capture CUDA graphs", hint="install cuda-bindings: pip install 'edge-sr[jetson]'"
        )

    def _free(self) -> None:
        self._driver.release()

    def _facts(self) -> DeviceFacts:
        api, device = self._driver.api, self._driver.device
        major, minor = device.compute_capability()
        version = int(api.get_driver_version())
        return DeviceFacts(
            name=str(device.name()),
            compute_capability=(int(major), int(minor)),
            is_integrated=bool(device.get_attribute(api.device_attribute.INTEGRATED)),
            can_map_host_memory=bool(device.get_attribute(api.device_attribute.CAN_MAP_HOST_MEMORY)),
            total_bytes=int(device.total_memory()),
            driver=f"{version // 1000}.{version % 1000 // 10}",
        )
