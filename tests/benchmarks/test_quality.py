from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks.__main__ import run
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.quality import Outcome, Request, run_quality
from benchmarks.records import QualityResult, RowResult, to_json
from benchmarks.rows import Extras, Runner, Track, make_rows, plan_rows
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError, ConfigError, UsageError
from edge_sr.image import from_unit
from edge_sr.metrics import psnr
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from export.families import Model
from tests.benchmarks.test_features import encoder
from tests.fakes import write_tiny_bundle


@pytest.fixture(scope="module")
def outcome(
    bundle: Bundle,
    pairs_folder: Path,
    lpips_weights: Path,
    vae_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """A whole run with everything in it."""
    features = tmp_path_factory.mktemp("features") / "encoder.pth"
    torch.save(encoder(), features)
    request = Request(
        bundle.folder,
        pairs_folder,
        lpips=lpips_weights,
        features=features,
        vae=vae_run,
        presets=("mean",),
        seeds=2,
        batch=2,
        threads=1,
    )
    return run_quality(request, arguments=["quality"], track=lambda items, what: items)


def row(outcome: Outcome, key: str) -> RowResult:
    return next(row for row in outcome.record.rows if row.key == key)


@pytest.fixture
def pairs(bundle: Bundle, pairs_folder: Path) -> Pairs:
    return read_pairs(pairs_folder, bundle)


def test_the_scoreboard_has_its_rows_in_order(outcome: Outcome) -> None:
    assert [row.key for row in outcome.record.rows] == [
        "hr", "bicubic", "mean", "ceiling", "true-latent", "model", "preset-mean", "training-mean-latent",
        "zero-latent", "one-step",
    ]  # fmt: skip


def test_the_record_reads_back_from_its_json(outcome: Outcome) -> None:
    text = to_json(outcome.record)
    assert QualityResult.model_validate_json(text) == outcome.record
    assert json.loads(text)["schema_version"] == 2
    assert "/" not in json.loads(text)["environment"]["command"]


def test_a_result_of_the_first_version_opens() -> None:
    path = Path(__file__).parents[2] / "benchmarks/results/quality-cxr-x4-fp32-test.json"
    text = path.read_text(encoding="utf-8")
    first = json.loads(text) | {"schema_version": 1}
    first.pop("features", None)
    assert QualityResult.model_validate_json(json.dumps(first)).features is None


def test_the_second_judge_scores_every_row_and_holds_the_controls_against_the_loop(outcome: Outcome) -> None:
    assert outcome.record.features is not None
    assert all("feature_distance" in found.values for found in outcome.record.rows if found.key != "hr")
    claims = [check.claim for check in outcome.record.checks if check.claim.startswith("feature distance")]
    assert len(claims) == 3


def test_the_table_shows_the_power_of_every_row_less_the_true_images(outcome: Outcome) -> None:
    names = [f"power_to_0.{n}_nyquist_db" for n in range(1, 10)]
    bicubic, truth = row(outcome, "bicubic").statistics, row(outcome, "hr").statistics
    gaps = [bicubic[name].mean - truth[name].mean for name in names]
    cells = " | ".join([*(f"{gap:+.1f}" for gap in gaps), f"{max(gaps, key=abs):+.1f}"])
    assert f"| bicubic | {cells} |" in outcome.markdown


def test_raw_values_are_kept_for_every_seed_and_image(outcome: Outcome) -> None:
    record = outcome.record
    for found in record.rows:
        seeds = 2 if found.preset else 1
        for values in found.values.values():
            assert [len(v) for v in values] == [3] * seeds
    assert record.data.images == ("a.png", "b.png", "c.png")


def test_bicubic_has_the_psnr_of_opencvs(outcome: Outcome, pairs_folder: Path) -> None:
    lr, hr = (cv2.imread(str(pairs_folder / k / "b.png"), cv2.IMREAD_GRAYSCALE) for k in ("lr_64", "hr_256"))
    wanted = psnr(cv2.resize(lr, (256, 256), interpolation=cv2.INTER_CUBIC), hr)
    assert row(outcome, "bicubic").values["psnr_db"][0][1] == pytest.approx(wanted, abs=1e-4)


def test_the_mean_image_is_the_encoders(outcome: Outcome, model: Model, pairs: Pairs) -> None:
    with torch.inference_mode():
        mean = model.vae.lr_encoder(torch.from_numpy(pairs.lr))[0][:, 0].numpy()
    wanted = [psnr(from_unit(m, 8), h) for m, h in zip(mean, pairs.hr_pixels, strict=True)]
    # A value at the edge of rounding may fall to the other side: a hundredth of a dB.
    assert row(outcome, "mean").values["psnr_db"][0] == pytest.approx(wanted, abs=0.01)


def test_the_ceiling_is_the_autoencoders_own(outcome: Outcome, model: Model, pairs: Pairs) -> None:
    with torch.inference_mode():
        mean, features, _ = model.vae.lr_encoder(torch.from_numpy(pairs.lr))
        latent, _ = model.vae.encode(torch.from_numpy(pairs.hr), mean, features)
        images = model.vae.decoder(latent, features, mean)[:, 0].numpy()
    wanted = [psnr(from_unit(i, 8), h) for i, h in zip(images, pairs.hr_pixels, strict=True)]
    assert row(outcome, "ceiling").values["psnr_db"][0] == pytest.approx(wanted, abs=0.01)
    # This bundle's decoder is the run's own.
    assert row(outcome, "true-latent").values["psnr_db"][0] == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(("key", "is_raw"), [("training-mean-latent", False), ("zero-latent", True)])
def test_the_controls_decode_the_latents_they_name(
    outcome: Outcome, model: Model, pairs: Pairs, key: str, is_raw: bool
) -> None:
    with torch.inference_mode():
        mean, features, _ = model.vae.lr_encoder(torch.from_numpy(pairs.lr))
        raw = torch.zeros(3, 4, 32, 32) + (0 if is_raw else model.scale.mean[:, None, None])
        images = model.vae.decoder(raw, features, mean)[:, 0].numpy()
    wanted = [psnr(from_unit(i, 8), h) for i, h in zip(images, pairs.hr_pixels, strict=True)]
    assert row(outcome, key).values["psnr_db"][0] == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("preset", ["default", "ancestral", "mean"])
def test_a_batch_gives_what_upscale_gives_for_each_image(bundle: Bundle, pairs: Pairs, preset: str) -> None:
    chosen = bundle.diffusion.presets[preset]
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        together = Runner(upscaler).sample(pairs.lr, chosen, 5)
        alone = [upscaler.upscale(lr, preset=chosen, seed=5).mean[0] for lr in pairs.lr]
    pixels = np.stack([from_unit(image, 8) for image in alone])
    # Another batch size sums in another order, and a value at the edge of rounding may fall either way.
    assert np.abs(together.astype(int) - pixels).max() <= 1


def test_seeds_change_the_loops_rows_and_batches_do_not(bundle: Bundle, pairs: Pairs, quietly: Track) -> None:
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        rows = plan_rows(bundle, (), Extras())
        one, three = (
            make_rows(Runner(upscaler), rows, pairs, Extras(), seeds=(0, 1), batch=b, track=quietly)
            for b in (1, 3)
        )
    assert one["model"].shape == (2, 3, 256, 256)
    assert one["mean"].shape == (1, 3, 256, 256)
    assert not np.array_equal(one["model"][0], one["model"][1])
    assert all(np.abs(one[key].astype(int) - three[key]).max() <= 1 for key in one)


def test_differences_are_taken_image_by_image(outcome: Outcome) -> None:
    model, bicubic = row(outcome, "model"), row(outcome, "bicubic")
    wanted = np.mean(model.values["ssim"], axis=0) - bicubic.values["ssim"][0]
    change = model.versus["bicubic"]["ssim"]
    assert change.mean == pytest.approx(wanted.mean(), abs=1e-5)  # raw values have six digits
    assert change.low <= change.mean <= change.high


def test_hallucination_and_loss_are_reported_where_the_ceiling_is_known(
    outcome: Outcome, bundle: Bundle, pairs_folder: Path, quietly: Track
) -> None:
    rates = row(outcome, "ceiling").statistics
    assert 0 < rates["hallucinated_percent"].mean + rates["lost_percent"].mean < 5, "the error beyond 2 sigma"
    assert {"hallucinated_percent", "lost_percent"} <= row(outcome, "model").versus["bicubic"].keys()
    assert "hallucinated, % ↓" in outcome.markdown
    request = Request(bundle.folder, pairs_folder, seeds=1, limit=1, threads=1)
    assert "hallucinated" not in run_quality(request, arguments=["quality"], track=quietly).markdown


def test_the_table_names_what_the_images_are_and_what_the_numbers_are_not(outcome: Outcome) -> None:
    table = outcome.markdown
    assert "| **ours, default** |" in table
    assert "How the LR images were made: not stated" in table
    assert "not for diagnosis" in table
    assert "autoencoder ceiling at least 38 dB" in table


def test_the_contact_sheet_is_a_colour_picture_of_moderate_size(outcome: Outcome) -> None:
    picture = cv2.imdecode(np.frombuffer(outcome.png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] > 5 * 256
    assert len(outcome.png) < 700_000  # made-up scenes have more noise than a radiograph
    assert np.abs(np.diff(picture.astype(int), axis=2)).max() > 50  # the difference is in colour


def test_without_lpips_and_a_run_the_rest_is_scored_with_notices(
    bundle: Bundle, pairs_folder: Path, quietly: Track
) -> None:
    request = Request(bundle.folder, pairs_folder, seeds=1, limit=1, threads=1)
    record = run_quality(request, arguments=["quality"], track=quietly).record
    assert record.lpips is None
    assert "lpips" not in record.metrics
    assert "ceiling" not in [row.key for row in record.rows]
    assert record.diversity is None
    assert [n.partition(":")[0] for n in record.notices] == [
        "LPIPS is left out", "the autoencoder's ceiling is left out", "seeds", "images",
    ]  # fmt: skip


def test_the_run_of_another_autoencoder_is_refused(
    bundle: Bundle, pairs_folder: Path, vae_run: Path, tmp_path: Path, quietly: Track
) -> None:
    saved = torch.load(vae_run / "weights.pt", weights_only=True)
    saved["weights"]["lr_encoder.to_mean.bias"] += 0.1
    torch.save(saved, tmp_path / "weights.pt")
    request = Request(bundle.folder, pairs_folder, vae=tmp_path, seeds=1, limit=1, threads=1)
    with pytest.raises(ConfigError, match="differs from the bundle's"):
        run_quality(request, arguments=["quality"], track=quietly)


def test_an_unknown_preset_is_refused_with_those_there_are(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no preset nothing") as caught:
        plan_rows(bundle, ("nothing",), Extras())
    assert "ancestral" in caught.value.hint


def test_a_bad_folder_is_one_line_and_exit_code_1(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--bundle", str(bundle.folder), "--pairs", str(tmp_path), "--out", str(tmp_path / "name")]
    assert run(["quality", *folders]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no pairs in")
    assert "hint: it needs images in hr_256/" in error
    assert not list(tmp_path.iterdir())


def test_pairs_that_are_not_tiles_of_the_bundle_are_refused(
    pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write_tiny_bundle(tmp_path_factory.mktemp("other") / "tiny")  # its tiles are 16x16
    with pytest.raises(ConfigError, match="no pairs in"):
        read_pairs(pairs_folder, other)


def test_an_interrupted_run_leaves_nothing(
    bundle: Bundle,
    pairs_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(items: Sequence[Any], what: str) -> Iterable[Any]:
        yield items[0]
        if what == "metrics":
            raise KeyboardInterrupt
        yield from items[1:]

    monkeypatch.setattr("benchmarks.commands.judging.progress", interrupt)  # Ctrl-C at a known place
    out = tmp_path / "results" / "name"
    arguments = ["quality", "--bundle", str(bundle.folder), "--pairs", str(pairs_folder), "--out", str(out)]
    assert run([*arguments, "--threads", "1", "--seeds", "1"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(out.parent.iterdir())


def test_the_command_writes_the_three_files(
    bundle: Bundle, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "name"
    arguments = ["quality", "--bundle", str(bundle.folder), "--pairs", str(pairs_folder), "--out", str(out)]
    assert run([*arguments, "--threads", "1", "--seeds", "1", "--limit", "1"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.json", "name.md", "name.png"]
    assert (tmp_path / "name.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("benchmark", "images"),
    [("evidence", "--pairs"), ("seams", "--images"), ("peers", "--pairs"), ("roofline", "")],
)
def test_what_takes_a_model_apart_refuses_one_without_the_parts(
    benchmark: str, images: str, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = write_tiny_bundle(tmp_path / "bare", family="bare", tile=64)
    words = [benchmark, "--bundle", str(bare.folder), "--out", str(tmp_path / "out")]
    assert run([*words, *([images, str(pairs_folder)] if images else [])]) == 1
    assert f"error: {benchmark} takes models for gray images that have an encoder" in capsys.readouterr().err


def test_a_plain_network_is_judged_against_bicubic_alone_and_is_made_once(
    pairs_folder: Path, tmp_path: Path
) -> None:
    plain = write_tiny_bundle(tmp_path / "plain", family="regression", tile=64)
    request = Request(plain.folder, pairs_folder, batch=2, threads=1)
    outcome = run_quality(request, arguments=["quality"], track=lambda items, what: items)
    assert [row.key for row in outcome.record.rows] == ["hr", "bicubic", "model"]
    pairs = read_pairs(pairs_folder, plain, limit=0)
    with Upscaler(plain, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        wanted = [
            psnr(np.asarray(from_unit(upscaler.upscale(lr, preset=None, seed=0).mean[0], 8)), hr)
            for lr, hr in zip(pairs.lr, pairs.hr_pixels, strict=True)
        ]
    (values,) = row(outcome, "model").values["psnr_db"]
    np.testing.assert_allclose(values, wanted, atol=1e-4)  # kept to 4 digits
    assert not any("autoencoder" in notice or "seeds" in notice for notice in outcome.record.notices)
    with pytest.raises(BundleError, match="has no loop"):
        plan_rows(plain, ("even",), Extras())
