"""Buffers on the GPU: staging, mapped memory, and tables whose rows must be aligned."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from edge_sr.backends import Array
from edge_sr.backends.gpu_memory import ALIGNMENT, GpuBuffer, GpuStream
from edge_sr.cuda.fake import ORIN_NANO, RTX_CARD, FakeCuda
from edge_sr.errors import BackendError


@pytest.fixture(params=[ORIN_NANO, RTX_CARD], ids=["mapped", "staged"])
def cuda(request: pytest.FixtureRequest) -> FakeCuda:
    return FakeCuda(request.param)


@pytest.fixture
def stream(cuda: FakeCuda) -> Iterator[GpuStream]:
    with GpuStream(cuda) as opened:
        yield opened


def read(buffer: GpuBuffer, stream: GpuStream) -> Array:
    out = np.empty(buffer.shape, buffer.dtype)
    buffer.download(out, stream)
    stream.synchronize()
    return out


@pytest.mark.parametrize("shared", [False, True])
def test_memory_starts_as_zeros(cuda: FakeCuda, stream: GpuStream, shared: bool) -> None:
    with GpuBuffer(cuda, (3, 5), np.float32, shared=shared) as buffer:
        assert not read(buffer, stream).any()


@pytest.mark.parametrize("shared", [False, True])
def test_two_uploads_in_a_row_arrive_in_their_order(cuda: FakeCuda, stream: GpuStream, shared: bool) -> None:
    with GpuBuffer(cuda, (2,), np.float32, shared=shared) as buffer:
        seen: list[list[float]] = []

        def look(view: Array) -> None:
            seen.append(view.tolist())

        for value in (1.0, 2.0):
            buffer.upload(np.full(2, value, np.float32), stream)
            view = cuda.at(buffer.pointer, 8).view(np.float32)
            cuda.kernel(stream.raw.handle, "look", partial(look, view))
        stream.synchronize()
    assert seen == [[1.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize("shared", [False, True])
def test_two_downloads_in_a_row_each_get_what_was_there(
    cuda: FakeCuda, stream: GpuStream, shared: bool
) -> None:
    outs = [np.zeros(2, np.float32) for _ in range(2)]
    with GpuBuffer(cuda, (2,), np.float32, shared=shared) as buffer:
        view = cuda.at(buffer.pointer, 8).view(np.float32)
        for value, out in enumerate(outs, start=1):
            stream.before_work()
            cuda.kernel(stream.raw.handle, "write", partial(view.fill, value))
            buffer.download(out, stream)
        stream.synchronize()
    assert [out.tolist() for out in outs] == [[1.0, 1.0], [2.0, 2.0]]


def test_a_download_is_complete_only_after_waiting(cuda: FakeCuda, stream: GpuStream) -> None:
    out = np.full(2, -1.0, np.float32)
    with GpuBuffer(cuda, (2,), np.float32, shared=False) as buffer:
        buffer.download(out, stream)
        assert out.tolist() == [-1.0, -1.0]
        stream.synchronize()
    assert out.tolist() == [0.0, 0.0]


def test_rows_of_a_table_are_moved_to_aligned_addresses_with_what_they_held(
    cuda: FakeCuda, stream: GpuStream
) -> None:
    table = np.arange(4 * 7, dtype=np.float32).reshape(4, 1, 7)  # rows of 28 bytes, as the coefficients have
    with GpuBuffer(cuda, table.shape, np.float32, shared=False) as buffer:
        buffer.upload(table, stream)
        rows = [buffer.at(i) for i in range(4)]
        assert all(row.pointer % ALIGNMENT == 0 for row in rows)
        for row, wanted in zip(rows, table, strict=True):
            np.testing.assert_array_equal(read(row, stream), wanted)
        buffer.upload(table + 1, stream)
        np.testing.assert_array_equal(read(rows[2], stream), table[2] + 1)
        np.testing.assert_array_equal(read(buffer, stream), table + 1)


def test_aligned_rows_stay_where_they_are(cuda: FakeCuda) -> None:
    with GpuBuffer(cuda, (3, 64), np.float32, shared=False) as buffer:
        start = buffer.pointer
        assert [buffer.at(i).pointer - start for i in range(3)] == [0, 256, 512]


def test_a_bound_table_is_not_moved(cuda: FakeCuda) -> None:
    with GpuBuffer(cuda, (3, 7), np.float32, shared=False) as buffer:
        assert buffer.pointer
        with pytest.raises(BackendError, match="not aligned"):
            buffer.at(1)


def test_a_table_whose_rows_were_moved_has_no_address_as_a_whole(cuda: FakeCuda) -> None:
    with GpuBuffer(cuda, (3, 7), np.float32, shared=False) as buffer:
        buffer.at(0)
        with pytest.raises(BackendError, match="no address as a whole"):
            _ = buffer.pointer


def test_rows_have_an_address_only_where_a_tensor_may_start(cuda: FakeCuda) -> None:
    with GpuBuffer(cuda, (3, 64), np.float32, shared=False) as aligned:
        assert aligned.rows(1, 3).pointer - aligned.pointer == 256
    with GpuBuffer(cuda, (3, 7), np.float32, shared=False) as buffer:
        assert buffer.rows(0, 2).pointer == buffer.pointer
        with pytest.raises(BackendError, match="do not start at a multiple of 256 bytes"):
            assert buffer.rows(1, 2).pointer


def test_there_is_no_row_beyond_the_last(cuda: FakeCuda) -> None:
    with GpuBuffer(cuda, (3, 7), np.float32, shared=False) as buffer, pytest.raises(BackendError):
        buffer.at(3)


@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.zeros(2, np.float64)])
def test_another_shape_or_element_type_is_refused(cuda: FakeCuda, stream: GpuStream, wrong: Array) -> None:
    with GpuBuffer(cuda, (2,), np.float32, shared=False) as buffer:
        for act in (buffer.upload, buffer.download):
            with pytest.raises(BackendError, match="wanted float32"):
                act(wrong, stream)


@pytest.mark.parametrize("row", [1, 64, 65], ids=["tight", "aligned", "moved apart"])
def test_an_array_with_gaps_is_filled_and_the_gaps_are_left(
    cuda: FakeCuda, stream: GpuStream, row: int
) -> None:
    gaps = np.full((2, 2 * row), 9, np.float32)
    data = np.arange(2 * row, dtype=np.float32).reshape(2, row)
    with GpuBuffer(cuda, (2, row), np.float32, shared=False) as buffer:
        buffer.at(0)  # rows of 65 floats do not start at aligned addresses: now they do
        buffer.upload(data, stream)
        buffer.download(gaps[:, ::2], stream)
        stream.synchronize()
    np.testing.assert_array_equal(gaps[:, ::2], data)
    assert (gaps[:, 1::2] == 9).all()


def test_closing_frees_everything(cuda: FakeCuda) -> None:
    before = cuda.memory_info().free_bytes
    with GpuStream(cuda) as stream, GpuBuffer(cuda, (8, 7), np.float32, shared=False) as buffer:
        buffer.upload(np.zeros((8, 7), np.float32), stream)
        buffer.at(0)
    assert cuda.memory_info().free_bytes == before
