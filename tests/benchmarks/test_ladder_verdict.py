"""What the ladder says of rows whose numbers are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.ladder.assembly import Measured, assemble_row
from benchmarks.ladder.latency import Stages
from benchmarks.ladder.memory import Peak
from benchmarks.ladder.records import Judgement, RungResult
from benchmarks.ladder.rungs import Rung, plan_rungs
from benchmarks.ladder.samples import SeedResult
from benchmarks.ladder.verdict import judge_all, seed_noise_of
from benchmarks.ladder.words import verdicts
from edge_sr.bundle import Bundle, new_copy, write_manifest
from edge_sr.spec import Precision
from tests.fakes import write_tiny_bundle

Values = npt.NDArray[np.float64]
IMAGES = 40
BASE = {"psnr_db": 30.0, "ssim": 0.9, "lpips": 0.1, "laplacian_variance": 50.0}
SEED_SHIFT = {"psnr_db": 0.2, "ssim": 0.002, "lpips": 0.001, "laplacian_variance": 1.0}
NOISE_DB = 0.2 / np.sqrt(2)  # the standard deviation of two seeds that are so far apart


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rung, ...]:
    """The rows of a tiny bundle; its control has the FP16 graphs for INT8."""
    folder = tmp_path_factory.mktemp("bundles")
    bundle = write_tiny_bundle(folder / "tiny", precisions=("fp32", "fp16", "int8"))
    with new_copy(bundle, folder / "control") as copy:
        graphs = {
            c: {**found, Precision.INT8: found[Precision.FP16]} for c, found in bundle.manifest.graphs.items()
        }
        write_manifest(copy, bundle.manifest.model_copy(update={"graphs": graphs}))
    return plan_rungs(bundle, Bundle.open(folder / "control"))


def made_up(
    rungs: tuple[Rung, ...],
    changes: dict[str, dict[str, float]],
    *,
    extra: dict[str, dict[str, Values]] | None = None,
    speed: float = 2.0,
    loads: tuple[float, ...] = (1.0,) * 5,
    seeds: int = 2,
) -> dict[str, RungResult]:
    """Rows that differ from FP32 by so much in each image, give or take a tenth of it; and by `extra`.

    `loads` is how busy the machine is in each round of the timing.
    """
    spread = np.random.default_rng(0).normal(0, 0.1, IMAGES)
    images = np.random.default_rng(1).normal(0, 1, IMAGES)
    results = []
    for seed in range(seeds):
        base = {name: mean * (1 + 0.03 * images) + seed * SEED_SHIFT[name] for name, mean in BASE.items()}
        values = {
            rung.key: {
                name: base[name]
                + changes.get(rung.key, {}).get(name, 0.0) * (1 + spread)
                + (extra or {}).get(rung.key, {}).get(name, np.zeros(IMAGES))
                for name in BASE
            }
            for rung in rungs
        }
        empty: dict[str, Values] = {rung.key: np.ones((IMAGES, 1)) for rung in rungs}
        results.append(SeedResult({}, empty, np.ones((IMAGES, 1)), values, values))
    seconds = {rung.key: 1.0 if rung.key == "fp32" else 1 / speed for rung in rungs}
    stages = {key: [_stages(load * whole) for load in loads] for key, whole in seconds.items()}
    peaks = {rung.key: Peak(1, 2) for rung in rungs}
    measured = Measured(results, stages, peaks, {rung.key: {} for rung in rungs}, {})
    return {rung.key: assemble_row(rung, measured) for rung in rungs}


def _stages(whole: float) -> Stages:
    return Stages(encoder=0.1 * whole, steps=(0.8 * whole,), decoder=0.1 * whole, whole=whole)


BAD_CONTROL = {"psnr_db": -1.5, "ssim": -0.1, "lpips": 0.08}
GOOD = {"int8": {"psnr_db": -0.04, "ssim": -0.001, "lpips": 0.001}, "naive": BAD_CONTROL}


def judged(rows: dict[str, RungResult], claim: str) -> Judgement:
    (found,) = [check for check in judge_all(rows) if claim in check.claim]
    return found


def said(rows: dict[str, RungResult]) -> dict[str, str]:
    return verdicts(rows, judge_all(rows), seed_noise_of(rows))


def test_a_small_cost_is_said_with_its_interval_the_seed_noise_and_the_speed(rungs: tuple[Rung, ...]) -> None:
    words = said(made_up(rungs, GOOD))["int8"]
    assert words.startswith("INT8 costs 0.040 dB (95 % CI 0.03")
    assert f"inside the seed noise of {NOISE_DB:.3f} dB, and is 2.00x faster on this CPU" in words
    assert "LPIPS is 0.99 % higher, which is worse" in words
    assert "PSNR within 0.1 dB of FP32's: pass" in words
    assert "FAIL" not in words


def test_a_cost_beyond_the_seed_noise_and_the_budget_fails(rungs: tuple[Rung, ...]) -> None:
    rows = made_up(rungs, {"int8": {"psnr_db": -0.2, "lpips": 0.004}, "naive": BAD_CONTROL}, speed=1.5)
    words = said(rows)["int8"]
    assert "beyond the seed noise" in words
    assert words.count("FAIL") == 4  # PSNR, LPIPS in both readings, speed
    assert not judged(rows, "PSNR within 0.1").holds
    assert judged(rows, "PSNR within 0.1").is_certain


def test_lpips_that_gets_much_better_is_said_and_fails_the_two_sided_reading(rungs: tuple[Rung, ...]) -> None:
    change = {"psnr_db": -0.04, "ssim": -0.005, "lpips": -0.006, "laplacian_variance": 7.5}
    rows = made_up(rungs, {"int8": change, "naive": BAD_CONTROL})
    words = said(rows)["int8"]
    assert "LPIPS is 5.9" in words and "lower, which is better" in words
    assert "not FP32's picture: Laplacian variance moves by +14." in words
    assert "grain that LPIPS likes" in words
    assert judged(rows, "INT8: LPIPS at most 2 % worse").holds
    assert not judged(rows, "INT8: LPIPS within 2 %").holds


def test_an_interval_across_the_limit_is_said(rungs: tuple[Rung, ...]) -> None:
    rows = made_up(rungs, {"int8": {"psnr_db": -0.1}, "naive": BAD_CONTROL})
    assert not judged(rows, "INT8: PSNR within").is_certain
    assert "(the interval reaches across the limit)" in said(rows)["int8"]


def test_a_gain_is_called_a_gain(rungs: tuple[Rung, ...]) -> None:
    rows = made_up(rungs, {"int8": {"psnr_db": 0.05}, "naive": BAD_CONTROL})
    assert said(rows)["int8"].startswith("INT8 gains 0.050 dB")


def test_an_interval_with_zero_in_it_is_perhaps_nothing(rungs: tuple[Rung, ...]) -> None:
    alternating = 0.04 * np.resize([1.0, -1.0], IMAGES)
    rows = made_up(rungs, {"naive": BAD_CONTROL}, extra={"int8": {"psnr_db": alternating}})
    assert "so perhaps nothing" in said(rows)["int8"]
    assert "so perhaps nothing" not in said(made_up(rungs, GOOD))["int8"]


def test_a_slower_int8_is_not_called_faster(rungs: tuple[Rung, ...]) -> None:
    words = said(made_up(rungs, GOOD, speed=0.8))["int8"]
    assert "is 0.80x as fast, which is slower, on this CPU" in words
    assert "at least 1.8x faster than FP32 end to end: FAIL" in words


def test_a_busy_machine_that_slows_whole_rounds_does_not_move_the_speed(rungs: tuple[Rung, ...]) -> None:
    calm = made_up(rungs, GOOD)["int8"].speedup
    busy = made_up(rungs, GOOD, loads=(1.0, 4.0, 1.0, 3.0, 5.0))["int8"].speedup
    assert calm is not None and busy is not None
    assert (busy.low, busy.mean, busy.high) == pytest.approx((calm.low, calm.mean, calm.high))


def test_fp16_has_a_cost_and_no_speed(rungs: tuple[Rung, ...]) -> None:
    rows = made_up(rungs, GOOD | {"fp16": {"psnr_db": -0.001}})
    words = said(rows)["fp16"]
    assert words.startswith("FP16 (emulated) costs 0.0010 dB")
    assert "its latency on a CPU is not meaningful" in words
    assert "faster" not in words
    assert "PSNR within 0.02 dB of FP32's: pass" in words


def test_a_fp16_that_costs_more_than_its_budget_fails(rungs: tuple[Rung, ...]) -> None:
    rows = made_up(rungs, GOOD | {"fp16": {"psnr_db": -0.03}})
    assert "PSNR within 0.02 dB of FP32's: FAIL" in said(rows)["fp16"]


def test_a_bad_control_is_visibly_worse(rungs: tuple[Rung, ...]) -> None:
    words = said(made_up(rungs, GOOD))["naive"]
    assert words.startswith("Naive INT8 costs 1.49")
    assert "It is visibly worse than INT8: PSNR by 1.4" in words
    assert "each beyond the seed noise" in words


def test_a_control_that_is_as_good_is_said_to_be(rungs: tuple[Rung, ...]) -> None:
    words = said(made_up(rungs, {"int8": GOOD["int8"], "naive": GOOD["int8"] | {"ssim": -0.05}}))["naive"]
    assert "It is not visibly worse than INT8: SSIM by 0.04" in words
    assert "is beyond the seed noise, PSNR, LPIPS is not" in words


def test_with_one_seed_no_noise_is_claimed(rungs: tuple[Rung, ...]) -> None:
    words = said(made_up(rungs, GOOD, seeds=1))
    assert "a seed noise that one seed cannot tell" in words["int8"]
    assert "each beyond doubt, the seed noise not being known" in words["naive"]
