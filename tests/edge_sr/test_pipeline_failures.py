"""A loop that fails half way: nothing stays open, nothing is freed under the device, and it may go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.backends.fake import FakeBackend, FakeEngine
from edge_sr.bundle import Bundle
from edge_sr.cuda import DeviceFacts
from edge_sr.cuda.fake import ORIN_NANO, RTX_CARD, FakeCuda
from edge_sr.errors import BackendError, BundleError
from edge_sr.pipeline import TileEngine, Upscaler, make_schedule
from edge_sr.spec import Component, Graph, Precision
from tests.edge_sr.test_trt import Desk
from tests.fakes import tiny_image, write_tiny_bundle

Float = npt.NDArray[np.float32]

BIG = (60, 44)  # several batches of two tiles
RUNS = 1 + 4 + 1  # an encode, the four steps of "even", a decode

memory = pytest.mark.parametrize("facts", [ORIN_NANO, RTX_CARD], ids=["mapped", "staged"])


class Remembering(FakeBackend):
    """Refuses one component, and remembers what it loaded and whether it was closed."""

    def __init__(self, refused: Component | None = None) -> None:
        super().__init__()
        self.refused, self.loaded, self.times_closed = refused, list[FakeEngine](), 0

    def load(self, graph: Graph) -> FakeEngine:
        if graph.component is self.refused:
            raise BackendError(f"no room for the {graph.component}")
        self.loaded.append(super().load(graph))
        return self.loaded[-1]

    def close(self) -> None:
        self.times_closed += 1


def are_closed(engines: list[FakeEngine]) -> bool:
    for engine in engines:
        with pytest.raises(BackendError, match="closed"):
            engine.bind({})
    return True


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def built(folder: Path, bundle: Bundle, facts: DeviceFacts, *, can_capture: bool = False) -> Desk:
    desk = Desk(folder, bundle, cuda=FakeCuda(facts, can_capture=can_capture))
    desk.build()
    return desk


def opened(desk: Desk) -> Upscaler:
    return Upscaler(desk.bundle, desk.backend(), precision=Precision.FP32, batch=2)


# ---- an upscaler that cannot be made


@pytest.mark.parametrize("refused", list(Component))
def test_a_graph_that_is_refused_closes_those_before_it(bundle: Bundle, refused: Component) -> None:
    backend = Remembering(refused)
    with pytest.raises(BackendError, match=f"no room for the {refused}"):
        Upscaler(bundle, backend, precision=Precision.FP32)
    assert len(backend.loaded) == list(Component).index(refused)
    assert are_closed(backend.loaded)
    assert backend.times_closed == 1


def test_a_damaged_time_embedding_closes_every_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, backend = write_tiny_bundle(tmp_path / "tiny"), Remembering()
    (bundle.folder / "time_embedding.npy").write_bytes(b"no array")
    with pytest.raises(BundleError):
        Upscaler(bundle, backend, precision=Precision.FP32)
    assert len(backend.loaded) == 3 and are_closed(backend.loaded)
    assert backend.times_closed == 1


@memory
def test_a_loop_that_finds_no_memory_gives_back_what_it_took(
    bundle: Bundle, tmp_path: Path, facts: DeviceFacts
) -> None:
    """Every allocation of the loop is refused once, in turn; a stream or mark left open would warn."""
    how = bundle.diffusion.presets["noisy"]
    refusals = 0
    for limit in range(0, 64 << 10, 2 << 10):
        desk = Desk(tmp_path, bundle, cuda=FakeCuda(facts, can_capture=False, limit_bytes=limit))
        desk.build()
        with opened(desk) as upscaler:
            try:
                upscaler.tile_engine(how, 2)
            except BackendError:
                refusals += 1
                assert desk.cuda.memory_info().free_bytes == limit
    assert refusals > 5


def test_a_loop_that_cannot_be_recorded_is_not_kept(bundle: Bundle, tmp_path: Path) -> None:
    desk = built(tmp_path, bundle, ORIN_NANO, can_capture=True)
    how = bundle.diffusion.presets["even"]
    with opened(desk) as upscaler:
        desk.calls.refused_run = 1
        with pytest.raises(BackendError, match="refused the run"):
            upscaler.tile_engine(how, 1)
        desk.calls.refused_run = 0
        before = len(desk.cuda.asked)
        upscaler.upscale(tiny_image(), preset=how, seed=0)
        assert "capture" in {o.kind for o in desk.cuda.asked[before:]}
        assert upscaler.notes == []


# ---- a batch that fails while another is under way


@memory
@pytest.mark.parametrize("run", [0, 1, RUNS - 1], ids=["encode", "first step", "decode"])
def test_a_refused_batch_leaves_none_under_way_and_the_next_image_is_right(
    bundle: Bundle, tmp_path: Path, facts: DeviceFacts, run: int
) -> None:
    desk, how = built(tmp_path, bundle, facts), bundle.diffusion.presets["even"]
    with Upscaler(bundle, FakeBackend(), precision=Precision.FP32, batch=2) as plain:
        wanted = plain.upscale(tiny_image(*BIG), preset=how, seed=4).mean
    with opened(desk) as upscaler:
        upscaler.upscale(tiny_image(*BIG), preset=how, seed=3)
        desk.calls.refused_run = len(desk.calls.enqueues) + RUNS + run + 1  # the first batch is under way
        with pytest.raises(BackendError, match="refused the run"):
            upscaler.upscale(tiny_image(*BIG), preset=how, seed=4)
        assert desk.cuda.in_flight == 0
        found = upscaler.upscale(tiny_image(*BIG), preset=how, seed=4).mean
    np.testing.assert_array_equal(found, wanted)


@memory
def test_closing_waits_for_what_is_under_way(bundle: Bundle, tmp_path: Path, facts: DeviceFacts) -> None:
    """The fake device refuses work on memory that was freed before it ran."""
    desk, how = built(tmp_path, bundle, facts), bundle.diffusion.presets["even"]
    out = np.zeros((1, 1, 64, 64), np.float32)
    with opened(desk) as upscaler:
        loop = upscaler.tile_engine(how, 1)
        loop.submit(tiny_image()[None], *noise(loop), out)
    assert desk.cuda.in_flight == 0
    assert np.any(out)


def noise(loop: TileEngine) -> tuple[Float, Float]:
    shape = loop.latent_shape
    return np.ones(shape, np.float32), np.ones((len(loop.noisy_steps), *shape), np.float32)


@memory
def test_a_device_that_has_failed_does_not_hide_the_error_when_it_is_closed(
    bundle: Bundle, tmp_path: Path, facts: DeviceFacts
) -> None:
    desk, how = built(tmp_path, bundle, facts), bundle.diffusion.presets["even"]
    with pytest.raises(BackendError, match="the first error"), opened(desk) as upscaler:
        loop = upscaler.tile_engine(how, 1)
        loop.submit(tiny_image()[None], *noise(loop), np.zeros((1, 1, 64, 64), np.float32))
        loop.buffers["x0"].close()  # what is under way now fails, as at any address that is not there
        raise BackendError("the first error")
    assert desk.cuda.memory_info().free_bytes == desk.cuda.memory_info().total_bytes


@memory
def test_work_that_fails_unseen_is_an_error_when_it_is_closed(
    bundle: Bundle, tmp_path: Path, facts: DeviceFacts
) -> None:
    desk, how = built(tmp_path, bundle, facts), bundle.diffusion.presets["even"]
    upscaler = opened(desk)
    loop = upscaler.tile_engine(how, 1)
    loop.submit(tiny_image()[None], *noise(loop), np.zeros((1, 1, 64, 64), np.float32))
    loop.buffers["x0"].close()
    with pytest.raises(BackendError, match="not allocated"):
        upscaler.close()
    assert desk.cuda.memory_info().free_bytes == desk.cuda.memory_info().total_bytes


def test_a_loop_is_closed_once(bundle: Bundle, tmp_path: Path) -> None:
    desk, how = built(tmp_path, bundle, ORIN_NANO), bundle.diffusion.presets["even"]
    with opened(desk) as upscaler:
        engines, schedule = upscaler.engines, make_schedule(bundle, how)
        embedding = bundle.time_embedding()
        loop = TileEngine(desk.backend(), engines, schedule=schedule, batch=1, embedding=embedding)
        loop.close()
        before = len(desk.cuda.asked)
        loop.close()
        assert len(desk.cuda.asked) == before
