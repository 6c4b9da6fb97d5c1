"""Streams and buffers in GPU memory, for the backends that run there.

A device buffer reaches the host through page-locked staging memory, made when it is first needed. A buffer
that is shared with the host lies in mapped memory on a SoC where that is coherent (see `edge_sr.cuda`), and
is then written and read in place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Stream, check_rows
from edge_sr.cuda import Array, Bytes, Cuda, CudaEvent, CudaStream, Held, HostMemory, Memory
from edge_sr.errors import BackendError

__all__ = ["ALIGNMENT", "GpuBuffer", "GpuMark", "GpuStream"]

ALIGNMENT = 256
"""What TensorRT asks of every tensor's address (NvInferRuntime.h, setTensorAddress)."""


@dataclass(frozen=True)
class _Pending:
    """A download whose data the host has not taken yet."""

    block: _Block
    start: int
    stop: int
    take: Callable[[], None]


class GpuStream(Held):
    """A CUDA stream, and the downloads that are completed when it has been waited for.

    Args:
        cuda: The device.
        shared: A stream that others use as well, which is left open; one of its own where None.
    """

    def __init__(self, cuda: Cuda, shared: CudaStream | None = None) -> None:
        self._cuda, self.raw, self._is_own = cuda, shared or cuda.stream(), shared is None
        self.pending: list[_Pending] = []
        self._opened()

    def synchronize(self) -> None:
        """Waits until everything enqueued so far is done, downloads included."""
        self.raw.synchronize()
        pending, self.pending = self.pending, []
        for download in pending:
            download.take()

    def mark(self) -> GpuMark:
        """A point in this stream's work whose time can be taken, inside a capture too."""
        return GpuMark(self._cuda, self)

    def before_work(self) -> None:
        """Completes downloads that read device memory in place: what is enqueued next may overwrite it."""
        if self.pending and any(download.block.is_mapped for download in self.pending):
            self.synchronize()

    def _free(self) -> None:
        self.pending = []
        if self._is_own:
            self.raw.close()


class GpuMark(Held):
    """A point in a stream's work, set as often as one likes."""

    def __init__(self, cuda: Cuda, stream: GpuStream) -> None:
        self._event, self._stream = cuda.event(timing=True), stream
        self._opened()

    def set(self) -> None:
        """Marks the point after what is enqueued so far."""
        self._event.record(self._stream.raw)

    def seconds_since(self, earlier: GpuMark) -> float:
        """Seconds between two marks; both have been reached."""
        return self._event.elapsed_ms(earlier._event) / 1000

    def _free(self) -> None:
        self._event.close()


class _Block(Held):
    """A piece of memory: on the device with staging, or mapped."""

    def __init__(self, cuda: Cuda, nbytes: int, *, shared: bool) -> None:
        self._cuda, self.nbytes = cuda, nbytes
        self.is_mapped = shared and cuda.facts.has_coherent_mapped_memory
        self._memory: Memory = cuda.mapped_memory(nbytes) if self.is_mapped else cuda.device_memory(nbytes)
        self.pointer = self._memory.pointer
        self._staging: dict[str, HostMemory] = {}
        self._copies: dict[tuple[int, int], CudaEvent] = {}
        self._opened()
        self._clear()

    def write(self, start: int, stop: int, put: Callable[[Bytes], None], *, stream: GpuStream) -> None:
        """Lets `put` write bytes on the host, and brings them to the device in the stream's order."""
        if self.is_mapped:
            stream.synchronize()  # what was enqueued before may still read it
            put(cast(HostMemory, self._memory).array[start:stop])
            return
        self.wait_for_copies(start, stop)
        piece = self._stage("up")[start:stop]
        put(piece)
        self._cuda.copy_in(self.pointer + start, piece, stream.raw)
        if (start, stop) not in self._copies:
            self._copies[start, stop] = self._cuda.event()
        self._copies[start, stop].record(stream.raw)

    def read(self, start: int, stop: int, take: Callable[[Bytes], None], *, stream: GpuStream) -> None:
        """Brings bytes to the host, where `take` gets them once the stream has been waited for."""
        if any(p.block is self and p.start < stop and start < p.stop for p in stream.pending):
            stream.synchronize()
        if self.is_mapped:
            piece = cast(HostMemory, self._memory).array[start:stop]
        else:
            piece = self._stage("down")[start:stop]
            self._cuda.copy_out(piece, self.pointer + start, stream.raw)
        stream.pending.append(_Pending(self, start, stop, lambda: take(piece)))

    def take(self, to: int, source: _Block, start: int, nbytes: int, *, stream: GpuStream) -> None:
        """Copies bytes of another block, or of another place of this one, on the device."""
        self._cuda.copy_across(self.pointer + to, source.pointer + start, nbytes, stream=stream.raw)

    def wait_for_copies(self, start: int, stop: int) -> None:
        """Waits until no copy reads this part of the staging memory."""
        for (begin, end), event in self._copies.items():
            if begin < stop and start < end:
                event.synchronize()

    def spread(self, count: int, row: int, stride: int) -> _Block:
        """A new block with the first `count` pieces of `row` bytes, each at a multiple of `stride`."""
        self.wait_for_copies(0, self.nbytes)
        block = _Block(self._cuda, count * stride, shared=self.is_mapped)
        with closing(self._cuda.stream()) as stream:
            for index in range(count):
                to, source = block.pointer + index * stride, self.pointer + index * row
                self._cuda.copy_across(to, source, row, stream=stream)
            stream.synchronize()
        self.close()
        return block

    def _clear(self) -> None:
        if self.is_mapped:
            cast(HostMemory, self._memory).array[:] = 0
            return
        with closing(self._cuda.stream()) as stream:
            self._cuda.fill(self.pointer, 0, self.nbytes, stream=stream)
            stream.synchronize()

    def _stage(self, direction: str) -> Bytes:
        if direction not in self._staging:
            self._staging[direction] = self._cuda.pinned_memory(self.nbytes)
        return self._staging[direction].array

    def _free(self) -> None:
        for event in self._copies.values():
            event.close()
        for memory in (*self._staging.values(), self._memory):
            memory.close()


