"""Pipelines of diffusers through the whole engine: recorded, quantised, compiled, run, judged, reported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.__main__ import run as judge
from benchmarks.ladder.records import LadderResult
from benchmarks.pairs import read_pairs
from benchmarks.records import QualityResult
from calibration.__main__ import run as calibrate
from calibration.lint import lint_paths
from edge_sr.bundle import Bundle
from edge_sr.cli import run as edge_sr
from edge_sr.image import encode_png, from_unit, read_image, resize_area, split_luminance, write_atomic
from edge_sr.metrics import psnr
from edge_sr.spec import Component, Precision
from export.bundle import phantom
from tests.export.diffusers_cases import TILE

RUN = ("--backend", "onnxruntime")
IMAGES = 8  # to calibrate with: the fewest that it takes
Picture = npt.NDArray[np.uint8]


class Quantised(NamedTuple):
    """A bundle in every precision, and its naive control."""

    bundle: Bundle
    control: Bundle


def picture(seed: int, side: int) -> Picture:
    """Blobs in colour: (side, side, 3)."""
    blobs = np.roll(phantom(side, 3), side // 8 * seed, axis=1) * (0.5 + 0.06 * seed)
    return np.asarray(from_unit(blobs.transpose(1, 2, 0), 8), np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lr_64/ and hr_256/, in colour."""
    folder = tmp_path_factory.mktemp("data") / "made-up"
    for name, side in (("hr_256", 4 * TILE), ("lr_64", TILE)):
        (folder / name).mkdir(parents=True)
        for seed in range(IMAGES):
            pixels = resize_area(picture(seed, 4 * TILE), (side, side))
            write_atomic(folder / name / f"{seed}.png", encode_png(pixels, text={}))
    return folder


@pytest.fixture(scope="module", params=["ldm", pytest.param("upscaler", marks=pytest.mark.slow)])
def made(request: pytest.FixtureRequest, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantised:
    """Recorded and quantised by the commands that a user types."""
    bundle, folder = request.getfixturevalue(request.param).bundle, tmp_path_factory.mktemp("made")
    seen = ("--bundle", bundle.folder, "--images", pairs / "lr_64", "--out", folder / "seen.npz")
    assert calibrate(["record", *map(str, seen)]) == 0
    given = ("--bundle", bundle.folder, "--recording", folder / "seen.npz", "--out")
    naive = ("--method", "minmax", "--no-exclusions")
    assert calibrate(["quantize", *map(str, given), str(folder / "own")]) == 0
    assert calibrate(["quantize", *map(str, given), str(folder / "naive"), *naive]) == 0
    return Quantised(Bundle.open(folder / "own"), Bundle.open(folder / "naive"))


def test_its_graphs_are_lint_free_in_every_precision(made: Quantised) -> None:
    assert set(made.bundle.precisions()) == set(Precision)
    assert not [report for report in lint_paths([made.bundle.folder]) if report.errors]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx-cu13")
@pytest.mark.parametrize("precision", list(Precision), ids=str)
def test_tensorrt_compiles_every_graph(made: Quantised, precision: Precision) -> None:
    from calibration.trt_verdict import judge_graph, open_rtx

    library = open_rtx()
    for component in (Component.STEP, Component.DECODER):
        verdict = judge_graph(made.bundle.graph(component, precision), library, made.bundle.manifest)
        assert verdict.is_good, verdict.findings


def test_a_picture_in_colour_is_enlarged_in_every_precision(
    made: Quantised, pairs: Path, tmp_path: Path
) -> None:
    outputs = {}
    for precision in ("fp32", "fp16", "int8"):
        out = tmp_path / f"{precision}.png"
        given = (pairs / "lr_64/0.png", "-o", out, "--bundle", made.bundle.folder)
        assert edge_sr(["upscale", *map(str, given), *RUN, "--precision", precision]) == 0
        outputs[precision] = read_image(out).pixels.astype(np.float32)
    assert outputs["fp32"].shape == (4 * TILE, 4 * TILE, 3)
    errors = {p: float(np.sqrt(np.mean((outputs[p] - outputs["fp32"]) ** 2))) for p in ("fp16", "int8")}
    # In gray levels. With random weights a rounding is as large as anywhere, and of 64 random entries a
    # codebook makes jumps of it; so of the VQ model it is asked alone that INT8 still makes that picture.
    has_codebook = made.bundle.latent.channels == 3
    assert errors["fp16"] < 2
    assert 0 < errors["int8"] < (0.7 * outputs["fp32"].std() if has_codebook else 10)


def test_quality_and_the_ladder_judge_it_and_the_report_tells_of_both(
    made: Quantised, pairs: Path, tmp_path: Path
) -> None:
    own = ("--bundle", str(made.bundle.folder))
    few, results = ("--limit", "2", "--seeds", "2", "--threads", "1"), tmp_path / "results"
    results.mkdir()
    quality_of = ["--pairs", str(pairs), "--out", str(results / "quality")]
    assert judge(["quality", *own, *quality_of, *few]) == 0
    costs = ["--control", str(made.control.folder), "--data", str(pairs), "--out", str(results / "ladder")]
    assert judge(["ladder", *own, *costs, *few, "--rounds", "3"]) == 0
    page = ["--pairs", str(pairs), "--results", str(results), "--out", str(tmp_path / "report.html")]
    assert judge(["report", *own, *page, "--threads", "1"]) == 0

    quality = QualityResult.model_validate_json((results / "quality.json").read_text())
    ladder = LadderResult.model_validate_json((results / "ladder.json").read_text())
    assert [row.key for row in quality.rows] == ["hr", "bicubic", "model", "one-step"]
    assert [row.key for row in ladder.rows] == ["fp32", "fp16", "int8", "naive"]
    assert set(ladder.row("int8").file_bytes) == {"step", "decoder"}
    assert not any("autoencoder" in notice or "latent" in notice for notice in quality.notices)
    told = (tmp_path / "report.md").read_text()
    assert f"{quality.rows[2].statistics['psnr_db'].mean:.2f}" in told
    assert "quality.json" in told and "ladder.json" in told


def test_what_is_judged_is_the_luminance_of_what_the_command_line_writes(
    made: Quantised, pairs: Path, tmp_path: Path
) -> None:
    own = ("--bundle", str(made.bundle.folder))
    said = ("--pairs", str(pairs), "--out", str(tmp_path / "quality"))
    assert judge(["quality", *own, *said, "--limit", "1", "--seeds", "1", "--threads", "1"]) == 0
    out = tmp_path / "large.png"
    words = ("-o", str(out), "--precision", "fp32", "--seed", "0")
    assert edge_sr(["upscale", str(pairs / "lr_64/0.png"), *own, *words, *RUN]) == 0
    truth = read_pairs(pairs, made.bundle, limit=1).hr_pixels[0]
    wanted = psnr(split_luminance(read_image(out).pixels)[0], truth)
    quality = QualityResult.model_validate_json((tmp_path / "quality.json").read_text())
    model = next(row for row in quality.rows if row.key == "model")
    # Another number of threads sums in another order: single pixels differ by one gray level.
    assert model.values["psnr_db"][0][0] == pytest.approx(wanted, abs=0.01)
