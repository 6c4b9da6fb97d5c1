"""Models side by side: on the same images and noise, in turns, and which does as well in less."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.models import ModelsResult, Request, run_models
from benchmarks.models_report import models_picture, models_report
from benchmarks.records import save
from benchmarks.rows import BICUBIC, HR, MODEL, Track
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, UsageError
from tests.fakes import write_tiny_bundle


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("latent") / "a:b@c"
    return write_tiny_bundle(folder, tile=64, precisions=("fp32", "fp16"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("plain") / "plain", family="regression", tile=64)


@pytest.fixture(scope="module")
def preset(latent: Bundle) -> str:
    """One that is not the default."""
    return next(name for name in latent.diffusion.presets if name != latent.diffusion.default)


@pytest.fixture(scope="module")
def result(latent: Bundle, plain: Bundle, preset: str, pairs_folder: Path) -> ModelsResult:
    models = (f"{latent.folder}", f"{latent.folder}:{preset}@fp16", f"{plain.folder}")
    request = Request(models, pairs_folder, rounds=3, seeds=2, threads=1)
    return run_models(request, arguments=["models"], track=lambda items, what: items)


def test_every_model_is_a_row_in_the_order_given_and_held_against_the_first(
    result: ModelsResult, latent: Bundle, plain: Bundle, preset: str
) -> None:
    rows = result.scores.rows
    assert [row.key for row in rows] == [HR, BICUBIC, MODEL, "model-2", "model-3"]
    assert [model.row for model in result.models] == [MODEL, "model-2", "model-3"]
    assert rows[2].preset == latent.manifest.default_preset
    assert rows[3].preset == latent.diffusion.presets[preset]
    assert [row.label for row in rows[2:]] == ["tiny, FP32", f"tiny, {preset}, FP16", "tiny, FP32"]
    assert [model.bundle.precision for model in result.models] == ["fp32", "fp16", "fp32"]
    assert rows[4].preset is None and rows[4].note == "one pass"
    assert [len(row.values["psnr_db"]) for row in rows[2:]] == [2, 2, 1]  # nothing is drawn in one pass
    assert [model.bundle.digest for model in result.models] == [latent.digest, latent.digest, plain.digest]
    change = rows[4].statistics["psnr_db"].mean - rows[2].statistics["psnr_db"].mean
    assert rows[4].versus[MODEL]["psnr_db"].mean == pytest.approx(change)


def test_all_are_timed_in_turns_and_weighed(result: ModelsResult) -> None:
    first, second, third = result.models
    assert {len(model.timing.seconds) for model in result.models} == {3}
    assert first.ratio is None
    assert third.ratio is not None and third.ratio.mean == pytest.approx(
        third.timing.median / first.timing.median
    )
    assert min(first.peak_bytes, second.peak_bytes) > first.graph_bytes > 0


def test_what_does_as_well_in_less_is_the_fastest_of_those_no_worse(result: ModelsResult) -> None:
    rows = {row.key: row for row in result.scores.rows}
    seconds = {model.row: model.timing.median for model in result.models}
    psnr = {key: rows[key].statistics["psnr_db"].mean for key in seconds}
    for model in result.models:
        able = [key for key in seconds if psnr[key] >= psnr[model.row]]
        assert model.as_good == min(able, key=lambda key: seconds[key])


def test_the_report_names_every_model_and_who_does_as_well(result: ModelsResult) -> None:
    text = models_report(result)
    for row in result.scores.rows[1:]:
        assert row.label in text
    beaten = [model for model in result.models if model.as_good != model.row]
    assert text.count("is at least as good") == len({model.as_good for model in beaten})
    assert text.count("of its time") == len(beaten)
    picture = cv2.imdecode(np.frombuffer(models_picture(result), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.std() > 10


def test_the_page_of_the_first_model_tells_of_the_others(
    result: ModelsResult, latent: Bundle, pairs_folder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    save(results / "models", record=result, markdown="")
    places = ["--bundle", str(latent.folder), "--pairs", str(pairs_folder), "--results", str(results)]
    assert run(["report", *places, "--threads", "1", "--out", str(tmp_path / "page.html")]) == 0
    told = (tmp_path / "page.md").read_text()
    assert "Other models on the same images" in told and "models.json" in told
    for model, row in zip(result.models, result.scores.rows[2:], strict=True):
        assert f"{row.statistics['psnr_db'].mean:.2f}" in told
        assert f"{model.peak_bytes / 2**20:.0f}" in told


def test_what_cannot_be_set_side_by_side_is_refused(
    latent: Bundle, pairs_folder: Path, tmp_path: Path, quietly: Track
) -> None:
    own, other = str(latent.folder), write_tiny_bundle(tmp_path / "other")
    for models, error, words in (
        ((own,), UsageError, "one model has nothing to stand beside"),
        ((own, f"{own}:nonsense"), UsageError, "has no preset 'nonsense'"),
        ((own, f"{own}@fp32:quick"), UsageError, "'@fp32:quick' behind .*a:b@c"),
        ((own, f"{own}@fp8"), UsageError, "no precision 'fp8'"),
        ((own, str(other.folder)), ConfigError, "has tile 16, .* has 64"),
    ):
        with pytest.raises(error, match=words):
            run_models(Request(models, pairs_folder), arguments=[], track=quietly)


def test_the_command_writes_the_three_files(
    latent: Bundle, plain: Bundle, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model", str(plain.folder), "--model", str(latent.folder)]
    few = ["--limit", "1", "--rounds", "3", "--threads", "1"]
    assert run(["models", *models, "--pairs", str(pairs_folder), *few, "--out", str(tmp_path / "name")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.json", "name.md", "name.png"]
    assert (tmp_path / "name.md").read_text() in capsys.readouterr().out
