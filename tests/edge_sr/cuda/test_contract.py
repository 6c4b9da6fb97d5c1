"""What every adapter must do: on a GPU for real (marked `gpu`), and over fakes of the libraries anywhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
import pytest

from edge_sr.cuda import Cuda, open_cuda
from edge_sr.cuda.fake import ORIN_NANO, FakeCuda
from edge_sr.errors import BackendError
from tests.edge_sr.cuda.fake_libraries import FakeRuntime, install_bindings, install_pycuda, make_pycuda

ADAPTERS = [
    "fake",
    "fake-without-graphs",
    "bindings-over-a-fake",
    "pycuda-over-a-fake",
    pytest.param("cuda-bindings", marks=pytest.mark.gpu),
    pytest.param("pycuda", marks=pytest.mark.gpu),
]
BYTES = 1024


@pytest.fixture(params=ADAPTERS)
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    opened = _open(request.param, monkeypatch)
    yield opened
    opened.close()


def _open(name: str, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    if name.startswith("fake"):
        return FakeCuda(ORIN_NANO, can_capture=name == "fake")
    if name == "bindings-over-a-fake":
        install_bindings(monkeypatch, FakeRuntime())
        return open_cuda("cuda-bindings")
    if name == "pycuda-over-a-fake":
        install_pycuda(monkeypatch, make_pycuda())
        return open_cuda("pycuda")
    if importlib.util.find_spec(name.replace("-", ".")) is None:
        pytest.skip(f"{name} is not installed")
    return open_cuda(name)


@pytest.fixture
def hold() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_data_goes_to_the_device_across_it_and_back(cuda: Cuda, hold: ExitStack) -> None:
    stream = hold.enter_context(closing(cuda.stream()))
    here = hold.enter_context(closing(cuda.pinned_memory(BYTES)))
    back = hold.enter_context(closing(cuda.pinned_memory(BYTES)))
    first, second = (hold.enter_context(closing(cuda.device_memory(BYTES))) for _ in range(2))
    here.array[:] = np.arange(BYTES) % 251
    cuda.copy_in(first.pointer, here.array, stream)
    cuda.copy_across(second.pointer, first.pointer, BYTES, stream=stream)
    cuda.copy_out(back.array, second.pointer, stream)
    stream.synchronize()
    np.testing.assert_array_equal(back.array, here.array)


def test_a_fill_sets_every_byte(cuda: Cuda, hold: ExitStack) -> None:
    stream = hold.enter_context(closing(cuda.stream()))
    memory = hold.enter_context(closing(cuda.device_memory(BYTES)))
    back = hold.enter_context(closing(cuda.pinned_memory(BYTES)))
    cuda.fill(memory.pointer, 7, BYTES, stream=stream)
    cuda.copy_out(back.array, memory.pointer, stream)
    stream.synchronize()
    assert set(back.array.tolist()) == {7}


def test_mapped_memory_is_the_same_for_host_and_device(cuda: Cuda, hold: ExitStack) -> None:
    stream = hold.enter_context(closing(cuda.stream()))
    mapped = hold.enter_context(closing(cuda.mapped_memory(BYTES)))
    back = hold.enter_context(closing(cuda.pinned_memory(BYTES)))
    mapped.array[:] = 3
    cuda.copy_out(back.array, mapped.pointer, stream)
    stream.synchronize()
    cuda.fill(mapped.pointer, 9, BYTES, stream=stream)
    stream.synchronize()
    assert set(back.array.tolist()) == {3}
    assert set(mapped.array.tolist()) == {9}


def test_an_event_orders_two_streams(cuda: Cuda, hold: ExitStack) -> None:
    first, second = (hold.enter_context(closing(cuda.stream())) for _ in range(2))
    event = hold.enter_context(closing(cuda.event()))
    memory = hold.enter_context(closing(cuda.device_memory(BYTES)))
    back = hold.enter_context(closing(cuda.pinned_memory(BYTES)))
    cuda.fill(memory.pointer, 5, BYTES, stream=first)
    event.record(first)
    second.wait(event)
    cuda.copy_out(back.array, memory.pointer, second)
    second.synchronize()
    assert set(back.array.tolist()) == {5}


def test_time_goes_on_between_two_events(cuda: Cuda, hold: ExitStack) -> None:
    stream = hold.enter_context(closing(cuda.stream()))
    memory = hold.enter_context(closing(cuda.device_memory(BYTES)))
    before, after = (hold.enter_context(closing(cuda.event(timing=True))) for _ in range(2))
    before.record(stream)
    cuda.fill(memory.pointer, 1, BYTES, stream=stream)
    after.record(stream)
    stream.synchronize()
    after.synchronize()
    assert after.elapsed_ms(before) > 0


def test_a_graph_runs_when_it_is_launched_and_as_often(cuda: Cuda, hold: ExitStack) -> None:
    if not cuda.can_capture:
        pytest.skip(f"{cuda.name} has no graphs")
    stream = hold.enter_context(closing(cuda.stream()))
    here, there = (hold.enter_context(closing(cuda.device_memory(BYTES))) for _ in range(2))
    back = hold.enter_context(closing(cuda.pinned_memory(BYTES)))

    def work() -> None:
        cuda.copy_across(there.pointer, here.pointer, BYTES, stream=stream)

    cuda.fill(there.pointer, 0, BYTES, stream=stream)
    graph = hold.enter_context(closing(cuda.capture(stream, work)))
    found = []
    for value in (0, 21, 22):
        cuda.fill(here.pointer, value, BYTES, stream=stream)
        if value:
            graph.launch(stream)
        cuda.copy_out(back.array, there.pointer, stream)
        stream.synchronize()
        found.append(int(back.array[-1]))
    assert found == [0, 21, 22]


def test_a_timing_event_works_inside_a_graph(cuda: Cuda, hold: ExitStack) -> None:
    if not cuda.can_capture:
        pytest.skip(f"{cuda.name} has no graphs")
    stream = hold.enter_context(closing(cuda.stream()))
    memory = hold.enter_context(closing(cuda.device_memory(BYTES)))
    before, after = (hold.enter_context(closing(cuda.event(timing=True))) for _ in range(2))

    def work() -> None:
        before.record(stream)
        cuda.fill(memory.pointer, 1, BYTES, stream=stream)
        after.record(stream)

    graph = hold.enter_context(closing(cuda.capture(stream, work)))
    graph.launch(stream)
    stream.synchronize()
    assert after.elapsed_ms(before) > 0


def test_an_allocation_inside_a_capture_is_refused_and_the_stream_stays_usable(
    cuda: Cuda, hold: ExitStack
) -> None:
    if not cuda.can_capture:
        pytest.skip(f"{cuda.name} has no graphs")
    stream = hold.enter_context(closing(cuda.stream()))
    memory = hold.enter_context(closing(cuda.device_memory(BYTES)))
    with pytest.raises(BackendError, match=r"capturing|permitted"):
        cuda.capture(stream, lambda: cuda.device_memory(BYTES).close())
    cuda.fill(memory.pointer, 1, BYTES, stream=stream)
    stream.synchronize()


def test_without_graphs_a_capture_is_refused(cuda: Cuda, hold: ExitStack) -> None:
    if cuda.can_capture:
        pytest.skip(f"{cuda.name} has graphs")
    stream = hold.enter_context(closing(cuda.stream()))
    with pytest.raises(BackendError):
        cuda.capture(stream, lambda: None)


def test_too_much_memory_is_refused_with_what_was_asked_and_what_is_free(cuda: Cuda) -> None:
    with pytest.raises(BackendError, match=r"asked for \d+\.\d MiB, \d+\.\d MiB are free"):
        cuda.device_memory(1 << 50)


def test_an_array_with_gaps_is_refused(cuda: Cuda, hold: ExitStack) -> None:
    stream = hold.enter_context(closing(cuda.stream()))
    memory = hold.enter_context(closing(cuda.device_memory(BYTES)))
    with pytest.raises(BackendError, match="not contiguous"):
        cuda.copy_in(memory.pointer, np.zeros((32, 32), np.uint8)[:, ::2], stream)


def test_facts_and_memory_are_plausible(cuda: Cuda) -> None:
    info = cuda.memory_info()
    assert 0 < info.free_bytes <= info.total_bytes
    assert cuda.facts.name
    assert cuda.facts.compute_capability >= (5, 0)
    assert float(cuda.facts.driver) >= 11


def test_everything_may_be_closed_twice(cuda: Cuda) -> None:
    for held in (
        cuda.stream(),
        cuda.event(),
        cuda.device_memory(8),
        cuda.pinned_memory(8),
        cuda.mapped_memory(8),
    ):
        held.close()
        held.close()
