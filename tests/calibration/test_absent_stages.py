"""Bundles without some of the graphs: recorded, measured and quantised like those that have all three."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.__main__ import run
from calibration.errors import CalibrationError
from calibration.graph import read_graph
from calibration.images import choose_files, read_set
from calibration.lint import lint_paths
from calibration.plan import make_plan, read_plan
from calibration.quantize import quantize_bundle
from calibration.record import record
from calibration.recording import read_recording, write_recording
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision
from tests.calibration.conftest import IMAGES, write_images
from tests.calibration.test_commands import call
from tests.fakes import FAMILIES, tiny_image, write_tiny_bundle

ABSENT = tuple(family for family in FAMILIES if family != "latent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("family", ABSENT)
def test_from_images_to_every_precision(family: str, folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family=family)
    recording, plans = tmp_path / "seen.npz", tmp_path / "plans"
    common = ("--bundle", bundle.folder, "--images", folder)
    told = call("record", *common, "--out", recording).output
    assert ("4 steps of ddim" in told) == (family != "regression")
    measured = (*common, "--count", 2, "--recording", recording, "--budget", 50, "--out", plans)
    assert "gray levels from FP32" in call("sensitivity", *measured).output
    call("quantize", "--bundle", bundle.folder, "--plan", plans / "plan.json")

    made = Bundle.open(bundle.folder)
    made.verify()
    assert set(made.precisions()) == set(Precision)
    assert tuple(made.manifest.graphs) == FAMILIES[family]
    known = made.manifest.calibration
    assert known is not None and known.images_used == IMAGES
    assert (known.steps, known.sampler) == ((None, None) if family == "regression" else (4, "ddim"))


@pytest.mark.parametrize("family", ABSENT)
def test_quantised_graphs_are_lint_free_pass_the_self_test_and_tile(
    family: str, folder: Path, tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family=family)
    images = read_set(choose_files(folder, 0, seed=0), bundle.manifest)
    preset = None if family == "regression" else "even"
    seen = record(bundle, images, preset=preset, seed=0)
    made = quantize_bundle(bundle, make_plan(bundle, seen, method="minmax", exclude=False), tmp_path / "made")
    assert not [report for report in lint_paths([made.folder]) if report.errors]
    image, results = tiny_image(21, 44), {}
    for precision in (Precision.FP32, Precision.FP16, Precision.INT8):
        with Upscaler(made, open_backend("onnxruntime", threads=1), precision=precision) as upscaler:
            assert run_selftest(upscaler, root=tmp_path).passed
            output = upscaler.upscale(image, preset=made.manifest.default_preset, seed=0)
            results[precision] = output.mean
            assert output.tiles == 8
    # INT8 keeps 8 bits of what is about 1 in magnitude, layer after layer; FP16 eleven.
    for precision, bound in ((Precision.FP16, 0.01), (Precision.INT8, 0.1)):
        error = np.sqrt(np.mean((results[precision] - results[Precision.FP32]) ** 2))
        assert 0 < error < bound


def test_a_step_that_reads_the_image_itself_has_a_row_of_ranges_for_every_step(
    folder: Path, tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family="bare")
    images = read_set(choose_files(folder, 0, seed=0), bundle.manifest)
    seen = record(bundle, images, preset="odd", seed=0)
    histogram = seen.histograms[Component.STEP]["both"]
    # x is uncorrelated noise at the first step, an image within its bounds at the last.
    assert histogram.high.shape == (3,)
    assert histogram.high[0] > 2 and np.all(histogram.counts.sum(axis=1) == histogram.counts[0].sum())


@pytest.mark.parametrize("family", ABSENT)
def test_a_recording_and_a_plan_of_fewer_graphs_are_read_as_they_were_written(
    family: str, folder: Path, tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family=family)
    images = read_set(choose_files(folder, 0, seed=0), bundle.manifest)
    seen = record(bundle, images, preset=None if family == "regression" else "one", seed=0)
    write_recording(tmp_path / "seen.npz", seen)
    again = read_recording(tmp_path / "seen.npz")
    assert again.facts == seen.facts
    assert make_plan(bundle, again, method="mse") == make_plan(bundle, seen, method="mse")


def test_a_recording_of_other_graphs_is_refused_by_what_each_has(folder: Path, tmp_path: Path) -> None:
    bare, plain = (write_tiny_bundle(tmp_path / f, family=f) for f in ("bare", "regression"))
    images = read_set(choose_files(folder, 0, seed=0), plain.manifest)
    seen = record(plain, images, preset=None, seed=0)
    with pytest.raises(CalibrationError, match="the recording is of decoder, the bundle has step"):
        seen.check_bundle(bare)


def test_a_plan_that_lacks_a_recorded_graph_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family="regression")
    call("record", "--bundle", bundle.folder, "--images", folder, "--out", tmp_path / "seen.npz")
    plans = ("--recording", tmp_path / "seen.npz", "--budget", 50, "--out", tmp_path / "plans")
    call("sensitivity", "--bundle", bundle.folder, "--images", folder, "--count", 2, *plans)
    path = tmp_path / "plans" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"components": {}}))
    with pytest.raises(CalibrationError, match="no calibration plan"):
        read_plan(path)


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (("--picture", "drift.png"), 2, "along the loop, and bundle tiny has none"),
        (("--preset", "even"), 1, "bundle tiny has no loop"),
    ],
)
def test_what_only_a_loop_has_is_refused_without_one_and_nothing_is_recorded(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    extra: tuple[str, str],
    code: int,
    message: str,
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family="regression")
    words = [
        "record",
        "--bundle",
        str(bundle.folder),
        "--images",
        str(folder),
        "--out",
        str(tmp_path / "s.npz"),
    ]
    assert run([*words, *extra]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s.npz").exists()


def test_an_encoder_that_only_enlarges_has_nothing_to_quantise(tmp_path: Path) -> None:
    from calibration.layers import find_layers

    bundle = write_tiny_bundle(tmp_path / "tiny", family="pixel")
    assert not find_layers(read_graph(bundle.graph(Component.ENCODER, Precision.FP32).path))
