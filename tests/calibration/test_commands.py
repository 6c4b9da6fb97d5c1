"""`python -m calibration`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calibration.__main__ import cli, run
from calibration.errors import CalibrationError
from edge_sr.bundle import Bundle
from edge_sr.spec import Precision
from tests.calibration.conftest import snapshot, write_images


def call(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


def test_from_images_to_a_bundle_with_every_precision(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    recording, plans = tmp_path / "seen.npz", tmp_path / "plans"
    common = ("--bundle", bundle.folder, "--images", folder, "--preset", "one")
    told = call("record", *common, "--out", recording, "--picture", tmp_path / "drift.png").output
    assert "8 of 8 images, 1 steps of ddim" in told
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    told = call(
        "sensitivity", *common, "--count", 2, "--recording", recording, "--budget", 50, "--out", plans
    ).output
    assert "gray levels from FP32" in told
    assert {path.name for path in plans.iterdir()} == {
        "layers.csv",
        "plan.json",
        "plans.json",
        "sensitivity.png",
    }
    told = call("quantize", "--bundle", bundle.folder, "--plan", plans / "plan.json").output
    assert "layers in INT8" in told
    made = Bundle.open(bundle.folder)
    assert set(made.precisions()) == set(Precision)
    assert made.manifest.calibration is not None


def test_quantize_takes_a_recording_and_a_method(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    recording = tmp_path / "seen.npz"
    call("record", "--bundle", bundle.folder, "--images", folder, "--out", recording, "--preset", "one")
    out = tmp_path / "naive"
    call(
        "quantize",
        "--bundle",
        bundle.folder,
        "--recording",
        recording,
        "--method",
        "minmax",
        "--no-exclusions",
        "--out",
        out,
    )
    record = json.loads((out / "bundle.json").read_text())["calibration"]
    assert (record["method"], record["excluded"], record["steps"]) == ("minmax", {}, 1)


def test_a_recording_that_fails_leaves_nothing(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    before = snapshot(bundle.folder)
    (folder / "03.png").write_bytes(b"broken")
    words = ["record", "--bundle", bundle.folder, "--images", folder, "--out", tmp_path / "seen.npz"]
    with pytest.raises(CalibrationError, match=r"03\.png"):
        call(*words)
    assert snapshot(bundle.folder) == before
    assert not (tmp_path / "seen.npz").exists()


def test_a_recording_that_is_interrupted_leaves_nothing(
    bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calibration import record

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(record.Recorder, "check_batches", interrupted)
    words = [
        "record",
        "--bundle",
        str(bundle.folder),
        "--images",
        str(folder),
        "--out",
        str(tmp_path / "seen.npz"),
    ]
    assert run(words) == 130
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("words", [[], ["--recording", "a.npz", "--plan", "b.json"]])
def test_quantize_wants_a_recording_or_a_plan(bundle: Bundle, words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["quantize", "--bundle", str(bundle.folder), *words])
    assert result.exit_code == 2
    assert "either" in result.output


def test_an_error_is_one_line_and_a_hint(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "one", 1)
    words = ["record", "--bundle", str(bundle.folder), "--images", str(folder)]
    assert run([*words, "--out", str(tmp_path / "seen.npz")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: 1 images are too few to calibrate with, wanted at least 8",
        "hint: 64 is a good number to record, 4 to measure sensitivity",
    ]
