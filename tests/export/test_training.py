"""Training: what a run leaves behind, and that a killed one loses nothing."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from edge_sr.errors import ConfigError, OutputError, UsageError
from export.__main__ import run
from export.models.unet_lite import UNetConfig
from export.train import Batch, TrainingError, TrainOptions, fit, load_weights, mean_psnr, sheet
from export.train_unet import UNetTask, load_vae
from export.train_vae import VAETask
from tests.export.tiny import UNET_CONFIG, VAE_CONFIG, write_dataset

ROOT = Path(__file__).parents[2]


class Line:
    """The smallest task: a straight line through points that depend on the iteration alone."""

    def __init__(self, *, stop_at: int | None = None, width: int = 1, breaks_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(width, 1)
        self.stop_at, self.breaks_at = stop_at, breaks_at
        self.seen: list[int] = []

    def config(self) -> dict[str, Any]:
        return {"width": self.model.in_features}

    def batches(self, start: int) -> Generator[Batch, None, None]:
        index = start
        while True:
            if index == self.stop_at:
                raise KeyboardInterrupt
            self.seen.append(index)
            yield (torch.full((4, self.model.in_features), float(index)),)
            index += 1

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        (x,) = batch
        error = (model(x / 50) - torch.randn(4, 1)).square().mean()
        is_broken = self.seen[-1] == self.breaks_at
        return {"loss": error * float("nan") if is_broken else error, "progress": torch.tensor(progress)}

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        return {"weight": float(next(model.parameters()).sum())}, np.zeros((8, 8), np.uint8)


def rows(out: Path) -> list[tuple[int, str, float]]:
    with (out / "log.csv").open(newline="") as file:
        return [(int(i), name, float(value)) for i, _, name, value in csv.reader(file)]


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_weights(folder)[1] for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def vae_task(dataset: Path) -> VAETask:
    return VAETask(VAE_CONFIG, train=dataset / "train", val=dataset / "val", lpips=None, batch=2, crop=32)


def unet_task(
    dataset: Path,
    vae: Path,
    out: Path,
    *,
    kind: type[UNetTask] = UNetTask,
    config: UNetConfig = UNET_CONFIG,
    device: str = "cpu",
) -> UNetTask:
    return kind(
        config,
        vae=vae,
        train=dataset / "train",
        val=dataset / "val",
        store=out / "latents",
        lpips=None,
        pairs=16,
        batch=4,
        device=device,
    )


def test_a_run_leaves_weights_a_curve_sample_sheets_and_a_log(vae_run: Path) -> None:
    config, weights = load_weights(vae_run)
    assert config == VAE_CONFIG.to_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert cv2.imread(str(vae_run / "curve.png")) is not None
    sheets = sorted((vae_run / "samples").iterdir())
    assert [path.name for path in sheets] == ["0000002.png", "0000004.png"]
    assert cv2.imread(str(sheets[-1]), cv2.IMREAD_UNCHANGED).shape == (2 * 256, 4 * 256)
    names = {name for _, name, _ in rows(vae_run)}
    assert names == {"loss", "l1", "l1_mean", "kl", "guess", "val_psnr", "val_psnr_mean", "val_foretold"}


def test_every_figure_is_logged_once_an_iteration(tmp_path: Path) -> None:
    fit(Line(), TrainOptions(out=tmp_path, iterations=100, validate_every=50))
    counts = Counter((iteration, name) for iteration, name, _ in rows(tmp_path))
    assert set(counts.values()) == {1}
    assert [i for i, name, _ in rows(tmp_path) if name == "val_weight"] == [50, 100]


def long(out: Path) -> TrainOptions:
    """A run of two validations and a checkpoint after every iteration."""
    return TrainOptions(out=out, iterations=120, validate_every=60, checkpoint_every_s=0)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that nobody disturbs."""
    out = tmp_path_factory.mktemp("unbroken")
    fit(Line(), long(out))
    return out


def test_an_interrupted_run_ends_as_an_unbroken_one(unbroken: Path, tmp_path: Path) -> None:
    options = long(tmp_path)
    for stop in (7, 60, 61, 77):
        with pytest.raises(KeyboardInterrupt):
            fit(Line(stop_at=stop), options)
    resumed = Line()
    fit(resumed, options)
    assert resumed.seen == list(range(77, 120))
    assert same_weights(unbroken, tmp_path)
    assert rows(tmp_path) == rows(unbroken)


def test_what_was_logged_after_the_last_checkpoint_is_logged_once(unbroken: Path, tmp_path: Path) -> None:
    options = long(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=40), options)
    with pytest.raises(KeyboardInterrupt):  # from 40 to 100 without a checkpoint: lost, but not its log
        fit(Line(stop_at=100), replace(options, checkpoint_every_s=1e9))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("9")  # half a row
    fit(Line(), options)
    assert rows(tmp_path) == rows(unbroken)
    assert same_weights(unbroken, tmp_path)


def test_a_run_killed_before_its_last_validation_is_validated_when_it_is_resumed(tmp_path: Path) -> None:
    options = TrainOptions(out=tmp_path / "whole", iterations=10, validate_every=30, checkpoint_every_s=0)
    fit(Line(), options)
    broken = shutil.copytree(options.out, tmp_path / "broken")
    for name in ("log.csv", "weights.pt", "curve.png"):
        (broken / name).unlink()
    fit(Line(), replace(options, out=broken))
    assert same_weights(options.out, broken)
    assert [row for row in rows(broken) if row[1] == "val_weight"] == [rows(options.out)[-1]]
    assert (broken / "curve.png").is_file()


