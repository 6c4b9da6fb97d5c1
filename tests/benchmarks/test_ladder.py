"""The ladder on a small bundle: a whole run, and one that was stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.ladder.records import LadderResult, RungResult
from benchmarks.ladder.run import Outcome, Request, run_ladder
from benchmarks.pairs import read_pairs
from benchmarks.records import to_json
from benchmarks.rows import Runner, draw_noise
from benchmarks.summary import seed_noise
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.metrics import psnr
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Component, Precision

Float = npt.NDArray[np.float32]
ROOT = Path(__file__).parents[2]
ROUNDS, SEEDS, IMAGES, STEPS = 3, 2, 2, 3


@pytest.fixture(scope="module")
def request_(quantised: Bundle, control: Bundle, pairs_folder: Path, lpips_weights: Path) -> Request:
    return Request(
        quantised.folder,
        control.folder,
        pairs_folder,
        lpips=lpips_weights,
        seeds=SEEDS,
        limit=IMAGES,
        rounds=ROUNDS,
        batch=1,
        threads=1,
    )


@pytest.fixture(scope="module")
def outcome(request_: Request, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A whole run."""
    out = tmp_path_factory.mktemp("ladder") / "name"
    return run_ladder(request_, out, arguments=["ladder"], track=lambda items, what: items)


@pytest.fixture
def record(outcome: Outcome) -> LadderResult:
    return outcome.record


def others(record: LadderResult) -> list[RungResult]:
    return [row for row in record.rows if row.key != "fp32"]


def test_the_rows_stand_in_the_ladders_order(record: LadderResult) -> None:
    assert [row.key for row in record.rows] == ["fp32", "fp16", "int8", "naive"]
    assert [row.source for row in record.rows] == ["bundle"] * 3 + ["control"]
    assert "minmax ranges, no layer left out" in record.row("naive").note


def test_the_record_reads_back_from_its_json(record: LadderResult) -> None:
    text = to_json(record)
    assert LadderResult.model_validate_json(text) == record
    assert (json.loads(text)["kind"], json.loads(text)["schema_version"]) == ("edge-sr/ladder", 1)


def test_both_bundles_are_named_with_their_digests_and_calibration(
    record: LadderResult, quantised: Bundle, control: Bundle
) -> None:
    assert (record.bundle.digest, record.control.digest) == (quantised.digest, control.digest)
    assert record.control.calibration is not None
    assert record.control.calibration.method == "minmax"


def test_raw_values_are_kept_for_every_seed_and_image(record: LadderResult) -> None:
    for row in record.rows:
        for values in row.values.values():
            assert [len(v) for v in values] == [IMAGES] * SEEDS
    for row in others(record):
        assert row.to_fp32 is not None and row.trajectory is not None
        assert set(row.to_fp32.values) == {"psnr_db", "ssim", "lpips"}
        assert np.shape(row.trajectory.rmse) == (SEEDS, IMAGES, STEPS)


