"""The fake CUDA keeps the order of things, and forbids what CUDA forbids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edge_sr.cuda.fake import FakeCuda
from edge_sr.errors import BackendError

Streams = tuple[Any, Any]


def append(ran: list[str], name: str) -> Callable[[], None]:
    return lambda: ran.append(name)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(limit_bytes=4096)


@pytest.fixture
def streams(cuda: FakeCuda) -> Iterator[Streams]:
    pair = (cuda.stream(), cuda.stream())
    yield pair
    for stream in pair:
        stream.close()


def test_nothing_runs_before_somebody_waits(cuda: FakeCuda, streams: Streams) -> None:
    ran: list[str] = []
    cuda.kernel(streams[0].handle, "a", lambda: ran.append("a"))
    assert ran == []
    streams[0].synchronize()
    assert ran == ["a"]


def test_waiting_for_one_stream_leaves_the_other_alone(cuda: FakeCuda, streams: Streams) -> None:
    ran: list[str] = []
    for name, stream in zip("ab", streams, strict=True):
        cuda.kernel(stream.handle, name, append(ran, name))
    streams[1].synchronize()
    assert ran == ["b"]


def test_an_event_pulls_in_what_came_before_it_and_no_more(cuda: FakeCuda, streams: Streams) -> None:
    ran: list[str] = []
    cuda.kernel(streams[0].handle, "before", lambda: ran.append("before"))
    with cuda.event() as event:
        event.record(streams[0])
        cuda.kernel(streams[0].handle, "after", lambda: ran.append("after"))
        streams[1].wait(event)
        cuda.kernel(streams[1].handle, "joined", lambda: ran.append("joined"))
        streams[1].synchronize()
    assert ran == ["before", "joined"]


def test_pinned_memory_that_is_overwritten_too_early_shows(cuda: FakeCuda, streams: Streams) -> None:
    with cuda.pinned_memory(4) as staging, cuda.device_memory(4) as memory:
        staging.array[:] = 1
        cuda.copy_in(memory.pointer, staging.array, streams[0])
        staging.array[:] = 2
        streams[0].synchronize()
        assert cuda.at(memory.pointer, 4).tolist() == [2, 2, 2, 2]


def test_device_memory_starts_as_junk(cuda: FakeCuda) -> None:
    with cuda.device_memory(4) as memory:
        assert 0 not in cuda.at(memory.pointer, 4)


def test_an_address_beyond_an_allocation_is_illegal(cuda: FakeCuda) -> None:
    with cuda.device_memory(4) as memory, pytest.raises(BackendError, match="not allocated"):
        cuda.at(memory.pointer + 2, 4)


def test_freed_memory_is_illegal(cuda: FakeCuda) -> None:
    memory = cuda.device_memory(4)
    memory.close()
    with pytest.raises(BackendError, match="not allocated"):
        cuda.at(memory.pointer, 4)


def test_freed_memory_can_be_had_again(cuda: FakeCuda) -> None:
    cuda.device_memory(4096).close()
    with cuda.device_memory(4096), pytest.raises(BackendError, match=r"0\.0 MiB are free"):
        cuda.device_memory(1)


def test_waiting_inside_a_capture_is_refused(cuda: FakeCuda, streams: Streams) -> None:
    with pytest.raises(BackendError, match="cudaStreamSynchronize failed"):
        cuda.capture(streams[0], streams[0].synchronize)


def test_a_stream_joins_a_capture_by_an_event(cuda: FakeCuda, streams: Streams) -> None:
    first, second = streams
    ran: list[str] = []
    with cuda.event() as fork:

        def work() -> None:
            fork.record(first)
            second.wait(fork)
            cuda.kernel(second.handle, "joined", lambda: ran.append("joined"))

        with cuda.capture(first, work) as graph:
            assert ran == []
            graph.launch(first)
            first.synchronize()
    assert ran == ["joined"]


def test_a_capture_cannot_wait_for_work_outside_of_it(cuda: FakeCuda, streams: Streams) -> None:
    first, second = streams
    with cuda.event() as event:
        event.record(second)
        with pytest.raises(BackendError, match="uncaptured work"):
            cuda.capture(first, lambda: first.wait(event))


def test_an_event_of_a_capture_means_nothing_outside_of_it(cuda: FakeCuda, streams: Streams) -> None:
    first, second = streams
    with (
        cuda.event() as event,
        cuda.capture(first, lambda: event.record(first)),
        pytest.raises(BackendError, match="recorded in a capture"),
    ):
        second.wait(event)


def test_memory_that_is_freed_under_the_device_shows(cuda: FakeCuda, streams: Streams) -> None:
    memory = cuda.device_memory(4)
    cuda.fill(memory.pointer, 0, 4, stream=streams[0])
    cuda.kernel(streams[0].handle, "after", lambda: None)
    assert cuda.in_flight == 2
    memory.close()
    with pytest.raises(BackendError, match="not allocated"):
        streams[0].synchronize()
    assert (cuda.in_flight, [o.kind for o in cuda.ran]) == (0, ["fill"])  # the failure took the rest along


def test_pinned_memory_that_is_freed_under_the_device_shows(cuda: FakeCuda, streams: Streams) -> None:
    with cuda.device_memory(4) as memory:
        staging = cuda.pinned_memory(4)
        staging.array[:] = 1
        cuda.copy_in(memory.pointer, staging.array, streams[0])
        staging.close()
        streams[0].synchronize()
        assert 1 not in cuda.at(memory.pointer, 4)


def test_it_remembers_what_was_asked_and_what_ran(cuda: FakeCuda, streams: Streams) -> None:
    with cuda.device_memory(4) as memory:
        cuda.copy_in(memory.pointer, np.zeros(4, np.uint8), streams[1])
        cuda.kernel(streams[0].handle, "k", lambda: None)
        streams[0].synchronize()
        assert [(o.kind, o.stream) for o in cuda.asked] == [
            ("allocate", 0),
            ("copy_in", 2),
            ("kernel", 1),
            ("synchronize", 1),
        ]
        assert [o.kind for o in cuda.ran] == ["kernel"]
        streams[1].synchronize()
