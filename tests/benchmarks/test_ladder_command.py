"""The command `ladder`: what it writes, and what it refuses before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import run
from benchmarks.ladder.records import LadderResult
from benchmarks.ladder.rungs import plan_rungs
from edge_sr.bundle import Bundle, new_copy, write_manifest
from edge_sr.errors import ConfigError
from edge_sr.spec import Precision
from tests.fakes import write_tiny_bundle


def test_a_control_of_another_model_is_refused(quantised: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "tiny", precisions=("fp32", "fp16", "int8"))
    with pytest.raises(ConfigError, match="FP32 graphs differ from the bundle's: encoder, step, decoder"):
        plan_rungs(quantised, other)


def test_a_control_with_the_bundles_own_int8_graphs_is_refused(quantised: Bundle) -> None:
    with pytest.raises(ConfigError, match="the control's INT8 graphs are the bundle's own") as caught:
        plan_rungs(quantised, quantised)
    assert "--method minmax --no-exclusions" in caught.value.hint


def test_a_bundle_without_fp16_graphs_is_refused(quantised: Bundle, control: Bundle, tmp_path: Path) -> None:
    with new_copy(quantised, tmp_path / "less") as folder:
        graphs = {
            c: {p: g for p, g in found.items() if p is not Precision.FP16}
            for c, found in quantised.manifest.graphs.items()
        }
        write_manifest(folder, quantised.manifest.model_copy(update={"graphs": graphs}))
    with pytest.raises(ConfigError, match="the bundle small has no fp16 graphs"):
        plan_rungs(Bundle.open(tmp_path / "less"), control)


def test_the_command_writes_the_three_files_and_clears_up(
    quantised: Bundle,
    control: Bundle,
    pairs_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "name"
    folders = [
        "--bundle",
        quantised.folder,
        "--control",
        control.folder,
        "--data",
        pairs_folder,
        "--out",
        out,
    ]
    sizes = ["--seeds", "1", "--limit", "1", "--rounds", "3", "--threads", "1"]
    assert run(["ladder", *map(str, folders), *sizes]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.json", "name.md", "name.png"]
    assert (tmp_path / "name.md").read_text() in capsys.readouterr().out
    made = LadderResult.model_validate_json((tmp_path / "name.json").read_text())
    assert (made.lpips, made.other_seed, made.seed_noise["psnr_db"]) == (None, None, None)
    assert "a seed noise that one seed cannot tell" in made.verdicts["int8"]


def test_a_bad_control_is_one_line_and_exit_code_1(
    quantised: Bundle, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--bundle", quantised.folder, "--control", quantised.folder, "--data", pairs_folder]
    assert run(["ladder", *map(str, folders), "--out", str(tmp_path / "name")]) == 1
    assert capsys.readouterr().err.startswith("error: the control's INT8 graphs are the bundle's own")
    assert not list(tmp_path.iterdir())
