"""The stages before and after the autoencoder: the regression it starts from, and the decoder's last one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sr.errors import ConfigError
from export.families import load_model
from export.train import TrainOptions, fit, load_weights
from export.train_decoder import DecoderLoss, DecoderTask
from export.train_regression import RegressionTask
from export.train_unet import load_vae
from export.train_vae import VAETask
from tests.export.tiny import VAE_CONFIG

SHORT = {"iterations": 4, "validate_every": 4, "warmup": 1}


@pytest.fixture(scope="module")
def regression_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("regression")
    task = RegressionTask(VAE_CONFIG, train=dataset / "train", val=dataset / "val", batch=2, crop=32)
    fit(task, TrainOptions(out=out, **SHORT))  # type: ignore[arg-type]
    return out


def decoder_task(
    dataset: Path, vae_run: Path, unet_run: Path, store: Path, *, samples: int = 16, real: float = 0.5
) -> DecoderTask:
    return DecoderTask(
        vae=vae_run, unet=unet_run, val=dataset / "val", lpips=None, store=store, samples=samples,
        steps=2, batch=4, crop=64, weights=DecoderLoss(real=real),
    )  # fmt: skip


def test_the_regression_that_an_autoencoder_starts_from_stays_as_it_is(
    dataset: Path, regression_run: Path, tmp_path: Path
) -> None:
    task = VAETask(
        VAE_CONFIG, train=dataset / "train", val=dataset / "val", lpips=None, batch=2, crop=32,
        regression=regression_run,
    )  # fmt: skip
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    fit(task, TrainOptions(out=tmp_path, **SHORT))  # type: ignore[arg-type]
    _, regression = load_weights(regression_run)
    _, after = load_weights(tmp_path)
    is_condition = ("lr_encoder.condition", "lr_encoder.to_condition")
    fixed = [n for n in regression if not n.startswith(is_condition)]
    assert all(torch.equal(after[name], regression[name]) for name in fixed)
    moved = ("lr_encoder.to_condition.weight", "decoder.conv_out.weight", "hr_encoder.conv_in.weight")
    assert not any(torch.equal(after[name], before[name]) for name in moved)


def test_a_run_of_something_else_is_no_regression(dataset: Path, vae_run: Path) -> None:
    with pytest.raises(ConfigError, match="no run of train-regression"):
        VAETask(
            VAE_CONFIG, train=dataset / "train", val=dataset / "val", lpips=None, regression=vae_run
        )  # fmt: skip


def test_the_decoder_is_judged_on_the_loops_latents_a_latent_of_zeros_and_the_real_one(
    dataset: Path, vae_run: Path, unet_run: Path, tmp_path: Path
) -> None:
    task = decoder_task(dataset, vae_run, unet_run, tmp_path)
    with torch.no_grad():
        figures, sheet = task.validate(task.model)
    assert set(figures) == {"psnr_0.4", "psnr_0.8", "psnr_zero", "psnr_real"}
    assert sheet.shape[1] == 7 * 256  # LR, mean, the four, HR


@pytest.mark.parametrize("real", [0.0, 1.0])
def test_a_crop_comes_with_the_latent_of_its_own_place(
    dataset: Path, vae_run: Path, unet_run: Path, tmp_path: Path, real: float
) -> None:
    task = decoder_task(dataset, vae_run, unet_run, tmp_path, real=real)
    lr, hr, latent = next(task.batches(0))
    assert (lr.shape[1:], hr.shape[1:], latent.shape[1:]) == ((1, 16, 16), (1, 64, 64), (4, 8, 8))
    pairs = np.load(unet_run / "latents" / "lr.npy").astype(np.float32) / 127.5 - 1
    stored = np.load(unet_run / "latents" / "mu.npy" if real else tmp_path / "samples.npy").astype(np.float32)
    spread = np.exp(0.5 * np.load(unet_run / "latents" / "log_variance.npy").astype(np.float32)).max()
    tolerance = 6 * spread if real else 1e-6  # a real latent is drawn from its distribution
    for crop, its_latent in zip(lr.numpy(), latent.numpy(), strict=True):
        row, y, x = _place(pairs, crop)
        wanted = stored[row, :, y // 2 : y // 2 + 8, x // 2 : x // 2 + 8]
        assert np.abs(its_latent - wanted).max() < tolerance


def _place(pairs: np.ndarray, crop: np.ndarray) -> tuple[int, int, int]:
    """Where an LR crop was cut from: row, y, x."""
    size = crop.shape[-1]
    for row, image in enumerate(pairs):
        for y in range(0, image.shape[-2] - size + 1, 2):
            for x in range(0, image.shape[-1] - size + 1, 2):
                if np.array_equal(image[:, y : y + size, x : x + size], crop):
                    return row, y, x
    raise AssertionError("no such window")


def test_samples_are_made_once_and_taken_up_again(
    dataset: Path, vae_run: Path, unet_run: Path, tmp_path: Path
) -> None:
    decoder_task(dataset, vae_run, unet_run, tmp_path)
    first = np.load(tmp_path / "samples.npy")
    (tmp_path / "chunks_done").write_text("1")
    decoder_task(dataset, vae_run, unet_run, tmp_path)
    assert np.array_equal(np.load(tmp_path / "samples.npy"), first)
    np.save(tmp_path / "samples.npy", first[:8])
    with pytest.raises(ConfigError, match="holds"):
        decoder_task(dataset, vae_run, unet_run, tmp_path)


def test_a_decoder_trained_further_takes_the_place_of_the_first(
    dataset: Path, vae_run: Path, unet_run: Path, tmp_path: Path
) -> None:
    task = decoder_task(dataset, vae_run, unet_run, tmp_path / "latents")
    fit(task, TrainOptions(out=tmp_path, **SHORT))  # type: ignore[arg-type]
    model = load_model(vae_run, unet_run, decoder_run=tmp_path)
    first = load_vae(vae_run)
    assert not torch.equal(model.vae.decoder.conv_out.weight, first.decoder.conv_out.weight)
    assert torch.allclose(model.vae.lr_encoder.conv_in.weight, first.lr_encoder.conv_in.weight, atol=1e-3)
    with pytest.raises(ConfigError, match="no run of train-decoder"):
        load_model(vae_run, unet_run, decoder_run=unet_run)
