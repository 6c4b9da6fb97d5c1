"""`edge-sr build-engine`, and what other commands make of the models that it optimised for ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.bundle import Bundle, hash_file, write_manifest
from edge_sr.cli import run
from tests.edge_sr.commands import Commands, edit_sidecars
from tests.edge_sr.fake_device import without_tensorrt
from tests.fakes import write_tiny_bundle


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with without_tensorrt(monkeypatch):
        yield


@pytest.fixture(scope="module")
def optimised(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 models as ONNX Runtime optimised them."""
    folder = tmp_path_factory.mktemp("optimised")
    command = ["build-engine", "--precision", "fp32", "--backend", "onnxruntime", "--bundle", str(bundle)]
    assert run([*command, "--engine-dir", str(folder)]) == 0
    return folder


def test_an_optimised_model_is_used_and_gives_the_same_bytes(
    edge_sr: Commands, bundle: Path, image: Path, engines: Path, tmp_path: Path, no_tensorrt: None
) -> None:
    """The operators and their order are those that are chosen at load, so nothing may differ."""
    plain, _ = edge_sr.upscale(image, tmp_path / "plain.png", "--bundle", bundle, "--precision", "int8")
    build = ["--precision", "int8", "--backend", "onnxruntime", "--bundle", bundle]
    assert edge_sr("build-engine", *build)[0] == 0
    faster, err = edge_sr.upscale(image, tmp_path / "faster.png", "--bundle", bundle, "--precision", "int8")
    assert ", optimised" not in plain["backend"]
    assert f"optimised encoder, step, decoder from {engines}" in faster["backend"]
    assert faster["backend"] in err
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "faster.png").read_bytes()


def test_json_names_every_engine_and_nothing_is_built_twice(edge_sr: Commands, bundle: Path) -> None:
    command = [
        "--precision",
        "fp32",
        "--backend",
        "onnxruntime",
        "--bundle",
        bundle,
        "--component",
        "decoder",
    ]
    reports = [
        json.loads(edge_sr("build-engine", *command, "--json", *more)[1]) for more in ([], [], ["--force"])
    ]
    (engine,) = reports[0]["engines"]
    assert [r["engines"][0]["was_reused"] for r in reports] == [False, True, False]
    assert set(reports[0]) == {"target", "engines", "autotune", "notes"}
    assert (engine["component"], engine["precision"], engine["kind"]) == ("decoder", "fp32", "optimised-onnx")
    assert engine["checked"].startswith("golden outputs within")
    assert Path(engine["path"]).is_file()
    assert reports[0]["target"]["library"] == "onnxruntime"


def test_nothing_is_written_on_stderr_that_is_no_terminal(edge_sr: Commands, bundle: Path) -> None:
    command = ["--precision", "fp32", "--backend", "onnxruntime", "--bundle", bundle, "--component", "step"]
    code, out, err = edge_sr("build-engine", *command)
    assert (code, err) == (0, "")
    assert "golden outputs within" in out


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ({"version": "1.0.0"}, "library version: the engine has 1.0.0, wanted"),
        ({"device": "another cpu"}, "device name: the engine has another cpu"),
        ({"flags": "optimisation=none"}, "build flags: the engine has optimisation=none"),
    ],
    ids=["version", "device", "flags"],
)
def test_an_optimised_model_that_does_not_fit_is_left_aside_with_the_reason(
    edge_sr: Commands,
    bundle: Path,
    image: Path,
    optimised: Path,
    engines: Path,
    tmp_path: Path,
    key: dict[str, str],
    reason: str,
) -> None:
    shutil.copytree(optimised, engines)
    edit_sidecars(engines, **key)
    record, err = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", bundle, "--precision", "fp32")
    assert reason in err
    assert [reason in note for note in record["notes"]] == [True] * 3
    assert "edge-sr build-engine --precision fp32" in record["notes"][0]
    assert ", optimised" not in record["backend"]


def test_an_optimised_model_of_another_graph_is_left_aside(
    edge_sr: Commands, image: Path, optimised: Path, engines: Path, tmp_path: Path
) -> None:
    shutil.copytree(optimised, engines)
    other = write_tiny_bundle(tmp_path / "other", seed=1).folder
    record, _ = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", other)
    assert "graph sha256: the engine has" in record["notes"][0]


