from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.evidence.records import EvidenceResult, Projection
from benchmarks.evidence.run import Outcome, Request, run_evidence
from benchmarks.evidence.spread import judge_spread
from benchmarks.evidence.trust import FAULTS, judge_consistency
from benchmarks.pairs import read_pairs
from benchmarks.records import to_json
from edge_sr.bundle import Bundle
from edge_sr.card import Consistency
from edge_sr.image import DOWNSAMPLE_OPERATORS, downsample
from edge_sr.metrics import psnr


@pytest.fixture(scope="module")
def outcome(bundle: Bundle, pairs_folder: Path, lpips_weights: Path, vae_run: Path) -> Outcome:
    """A whole run with everything in it."""
    request = Request(
        bundle.folder, pairs_folder, lpips=lpips_weights, vae=vae_run, samples=4, limit=2, batch=2, threads=1
    )
    return run_evidence(request, arguments=["evidence"], track=lambda items, what: items)


def known(alarm_db: float) -> Consistency:
    return Consistency(
        operator="cubic",
        alarm_db=alarm_db,
        quantile=0.05,
        median_db=36.0,
        images=75,
        data="made up",
        sha256="0" * 64,
        source="made up",
    )


# ---- the spread


def samples_like_the_truth(
    rng: np.random.Generator, *, samples: int, error: float
) -> tuple[np.ndarray, np.ndarray]:
    """Samples whose deviation differs from place to place, and a truth with `error` times as much."""
    level = rng.uniform(5, 20, (2, 64, 64))
    drawn = 128 + level * rng.normal(size=(samples, 2, 64, 64))
    truth = np.rint(128 + error * level * rng.normal(size=(2, 64, 64)))
    return drawn.astype(np.float32), np.clip(truth, 1, 254).astype(np.uint8)


def test_a_truth_that_is_one_more_sample_is_found_calibrated() -> None:
    drawn, truth = samples_like_the_truth(np.random.default_rng(0), samples=16, error=1.0)
    found = judge_spread(drawn, truth)
    # 8192 pixels: a few percent of noise; and the narrowest intervals are widened by half a gray level.
    assert found.factor == pytest.approx(1, abs=0.05)
    assert found.coverage[0].nominal == pytest.approx(15 / 17)
    assert all(c.found.mean == pytest.approx(c.nominal, abs=0.08) for c in found.coverage)
    assert found.correlation.low > 0.3
    # Sixteen samples tell a pixel's own deviation to a sixth: the least are too small, the largest too large.
    assert found.error < 0.2
    assert [b.predicted for b in found.bins] == sorted(b.predicted for b in found.bins)


def test_a_truth_farther_away_than_the_samples_say_is_found_out() -> None:
    drawn, truth = samples_like_the_truth(np.random.default_rng(0), samples=8, error=3.0)
    found = judge_spread(drawn, truth)
    assert found.factor > 2
    assert found.coverage[0].found.high < found.coverage[0].nominal - 0.2


def test_a_spread_that_has_nothing_to_do_with_the_error_is_found_out() -> None:
    rng = np.random.default_rng(0)
    drawn, _ = samples_like_the_truth(rng, samples=8, error=1.0)
    _, truth = samples_like_the_truth(rng, samples=8, error=1.0)  # of other places
    assert abs(judge_spread(drawn, truth).correlation.mean) < 0.15  # what the samples' own mean leaves


def test_pixels_that_are_black_or_white_do_not_count() -> None:
    drawn, truth = samples_like_the_truth(np.random.default_rng(0), samples=8, error=1.0)
    whole = judge_spread(drawn, truth)
    truth[:, :, :32] = 0
    drawn[:, :, :, :32] = 0
    half = judge_spread(drawn, truth)
    assert (whole.pixels, half.pixels) == (1.0, 0.5)
    assert half.factor == pytest.approx(1, abs=0.08)


# ---- consistency


