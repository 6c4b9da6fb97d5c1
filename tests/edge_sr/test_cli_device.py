"""Engines on a fake Jetson: built, checked, taken by `--backend auto`, or refused with the reason."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_sr.backends import BACKENDS
from edge_sr.bundle import Bundle, default_bundle
from edge_sr.cli import run
from edge_sr.image import read_image
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision
from tests.edge_sr import trees
from tests.edge_sr.commands import Commands, edit_sidecars
from tests.edge_sr.fake_device import WithoutGraphs, install, write_fake_bundle


@pytest.fixture(scope="module")
def fake_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden values of what the fake device computes."""
    return write_fake_bundle(tmp_path_factory.mktemp("bundles") / "fake").folder


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake Orin Nano."""
    install(tmp_path / "packages", monkeypatch)


@pytest.fixture(scope="module")
def built(fake_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake device's engines of the default precision."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("packages"), patch)
        command = ["build-engine", "--precision", "fp32", "--bundle", str(fake_bundle)]
        assert run([*command, "--engine-dir", str(folder / "engines")]) == 0
    return folder / "engines"


def test_engines_are_built_checked_and_taken_by_auto(
    edge_sr: Commands, fake_bundle: Path, image: Path, device: None, tmp_path: Path
) -> None:
    code, out, _ = edge_sr("build-engine", "--precision", "int8", "--bundle", fake_bundle)
    assert code == 0
    assert out.count("golden outputs within") == 3
    record, err = edge_sr.upscale(image, tmp_path / "gpu.png", "--bundle", fake_bundle)
    edge_sr.upscale(image, tmp_path / "cpu.png", "--bundle", fake_bundle, "--backend", "fake")
    assert "tensorrt 10.3.0 (Orin" in record["backend"]
    assert "its int8-fp16 engines in" in record["backend"]
    assert record["backend"] in err
    assert record["notes"] == []
    np.testing.assert_array_equal(
        read_image(tmp_path / "gpu.png").pixels, read_image(tmp_path / "cpu.png").pixels
    )


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ({"version": "10.2.0"}, "library version: the engine has 10.2.0, wanted 10.3.0"),
        ({"device": "Xavier"}, "device name: the engine has Xavier, wanted Orin"),
        ({"graph_sha256": "0" * 64}, "graph sha256: the engine has 0000"),
    ],
    ids=["version", "device", "graph"],
)
def test_auto_falls_back_from_an_engine_that_does_not_fit_and_says_why(
    edge_sr: Commands,
    fake_bundle: Path,
    image: Path,
    built: Path,
    engines: Path,
    device: None,
    tmp_path: Path,
    key: dict[str, str],
    reason: str,
) -> None:
    shutil.copytree(built, engines)
    edit_sidecars(engines, **key)
    record, _ = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", fake_bundle)
    assert record["backend"].startswith("onnxruntime")
    assert reason in record["backend"]
    code, _, err = edge_sr("upscale", image, "-o", tmp_path, "--bundle", fake_bundle, "--backend", "tensorrt")
    assert code == 1
    assert reason in err
    assert "hint: build it with: edge-sr build-engine" in err


def test_other_flags_make_another_engine(
    edge_sr: Commands, fake_bundle: Path, built: Path, engines: Path, device: None
) -> None:
    shutil.copytree(built, engines)
    command = ["--precision", "fp32", "--bundle", fake_bundle, "--component", "step", "--json"]
    same, other = (
        json.loads(edge_sr("build-engine", *command, *more)[1])["engines"][0]
        for more in ([], ["--max-batch", "2"])
    )
    assert (same["was_reused"], other["was_reused"]) == (True, False)
    assert "batch=1-1-2 " in other["flags"]


def test_without_a_precision_the_engines_built_last_are_run(
    edge_sr: Commands,
    fake_bundle: Path,
    image: Path,
    built: Path,
    engines: Path,
    device: None,
    tmp_path: Path,
) -> None:
    shutil.copytree(built, engines)
    assert edge_sr("build-engine", "--precision", "fp16", "--bundle", fake_bundle)[0] == 0
    record, _ = edge_sr.upscale(image, tmp_path / "a.png", "--bundle", fake_bundle)
    assert "its fp16 engines" in record["backend"]
    named = ["--bundle", fake_bundle, "--precision", "fp32"]
    assert "its fp32 engines" in edge_sr.upscale(image, tmp_path / "b.png", *named)[0]["backend"]


def test_an_engine_with_wrong_outputs_is_refused(
    edge_sr: Commands, bundle: Path, engines: Path, device: None
) -> None:
    """The fake TensorRT does not compute what this bundle's graphs do."""
    code, out, err = edge_sr("build-engine", "--precision", "fp16", "--bundle", bundle, "--json")
    assert (code, out) == (1, "")
    assert "computes something else" in err
    assert "nothing was published" in err
    assert not list(engines.glob("*.plan"))


