"""Every family goes the whole way: export, recording, INT8, TensorRT's compiler, the pipeline, the report."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import run
from calibration.lint import lint_paths
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Precision
from export.bundle import phantom
from tests.export.precisions import check_compiles, quantised_from
from tests.export.tiny_families import FAMILIES

IMAGES = 2
ON_CPU = (Precision.FP32, Precision.FP16, Precision.INT8)


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As `write_bundle` leaves it."""
    return FAMILIES[request.param](tmp_path_factory.mktemp("exported") / request.param)


@pytest.fixture(scope="module")
def quantised(exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In every precision, from its own recording."""
    diffusion, out = exported.manifest.diffusion, tmp_path_factory.mktemp("quantised")
    preset = diffusion.default if diffusion else None
    return quantised_from(exported, out / exported.manifest.name, preset=preset, images=IMAGES)


def test_every_precision_computes_its_golden_values_and_an_image_of_several_tiles(
    quantised: Bundle, tmp_path: Path
) -> None:
    quantised.verify()
    assert set(quantised.precisions()) == set(Precision)
    manifest = quantised.manifest
    image = np.pad(phantom(manifest.tile, manifest.channels), ((0, 0), (0, 8), (0, 0)), mode="edge")
    for precision in ON_CPU:
        with Upscaler(quantised, open_backend("onnxruntime", threads=1), precision=precision) as upscaler:
            told = run_selftest(upscaler, root=tmp_path)
            assert told.passed, told.checks
            result = upscaler.upscale(image, preset=manifest.default_preset, seed=0)
        assert result.mean.shape == tuple(
            side * factor
            for side, factor in zip(image.shape, (1, manifest.scale, manifest.scale), strict=True)
        )
        assert np.isfinite(result.mean).all()
        assert result.tiles == 2


def test_no_graph_has_what_the_oldest_runtimes_refuse(quantised: Bundle) -> None:
    assert not [report for report in lint_paths([quantised.folder]) if report.errors]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx-cu13")
def test_tensorrt_compiles_every_graph_and_finds_its_int8_as_it_was_planned(quantised: Bundle) -> None:
    check_compiles(quantised)


def test_the_judge_and_the_report_take_it(quantised: Bundle, pairs_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    common = ["--bundle", str(quantised.folder), "--pairs", str(pairs_folder), "--threads", "1"]
    for precision in ("fp32", "int8"):
        result = str(tmp_path / "results" / f"quality-{precision}")
        judged = ["--precision", precision, "--seeds", "1", "--limit", "1", "--out", result]
        assert run(["quality", *common, *judged]) in (0, 1)  # 1: random weights miss the targets
    out = tmp_path / "report.html"
    assert run(["report", *common, "--results", str(tmp_path / "results"), "--out", str(out)]) == 0
    told = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert told.startswith(f"# {quantised.manifest.name} {quantised.manifest.version}: what was measured")
    assert "How good are the images?** **Not measured" not in told