class GpuBuffer(Held):
    """An array in GPU memory.

    Parts of the first axis that do not start at an aligned address are moved apart when the first of them is
    asked for. That is possible only while the buffer is not bound as a whole, which it cannot be later.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool) -> None:
        """Allocates zeroed memory.

        Raises:
            BackendError: There is not enough memory.
        """
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self._block, self._start, self._is_bound = _Block(cuda, size, shared=shared), 0, False
        self._row = self._stride = size // max(1, self.shape[0]) if self.shape else size
        self._opened()

    @property
    def pointer(self) -> int:
        """The device address of the whole, which stays from now on.

        Raises:
            BackendError: The parts were moved apart, or these rows start where no tensor may.
        """
        self._check_whole()
        if self._start % ALIGNMENT:
            raise BackendError(
                f"rows of {self.dtype} {self.shape} do not start at a multiple of {ALIGNMENT} bytes"
            )
        self._is_bound = True
        return self._block.pointer + self._start

    def upload(self, array: Array, stream: Stream) -> None:
        """Copies an array in, in the stream's order.

        Raises:
            BackendError: Its shape or element type differs.
        """
        self._check(array)
        rows = _rows(np.ascontiguousarray(array), self._row)

        def put(piece: Bytes) -> None:
            np.copyto(self._in_rows(piece), rows)

        self._block.write(self._start, self._stop, put, stream=cast(GpuStream, stream))

    def download(self, out: Array, stream: Stream) -> None:
        """Copies the content out; complete after `stream.synchronize()`.

        Raises:
            BackendError: The shape or element type of `out` differs.
        """
        self._check(out)

        def take(piece: Bytes) -> None:
            np.copyto(out, self._in_rows(piece).reshape(-1).view(self.dtype).reshape(self.shape))

        self._block.read(self._start, self._stop, take, stream=cast(GpuStream, stream))

    def copy(self, source: GpuBuffer, stream: Stream) -> None:
        """Copies another buffer in, on the device, in the stream's order.

        Raises:
            BackendError: Its shape or element type differs, or the parts of one were moved apart.
        """
        self._check(source)
        for buffer in (self, source):
            buffer._check_whole()
        queue = cast(GpuStream, stream)
        queue.before_work()
        self._block.take(self._start, source._block, source._start, self._stop - self._start, stream=queue)

    def at(self, index: int) -> GpuBuffer:
        """The part at `index` of the first axis, sharing this memory, at an aligned address.

        Raises:
            BackendError: There is no such part, or it is not aligned and the whole is bound already.
        """
        if not self.shape or not 0 <= index < self.shape[0]:
            raise BackendError(f"no part {index} in a buffer of {self.shape}")
        if self._stride % ALIGNMENT and self.shape[0] > 1:
            self._spread()
        part = object.__new__(GpuBuffer)
        part.shape, part.dtype, part._block = self.shape[1:], self.dtype, self._block
        part._start, part._is_bound = self._start + index * self._stride, True
        part._row = part._stride = self._row // max(1, self.shape[1]) if len(self.shape) > 1 else self._row
        return part

    def rows(self, start: int, stop: int) -> GpuBuffer:
        """The parts from `start` up to `stop` of the first axis, sharing this memory.

        Raises:
            BackendError: There are no such parts.
        """
        check_rows(self.shape, start, stop)
        self._is_bound = True  # they stay where they are
        part = object.__new__(GpuBuffer)
        part.shape, part.dtype, part._block = (stop - start, *self.shape[1:]), self.dtype, self._block
        part._start, part._is_bound = self._start + start * self._stride, True
        part._row, part._stride = self._row, self._stride
        return part

    def _check_whole(self) -> None:
        if self._is_spread:
            raise BackendError(
                f"a table of {self.shape} whose parts are used one by one has no address as a whole"
            )

    @property
    def _is_spread(self) -> bool:
        return self._stride != self._row

    @property
    def _stop(self) -> int:
        return self._start + (self.shape[0] if self.shape else 1) * self._stride

    def _in_rows(self, piece: Bytes) -> Bytes:
        """A piece of memory as (rows, bytes of a row), without what lies between them."""
        return piece.reshape(-1, self._stride)[:, : self._row] if self._stride else piece.reshape(0, 0)

    def _spread(self) -> None:
        if self._is_bound:
            raise BackendError(
                f"parts of {self.dtype} {self.shape} are not aligned, and it is bound as a whole"
            )
        self._stride = -(-self._row // ALIGNMENT) * ALIGNMENT
        self._block = self._block.spread(self.shape[0], self._row, self._stride)

    def _check(self, array: Array | GpuBuffer) -> None:
        if array.shape != self.shape or array.dtype != self.dtype:
            raise BackendError(f"wanted {self.dtype} {self.shape}, got {array.dtype} {array.shape}")

    def _free(self) -> None:
        self._block.close()


def _rows(array: npt.NDArray[Any], row: int) -> Bytes:
    """A contiguous array as (rows, bytes of a row), the same memory."""
    return array.reshape(-1).view(np.uint8).reshape(-1, row) if row else np.empty((0, 0), np.uint8)