def test_faults_change_the_image_and_keep_its_kind() -> None:
    images = np.random.default_rng(0).integers(20, 230, (2, 256, 256)).astype(np.uint8)
    for name, fault in FAULTS.items():
        changed = fault(images)
        assert changed.shape == images.shape, name
        assert changed.dtype == np.uint8, name
        assert (changed != images).any(axis=(1, 2)).all(), name


def test_residuals_are_held_against_the_bundles_threshold(bundle: Bundle, pairs_folder: Path) -> None:
    pairs = read_pairs(pairs_folder, bundle)
    manifest = bundle.manifest.model_copy(update={"consistency": known(45.0)})
    noise = np.random.default_rng(0).normal(0, 40, pairs.hr_pixels.shape)
    noisy = np.clip(pairs.hr_pixels + noise, 0, 255).astype(np.uint8)
    found = judge_consistency(manifest, pairs, {"the truth": pairs.hr_pixels, "noisy": noisy})
    couples = zip(pairs.hr_pixels, pairs.lr_pixels, strict=True)
    wanted = [psnr(downsample(h.astype(np.float32), 4, "cubic"), small) for h, small in couples]
    assert found.true.values == pytest.approx(wanted, abs=0.006)  # two decimals
    assert not found.is_own
    assert [r.alarmed for r in found.outputs] == [0.0, 1.0]
    swapped = next(r for r in found.faults if "another image" in r.label)
    assert (swapped.alarmed, swapped.unusual) == (1.0, 1.0)


def test_without_a_threshold_it_is_taken_from_these_images_and_said_so(
    bundle: Bundle, pairs_folder: Path, outcome: Outcome
) -> None:
    assert bundle.manifest.consistency is None
    assert outcome.record.consistency.is_own
    assert outcome.record.consistency.known.source == "this run"
    assert any("from these very images" in notice for notice in outcome.record.notices)


# ---- the whole


def test_every_operator_is_tried_under_every_degradation(outcome: Outcome) -> None:
    cells = [(p.degradation, p.operator) for p in outcome.record.projection]
    operators = (None, *DOWNSAMPLE_OPERATORS)
    assert cells == [(d, o) for d in ("as given", *DOWNSAMPLE_OPERATORS) for o in operators]
    assert all(p.gain_db.mean == 0 for p in outcome.record.projection if p.operator is None)


def test_a_matching_average_helps_a_model_that_has_learned_nothing(outcome: Outcome) -> None:
    def gain(degradation: str, operator: str) -> Projection:
        cells = outcome.record.projection
        return next(p for p in cells if (p.degradation, p.operator) == (degradation, operator))

    assert gain("area", "area").gain_db.low > 0
    assert gain("area", "area").psnr_db > gain("area", "nearest").psnr_db


def test_rates_of_invention_are_those_of_every_kind_of_image(outcome: Outcome) -> None:
    labels = [row.label for row in outcome.record.invention]
    assert labels[:3] == ["one sample", "mean of the samples", "regression"]
    decoded = outcome.record.invention[-1]
    assert 0 < decoded.hallucinated.mean + decoded.lost.mean < 10, "what lies beyond two standard deviations"


def test_the_record_reads_back_and_the_report_says_what_was_found(outcome: Outcome) -> None:
    text = to_json(outcome.record)
    assert EvidenceResult.model_validate_json(text) == outcome.record
    assert "/" not in json.loads(text)["environment"]["command"]
    for title in ("Consistency", "Uncertainty", "What was invented and lost", "Back-projection"):
        assert f"## {title}" in outcome.markdown
    assert "fault: mirrored left to right" in outcome.markdown
    assert cv2.imdecode(np.frombuffer(outcome.png, np.uint8), cv2.IMREAD_COLOR).shape[1] == 1500


def test_the_command_writes_the_three_files(
    bundle: Bundle, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "name"
    arguments = ["--bundle", str(bundle.folder), "--pairs", str(pairs_folder), "--out", str(out)]
    assert run(["evidence", *arguments, "--threads", "1", "--samples", "4", "--limit", "1"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.json", "name.md", "name.png"]
    assert "left out: name the autoencoder's run with --vae" in capsys.readouterr().out
    assert run(["evidence", *arguments, "--samples", "3"]) == 2
