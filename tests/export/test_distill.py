"""`python -m export distill`: a chain of students, taken up, refused, and through the whole engine."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Generator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.quality import Request, run_quality
from calibration.lint import lint_paths
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, UsageError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Precision
from export.__main__ import run
from export.bundle import phantom, read_card
from export.distill import NOISE_SCALES, DistillTask
from export.train import Batch, TrainOptions, fit, load_weights
from export.train_unet import distilled_steps, load_unet
from tests.export.precisions import check_compiles, errors_to_fp32, quantised_from
from tests.export.test_training import rows, same_weights
from tests.export.tiny import CARD, tiny_unet

CARDS = Path(__file__).parents[2] / "export" / "cards"
ONE_STEP: dict[str, Any] = {
    "presets": {"default": {"sampler": "ddim", "steps": 1, "noise_scale": 0.6}},
    "default": "default",
}


def command(dataset: Path, vae: Path, unet: Path, out: Path, *more: str) -> list[str]:
    """From 4 steps to 2 and 1, three iterations each."""
    places = ["--val", str(dataset / "val"), "--vae", str(vae), "--unet", str(unet), "--out", str(out)]
    sizes = ["--teacher-steps", "4", "--batch", "4", "--iterations", "3", "--validate-every", "3"]
    return ["distill", *places, *sizes, "--checkpoint-every", "0", *more]


def task(
    dataset: Path, vae: Path, unet: Path, *, kind: type[DistillTask] | None = None, **changed: Any
) -> DistillTask:
    """The first student of that chain."""
    told: dict[str, Any] = {"steps": 2, "teacher": unet, "first": unet, "first_steps": 4, "batch": 4}
    places: dict[str, Any] = {"vae": vae, "val": dataset / "val", "lpips": None}
    return (kind or DistillTask)(**{**told, **places, **changed})


@pytest.fixture(scope="module")
def teacher(unet_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network does something."""
    folder = tmp_path_factory.mktemp("teacher") / "unet"
    shutil.copytree(unet_run, folder)
    (folder / "command.txt").write_text("python -m export train-unet\n")
    saved = torch.load(folder / "weights.pt", weights_only=True)
    torch.save(saved | {"weights": tiny_unet().state_dict()}, folder / "weights.pt")
    return folder


