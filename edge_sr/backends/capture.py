"""A whole loop as one CUDA graph: recorded once, compared with an eager run, then replayed.

A graph that records nothing where it should (a refused enqueue) would replay into stale buffers without a
word. So every enqueue's answer is checked while it is recorded, and a capture is believed only after a replay
on one set of inputs has given what the eager run gave, with another set's data in the buffers before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from edge_sr.backends import Array, Buffer, Stream
from edge_sr.backends.gpu_memory import GpuStream
from edge_sr.cuda import Cuda, CudaGraph, Held
from edge_sr.errors import BackendError

__all__ = ["TOLERANCE", "Replay", "capture_work"]

TOLERANCE = 1e-3
"""Of the largest magnitude: the kernels are the same, only atomic additions may differ in the last bits."""


class Replay(Held):
    """Work that can be launched again and again.

    Attributes:
        is_graph: Whether it is one CUDA graph; otherwise each launch enqueues everything anew.
        note: Why it is no graph; empty where it is.
    """

    def __init__(self, work: Callable[[GpuStream], None], graph: CudaGraph | None, *, note: str = "") -> None:
        self._work, self._graph = work, graph
        self.is_graph, self.note = graph is not None, note
        self._opened()

    def launch(self, stream: Stream) -> None:
        """Enqueues one run. Allocates nothing and does not wait.

        Raises:
            BackendError: The run was refused.
        """
        queue = cast(GpuStream, stream)
        queue.before_work()
        if self._graph is None:
            self._work(queue)
        else:
            self._graph.launch(queue.raw)

    def _free(self) -> None:
        if self._graph is not None:
            self._graph.close()


def capture_work(
    cuda: Cuda,
    work: Callable[[GpuStream], None],
    *,
    prepare: Callable[[int], None],
    outputs: Sequence[Buffer],
    stream: GpuStream,
) -> Replay:
    """Records work as a CUDA graph, if that is possible and gives the same results.

    Args:
        cuda: The device.
        work: Enqueues one run; called three times, the last time to be recorded.
        prepare: Uploads the inputs of a test case by its number, 0 or 1; the two differ.
        outputs: What a run writes that must be right.
        stream: Where all of it runs.

    Returns:
        The graph; plain enqueues with a note where the device cannot capture, where something in the work
        cannot be captured, or where the replay gives something else.

    Raises:
        BackendError: The work fails even without a capture.
    """
    if not cuda.can_capture:
        return Replay(work, None, note=f"{cuda.name} has no CUDA graphs: every run is enqueued step by step")
    wanted = _results(lambda: work(stream), prepare, 0, outputs=outputs, stream=stream)
    _results(lambda: work(stream), prepare, 1, outputs=outputs, stream=stream)
    try:
        graph = cuda.capture(stream.raw, lambda: work(stream))
    except BackendError as error:
        return Replay(work, None, note=f"no CUDA graph, since {error.message}: enqueued step by step")
    found = _results(lambda: graph.launch(stream.raw), prepare, 0, outputs=outputs, stream=stream)
    if worst := _largest_difference(wanted, found):
        graph.close()
        return Replay(
            work, None, note=f"no CUDA graph, since its replay is off by {worst:g}: enqueued step by step"
        )
    return Replay(work, graph)


def _results(
    run: Callable[[], None],
    prepare: Callable[[int], None],
    case: int,
    *,
    outputs: Sequence[Buffer],
    stream: GpuStream,
) -> list[Array]:
    prepare(case)
    run()
    arrays = [np.empty(buffer.shape, buffer.dtype) for buffer in outputs]
    for buffer, array in zip(outputs, arrays, strict=True):
        buffer.download(array, stream)
    stream.synchronize()
    return arrays


def _largest_difference(wanted: list[Array], found: list[Array]) -> float:
    """The largest difference beyond the tolerance; 0 where there is none."""
    worst = 0.0
    for want, have in zip(wanted, found, strict=True):
        scale = float(np.max(np.abs(want), initial=0.0))
        if not np.allclose(have, want, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
            worst = max(worst, float(np.nanmax(np.abs(have - want), initial=TOLERANCE * scale)))
    return worst