def test_an_optimised_model_that_was_changed_is_not_opened(
    edge_sr: Commands, bundle: Path, image: Path, optimised: Path, engines: Path, tmp_path: Path
) -> None:
    shutil.copytree(optimised, engines)
    with next(engines.glob("step*.onnx")).open("ab") as file:
        file.write(b"\0")
    record, _ = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", bundle, "--precision", "fp32")
    (note,) = record["notes"]
    assert "is not the file that its sidecar describes" in note
    assert "optimised encoder, decoder from" in record["backend"]


def test_outputs_that_are_not_the_golden_ones_are_not_published(
    edge_sr: Commands, bundle: Path, engines: Path, tmp_path: Path
) -> None:
    wrong = with_golden(bundle, tmp_path / "wrong", lambda golden: golden | {"output": -golden["output"]})
    command = ["--precision", "fp32", "--backend", "onnxruntime", "--bundle", wrong, "--component", "decoder"]
    code, _, err = edge_sr("build-engine", *command)
    assert code == 1
    assert "decoder: output is off by" in err
    assert list(engines.iterdir()) == []


def with_golden(bundle: Path, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of a bundle with other golden values."""
    shutil.copytree(bundle, folder)
    opened = Bundle.open(folder)
    np.savez(folder / "golden.npz", **change(opened.golden()))
    facts = {"sha256": hash_file(folder / "golden.npz"), "bytes": (folder / "golden.npz").stat().st_size}
    entry = opened.manifest.golden.model_copy(update=facts)
    write_manifest(folder, opened.manifest.model_copy(update={"golden": entry}))
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--precision", "int4"],
        ["--precision", "int8-fp16"],
        ["--precision", "fp32", "--backend", "fake"],
        ["--autotune", "--precision", "fp16"],
        ["--autotune", "--component", "step"],
        ["--autotune", "--backend", "onnxruntime"],
        ["--precision", "fp32", "--max-batch", "0"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_wrong_usage(
    edge_sr: Commands, bundle: Path, arguments: list[str]
) -> None:
    assert edge_sr("build-engine", "--bundle", bundle, *arguments)[0] == 2


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
def test_a_bundle_without_int8_names_the_command_that_makes_it(
    edge_sr: Commands, tmp_path: Path, backend: str
) -> None:
    plain = write_tiny_bundle(tmp_path / "plain").folder
    code, _, err = edge_sr("build-engine", "--precision", "int8", "--bundle", plain, "--backend", backend)
    assert code == 1
    assert "python -m calibration" in err


@pytest.mark.parametrize("command", ["upscale", "selftest", "build-engine"])
def test_a_named_tensorrt_that_is_not_installed_is_an_error_with_a_hint(
    edge_sr: Commands, bundle: Path, image: Path, no_tensorrt: None, command: str, tmp_path: Path
) -> None:
    arguments: dict[str, list[object]] = {
        "upscale": [image, "-o", tmp_path / "o.png"],
        "selftest": [],
        "build-engine": ["--autotune"],
    }
    code, _, err = edge_sr(command, *arguments[command], "--bundle", bundle, "--backend", "tensorrt")
    assert code == 1
    assert "tensorrt cannot be imported" in err
    assert "hint: on a Jetson it comes with JetPack" in err


def test_auto_says_why_it_takes_onnxruntime(
    edge_sr: Commands, bundle: Path, image: Path, no_tensorrt: None, tmp_path: Path
) -> None:
    record, err = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", bundle)
    assert record["backend"].startswith("onnxruntime")
    assert "TensorRT is not used: it is not installed" in record["backend"]
    assert record["backend"] in err


def test_auto_imports_no_tensorrt_where_there_are_no_engines(
    edge_sr: Commands, bundle: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/tensorrt.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    record, _ = edge_sr.upscale(image, tmp_path / "o.png", "--bundle", bundle)
    assert "no engines in" in record["backend"]
    assert "edge-sr build-engine" in record["backend"]
