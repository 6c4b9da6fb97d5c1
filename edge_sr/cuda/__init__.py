"""CUDA as edge-sr uses it: one small protocol, and the explicit list of what implements it.

    Cuda ──► CudaStream, CudaEvent        order
       ├───► Memory, HostMemory           addresses that never change
       └───► CudaGraph                    work recorded once, launched many times

`bindings` speaks to cuda-bindings (graphs included), `pycuda_driver` to PyCUDA, which has no graph API, and
`fake` is a CPU-side stand-in that keeps the order of things. Pointers are plain integers, as TensorRT takes
them. Nothing here is imported from those libraries before `open_cuda` is called.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_sr.errors import BackendError

__all__ = [
    "ADAPTERS",
    "Cuda",
    "CudaEvent",
    "CudaGraph",
    "CudaStream",
    "DeviceFacts",
    "Held",
    "HostMemory",
    "Memory",
    "MemoryInfo",
    "check_contiguous",
    "open_cuda",
]

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

COHERENT_SINCE = (7, 2)
"""Integrated GPUs from Xavier (7.2) on are I/O coherent: mapped memory stays cached on the CPU (NVIDIA, "CUDA
for Tegra", section Memory Selection). On the original Nano (5.3) and TX2 (6.2) it does not."""


@dataclass(frozen=True)
class DeviceFacts:
    """What a GPU is.

    Attributes:
        name: As the driver gives it, as in "Orin".
        compute_capability: (major, minor).
        is_integrated: Whether it shares its memory with the CPU.
        can_map_host_memory: Whether host memory can have a device address.
        total_bytes: Memory of the device.
        driver: The newest CUDA version that the driver supports, as in "12.6".
    """

    name: str
    compute_capability: tuple[int, int]
    is_integrated: bool
    can_map_host_memory: bool
    total_bytes: int
    driver: str

    @property
    def sm(self) -> str:
        """The compute capability as in "8.7"."""
        return "{}.{}".format(*self.compute_capability)

    @property
    def has_coherent_mapped_memory(self) -> bool:
        """Whether the CPU and the GPU can share memory without a copy and without losing the CPU's cache."""
        return self.is_integrated and self.can_map_host_memory and self.compute_capability >= COHERENT_SINCE


@dataclass(frozen=True)
class MemoryInfo:
    """Memory of the device in bytes; on a Jetson `free_bytes` leaves out what the page cache holds."""

    free_bytes: int
    total_bytes: int


class CudaStream(Protocol):
    """Work in order."""

    @property
    def handle(self) -> int:
        """The `cudaStream_t` as an integer, as TensorRT takes it."""

    def synchronize(self) -> None:
        """Waits until everything enqueued so far is done."""

    def wait(self, event: CudaEvent) -> None:
        """Lets what is enqueued from now on wait for an event, without waiting on the host."""

    def close(self) -> None:
        """Frees the stream."""


class CudaEvent(Protocol):
    """A point in a stream's work."""

    def record(self, stream: CudaStream) -> None:
        """Marks the point after what is enqueued so far."""

    def synchronize(self) -> None:
        """Waits on the host until the point is reached; at once where it was never recorded."""

    def elapsed_ms(self, since: CudaEvent) -> float:
        """Milliseconds from `since` to this point; both were made with `timing` and have been reached."""

    def close(self) -> None:
        """Frees the event."""


class Memory(Protocol):
    """Memory that the device sees at `pointer`."""

    @property
    def pointer(self) -> int:
        """The device address."""

    @property
    def nbytes(self) -> int:
        """Its size."""

    def close(self) -> None:
        """Frees the memory."""


class HostMemory(Memory, Protocol):
    """Page-locked host memory; `pointer` is 0 unless it is mapped."""

    @property
    def array(self) -> Bytes:
        """(nbytes,) uint8: the same memory, as the host sees it."""


class CudaGraph(Protocol):
    """Recorded work."""

    def launch(self, stream: CudaStream) -> None:
        """Enqueues the whole of it."""

    def close(self) -> None:
        """Frees the graph."""


class Cuda(Protocol):
    """One GPU.

    Attributes:
        name: Of the adapter.
        can_capture: Whether `capture` is there.
        facts: What the device is.
    """

    name: str
    can_capture: bool
    facts: DeviceFacts

    def memory_info(self) -> MemoryInfo:
        """Free and total memory of the device."""

    def stream(self) -> CudaStream:
        """A new stream that does not wait for the default one."""

    def event(self, *, timing: bool = False) -> CudaEvent:
        """A new event; with `timing` it also knows when it was reached, which costs a little."""

    def device_memory(self, nbytes: int) -> Memory:
        """Memory of the device, its content undefined.

        Raises:
            BackendError: There is not enough; asked and free are named.
        """

    def pinned_memory(self, nbytes: int) -> HostMemory:
        """Page-locked host memory, without a device address."""

    def mapped_memory(self, nbytes: int) -> HostMemory:
        """Page-locked host memory that the device sees as well."""

    def copy_in(self, pointer: int, array: Array, stream: CudaStream) -> None:
        """Enqueues host to device. `array` is contiguous, and stays as it is until the copy has run."""

    def copy_out(self, array: Array, pointer: int, stream: CudaStream) -> None:
        """Enqueues device to host. `array` is contiguous, and holds the data once the copy has run."""

    def copy_across(self, to: int, source: int, nbytes: int, *, stream: CudaStream) -> None:
        """Enqueues device to device."""

    def fill(self, pointer: int, value: int, nbytes: int, *, stream: CudaStream) -> None:
        """Enqueues setting every byte to `value`, 0 to 255."""

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> CudaGraph:
        """Records what `work` enqueues on the stream, without running it.

        Raises:
            BackendError: The adapter cannot capture, or something in `work` cannot be captured; the stream is
                usable again either way.
        """

    def close(self) -> None:
        """Lets go of the device."""


class Held:
    """Something that is freed by `close`, once; forgetting it warns."""

    _is_open = False

    def _opened(self) -> None:
        self._is_open = True

    def _free(self) -> None:
        """Frees what is held; called once."""

    def close(self) -> None:
        """Frees what is held; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._free()

    def __enter__(self) -> Any:
        """The object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def __del__(self) -> None:
        if self._is_open:
            warnings.warn(f"{type(self).__name__} was never closed", ResourceWarning, stacklevel=2)


ADAPTERS: dict[str, str] = {
    "cuda-bindings": "edge_sr.cuda.bindings:BindingsCuda",
    "pycuda": "edge_sr.cuda.pycuda_driver:PyCuda",
}
"""Name -> module and class, in the order in which `open_cuda` tries them."""


def open_cuda(name: str = "auto") -> Cuda:
    """Opens the first GPU.

    Args:
        name: One of `ADAPTERS`; "auto" takes the first that works.

    Raises:
        BackendError: The name is unknown, or no adapter works here; each one's reason is named.
    """
    if name != "auto" and name not in ADAPTERS:
        raise BackendError(f"no CUDA adapter {name!r}", hint=f"one of: auto, {', '.join(ADAPTERS)}")
    failures: list[BackendError] = []
    for candidate in ADAPTERS if name == "auto" else (name,):
        module, _, attribute = ADAPTERS[candidate].partition(":")
        try:
            cuda: Cuda = getattr(importlib.import_module(module), attribute)()
        except BackendError as error:
            failures.append(error)
        else:
            return cuda
    raise BackendError("; ".join(e.message for e in failures), hint=failures[0].hint) from failures[0]


def check_contiguous(array: Array) -> Array:
    """The array itself, if it can be copied in one piece.

    Raises:
        BackendError: It is not C-contiguous.
    """
    if not array.flags.c_contiguous:
        raise BackendError(
            f"an array of shape {array.shape} is not contiguous and cannot be copied in one piece"
        )
    return array
