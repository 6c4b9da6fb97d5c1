"""Students beside their teacher: which rows there are, what is compared, what a twin gains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.__main__ import run
from benchmarks.few_step import FewStepResult, Outcome, Request, run_few_step
from benchmarks.few_step_report import few_step_report, few_step_sheet
from benchmarks.records import to_json
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.metrics import psnr
from export.bundle import phantom, read_card, write_bundle
from export.families import Model
from export.models.unet_lite import UNetLite
from export.to_onnx import round_weights
from tests.benchmarks.conftest import ROOT, UNET_CONFIG
from tests.fakes import write_tiny_bundle


def student(model: Model, folder: Path, steps: int) -> Bundle:
    """A bundle for so many steps."""
    presets = {"default": {"sampler": "ddim", "steps": steps, "noise_scale": 0.8}}
    card = read_card(ROOT / "export" / "cards" / "cxr-x4.json")
    card |= {"name": f"student-{steps}", "presets": presets, "default": "default"}
    return write_bundle(model, card, folder / f"student-{steps}", image=phantom(64, 1), commands=("none",))


@pytest.fixture(scope="module")
def students(model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """One of 1 step that is its teacher, and one of 2 steps that is another network."""
    torch.manual_seed(7)
    unet = UNetLite(UNET_CONFIG)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    round_weights(unet.eval().requires_grad_(requires_grad=False))
    folder = tmp_path_factory.mktemp("students")
    return tuple(
        student(network, folder, steps).folder
        for network, steps in ((model, 1), (replace(model, unet=unet), 2))
    )


@pytest.fixture(scope="module")
def outcome(bundle: Bundle, students: tuple[Path, ...], pairs_folder: Path, lpips_weights: Path) -> Outcome:
    request = Request(
        bundle.folder, students, pairs_folder, teacher_steps=4, lpips=lpips_weights, limit=2, threads=1
    )
    return run_few_step(request, arguments=["few-step"], track=lambda items, what: items)


def test_every_row_is_there_for_the_default_noise_and_for_the_whole(outcome: Outcome) -> None:
    keys = [row.key for row in outcome.record.scores.rows]
    teacher = [f"teacher-{n}-x{scale}" for scale in ("0.8", "1") for n in (3, 4, 2, 1)]
    students = [f"student-{n}-x{scale}" for n in (2, 1) for scale in ("0.8", "1")]
    assert keys == ["hr", "bicubic", "mean", "model", *teacher, *students]
    assert not any("left out" in notice for notice in outcome.record.scores.notices)
    compared = [(found.steps, found.noise_scale) for found in outcome.record.comparisons]
    assert compared == [(2, 0.8), (1, 0.8), (2, 1.0), (1, 1.0)]


def test_a_student_that_is_its_teacher_gains_nothing(outcome: Outcome) -> None:
    twins = [found for found in outcome.record.comparisons if found.steps == 1]
    assert len(twins) == 2
    for found in twins:
        assert all(change.mean == change.low == change.high == 0 for change in found.versus.values())
        assert found.same["difference"].mean == 0
    claims = [check for check in outcome.record.checks if ", 1 step," in check.claim]
    assert len(claims) == 6
    assert not any(check.holds for check in claims)


def test_a_difference_is_of_the_student_less_the_teacher_in_as_few_steps_from_the_same_noise(
    outcome: Outcome,
) -> None:
    found = next(f for f in outcome.record.comparisons if (f.steps, f.noise_scale) == (2, 1.0))
    rows = {row.key: row for row in outcome.record.scores.rows}
    wanted = np.mean(rows["student-2-x1"].values["lpips"]) - np.mean(rows["teacher-2-x1"].values["lpips"])
    assert found.versus["lpips"].mean == pytest.approx(wanted, abs=1e-6)
    assert found.versus["lpips"].mean != 0
    images = outcome.images
    same = np.mean(
        [
            [psnr(images[found.student][s, n], images["teacher-4-x1"][s, n]) for n in range(2)]
            for s in range(2)
        ]
    )
    assert found.same["student"].mean == pytest.approx(same)


def test_the_record_reads_back_and_the_table_names_what_was_found(outcome: Outcome) -> None:
    record = outcome.record
    assert FewStepResult.model_validate_json(to_json(record)) == record
    assert "/" not in json.loads(to_json(record))["scores"]["environment"]["command"]
    table = few_step_report(record)
    assert "| 2 steps, noise x 0.8 |" in table
    assert "| 1 step, noise x 1 | " in table
    assert "student-1" in table and "Claim" in table
    assert table.count("\n# ") == 0, "one title"


def test_the_picture_shows_the_fewest_steps(outcome: Outcome) -> None:
    picture = cv2.imdecode(np.frombuffer(few_step_sheet(outcome), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] > 5 * 256
    assert picture.std() > 10


def test_students_that_cannot_be_compared_are_refused(
    bundle: Bundle, students: tuple[Path, ...], pairs_folder: Path, tmp_path: Path
) -> None:
    def judged(*folders: Path) -> None:
        request = Request(bundle.folder, folders, pairs_folder, seeds=1, limit=1, threads=1)
        run_few_step(request, arguments=[], track=lambda items, what: items)

    with pytest.raises(ConfigError, match="two students of 1 step"):
        judged(students[0], students[0])
    with pytest.raises(ConfigError, match="has tile 16, its teacher has 64"):
        judged(write_tiny_bundle(tmp_path / "tiny").folder)
    with pytest.raises(ConfigError, match="has latent None, its teacher has"):
        judged(write_tiny_bundle(tmp_path / "plain", family="regression", tile=64).folder)


def test_the_command_writes_the_three_files(
    bundle: Bundle,
    students: tuple[Path, ...],
    pairs_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ["--bundle", str(bundle.folder), "--student", str(students[0]), "--pairs", str(pairs_folder)]
    sizes = ["--limit", "1", "--seeds", "1", "--threads", "1", "--teacher-steps", "2"]
    assert run(["few-step", *places, *sizes, "--out", str(tmp_path / "name")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.json", "name.md", "name.png"]
    assert (tmp_path / "name.md").read_text() in capsys.readouterr().out