@pytest.fixture(scope="module")
def students(dataset: Path, vae_run: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished chain."""
    out = tmp_path_factory.mktemp("students") / "chain"
    assert run(command(dataset, vae_run, teacher, out)) == 0
    return out


@pytest.fixture(scope="module")
def bundle(students: Path, vae_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The one-step student's bundle, made by the command."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "card.json").write_text(json.dumps(CARD | ONE_STEP | {"tile": 64, "overlap": 16}))
    places = ["--vae", str(vae_run), "--unet", str(students / "1-step"), "--out", str(folder / "b")]
    assert run(["bundle", *places, "--card", str(folder / "card.json")]) == 0
    return Bundle.open(folder / "b")


# ---- the chain


def test_every_student_is_a_run_of_its_own_that_says_how_it_was_distilled(
    students: Path, teacher: Path
) -> None:
    assert sorted(path.name for path in students.iterdir()) == ["1-step", "2-step"]
    assert [distilled_steps(students / f"{steps}-step") for steps in (2, 1)] == [2, 1]
    assert distilled_steps(teacher) is None
    for student in students.iterdir():
        assert load_weights(student)[0]["distilled"]["noise_scales"] == list(NOISE_SCALES)
        assert load_unet(student)[2] == load_unet(teacher)[2], "v of the same noise schedule"
        names = {name for _, name, _ in rows(student)}
        kinds = {f"val_{kind}_{scale}" for kind in ("psnr", "same", "plain") for scale in NOISE_SCALES}
        assert names == {"loss"} | kinds
        first, *rest = (student / "command.txt").read_text().splitlines()
        assert first == "python -m export train-unet"
        assert len(rest) == 1


def test_a_student_begins_as_its_teacher_who_stays_as_it_is(
    dataset: Path, vae_run: Path, teacher: Path
) -> None:
    made = task(dataset, vae_run, teacher)
    before, begun = load_weights(teacher)[1], made.model.state_dict()
    assert all(torch.equal(before[name], begun[name]) for name in before)
    assert all(parameter.requires_grad for parameter in made.model.parameters())
    batch = next(made.batches(0))
    made.loss(made.model, batch, progress=0.0)["loss"].backward()
    torch.optim.SGD(made.model.parameters(), lr=0.1).step()
    other = task(dataset, vae_run, teacher).model.state_dict()
    assert all(torch.equal(before[name], other[name]) for name in before)
    assert not torch.equal(made.model.state_dict()["conv_out.weight"], before["conv_out.weight"])


def test_a_student_comes_nearer_to_its_teacher(
    dataset: Path, vae_run: Path, teacher: Path, tmp_path: Path
) -> None:
    made = task(dataset, vae_run, teacher, steps=1, first_steps=2, batch=8)
    with torch.no_grad():
        before, _ = made.validate(load_unet(teacher)[0])
    fit(made, TrainOptions(out=tmp_path, iterations=60, validate_every=60, warmup=5, learning_rate=3e-3))
    after = {name: value for _, name, value in rows(tmp_path)}
    for scale in NOISE_SCALES:
        assert before[f"same_{scale}"] == before[f"plain_{scale}"], "untrained, it is the plain model"
        assert after[f"val_same_{scale}"] > before[f"same_{scale}"] + 1.0  # dB


def test_the_batch_is_of_so_many_steps_and_depends_on_its_number_alone(
    dataset: Path, vae_run: Path, teacher: Path
) -> None:
    made = task(dataset, vae_run, teacher)
    (first,), (second,) = islice(made.batches(0), 2)
    assert first.shape == (2, 4, 32, 32)
    assert torch.equal(next(made.batches(1))[0], second)
    assert not torch.equal(first, second)


class Stopped(DistillTask):
    """One whose batches end in the middle."""

    def batches(self, start: int) -> Generator[Batch, None, None]:
        yield from islice(super().batches(start), 2)
        raise KeyboardInterrupt


def test_a_chain_stopped_anywhere_and_started_again_ends_as_an_unbroken_one(
    dataset: Path, vae_run: Path, teacher: Path, students: Path, tmp_path: Path
) -> None:
    out = tmp_path / "chain"
    options: dict[str, Any] = {"iterations": 3, "validate_every": 3, "learning_rate": 5e-4}
    for steps, before in ((2, teacher), (1, out / "2-step")):
        broken = task(dataset, vae_run, teacher, kind=Stopped, steps=steps, teacher=before)
        with pytest.raises(KeyboardInterrupt):
            fit(broken, TrainOptions(out=out / f"{steps}-step", checkpoint_every_s=0, **options))
        if steps == 2:
            finished = task(dataset, vae_run, teacher)
            fit(finished, TrainOptions(out=out / "2-step", checkpoint_every_s=0, **options))
    assert run(command(dataset, vae_run, teacher, out)) == 0
    for student in ("2-step", "1-step"):
        assert same_weights(students / student, out / student)
        assert rows(students / student) == rows(out / student)


def test_a_finished_chain_that_is_started_again_stays_as_it_is(
    dataset: Path, vae_run: Path, teacher: Path, students: Path
) -> None:
    before = {path: path.read_bytes() for path in students.glob("*/weights.pt")}
    assert run(command(dataset, vae_run, teacher, students)) == 0
    assert {path: path.read_bytes() for path in students.glob("*/weights.pt")} == before


# ---- what is refused


def test_another_teacher_in_the_same_folder_is_refused(
    dataset: Path, vae_run: Path, unet_run: Path, students: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(dataset, vae_run, unet_run, students)) == 1
    assert "is of another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--teacher-steps", "6"], 1, "6 steps, halved again and again, are never 1"),
        (["--teacher-steps", "4", "--student-steps", "4"], 1, "are never 4"),
        (["--teacher-steps", "2048"], 1, "steps must be in 1..1000"),
        (["--batch", "3"], 1, "a batch of 3 is no multiple of 2 steps"),
        (["--teacher-steps", "0"], 2, "--teacher-steps"),
    ],
)
def test_steps_that_cannot_be_are_refused_and_nothing_is_begun(
    dataset: Path, vae_run: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    more: list[str], code: int, message: str,
) -> None:  # fmt: skip
    if "2048" in more:
        more = [*more, "--batch", "1024"]
    assert run(command(dataset, vae_run, teacher, tmp_path / "out", *more)) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_teachers_of_another_kind_are_refused(
    dataset: Path, vae_run: Path, teacher: Path, students: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no run of train-unet or distill"):
        task(dataset, vae_run, vae_run)
    with pytest.raises(ConfigError, match="was distilled to 2 steps, and cannot teach in 4"):
        task(dataset, vae_run, students / "2-step", first=teacher)
    with pytest.raises(ConfigError, match="no encoded pairs in"):
        task(dataset, vae_run, students / "2-step", steps=1)
    with pytest.raises(ConfigError, match="no trained weights"):
        task(dataset, vae_run, tmp_path)
    with pytest.raises(UsageError, match="no multiple"):
        task(dataset, vae_run, teacher, batch=3)


def test_pairs_of_another_autoencoder_are_refused(
    dataset: Path, vae_run: Path, teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "unet")
    path = tmp_path / "unet" / "latents" / "condition.npy"
    np.save(path, np.load(path)[:, :3])
    with pytest.raises(
        ConfigError, match=r"for \(4, 4\) channels of latent and condition, the pairs have \(4, 3\)"
    ):
        task(dataset, vae_run, tmp_path / "unet")


def test_a_bundle_does_not_promise_other_steps_than_its_student_learnt(
    students: Path, vae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = ONE_STEP["presets"] | {"fast": {"sampler": "ddim", "steps": 4, "eta": 0.5}}
    (tmp_path / "card.json").write_text(json.dumps(CARD | ONE_STEP | {"presets": presets}))
    places = ["--vae", str(vae_run), "--unet", str(students / "1-step"), "--out", str(tmp_path / "b")]
    assert run(["bundle", *places, "--card", str(tmp_path / "card.json")]) == 1
    said = capsys.readouterr().err
    assert "preset fast has steps 4, eta 0.5; the model was distilled to 1-step DDIM" in said
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("steps", [4, 2, 1])
def test_the_cards_promise_the_steps_of_their_name(steps: int) -> None:
    card = read_card(CARDS / f"cxr-x4-{steps}-step.json")
    assert card["name"] == f"cxr-x4-{steps}-step"
    assert {preset["steps"] for preset in card["presets"].values()} == {steps}
    assert card["presets"]["default"]["noise_scale"] == 0.6


# ---- through the whole engine


def test_the_bundle_names_its_teachers_command_and_its_own(bundle: Bundle) -> None:
    bundle.verify()
    commands = bundle.manifest.provenance.commands
    assert len(commands) == 3  # the autoencoder's, the teacher's, the student's
    assert commands[1] == "python -m export train-unet"
    assert bundle.diffusion.prediction == "v_prediction"
    assert bundle.diffusion.presets["default"].steps == 1


def test_the_pipeline_runs_a_student_as_any_model(bundle: Bundle, tmp_path: Path) -> None:
    preset = bundle.manifest.default_preset
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        assert run_selftest(upscaler, root=tmp_path).passed
        tile = upscaler.upscale(phantom(64, 1), preset=preset, seed=0).mean
        large = upscaler.upscale(phantom(96, 1), preset=preset, seed=0)
    assert tile.shape == (1, 256, 256)
    assert large.tiles == 4


@pytest.fixture(scope="module")
def quantised(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle in every precision."""
    return quantised_from(bundle, tmp_path_factory.mktemp("quantised") / "b", preset="default")


def test_it_is_recorded_and_quantised_and_its_graphs_are_lint_free(quantised: Bundle, tmp_path: Path) -> None:
    assert set(quantised.precisions()) == set(Precision)
    assert quantised.manifest.calibration is not None and quantised.manifest.calibration.steps == 1
    assert not [report for report in lint_paths([quantised.folder]) if report.errors]
    errors = errors_to_fp32(
        quantised, phantom(64, 1), preset=quantised.manifest.default_preset, root=tmp_path
    )
    # INT8 keeps 8 bits of what is about 1 in magnitude, layer after layer; FP16 eleven.
    for precision, bound in ((Precision.FP16, 0.01), (Precision.INT8, 0.1)):
        assert 0 < errors[precision] < bound


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx-cu13")
def test_tensorrt_compiles_every_graph(quantised: Bundle) -> None:
    check_compiles(quantised)


def test_it_is_judged_as_any_model(bundle: Bundle, dataset: Path) -> None:
    request = Request(bundle.folder, dataset / "val", seeds=2, threads=1)
    record = run_quality(request, arguments=(), track=lambda items, _: items).record
    scores = {row.key: row.values["psnr_db"] for row in record.rows if row.key in ("model", "one-step")}
    assert scores["model"] == scores["one-step"], "its default is one step"