def test_a_finished_run_that_is_started_again_stays_as_it_is(tmp_path: Path) -> None:
    options = TrainOptions(out=tmp_path, iterations=10, validate_every=5)
    fit(Line(), options)
    before = rows(tmp_path), (tmp_path / "weights.pt").read_bytes()
    again = Line()
    fit(again, options)
    assert again.seen == []
    assert (rows(tmp_path), (tmp_path / "weights.pt").read_bytes()) == before


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    options = TrainOptions(out=tmp_path, iterations=2)
    fit(Line(), options)
    with pytest.raises(UsageError, match=r"another configuration: \{'width': 1\}, now \{'width': 2\}"):
        fit(Line(width=2), options)


def test_a_loss_that_is_no_number_ends_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    options = TrainOptions(out=tmp_path, iterations=10, checkpoint_every_s=0)
    with pytest.raises(TrainingError, match="the loss is nan at iteration 6"):
        fit(Line(breaks_at=6), options)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["iteration"] == 6
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_is_refused_clearly_where_there_is_none(dataset: Path, vae_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no CUDA device here"):
        fit(Line(), TrainOptions(out=tmp_path / "run", device="cuda"))
    with pytest.raises(UsageError, match="no CUDA device here"):
        unet_task(dataset, vae_run, tmp_path / "run", device="cuda")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        fit(Line(), TrainOptions(out=tmp_path / "file", iterations=1))


def test_missing_or_damaged_weights_are_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trained weights"):
        load_weights(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="is damaged"):
        load_weights(tmp_path)


def test_a_time_limit_ends_a_run(tmp_path: Path) -> None:
    task = Line()
    fit(task, TrainOptions(out=tmp_path, iterations=10**9, minutes=1e-5))
    assert 0 < len(task.seen) < 10**5
    assert (tmp_path / "weights.pt").is_file()


def test_a_run_killed_in_the_middle_and_started_by_the_same_command_ends_as_an_unbroken_one(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path / "data", train=1, val=1)

    def command(out: Path) -> list[str]:
        data = tmp_path / "data"
        places = ["--train", str(data / "train"), "--val", str(data / "val"), "--out", str(out)]
        sizes = ["--batch", "1", "--crop", "16", "--iterations", "6", "--validate-every", "2"]
        return ["train-vae", *places, *sizes, "--checkpoint-every", "0", "--threads", "1", "--seed", "3"]

    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "export", *command(broken)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout as lines:
        assert any(line.startswith("2: psnr") for line in lines)  # its first validation
        process.kill()
    assert process.returncode == -9
    assert not (broken / "samples/0000006.png").exists()
    assert "--train FOLDER/train" in (broken / "command.txt").read_text()
    assert [run(command(out)) for out in (broken, whole)] == [0, 0]
    assert same_weights(broken, whole)
    # The log's loss is of the same weights and the same batch, in another process: equal too.
    assert rows(broken) == rows(whole)


class StoppedUNetTask(UNetTask):
    """One whose batches end in the middle."""

    def batches(self, start: int) -> Generator[Batch, None, None]:
        yield from islice(super().batches(start), 2)
        raise KeyboardInterrupt


def test_resuming_the_denoiser_ends_as_an_unbroken_run(
    dataset: Path, vae_run: Path, unet_run: Path, tmp_path: Path
) -> None:
    options = TrainOptions(out=tmp_path, iterations=4, validate_every=4, warmup=1, checkpoint_every_s=0)
    for kind in (StoppedUNetTask, UNetTask):
        task = unet_task(dataset, vae_run, tmp_path, kind=kind)
        with pytest.raises(KeyboardInterrupt) if kind is StoppedUNetTask else nullcontext():
            fit(task, options)
    assert same_weights(unet_run, tmp_path)
    assert rows(unet_run) == rows(tmp_path)
    assert load_weights(unet_run)[0] == load_weights(tmp_path)[0]


def test_the_denoisers_channels_follow_the_autoencoder(
    dataset: Path, vae_run: Path, unet_run: Path, tmp_path: Path
) -> None:
    sizes = UNetConfig(
        latent_channels=99, condition_channels=99, channels=(16, 32, 32), embedding=16, heads=2
    )
    task = unet_task(dataset, vae_run, tmp_path, config=sizes)
    assert task.config()["latent_channels"] == VAE_CONFIG.latent_channels
    assert task.config()["condition_channels"] == VAE_CONFIG.condition_channels
    assert load_weights(unet_run)[0].keys() == task.config().keys()


def test_the_loss_of_the_autoencoder_falls(dataset: Path, tmp_path: Path) -> None:
    fit(vae_task(dataset), TrainOptions(out=tmp_path, iterations=40, validate_every=20, warmup=1))
    psnr = [value for _, name, value in rows(tmp_path) if name == "val_psnr_mean"]
    assert psnr[-1] > psnr[0]
    assert load_vae(tmp_path).config == VAE_CONFIG


def test_psnr_is_of_pixels_as_a_file_would_hold_them() -> None:
    a = torch.zeros(2, 1, 8, 8)
    assert mean_psnr(a, a + 1e-4) == mean_psnr(a, a)  # rounds to the same 8 bits
    assert mean_psnr(a - 1, a + 1) == pytest.approx(0.0)


def test_a_sheet_shows_a_row_an_image_and_enlarges_the_small_ones_by_repetition() -> None:
    small, large = torch.full((3, 1, 4, 4), -1.0), torch.ones(3, 1, 8, 8)
    made = sheet([small, large], rows=2)
    assert made.shape == (16, 16)
    assert made.dtype == np.uint8
    assert not made[:, :8].any()
    assert (made[:, 8:] == 255).all()
