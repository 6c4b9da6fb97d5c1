"""The self-test passes on what is right and fails on what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.cuda import DeviceFacts
from edge_sr.cuda.fake import ORIN_NANO, RTX_CARD, FakeCuda
from edge_sr.errors import BackendError, BundleError, EngineError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import Check, check_engine, check_graph, measure_golden, run_selftest
from edge_sr.spec import Component, Precision
from tests.edge_sr import trees
from tests.edge_sr.test_trt import Desk
from tests.fakes import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "tiny")


def open_upscaler(bundle: Bundle, backend: str = "onnxruntime") -> Upscaler:
    return Upscaler(bundle, open_backend(backend, threads=1), precision=Precision.FP32)


def test_the_right_runtime_passes_and_reports_every_stage(bundle: Bundle) -> None:
    with open_upscaler(bundle) as upscaler:
        outcome = run_selftest(upscaler)
    assert outcome.passed
    assert {check.name.partition(":")[0] for check in outcome.checks} == {"encoder", "decoder", "whole loop"}
    assert set(outcome.latency_ms) == {"encode", "loop", "decode", "host"}


def test_where_there_is_a_rail_an_image_has_its_energy(bundle: Bundle, tmp_path: Path) -> None:
    root = trees.make(trees.ORIN_NANO_JP62, tmp_path / "orin")
    with open_upscaler(bundle) as upscaler:
        assert run_selftest(upscaler, root=tmp_path / "nothing").energy is None
        energy = run_selftest(upscaler, root=root, energy_s=0.0).energy
    assert energy is not None and energy.rail == "VDD_IN"
    assert energy.mean_w == pytest.approx(7.7748) and energy.gross_j > 0
    assert energy.above_idle_j == pytest.approx(0.0, abs=1e-9)  # the tree draws the same all the time


def test_the_whole_loop_is_recorded_as_it_is_for_images(bundle: Bundle, tmp_path: Path) -> None:
    desk = Desk(tmp_path, bundle)
    desk.build()
    with Upscaler(bundle, desk.backend(), precision=Precision.FP32) as upscaler:
        run_selftest(upscaler, root=tmp_path / "nothing")
    kinds = [o.kind for o in desk.cuda.asked]
    assert kinds.count("capture") == 1
    assert kinds.count("launch") > 1


def test_a_runtime_that_computes_something_else_fails(bundle: Bundle) -> None:
    with open_upscaler(bundle, "fake") as upscaler:
        assert not run_selftest(upscaler).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_golden_file_with_values_that_are_no_numbers_never_passes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    golden = bundle.golden()
    golden["output"] = np.full_like(golden["output"], value)
    monkeypatch.setattr(bundle, "golden", lambda: golden)
    with open_upscaler(bundle) as upscaler:
        assert not run_selftest(upscaler).passed


def test_a_golden_file_that_lacks_a_tensor_is_refused_by_name(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = {name: value for name, value in bundle.golden().items() if name != "latent"}
    monkeypatch.setattr(bundle, "golden", lambda: golden)
    with open_upscaler(bundle) as upscaler, pytest.raises(BundleError, match="latent"):
        run_selftest(upscaler)


def test_an_error_that_is_no_number_does_not_pass() -> None:
    assert not Check("nan", float("nan"), 1.0).passed


@pytest.mark.parametrize("component", list(Component))
def test_one_graph_is_checked_alone_the_step_through_the_whole_loop(
    bundle: Bundle, component: Component
) -> None:
    graph = bundle.graph(component, Precision.FP32)
    with open_backend("onnxruntime", threads=1) as right, open_backend("fake") as wrong:
        assert all(check.passed for check in check_graph(right, graph, bundle))
        assert not all(check.passed for check in check_graph(wrong, graph, bundle))


def test_an_engine_is_described_in_words_or_refused(bundle: Bundle) -> None:
    graph = bundle.graph(Component.STEP, Precision.FP32)
    with open_backend("onnxruntime", threads=1) as right, open_backend("fake") as wrong:
        assert check_engine(right, graph, bundle).startswith("golden outputs within")
        with pytest.raises(
            EngineError, match=r"fp32 step .* computes something else: step: latent is off by"
        ):
            check_engine(wrong, graph, bundle)


@pytest.mark.parametrize("facts", [ORIN_NANO, RTX_CARD], ids=["mapped", "staged"])
@pytest.mark.parametrize("component", list(Component))
def test_a_graph_that_is_refused_leaves_no_memory_behind(
    bundle: Bundle, tmp_path: Path, component: Component, facts: DeviceFacts
) -> None:
    desk = Desk(tmp_path, bundle, cuda=FakeCuda(facts))
    desk.build()
    free, desk.calls.refused_run = desk.cuda.memory_info().free_bytes, 1
    with pytest.raises(BackendError, match="refused the run"):
        check_graph(desk.backend(), bundle.graph(component, Precision.FP32), bundle)
    assert (desk.cuda.memory_info().free_bytes, desk.cuda.in_flight) == (free, 0)


def test_what_is_no_number_is_refused_as_that(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = bundle.golden()
    golden["latent"] = np.full_like(golden["latent"], np.nan)
    monkeypatch.setattr(bundle, "golden", lambda: golden)
    graph = bundle.graph(Component.STEP, Precision.FP32)
    with open_backend("onnxruntime", threads=1) as backend, pytest.raises(EngineError, match="no number"):
        check_engine(backend, graph, bundle)


def test_a_precision_is_measured_by_how_far_it_moves_the_golden_image(bundle: Bundle) -> None:
    """FP32 leaves the model's own error as it is, 30 dB where none was measured; others add to it."""
    with open_upscaler(bundle) as right, open_upscaler(bundle, "fake") as wrong:
        good, bad = (measure_golden(upscaler, runs=3) for upscaler in (right, wrong))
    assert good.psnr_db == pytest.approx(30.0, abs=1e-3)
    assert bad.psnr_db < 29.0
    assert len(good.latency_ms) == 3
    assert min(good.latency_ms) > 0
