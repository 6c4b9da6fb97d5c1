"""`edge-sr upscale`: what it says of how far a result can be trusted, and what it writes beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle, default_bundle, write_manifest
from edge_sr.card import Consistency
from edge_sr.cli import run
from edge_sr.image import LoadedImage, encode_png, read_image, read_png_text, write_atomic
from edge_sr.pipeline import Upscaler
from edge_sr.result import Settings, upscale_image
from edge_sr.spec import Precision
from tests.fakes import write_tiny_bundle

Upscale = Callable[..., tuple[int, list[dict[str, Any]], str]]


def with_alarm(folder: Path, alarm_db: float) -> Path:
    """A tiny bundle that knows what true images reach."""
    known = Consistency(
        operator="cubic",
        alarm_db=alarm_db,
        quantile=0.05,
        median_db=36.0,
        images=75,
        data="made up",
        sha256="0" * 64,
        source="made up",
    )
    changes = {"schema_version": 2, "consistency": known}
    write_manifest(folder, write_tiny_bundle(folder).manifest.model_copy(update=changes))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").folder


@pytest.fixture
def upscale(bundle: Path, capfd: pytest.CaptureFixture[str]) -> Upscale:
    """Runs `edge-sr upscale --json` on the tiny bundle: exit code, objects, stderr."""

    def call(*arguments: object, model: Path = bundle) -> tuple[int, list[dict[str, Any]], str]:
        code = run(["upscale", "--json", "--bundle", str(model), *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


def image(path: Path, *, seed: int = 0, depth: int = 8, spread: float = 0.5) -> Path:
    """A made-up image of two tiles, around the middle of the range."""
    values = 0.5 + spread * (np.random.default_rng(seed).uniform(0, 1, (16, 24)) - 0.5)
    dtype = np.uint8 if depth == 8 else np.uint16
    write_atomic(path, encode_png((values * (2**depth - 1)).astype(dtype), text={}))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- files beside the output


def test_several_samples_come_with_their_spread_and_the_change_as_images(
    upscale: Upscale, tmp_path: Path
) -> None:
    source, out = image(tmp_path / "a.png"), tmp_path / "out"
    code, (record,), _ = upscale(source, "-o", out, "--samples", 3)
    assert code == 0
    assert names(out) == ["a.change.png", "a.png", "a.std.png", "a.uncertainty.png"]
    kinds = ("std", "uncertainty", "change")
    assert record["evidence"] == {kind: str(out / f"a.{kind}.png") for kind in kinds}
    std = read_image(out / "a.std.png")
    assert (std.bit_depth, std.pixels.shape) == (16, (64, 96))
    # The file has 1/257 of a gray level of 255; the record three decimals.
    assert record["uncertainty"]["mean_std"] == pytest.approx(std.pixels.mean() / 257, abs=0.01)
    assert record["uncertainty"]["samples"] == 3
    assert {"x", "y", "width", "height", "mean_std"} == set(record["uncertainty"]["regions"][0])
    assert record["change"]["mean_abs"] > 0


def test_one_sample_has_no_files_beside_it_unless_asked_for(upscale: Upscale, tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    _, (record,), _ = upscale(source, "-o", tmp_path / "one")
    assert names(tmp_path / "one") == ["a.png"]
    assert (record["evidence"], record["uncertainty"], record["change"]) == ({}, None, None)
    upscale(source, "-o", tmp_path / "two", "--evidence")
    assert names(tmp_path / "two") == ["a.change.png", "a.png"]
    _, (record,), _ = upscale(source, "-o", tmp_path / "three", "--samples", 2, "--no-evidence")
    assert names(tmp_path / "three") == ["a.png"]
    assert record["uncertainty"]["samples"] == 2


def test_a_preset_of_several_samples_writes_what_is_asked_for_alone(upscale: Upscale, tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    upscale(source, "-o", tmp_path / "plain", "--preset", "mean")
    assert names(tmp_path / "plain") == ["a.png"]
    upscale(source, "-o", tmp_path / "all", "--preset", "mean", "--evidence")
    assert len(names(tmp_path / "all")) == 4


def test_evidence_says_what_made_it_and_does_not_name_the_input(upscale: Upscale, tmp_path: Path) -> None:
    source = image(tmp_path / "name-of-a-patient.png")
    upscale(source, "-o", tmp_path / "out.png", "--samples", 2)
    for suffix in (".png", ".std.png", ".uncertainty.png", ".change.png"):
        text = read_png_text((tmp_path / f"out{suffix}").read_bytes())
        assert "Not for diagnosis" in text["Disclaimer"]
        assert json.loads(text["edge-sr"])["preset"]["samples"] == 2
        assert "patient" not in json.dumps(text)


def test_evidence_that_would_be_another_output_is_refused_before_any_work(
    upscale: Upscale, tmp_path: Path
) -> None:
    first, second = image(tmp_path / "a.png"), image(tmp_path / "a.change.png")
    code, _, err = upscale(first, second, "-o", tmp_path / "out", "--evidence")
    assert code == 1
    assert "a.change.png" in err
    assert not (tmp_path / "out").exists()
    assert upscale(first, second, "-o", tmp_path / "out")[0] == 0


def test_evidence_never_overwrites_an_input(upscale: Upscale, tmp_path: Path) -> None:
    source = image(tmp_path / "a.change.png")
    before = source.read_bytes()
    code, _, err = upscale(source, "-o", tmp_path / "a.png", "--evidence")
    assert (code, source.read_bytes()) == (1, before)
    assert "never overwritten" in err


def test_colour_has_the_evidence_of_its_luminance(upscale: Upscale, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    write_atomic(tmp_path / "c.png", encode_png(pixels, text={}))
    assert upscale(tmp_path / "c.png", "-o", tmp_path / "out", "--samples", 2)[0] == 0
    assert read_image(tmp_path / "out" / "c.std.png").pixels.shape == (64, 64)


# ---- consistency


def test_a_result_that_is_not_consistent_enough_is_an_error_of_its_image_alone(
    upscale: Upscale, tmp_path: Path
) -> None:
    sources = [image(tmp_path / f"{n}.png", seed=n, spread=s) for n, s in enumerate((0.1, 0.9, 0.3))]
    _, records, _ = upscale(*sources, "-o", tmp_path / "all")
    least, *others = sorted(record["consistency_db"] for record in records)
    limit = (least + others[0]) / 2
    code, records, err = upscale(*sources, "-o", tmp_path / "some", "--min-consistency", limit)
    assert code == 1
    failed = [record for record in records if "error" in record]
    assert [record["kind"] for record in failed] == ["ConsistencyError"]
    assert f"wanted at least {limit:g}" in failed[0]["error"]
    assert len(names(tmp_path / "some")) == 2
    assert "1 of 3 failed" in err


def test_a_result_below_what_true_images_reach_is_told_everywhere(upscale: Upscale, tmp_path: Path) -> None:
    source, model = image(tmp_path / "a.png"), with_alarm(tmp_path / "strict", 90.0)
    code, (record,), err = upscale(source, "-o", tmp_path / "out", model=model)
    assert code == 0
    assert (record["is_alarming"], record["consistency_alarm_db"]) == (True, 90.0)
    assert "is under 90.0 dB, which 95% of true images reach" in err
    text = read_png_text((tmp_path / "out" / "a.png").read_bytes())
    assert json.loads(text["edge-sr"])["consistency_alarm_db"] == 90.0


def test_there_is_no_alarm_where_none_was_measured_or_all_is_well(upscale: Upscale, tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    assert upscale(source, "-o", tmp_path / "one")[1][0]["is_alarming"] is None
    easy = with_alarm(tmp_path / "easy", 1.0)
    assert upscale(source, "-o", tmp_path / "two", model=easy)[1][0]["is_alarming"] is False
    strict = with_alarm(tmp_path / "strict", 90.0)  # measured at x4: it says nothing of x2
    _, (record,), err = upscale(source, "-o", tmp_path / "three", "--scale", 2, model=strict)
    assert (record["is_alarming"], record["consistency_alarm_db"]) == (None, None)
    assert "true images" not in err


@pytest.mark.parametrize("depth", [8, 16])
def test_a_back_projection_is_named_in_the_file_and_brings_the_residual_to_nothing(
    upscale: Upscale, tmp_path: Path, depth: int
) -> None:
    source = image(tmp_path / "a.png", depth=depth)
    _, (before,), _ = upscale(source, "-o", tmp_path / "before")
    _, (after,), _ = upscale(source, "-o", tmp_path / "after", "--back-project", "cubic")
    # Rounding alone is left: a fifth of a gray level is 62 dB at 8 bits.
    assert before["consistency_db"] < 30 < 55 < after["consistency_db"]
    assert after["provenance"]["back_projection"] == "cubic"
    assert before["provenance"]["back_projection"] is None


# ---- any factor, any depth


@pytest.mark.parametrize("scale", [2, 3, 6, 16])
def test_an_image_is_enlarged_as_many_times_as_asked(upscale: Upscale, tmp_path: Path, scale: int) -> None:
    source = image(tmp_path / "a.png")
    code, (record,), _ = upscale(source, "-o", tmp_path / "out.png", "--scale", scale, "--samples", 2)
    assert code == 0
    assert (record["width"], record["height"]) == (24 * scale, 16 * scale)
    assert (record["scale"], record["provenance"]["passes"]) == (scale, 1 if scale <= 4 else 2)
    assert read_image(tmp_path / "out.std.png").pixels.shape == (16 * scale, 24 * scale)


@pytest.mark.parametrize(
    ("scale", "code"), [("1", 1), ("0", 1), ("-2", 1), ("17", 1), ("2.5", 2), ("big", 2)]
)
def test_a_nonsense_scale_is_refused_before_any_image(
    upscale: Upscale, tmp_path: Path, scale: str, code: int
) -> None:
    source = image(tmp_path / "a.png")
    found, _, err = upscale(source, "-o", tmp_path / "out", "--scale", scale)
    assert found == code
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_smooth_ramp_of_sixteen_bits_keeps_its_levels_through_the_shipped_model(precision: str) -> None:
    """3000 of 65535 levels: eight bits anywhere on the way would leave thirteen."""
    place = np.arange(64)
    ramp = np.rint(20000 + 3000 * (place[:, None] + place) / 126).astype(np.uint16)
    bundle = Bundle.open(default_bundle())
    settings = Settings(bundle.manifest.default_preset)
    with Upscaler(bundle, open_backend("onnxruntime"), precision=Precision(precision)) as upscaler:
        result = upscale_image(upscaler, LoadedImage(ramp, "ramp", "PNG"), settings)
    inner = result.pixels[32:-32, 32:-32]
    assert result.pixels.dtype == np.uint16
    assert np.unique(inner).size > 1000
    equal = (np.diff(inner.astype(int), axis=1) == 0).mean()
    assert equal < 0.05, "neighbours of one value are what banding looks like"


def test_info_says_what_true_images_reach(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(with_alarm(tmp_path / "known", 27.0))]) == 0
    assert "alarm below 27 dB by cubic, which 95% of 75 true images reach" in capfd.readouterr().out
