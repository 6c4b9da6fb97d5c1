"""`edge-sr info`: the floor under a device's times, and the commands that build engines by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from edge_sr.bundle import Bundle, write_manifest
from edge_sr.cli import run
from edge_sr.manifest import Cost
from edge_sr.spec import Component, Precision
from tests.fakes import write_tiny_bundle

COST = Cost(
    macs=5_000_000_000, weight_bytes=4, activation_bytes=4
)  # 1 ms at the 10 TOPS of FP16 on Orin Nano


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """FP32 graphs that were counted, and others that were not."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    manifest = write_tiny_bundle(folder, precisions=("fp32", "fp16", "int8", "int8-fp16")).manifest
    graphs = {
        c: g | {Precision.FP32: g[Precision.FP32].model_copy(update={"cost": COST})}
        for c, g in manifest.graphs.items()
    }
    write_manifest(folder, manifest.model_copy(update={"graphs": graphs}))
    return Bundle.open(folder)


def test_the_floor_of_a_device_is_given_a_stage_and_a_precision(
    bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["info", str(bundle.folder), "--device", "orin-nano", "--json"]) == 0
    floor = json.loads(capfd.readouterr().out)["floor"]
    assert floor["ms"]["fp16"] == {"encoder": 1.0, "step": 1.0, "decoder": 1.0, "tile": 6.0}  # 4 steps
    assert floor["ms"]["int8"]["step"] == 0.5
    assert floor["assumptions"]


def test_a_device_without_int8_is_said_to_have_none(
    bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["info", str(bundle.folder), "--device", "nano"]) == 0
    out = capfd.readouterr().out
    assert "int8        not in hardware" in out
    assert "no forecast" in out


def test_a_bundle_whose_graphs_were_not_counted_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = write_tiny_bundle(tmp_path / "plain").folder
    assert run(["info", str(plain), "--device", "nano"]) == 1
    assert "python -m export bundle" in capfd.readouterr().err
    assert run(["info", str(plain), "--device", "pi"]) == 2


def test_trtexec_lines_name_every_graph_that_tensorrt_takes(
    bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["info", str(bundle.folder), "--trtexec"]) == 0
    out, err = capfd.readouterr()
    graphs = [
        next(Path(word.partition("=")[2]) for word in shlex.split(line) if word.startswith("--onnx="))
        for line in out.splitlines()
    ]
    assert {g.name for g in graphs} == {
        f"{c}.{p}.onnx" for c in Component for p in ("fp32", "fp16", "int8-fp16")
    }
    assert all(graph.is_file() for graph in graphs)
    assert "--shapes=latent:1x4x8x8,features:1x2x16x16,mean:1x1x64x64" in out
    assert "have not been run on a board" in err


def test_json_holds_what_was_asked_for_alone(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    facts = []
    for asked in ([], ["--trtexec"]):
        assert run(["info", str(bundle.folder), "--json", *asked]) == 0
        facts.append(json.loads(capfd.readouterr().out))
    assert "trtexec" not in facts[0]
    assert len(facts[1]["trtexec"]) == 9
    assert facts[0]["graphs"]["step"]["fp32"]["cost"]["macs"] == COST.macs
