"""A shared batch of bundles that lack stages: nobody's pixels or latents end up in another row."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.backends import open_backend
from edge_sr.backends.fake import FakeBackend
from edge_sr.bundle import Bundle
from edge_sr.cuda.fake import ORIN_NANO, FakeCuda
from edge_sr.manifest import Preset
from edge_sr.pipeline import InFlight, Output, Upscaler
from edge_sr.spec import Precision
from tests.edge_sr.test_trt import Desk
from tests.fakes import PRESETS, tiny_image, write_tiny_bundle

TOLERANCE = 2e-5  # float32, five steps deep; images are of magnitude 1
ABSENT = ("pixel", "bare", "regression")
# Of different lengths, so that those who sit last move to rows that have become free.
ASKED = (
    ((16, 16), "one"),
    ((21, 44), "ancestral"),
    ((5, 20), "multistep"),
    ((16, 28), "even"),
    ((9, 9), "odd"),
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return {family: write_tiny_bundle(folder / family, family=family) for family in ABSENT}


def preset(bundle: Bundle, name: str) -> Preset | None:
    return Preset.model_validate(PRESETS[name]) if bundle.manifest.diffusion else None


def alone(bundle: Bundle, backend: Any, number: int) -> Output:
    size, name = ASKED[number]
    with Upscaler(bundle, backend, precision=Precision.FP32) as engine:
        return engine.upscale(tiny_image(*size, seed=number), preset=preset(bundle, name), seed=number)


def together(bundle: Bundle, backend: Any, *, batch: int) -> list[Output]:
    """All of them at once, in threads."""
    came = threading.Semaphore(0)
    with (
        ThreadPoolExecutor(len(ASKED)) as threads,
        Upscaler(bundle, backend, precision=Precision.FP32, batch=batch) as upscaler,
        InFlight(upscaler, wake=came.release) as shared,
    ):
        answers = [
            threads.submit(
                shared.place(lambda: True).upscale,
                tiny_image(*size, seed=number),
                preset=preset(bundle, name),
                seed=number,
            )
            for number, (size, name) in enumerate(ASKED)
        ]
        while not all(answer.done() for answer in answers):
            if not shared.advance():
                came.acquire(timeout=0.01)
        return [answer.result() for answer in answers]


@pytest.mark.parametrize("backend", ["onnxruntime", "fake"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", ABSENT)
def test_images_share_a_batch_and_none_is_changed_by_it(
    bundles: dict[str, Bundle], family: str, batch: int, backend: str
) -> None:
    bundle = bundles[family]
    found = together(bundle, open_backend(backend, threads=1), batch=batch)
    for number, output in enumerate(found):
        wanted = alone(bundle, open_backend(backend, threads=1), number)
        tolerance = TOLERANCE if backend == "onnxruntime" and batch > 1 else 0
        np.testing.assert_allclose(output.mean, wanted.mean, rtol=0, atol=tolerance)
        assert output.tiles == wanted.tiles


@pytest.mark.parametrize("family", ABSENT)
def test_a_gpu_gives_the_same_whatever_is_recorded(
    bundles: dict[str, Bundle], family: str, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, bundles[family], cuda=FakeCuda(ORIN_NANO))
    desk.build()
    found = together(bundles[family], desk.backend(), batch=3)
    for number, output in enumerate(found):
        np.testing.assert_array_equal(output.mean, alone(bundles[family], FakeBackend(), number).mean)


def test_a_plain_network_runs_once_for_as_many_tiles_as_fit(bundles: dict[str, Bundle]) -> None:
    backend = FakeBackend()
    with (
        Upscaler(bundles["regression"], backend, precision=Precision.FP32, batch=4) as upscaler,
        InFlight(upscaler) as shared,
    ):
        output = shared.own_place().upscale(tiny_image(21, 44), preset=None, seed=0)
    assert (output.tiles, backend.runs) == (8, 2)
    assert output.seconds.encode == output.seconds.loop == 0
