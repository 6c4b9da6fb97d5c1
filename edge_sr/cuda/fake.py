"""A GPU that is not there: the CUDA protocol in numpy, which keeps the order of things.

Nothing runs when it is enqueued. A stream's work runs when somebody waits for it, and of another stream's
work only what an event asks for: as late as CUDA allows, so that a missing wait shows as wrong data. Device
memory starts as junk and ends as junk, addresses are checked when work is enqueued and again when it runs,
and what CUDA forbids inside a capture is refused. Time is counted in operations, one millisecond each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_sr.cuda import (
    Array,
    Bytes,
    CudaEvent,
    CudaStream,
    DeviceFacts,
    Held,
    MemoryInfo,
    check_contiguous,
)
from edge_sr.cuda.failures import cuda_failure, out_of_memory
from edge_sr.errors import BackendError

__all__ = ["ORIN_NANO", "RTX_CARD", "FakeCuda", "Operation"]

JUNK = 0xA5
ALIGNMENT = 256
FIRST_ADDRESS = 0x7_0000_0000
CAPTURE_UNSUPPORTED, CAPTURE_ISOLATION, CAPTURED_EVENT, ILLEGAL_ADDRESS = 900, 905, 907, 700

ORIN_NANO = DeviceFacts("Orin", (8, 7), True, True, 8 << 30, "12.6")
RTX_CARD = DeviceFacts("NVIDIA GeForce RTX 4090", (8, 9), False, True, 24 << 30, "13.0")


@dataclass(frozen=True)
class Operation:
    """Something that was asked for.

    Attributes:
        kind: "allocate", "copy_in", "copy_out", "copy_across", "fill", "record", "wait", "kernel",
            "synchronize", "capture" or "launch".
        stream: Number of the stream, from 1; 0 where none is meant.
        detail: A kernel's name, or an address.
    """

    kind: str
    stream: int
    detail: str = ""


@dataclass(frozen=True)
class _Work:
    operation: Operation
    run: Callable[[], None]


class _Stream(Held):
    def __init__(self, cuda: FakeCuda, handle: int) -> None:
        self._cuda, self.handle = cuda, handle
        self.queue: deque[_Work] = deque()
        self.enqueued = self.done = 0
        self.recording: list[_Work] | None = None
        self._opened()

    def synchronize(self) -> None:
        self._cuda.forbid_while_capturing("cudaStreamSynchronize")
        self._cuda.note("synchronize", self.handle)
        self.run_until(self.enqueued)

    def wait(self, event: CudaEvent) -> None:
        mark = cast(_Event, event)
        if mark.recording is not None and mark.recording is not self._cuda.capturing:
            raise cuda_failure("cudaStreamWaitEvent", CAPTURED_EVENT, "event was recorded in a capture")
        if mark.recording is not None:
            self.recording = mark.recording  # waiting for captured work joins this stream to the capture
        elif self.recording is not None and mark.stream is not None:
            raise cuda_failure("cudaStreamWaitEvent", CAPTURE_ISOLATION, "dependency on uncaptured work")
        source, position = mark.stream, mark.position
        self.push("wait", "", lambda: source.run_until(position) if source else None)

    def push(self, kind: str, detail: str, run: Callable[[], None]) -> None:
        """Takes work in: into the queue, or into the capture that is under way."""
        work = _Work(self._cuda.note(kind, self.handle, detail), run)
        if self.recording is not None:
            self.recording.append(work)
            return
        self.queue.append(work)
        self.enqueued += 1

    def run_until(self, position: int) -> None:
        """Runs the queue up to a position; what fails takes all that comes after it along."""
        while self.done < position:
            work = self.queue.popleft()
            self.done += 1
            try:
                self._cuda.execute(work)
            except BackendError:
                self.queue.clear()
                self.done = self.enqueued
                raise

    def _free(self) -> None:
        self.run_until(self.enqueued)


class _Event(Held):
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.stream: _Stream | None = None
        self.recording: list[_Work] | None = None
        self.position, self.reached_ms = 0, 0
        self._opened()

    def record(self, stream: CudaStream) -> None:
        queue = cast(_Stream, stream)
        queue.push("record", "", self._reach)
        self.recording = queue.recording
        self.stream, self.position = (None, 0) if queue.recording is not None else (queue, queue.enqueued)

    def synchronize(self) -> None:
        self._cuda.forbid_while_capturing("cudaEventSynchronize")
        if self.stream is not None:
            self.stream.run_until(self.position)

    def elapsed_ms(self, since: CudaEvent) -> float:
        return float(self.reached_ms - cast(_Event, since).reached_ms)

    def _reach(self) -> None:
        self.reached_ms = self._cuda.clock_ms


class _Memory(Held):
    def __init__(self, cuda: FakeCuda, nbytes: int, *, is_device: bool, is_mapped: bool = False) -> None:
        self._cuda, self.nbytes, self._is_device = cuda, nbytes, is_device
        self.array: Bytes = np.full(nbytes, JUNK, np.uint8)
        self.pointer = cuda.place(self.array) if is_device or is_mapped else 0
        self._opened()

    def _free(self) -> None:
        self._cuda.forget(self.pointer, self.array, is_device=self._is_device)
        self.array = np.empty(0, np.uint8)


class _Graph(Held):
    def __init__(self, cuda: FakeCuda, work: list[_Work]) -> None:
        self._cuda, self._work = cuda, tuple(work)
        self._opened()

    def launch(self, stream: CudaStream) -> None:
        cast(_Stream, stream).push("launch", f"{len(self._work)} operations", self._run)

    def _run(self) -> None:
        for work in self._work:
            self._cuda.execute(work)


class FakeCuda(Held):
    """The protocol of `edge_sr.cuda.Cuda` without a GPU.

    Attributes:
        asked: Every operation, in the order in which it was asked for.
        ran: Those that ran, in the order in which they did.
        clock_ms: One more for every operation that ran.
        capturing: What is being recorded; None outside a capture.
    """

    name = "fake"

    def __init__(
        self, facts: DeviceFacts = RTX_CARD, *, can_capture: bool = True, limit_bytes: int | None = None
    ) -> None:
        """Makes a device.

        Args:
            facts: What it claims to be.
            can_capture: False for a device like PyCUDA's.
            limit_bytes: Device memory that there is; `facts.total_bytes` where None.
        """
        self.facts, self.can_capture = facts, can_capture
        self._limit = facts.total_bytes if limit_bytes is None else limit_bytes
        self.asked: list[Operation] = []
        self.ran: list[Operation] = []
        self.clock_ms = 0
        self.capturing: list[_Work] | None = None
        self._streams: list[_Stream] = []
        self._places: dict[int, Bytes] = {}
        self._next_address, self._used = FIRST_ADDRESS, 0

    @property
    def in_flight(self) -> int:
        """Operations that were enqueued and have not run."""
        return sum(stream.enqueued - stream.done for stream in self._streams)

    def memory_info(self) -> MemoryInfo:
        """What the allocations have left of the limit."""
        return MemoryInfo(self._limit - self._used, self._limit)

    def stream(self) -> _Stream:
        """A new stream."""
        self._streams.append(_Stream(self, len(self._streams) + 1))
        return self._streams[-1]

    def event(self, *, timing: bool = False) -> _Event:
        """A new event; it knows the time either way."""
        return _Event(self)

    def device_memory(self, nbytes: int) -> _Memory:
        """Device memory, full of junk.

        Raises:
            BackendError: The limit is reached, or a capture is under way.
        """
        self.forbid_while_capturing("cudaMalloc")
        if self._used + nbytes > self._limit:
            raise out_of_memory(nbytes, self._limit - self._used, kind="GPU")
        self._used += nbytes
        return self._allocated(_Memory(self, nbytes, is_device=True))

    def pinned_memory(self, nbytes: int) -> _Memory:
        """Host memory that the device does not see."""
        self.forbid_while_capturing("cudaHostAlloc")
        return self._allocated(_Memory(self, nbytes, is_device=False))

    def mapped_memory(self, nbytes: int) -> _Memory:
        """Host memory that the device sees."""
        self.forbid_while_capturing("cudaHostAlloc")
        return self._allocated(_Memory(self, nbytes, is_device=False, is_mapped=True))

    def copy_in(self, pointer: int, array: Array, stream: CudaStream) -> None:
        """Host to device; reads `array` when it runs, as the copy from page-locked memory does."""
        data = check_contiguous(array).reshape(-1).view(np.uint8)
        target = self._reached(pointer, data.nbytes)
        cast(_Stream, stream).push("copy_in", f"{pointer:#x}", lambda: np.copyto(target(), data))

    def copy_out(self, array: Array, pointer: int, stream: CudaStream) -> None:
        """Device to host."""
        data = check_contiguous(array).reshape(-1).view(np.uint8)
        source = self._reached(pointer, data.nbytes)
        cast(_Stream, stream).push("copy_out", f"{pointer:#x}", lambda: np.copyto(data, source()))

    def copy_across(self, to: int, source: int, nbytes: int, *, stream: CudaStream) -> None:
        """Device to device."""
        target, origin = self._reached(to, nbytes), self._reached(source, nbytes)
        cast(_Stream, stream).push("copy_across", f"{to:#x}", lambda: np.copyto(target(), origin()))

    def fill(self, pointer: int, value: int, nbytes: int, *, stream: CudaStream) -> None:
        """Sets every byte."""
        target = self._reached(pointer, nbytes)
        cast(_Stream, stream).push("fill", f"{pointer:#x}", lambda: target().fill(value))

    def kernel(self, handle: int, name: str, run: Callable[[], None]) -> None:
        """Enqueues a function on the stream with this handle: what a library does that runs on the GPU."""
        self._streams[handle - 1].push("kernel", name, run)

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> _Graph:
        """Records what `work` enqueues.

        Raises:
            BackendError: This device cannot, or something in `work` is forbidden inside a capture.
        """
        if not self.can_capture:
            raise cuda_failure("cudaStreamBeginCapture", CAPTURE_UNSUPPORTED, "operation not permitted")
        queue = cast(_Stream, stream)
        self.note("capture", queue.handle)
        recorded: list[_Work] = []
        queue.recording = self.capturing = recorded
        try:
            work()
        finally:
            self.capturing = None
            for member in self._streams:
                if member.recording is recorded:
                    member.recording = None
        return _Graph(self, recorded)

    def at(self, pointer: int, nbytes: int) -> Bytes:
        """The bytes at an address.

        Raises:
            BackendError: Some of them are not allocated.
        """
        starts = sorted(self._places)
        index = bisect_right(starts, pointer) - 1
        if index >= 0 and pointer + nbytes <= starts[index] + self._places[starts[index]].nbytes:
            offset = pointer - starts[index]
            return self._places[starts[index]][offset : offset + nbytes]
        raise cuda_failure("access", ILLEGAL_ADDRESS, f"{nbytes} bytes at {pointer:#x} are not allocated")

    def place(self, array: Bytes) -> int:
        """Gives memory a device address."""
        address = self._next_address
        self._next_address += -(-max(1, array.nbytes) // ALIGNMENT) * ALIGNMENT
        self._places[address] = array
        return address

    def forget(self, pointer: int, array: Bytes, *, is_device: bool) -> None:
        """Takes an address back; what the memory held is gone."""
        array.fill(JUNK)
        self._places.pop(pointer, None)
        self._used -= array.nbytes if is_device else 0

    def note(self, kind: str, stream: int, detail: str = "") -> Operation:
        """Remembers what was asked for."""
        self.asked.append(Operation(kind, stream, detail))
        return self.asked[-1]

    def execute(self, work: _Work) -> None:
        """Runs one operation."""
        self.clock_ms += 1
        self.ran.append(work.operation)
        work.run()

    def forbid_while_capturing(self, call: str) -> None:
        """Refuses what CUDA refuses inside a capture.

        Raises:
            BackendError: A capture is under way.
        """
        if self.capturing is not None:
            raise cuda_failure(call, CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing")

    def _reached(self, pointer: int, nbytes: int) -> Callable[[], Bytes]:
        """Checks an address, and gives what checks it again when the work runs: it may be freed by then."""
        self.at(pointer, nbytes)
        return lambda: self.at(pointer, nbytes)

    def _allocated(self, memory: _Memory) -> _Memory:
        self.note("allocate", 0, f"{memory.pointer:#x}")
        return memory