def test_fp32_is_scored_on_the_images_that_the_engine_gives(
    record: LadderResult, quantised: Bundle, pairs_folder: Path
) -> None:
    pairs = read_pairs(pairs_folder, quantised, limit=IMAGES)
    with Upscaler(quantised, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        images = Runner(upscaler).sample(pairs.lr, record.preset, 1)
    wanted = [psnr(image, hr) for image, hr in zip(images, pairs.hr_pixels, strict=True)]
    # Another batch size sums in another order: single pixels differ by one gray level.
    assert record.row("fp32").values["psnr_db"][1] == pytest.approx(wanted, abs=0.01)


def test_differences_to_fp32_are_taken_image_by_image(record: LadderResult) -> None:
    base = np.mean(record.row("fp32").values["ssim"], axis=0)
    for row in others(record):
        wanted = np.mean(row.values["ssim"], axis=0) - base
        change = row.change["ssim"]
        assert change.mean == pytest.approx(wanted.mean(), abs=1e-5)  # raw values have six digits
        assert change.low <= change.mean <= change.high
        assert change.low >= wanted.min() - 1e-5
        assert change.high <= wanted.max() + 1e-5


def test_the_change_of_lpips_is_that_of_the_means(record: LadderResult) -> None:
    base = np.mean(record.row("fp32").values["lpips"])
    for row in others(record):
        assert row.lpips_change is not None
        assert row.lpips_change.mean == pytest.approx(np.mean(row.values["lpips"]) / base - 1, abs=1e-4)


def test_the_seed_noise_is_qualitys(record: LadderResult) -> None:
    fp32 = record.row("fp32")
    wanted = seed_noise(fp32.values["psnr_db"])  # of raw values, which have six digits
    assert record.seed_noise["psnr_db"] == fp32.statistics["psnr_db"].seed_std
    assert record.seed_noise["psnr_db"] == pytest.approx(wanted, abs=1e-4)
    assert "standard deviation" in record.seed_noise_definition


def test_the_latents_error_is_that_of_the_same_steps_run_one_by_one(
    record: LadderResult, quantised: Bundle, pairs_folder: Path
) -> None:
    lr = read_pairs(pairs_folder, quantised).lr[1:2]
    exact, rounded = (_latents(quantised, p, lr, seed=1) for p in (Precision.FP32, Precision.INT8))
    wanted = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in zip(exact, rounded, strict=True)]
    found = record.row("int8").trajectory
    assert found is not None
    # Values on the edge between two steps of INT8 may fall to the other side in another batch.
    assert found.rmse[1][1] == pytest.approx(wanted, rel=0.02)
    assert record.latent_std[1][1] == pytest.approx([latent.std() for latent in exact], rel=1e-3)


def _latents(bundle: Bundle, precision: Precision, lr: Float, *, seed: int) -> list[Float]:
    """The latent after every step, each step enqueued alone."""
    preset = bundle.diffusion.presets["default"]
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=precision) as upscaler:
        engine = upscaler.tile_engine(preset, 1)
        first, drawn = draw_noise(engine, preset, seed=seed)
        output = np.empty(engine.buffers["output"].shape, np.float32)
        engine.run(lr, first, drawn, output)  # leaves the encoder's outputs behind
        engine.buffers["x0"].upload(first, engine.stream)
        engine.buffers["clean0"].upload(np.zeros_like(first), engine.stream)
        latents = []
        for index in range(preset.steps):
            engine.run_step(index)
            latents.append(np.empty_like(first))
            engine.buffers[f"x{(index + 1) % 2}"].download(latents[-1], engine.stream)
        return latents


def test_the_relative_error_is_over_the_spread_of_fp32s_latent(record: LadderResult) -> None:
    for row in others(record):
        assert row.trajectory is not None
        wanted = (np.array(row.trajectory.rmse) / np.array(record.latent_std)).mean(axis=(0, 1))
        # Raw values have four digits.
        assert [step.mean for step in row.trajectory.relative] == pytest.approx(wanted, rel=1e-3)


def test_fp16_is_nearer_to_fp32_than_int8_and_is_not_fp32(record: LadderResult) -> None:
    half, int8 = (record.row(key).trajectory for key in ("fp16", "int8"))
    assert half is not None and int8 is not None
    assert 0 < half.rmse_mean[-1] < int8.rmse_mean[-1]
    assert set(record.row("fp16").runs_on) >= {"roundings"}


def test_every_sample_of_a_latency_is_kept(record: LadderResult) -> None:
    for row in record.rows:
        stages = [row.latency.encoder, row.latency.step, row.latency.decoder, row.latency.whole]
        assert [len(s.samples) for s in stages] == [ROUNDS, ROUNDS * STEPS, ROUNDS, ROUNDS]
        assert all(0 < s.p50 <= s.p90 <= s.p99 <= max(s.samples) * 1.001 for s in stages)
        parts = row.latency.encoder.p50 + STEPS * row.latency.step.p50 + row.latency.decoder.p50
        assert parts <= 1.5 * row.latency.whole.p50  # medians of parts may exceed the median of the whole


