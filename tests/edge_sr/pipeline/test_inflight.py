"""Images that share the steps of one batch: each is what it would be alone, whoever comes, goes or fails."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.backends import open_backend
from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.host import HostStream
from edge_sr.bundle import Bundle
from edge_sr.cascade import enlarge, plan_scale
from edge_sr.cuda.fake import ORIN_NANO, FakeCuda
from edge_sr.errors import BackendError, ScheduleError, UsageError
from edge_sr.manifest import Preset
from edge_sr.pipeline import InFlight, Output, Upscaler
from edge_sr.pipeline.place import Place
from edge_sr.pipeline.rows import BatchRows
from edge_sr.spec import Component, Precision
from tests.edge_sr.test_trt import Desk
from tests.fakes import PRESETS, tiny_image, write_tiny_bundle

Float = npt.NDArray[np.float32]
Asked = tuple[tuple[int, int], str, int]  # height and width, preset, seed

TOLERANCE = 2e-5  # float32, five steps and three graphs deep; images are of magnitude 1
OPTIONS: dict[str, dict[str, Any]] = {"onnxruntime": {"threads": 1}, "fake": {}}
PATIENCE_S = 30
MIXED: tuple[Asked, ...] = (
    ((16, 16), "even", 1),
    ((21, 44), "ancestral", 2),
    ((16, 16), "multistep", 3),
    ((5, 20), "mean", 4),
    ((30, 16), "noisy", 5),
    ((16, 16), "one", 6),
    ((16, 28), "late", 7),
    ((16, 16), "quiet", 8),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(params=list(OPTIONS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def preset(name: str, **changes: Any) -> Preset:
    return Preset.model_validate(PRESETS[name] | changes)


@contextmanager
def sharing(bundle: Bundle, backend: Any = None, **options: Any) -> Iterator[InFlight]:
    """`options`: batch, 3 by default, and wake."""
    opened, batch = backend or FakeBackend(), options.pop("batch", 3)
    with (
        Upscaler(bundle, opened, precision=Precision.FP32, batch=batch) as upscaler,
        InFlight(upscaler, **options) as shared,
    ):
        yield shared


def alone(bundle: Bundle, asked: Asked, backend: str = "fake") -> Output:
    """The image by an engine of its own, tile by tile."""
    size, name, seed = asked
    with Upscaler(bundle, open_backend(backend, **OPTIONS[backend]), precision=Precision.FP32) as engine:
        return engine.upscale(tiny_image(*size, seed=seed), preset=preset(name), seed=seed)


def ask(place: Place, asked: Asked) -> Output:
    size, name, seed = asked
    return place.upscale(tiny_image(*size, seed=seed), preset=preset(name), seed=seed)


class Crowd:
    """Threads with an image each. Nothing moves but when it is told to: it can be watched step by step."""

    def __init__(self, shared: InFlight, threads: ThreadPoolExecutor, came: threading.Semaphore) -> None:
        self.shared, self._threads, self._came = shared, threads, came

    def enter(self, asked: Asked, *, is_awaited: Callable[[], bool] = lambda: True, tiles: int = 1) -> Any:
        """Begins an image, and waits until so many of its tiles are queued."""
        answer = self._threads.submit(ask, self.shared.place(is_awaited), asked)
        for _ in range(tiles):
            assert self._came.acquire(timeout=PATIENCE_S)
        return answer

    def enter_image(self, image: Float, name: str) -> Any:
        """Begins an image of one tile, and waits until it is queued."""
        place = self.shared.place(lambda: True)
        answer = self._threads.submit(place.upscale, image, preset=preset(name), seed=1)
        assert self._came.acquire(timeout=PATIENCE_S)
        return answer

    def advance_until(self, *answers: Any) -> None:
        while not all(answer.done() for answer in answers):
            if not self.shared.advance():
                self._came.acquire(timeout=0.01)


@contextmanager
def crowded(bundle: Bundle, backend: Any = None, *, batch: int = 3) -> Iterator[Crowd]:
    came = threading.Semaphore(0)
    with (
        ThreadPoolExecutor(16) as threads,
        sharing(
            bundle, backend, batch=batch, wake=came.release
        ) as shared,  # closed first, so that threads end
    ):
        yield Crowd(shared, threads, came)


# ---- the right result


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_one_image_alone_is_what_an_upscaler_makes(
    bundle: Bundle, backend: str, name: str, batch: int
) -> None:
    asked = ((21, 30), name, 9)
    wanted = alone(bundle, asked, backend)
    with sharing(bundle, open_backend(backend, **OPTIONS[backend]), batch=batch) as shared:
        found = ask(shared.own_place(), asked)
    assert found.tiles == wanted.tiles
    for ours, theirs in ((found.mean, wanted.mean), (found.std, wanted.std)):
        if batch == 1 or backend == "fake":
            np.testing.assert_array_equal(ours, theirs)
        elif theirs is not None and ours is not None:  # another kernel for another batch
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 40])
def test_images_of_all_sizes_samplers_and_seeds_share_a_batch_and_none_is_changed_by_it(
    bundle: Bundle, backend: str, batch: int
) -> None:
    with crowded(bundle, open_backend(backend, **OPTIONS[backend]), batch=batch) as crowd:
        answers = [crowd.enter(asked) for asked in MIXED]
        crowd.advance_until(*answers)
    for asked, answer in zip(MIXED, answers, strict=True):
        wanted, found = alone(bundle, asked, backend), answer.result()
        tolerance = TOLERANCE if backend == "onnxruntime" and batch > 1 else 0
        np.testing.assert_allclose(found.mean, wanted.mean, rtol=0, atol=tolerance)
        assert (found.std is None) == (wanted.std is None)
        if found.std is not None and wanted.std is not None:
            np.testing.assert_allclose(found.std, wanted.std, rtol=0, atol=tolerance)


def test_an_image_that_joins_later_is_at_another_step_and_is_not_changed_by_it(bundle: Bundle) -> None:
    first, second = ((16, 16), "ancestral", 1), ((16, 16), "multistep", 2)
    with crowded(bundle, batch=2) as crowd:
        one = crowd.enter(first)
        assert crowd.shared.advance()
        assert crowd.shared.advance()
        two = crowd.enter(second)
        assert crowd.shared.advance()
        assert crowd.shared.seated == 2
        crowd.advance_until(one, two)
    np.testing.assert_array_equal(one.result().mean, alone(bundle, first).mean)
    np.testing.assert_array_equal(two.result().mean, alone(bundle, second).mean)


def test_samples_share_a_batch(bundle: Bundle) -> None:
    backend = FakeBackend()
    with sharing(bundle, backend, batch=3) as shared:
        ask(shared.own_place(), ((16, 16), "mean", 1))
    assert backend.runs == 1 + 3 + 1  # encode, three steps, decode, of three samples each


def test_a_batch_makes_as_few_calls_as_can_be(bundle: Bundle) -> None:
    backend = FakeBackend()
    with crowded(bundle, backend, batch=4) as crowd:
        answers = [crowd.enter(((16, 16), "even", seed)) for seed in range(4)]
        crowd.advance_until(*answers)
    assert backend.runs == 1 + 4 + 1


def test_every_pass_and_reduction_of_another_scale_goes_through_the_batch(bundle: Bundle) -> None:
    how, plan = preset("even", samples=2), plan_scale(6, bundle.manifest.scale)
    with Upscaler(bundle, FakeBackend(), precision=Precision.FP32) as engine:
        wanted = enlarge(engine, tiny_image(), plan=plan, preset=how, seed=3)
    with sharing(bundle) as shared:
        found = enlarge(shared.own_place(), tiny_image(), plan=plan, preset=how, seed=3)
    np.testing.assert_array_equal(found.mean, wanted.mean)


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e30])
def test_a_neighbour_that_overflows_is_not_seen_in_the_batch_nor_after_it(
    bundle: Bundle, backend: str, bad: float
) -> None:
    images = [tiny_image(seed=1), np.full((1, 16, 16), bad, np.float32), tiny_image(seed=2)]
    with (
        np.errstate(all="ignore"),
        crowded(bundle, open_backend(backend, **OPTIONS[backend]), batch=2) as crowd,
    ):
        answers = [crowd.enter_image(image, "multistep") for image in images]
        crowd.advance_until(*answers)
    with Upscaler(bundle, open_backend(backend, **OPTIONS[backend]), precision=Precision.FP32) as engine:
        for image, answer in zip(images[::2], answers[::2], strict=True):
            wanted = engine.upscale(image, preset=preset("multistep"), seed=1).mean
            np.testing.assert_allclose(answer.result().mean, wanted, rtol=0, atol=TOLERANCE)


def test_the_shares_of_a_batch_add_up_to_what_the_device_did(bundle: Bundle, tmp_path: Path) -> None:
    desk = Desk(tmp_path, bundle)  # its clock: one millisecond an operation
    desk.build()
    with crowded(bundle, desk.backend(), batch=2) as crowd:
        answers = [crowd.enter(((16, 16), "even", seed)) for seed in (1, 2)]
        crowd.advance_until(*answers)
        spent = [answer.result().seconds for answer in answers]
    assert spent[0].loop == pytest.approx(spent[1].loop)
    assert spent[0].encode > 0
    assert spent[0].decode > 0


# ---- fairness


def test_a_small_image_passes_a_large_one(bundle: Bundle) -> None:
    with crowded(bundle, batch=2) as crowd:
        large = crowd.enter(((60, 60), "even", 1), tiles=4)
        crowd.shared.advance()
        small = crowd.enter(((16, 16), "even", 2))
        crowd.advance_until(small)
        assert not large.done()
        crowd.advance_until(large)
    np.testing.assert_array_equal(large.result().mean, alone(bundle, ((60, 60), "even", 1)).mean)


def test_an_image_hands_in_no_more_tiles_than_twice_fill_the_batch(bundle: Bundle) -> None:
    out: list[int] = []  # tiles that were handed in and not waited for, as each one is handed in

    def hand_in(_: Any, tile: Any) -> None:
        out.append((out[-1] if out else 0) + 1)

    def wait(_: Any) -> Float:
        out[-1] -= 1
        return np.zeros((1, 64, 64), np.float32)

    with sharing(bundle, batch=3) as shared:
        place = Place(shared.upscaler, queue=hand_in, wait=wait, is_awaited=lambda: True)
        tiles = place.upscale(tiny_image(60, 60), preset=preset("mean"), seed=1).tiles
    assert len(out) == 3 * tiles
    assert max(out) <= 6


# ---- going away


def test_an_image_that_nobody_awaits_leaves_at_the_next_step(bundle: Bundle) -> None:
    gone, here = threading.Event(), ((16, 28), "ancestral", 3)
    backend = FakeBackend()
    with crowded(bundle, backend, batch=4) as crowd:
        left = crowd.enter(((60, 60), "even", 1), is_awaited=lambda: not gone.is_set(), tiles=8)
        crowd.shared.advance()
        stays = crowd.enter(here, tiles=2)
        gone.set()
        crowd.shared.advance()
        assert crowd.shared.seated == 2
        with pytest.raises(CancelledError):
            left.result(PATIENCE_S)
        crowd.advance_until(stays)
    np.testing.assert_array_equal(stays.result().mean, alone(bundle, here).mean)


def test_an_image_that_fails_on_its_own_takes_its_tiles_with_it(bundle: Bundle) -> None:
    def wait(_: Any) -> Float:
        raise MemoryError  # as blending may

    with sharing(bundle, batch=1) as shared:
        place = Place(shared.upscaler, queue=shared.hand_in, wait=wait, is_awaited=lambda: True)
        with pytest.raises(MemoryError):
            ask(place, ((16, 28), "even", 0))
        assert shared.has_work
        assert not shared.advance()
        assert not shared.has_work


def test_closing_tells_everybody_who_waits_and_everybody_who_comes(bundle: Bundle) -> None:
    with crowded(bundle, batch=1) as crowd:
        answers = [crowd.enter(((16, 16), "even", seed)) for seed in range(3)]
        crowd.shared.advance()
        crowd.shared.close()
        for answer in answers:
            with pytest.raises(BackendError, match="is closed"):
                answer.result(PATIENCE_S)
        with pytest.raises(BackendError, match="is closed"):
            ask(crowd.shared.own_place(), ((16, 16), "even", 0))


# ---- failing


@pytest.mark.parametrize("runs", [0, 1, 3, 5])
def test_a_device_that_fails_fails_who_is_in_the_batch_and_serves_who_waits(
    bundle: Bundle, runs: int
) -> None:
    backend = FakeBackend(fail_after=runs)
    with crowded(bundle, backend, batch=2) as crowd:
        answers = [crowd.enter(((16, 16), "even", seed)) for seed in range(3)]
        while crowd.shared.advance() and crowd.shared.seated:
            pass  # nobody is left in a batch that failed
        failures = [answer.exception(PATIENCE_S) for answer in answers[:2]]
        backend.fail_after = None
        crowd.advance_until(answers[2])
    for failure in failures:
        assert isinstance(failure, BackendError)
        assert f"its batch failed: the fake backend was told to fail after {runs} runs" in str(failure)
        assert isinstance(failure.__cause__, BackendError)
    assert failures[0] is not failures[1]
    np.testing.assert_array_equal(answers[2].result().mean, alone(bundle, ((16, 16), "even", 2)).mean)


class Bug(FakeBackend):
    """A backend that raises what no backend should."""

    broken = False

    def stream(self) -> HostStream:
        backend = self

        class Stream(HostStream):
            def synchronize(self) -> None:
                if backend.broken:
                    raise ZeroDivisionError("in the driver")

        return Stream()


def test_whatever_is_raised_is_told_and_the_next_image_is_served(bundle: Bundle) -> None:
    backend = Bug()
    with sharing(bundle, backend, batch=2) as shared:
        backend.broken = True
        with pytest.raises(BackendError, match="its batch failed: ZeroDivisionError: in the driver"):
            ask(shared.own_place(), ((16, 28), "even", 1))
        backend.broken = False
        found = ask(shared.own_place(), ((16, 28), "even", 1))
    np.testing.assert_array_equal(found.mean, alone(bundle, ((16, 28), "even", 1)).mean)


def test_what_is_refused_alone_is_refused_here_and_touches_nobody(bundle: Bundle) -> None:
    with sharing(bundle) as shared:
        place = shared.own_place()
        with pytest.raises(UsageError, match="wanted an image of 1 channels"):
            place.upscale(np.zeros((3, 16, 16), np.float32), preset=preset("even"), seed=1)
        with pytest.raises(UsageError, match="seed"):
            place.upscale(tiny_image(), preset=preset("even"), seed=-1)
        with pytest.raises(ScheduleError, match="steps must be in"):
            place.upscale(tiny_image(), preset=preset("even", steps=21), seed=1)
        assert not shared.has_work


# ---- made once


@contextmanager
def rows_of(bundle: Bundle, backend: str, *, capacity: int) -> Iterator[BatchRows]:
    with open_backend(backend, **OPTIONS[backend]) as opened:
        engines = {c: opened.load(bundle.graph(c, Precision.FP32)) for c in Component}
        with BatchRows(opened, engines, capacity=capacity) as rows:
            yield rows


def test_a_hundred_steps_allocate_nothing_that_stays(bundle: Bundle, backend: str) -> None:
    with rows_of(bundle, backend, capacity=4) as rows:
        for _ in range(10):
            rows.step(4)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(100):
                rows.step(4)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < int(np.prod(rows.latent_shape)) * 4  # a latent: 1 KiB


def test_rows_hold_as_many_samples_as_there_is_room_for(bundle: Bundle) -> None:
    with rows_of(bundle, "fake", capacity=2) as rows:
        image, noise = tiny_image(), np.zeros(rows.latent_shape, np.float32)
        with pytest.raises(BackendError, match="no rows 1 to 3"):
            rows.join(1, [image, image], [noise, noise])


# ---- where steps are recorded


@pytest.mark.parametrize("can_capture", [True, False])
def test_recorded_steps_give_the_same_images(bundle: Bundle, tmp_path: Path, can_capture: bool) -> None:
    desk = Desk(tmp_path, bundle, cuda=FakeCuda(ORIN_NANO, can_capture=can_capture))
    desk.build()
    with crowded(bundle, desk.backend(), batch=3) as crowd:
        assert bool(crowd.shared.notes) != can_capture
        before = len(desk.cuda.asked)
        answers = [crowd.enter(asked) for asked in MIXED]
        crowd.advance_until(*answers)
        kinds = [o.kind for o in desk.cuda.asked[before:]]
    assert (kinds.count("launch") > 0) == can_capture
    for asked, answer in zip(MIXED, answers, strict=True):
        np.testing.assert_array_equal(answer.result().mean, alone(bundle, asked).mean)


def test_a_step_of_a_batch_is_one_launch_and_takes_no_memory(bundle: Bundle, tmp_path: Path) -> None:
    desk = Desk(tmp_path, bundle)
    desk.build()
    with crowded(bundle, desk.backend(), batch=3) as crowd:
        answers = [crowd.enter(((16, 16), "even", seed)) for seed in range(2)]
        crowd.shared.advance()  # the first upload of a size makes its staging
        crowd.shared.advance()
        before = len(desk.cuda.asked)
        crowd.shared.advance()
        kinds = [o.kind for o in desk.cuda.asked[before:]]
        crowd.advance_until(*answers)
    assert kinds.count("launch") == 1
    assert "kernel" not in kinds
    assert "allocate" not in kinds


def test_an_engine_for_smaller_batches_is_refused_with_how_to_build_it_and_frees_all(
    bundle: Bundle, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, bundle)
    desk.build(batch=(1, 1, 2))
    free = desk.cuda.memory_info().free_bytes
    with Upscaler(bundle, desk.backend(), precision=Precision.FP32, batch=3) as upscaler:
        with pytest.raises(BackendError, match="batches of 1 to 2") as caught:
            InFlight(upscaler)
        assert "--max-batch 3" in caught.value.hint
    assert desk.cuda.memory_info().free_bytes == free
