"""Buffers and streams in host memory, for the backends that run on the CPU."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Array, Resource, Stream, check_rows
from edge_sr.errors import BackendError

__all__ = ["HostBuffer", "HostMark", "HostStream", "usable_cores"]


def usable_cores() -> int:
    """The cores this process may use, where the system says; else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class HostStream(Resource):
    """Work is done when it is enqueued, so there is never anything to wait for."""

    def synchronize(self) -> None:
        """Returns at once."""

    def mark(self) -> HostMark:
        """A point in time."""
        return HostMark()


class HostMark(Resource):
    """A point in time: work is done when it is enqueued."""

    def __init__(self) -> None:
        self._time = 0.0

    def set(self) -> None:
        """Takes the time."""
        self._time = time.perf_counter()

    def seconds_since(self, earlier: HostMark) -> float:
        """Seconds between two marks."""
        return self._time - earlier._time


class HostBuffer(Resource):
    """A numpy array that stays where it is."""

    def __init__(self, array: Array) -> None:
        self.array = array

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostBuffer:
        """Zeroed memory."""
        return cls(np.zeros(shape, dtype=dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self.array.dtype

    def upload(self, array: Array, stream: Stream) -> None:
        """Copies an array in.

        Raises:
            BackendError: Its shape or element type differs.
        """
        self._check(array)
        np.copyto(self.array, array)

    def download(self, out: Array, stream: Stream) -> None:
        """Copies the content out.

        Raises:
            BackendError: The shape or element type of `out` differs.
        """
        self._check(out)
        np.copyto(out, self.array)

    def copy(self, source: HostBuffer, stream: Stream) -> None:
        """Copies another buffer in.

        Raises:
            BackendError: Its shape or element type differs.
        """
        self._check(source.array)
        np.copyto(self.array, source.array)

    def at(self, index: int) -> HostBuffer:
        """The part at `index` of the first axis, sharing this memory."""
        return HostBuffer(self.array[index, ...])  # with the dots a view, even of a single number

    def rows(self, start: int, stop: int) -> HostBuffer:
        """The parts from `start` up to `stop` of the first axis, sharing this memory.

        Raises:
            BackendError: There are no such parts.
        """
        check_rows(self.shape, start, stop)
        return HostBuffer(self.array[start:stop])

    def _check(self, array: Array) -> None:
        if array.shape != self.array.shape or array.dtype != self.array.dtype:
            raise BackendError(
                f"wanted {self.array.dtype} {self.array.shape}, got {array.dtype} {array.shape}"
            )