def test_the_latency_of_fp16_on_a_cpu_is_measured_and_not_shown(outcome: Outcome) -> None:
    row = outcome.record.row("fp16")
    assert not row.latency.is_meaningful
    table = outcome.markdown.partition("Latency of one image")[2].partition("Files, and")[0]
    (line,) = [line for line in table.splitlines() if line.startswith("| FP16")]
    assert set(line.strip("| ").split(" | ")[1:]) == {"not meaningful"}


def test_speed_is_the_median_of_the_ratios_within_a_round(record: LadderResult) -> None:
    base = np.array(record.row("fp32").latency.whole.samples)
    for row in others(record):
        assert row.speedup is not None
        wanted = np.median(base / np.array(row.latency.whole.samples))
        assert row.speedup.mean == pytest.approx(wanted, rel=1e-3)  # raw samples have four digits
        assert row.speedup.low <= row.speedup.mean <= row.speedup.high


def test_file_sizes_are_those_on_disk(record: LadderResult, quantised: Bundle, control: Bundle) -> None:
    for row in record.rows:
        folder = (quantised if row.source == "bundle" else control).folder
        sizes = {str(c): (folder / f"{c}.{row.precision}.onnx").stat().st_size for c in Component}
        assert row.file_bytes == sizes


def test_peak_memory_is_more_than_what_the_libraries_take(record: LadderResult) -> None:
    for row in record.rows:
        assert row.memory.peak > row.memory.before > 10 << 20  # an interpreter with numpy


def test_the_process_whose_memory_is_measured_has_no_torch() -> None:
    code = "import sys, benchmarks.ladder.memory; print({'torch', 'onnx', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_report_has_verdicts_tables_and_what_the_numbers_are_not(outcome: Outcome) -> None:
    for row in others(outcome.record):
        assert f"- {outcome.record.verdicts[row.key]}" in outcome.markdown
    assert "| seed noise of FP32 |" in outcome.markdown
    assert "roundings in the graphs that ran: encoder " in outcome.markdown
    assert "| FP32, another seed |" in outcome.markdown
    assert "not for diagnosis" in outcome.markdown
    assert "images: 2, too few" in outcome.markdown


def test_the_picture_is_in_colour_and_of_moderate_size(outcome: Outcome) -> None:
    picture = cv2.imdecode(np.frombuffer(outcome.png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] > 5 * 256
    assert len(outcome.png) < 1_000_000  # made-up scenes have more noise than a radiograph
    assert np.abs(np.diff(picture.astype(int), axis=2)).max() > 50


def test_a_run_that_was_stopped_goes_on_after_the_last_finished_seed(
    request_: Request, outcome: Outcome, tmp_path: Path
) -> None:
    def interrupt(items: Sequence[Any], what: str) -> Iterable[Any]:
        if what == "seed 1":
            raise KeyboardInterrupt
        return items

    seen: list[str] = []

    def listen(items: Sequence[Any], what: str) -> Iterable[Any]:
        seen.append(what)
        return items

    out, wanted = tmp_path / "name", replace(request_, lpips=None)
    with pytest.raises(KeyboardInterrupt):
        run_ladder(wanted, out, arguments=["ladder"], track=interrupt)
    assert len(list(tmp_path.iterdir())) == 1
    second = run_ladder(wanted, out, arguments=["ladder"], track=listen)
    assert "seed 0" not in seen
    assert "seed 1" in seen
    for row, before in zip(second.record.rows, outcome.record.rows, strict=True):
        assert row.trajectory == before.trajectory
        assert row.values == {name: before.values[name] for name in row.values}
    second.parts.clear(range(SEEDS))
    assert not list(tmp_path.iterdir())
