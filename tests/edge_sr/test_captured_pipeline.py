"""The pipeline where work can be captured: one launch a batch, slots that overlap, the same images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sr.backends.fake import FakeBackend
from edge_sr.bundle import Bundle
from edge_sr.cuda.fake import ORIN_NANO, FakeCuda
from edge_sr.errors import BackendError
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from tests.edge_sr.test_trt import Desk
from tests.fakes import tiny_image, write_tiny_bundle

BIG = (60, 44)  # several tiles


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def desk(bundle: Bundle, tmp_path: Path) -> Desk:
    desk = Desk(tmp_path, bundle)
    desk.build()
    return desk


@pytest.fixture
def upscaler(desk: Desk) -> Iterator[Upscaler]:
    with Upscaler(desk.bundle, desk.backend(), precision=Precision.FP32, batch=2) as opened:
        yield opened


@pytest.mark.parametrize("preset", ["even", "odd", "noisy", "multistep", "mean"])
def test_captured_loops_in_two_slots_give_the_same_image(
    upscaler: Upscaler, bundle: Bundle, preset: str
) -> None:
    how = bundle.diffusion.presets[preset]
    with Upscaler(bundle, FakeBackend(), precision=Precision.FP32, batch=2) as plain:
        wanted = plain.upscale(tiny_image(*BIG), preset=how, seed=5)
    found = upscaler.upscale(tiny_image(*BIG), preset=how, seed=5)
    np.testing.assert_array_equal(found.mean, wanted.mean)
    assert upscaler.notes == []


def test_a_batch_is_one_launch(upscaler: Upscaler, desk: Desk, bundle: Bundle) -> None:
    how = bundle.diffusion.presets["noisy"]
    upscaler.upscale(tiny_image(*BIG), preset=how, seed=0)
    before = len(desk.cuda.asked)
    upscaler.upscale(tiny_image(*BIG), preset=how, seed=1)
    kinds = [o.kind for o in desk.cuda.asked[before:]]
    batches = -(-len(upscaler.grid(*BIG)) // 2)
    assert kinds.count("launch") == batches
    assert "kernel" not in kinds
    assert "allocate" not in kinds


def test_the_next_batch_is_launched_before_the_last_is_waited_for(
    upscaler: Upscaler, desk: Desk, bundle: Bundle
) -> None:
    how = bundle.diffusion.presets["even"]
    upscaler.upscale(tiny_image(*BIG), preset=how, seed=0)
    before = len(desk.cuda.asked)
    upscaler.upscale(tiny_image(*BIG), preset=how, seed=1)
    launches = [i for i, o in enumerate(desk.cuda.asked) if i >= before and o.kind == "launch"]
    first, second = launches[:2]
    streams = {desk.cuda.asked[i].stream for i in (first, second)}
    waits = {o.stream for o in desk.cuda.asked[first:second] if o.kind == "synchronize"}
    assert len(streams) == 2
    assert desk.cuda.asked[first].stream not in waits


def test_stages_are_timed_inside_a_replay(upscaler: Upscaler, bundle: Bundle) -> None:
    how = bundle.diffusion.presets["even"]
    seconds = upscaler.upscale(tiny_image(), preset=how, seed=0).seconds
    assert seconds.loop > seconds.encode > 0  # the fake device's clock: one millisecond an operation
    assert seconds.decode > 0


def test_plain_enqueues_are_announced_and_give_the_same(
    bundle: Bundle, tmp_path: Path, upscaler: Upscaler
) -> None:
    how = bundle.diffusion.presets["noisy"]
    wanted = upscaler.upscale(tiny_image(*BIG), preset=how, seed=2)
    desk = Desk(tmp_path / "plain", bundle, cuda=FakeCuda(ORIN_NANO, can_capture=False))
    desk.folder.mkdir()
    desk.build()
    with Upscaler(bundle, desk.backend(), precision=Precision.FP32, batch=2) as plain:
        found = plain.upscale(tiny_image(*BIG), preset=how, seed=2)
        assert len(plain.notes) == 1
        assert "no CUDA graphs" in plain.notes[0]
    np.testing.assert_array_equal(found.mean, wanted.mean)


def test_a_loop_that_cannot_be_prepared_leaves_nothing_behind(bundle: Bundle, tmp_path: Path) -> None:
    desk = Desk(tmp_path, bundle)
    desk.build(batch=(1, 1, 2))
    free = desk.cuda.memory_info().free_bytes
    how = bundle.diffusion.presets["one"]
    with (
        Upscaler(bundle, desk.backend(), precision=Precision.FP32, batch=3) as upscaler,
        pytest.raises(BackendError, match="batches of 1 to 2"),
    ):
        upscaler.upscale(tiny_image(*BIG), preset=how, seed=0)
    assert desk.cuda.memory_info().free_bytes == free