def test_autotune_publishes_one_precision_and_says_why(
    edge_sr: Commands, fake_bundle: Path, engines: Path, device: None
) -> None:
    code, out, err = edge_sr("build-engine", "--autotune", "--bundle", fake_bundle, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["autotune"]["precision"] == "fp16"  # the fake device takes as long for both
    assert "not clearly faster" in report["autotune"]["reason"]
    assert report["autotune"]["reason"] in err
    assert {engine["precision"] for engine in report["engines"]} == {"fp16"}
    assert len(list(engines.glob("*.plan"))) == 3


def test_selftest_builds_what_is_missing_and_passes(
    edge_sr: Commands, fake_bundle: Path, engines: Path, device: None, tmp_path: Path
) -> None:
    command = ["--backend", "tensorrt", "--precision", "int8", "--bundle", fake_bundle, "--json"]
    code, out, _ = edge_sr("selftest", *command, "--report", tmp_path / "report.json")
    facts = json.loads(out)
    assert (code, facts["passed"], facts["precision"]) == (0, True, "int8-fp16")
    assert len(list(engines.glob("*.plan"))) == 3


def test_selftest_tells_the_energy_of_an_image_in_words_in_json_and_in_the_report(
    edge_sr: Commands,
    fake_bundle: Path,
    built: Path,
    engines: Path,
    device: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only where the machine's files lie is another: the rails are those of an Orin Nano."""
    shutil.copytree(built, engines)
    orin = trees.make(trees.ORIN_NANO_JP62, tmp_path / "orin")
    command_module = sys.modules["edge_sr.cli.selftest"]  # the package has the command under that name
    monkeypatch.setattr(command_module, "run_selftest", partial(run_selftest, root=orin, energy_s=0.0))
    command = ["--backend", "tensorrt", "--precision", "fp32", "--bundle", fake_bundle]
    report = tmp_path / "report.json"
    _, words, _ = edge_sr("selftest", *command, "--report", report)
    _, text, _ = edge_sr("selftest", *command, "--json")
    assert "J above idle; 7.77 W, idle 7.77 W, at VDD_IN" in words
    for facts in (json.loads(text), json.loads(report.read_text(encoding="utf-8"))):
        assert facts["energy"]["rail"] == "VDD_IN"
        assert set(facts["energy"]) == {"rail", "images", "gross_j", "above_idle_j", "mean_w", "idle_w"}


def test_a_fallback_is_announced_on_stderr_and_in_json(
    edge_sr: Commands,
    fake_bundle: Path,
    image: Path,
    built: Path,
    engines: Path,
    device: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(built, engines)
    monkeypatch.setitem(BACKENDS, "tensorrt", f"{WithoutGraphs.__module__}:{WithoutGraphs.__name__}")
    record, err = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", fake_bundle)
    (note,) = record["notes"]
    assert "no CUDA graphs" in note
    assert err.count(f"note: {note}") == 1


@pytest.fixture
def rtx() -> None:
    """TensorRT-RTX, and no GPU."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed; pip install tensorrt-rtx-cu13")
    if any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvmap")):
        pytest.skip("there is a GPU here")


def test_tensorrt_rtx_builds_portable_engines_and_says_what_they_are_not(
    edge_sr: Commands, bundle: Path, rtx: None
) -> None:
    code, out, err = edge_sr("build-engine", "--precision", "int8", "--bundle", bundle, "--component", "step")
    assert code == 0
    assert "rtx-portable-step-int8-fp16-" in out
    assert "not run" in out
    assert "not for a Jetson" in err
    code, _, err = edge_sr("build-engine", "--autotune", "--bundle", bundle)
    assert code == 1  # nothing can be timed here, and nothing is built
    assert "cuda-bindings" in err or "driver" in err


def test_every_int8_engine_of_the_shipped_bundle_is_built_without_a_gpu(
    edge_sr: Commands, engines: Path, rtx: None
) -> None:
    command = ["--precision", "int8", "--json"]
    first, again, other = (
        json.loads(edge_sr("build-engine", *command, *more)[1])["engines"]
        for more in ([], [], ["--max-batch", "2", "--component", "decoder"])
    )
    assert [(e["component"], e["precision"]) for e in first] == [
        (component, "int8-fp16") for component in ("encoder", "step", "decoder")
    ]
    assert [e["was_reused"] for e in (*first, *again, *other)] == [False] * 3 + [True] * 3 + [False]
    shipped = Bundle.open(default_bundle())
    for engine in first:
        sidecar = json.loads(Path(engine["path"]).with_suffix(".json").read_text(encoding="utf-8"))
        graph = shipped.graph(Component(engine["component"]), Precision.INT8_FP16)
        assert sidecar["key"]["graph_sha256"] == graph.sha256
        assert sidecar["kind"] == "rtx-portable" and sidecar["bytes"] == Path(engine["path"]).stat().st_size
        assert "QUANTIZE" in sidecar["layers"]
