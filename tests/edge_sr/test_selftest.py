"""The self-test passes on what is right and fails on what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import Check, run_selftest
from edge_sr.spec import Precision
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
