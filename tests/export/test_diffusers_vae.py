"""Autoencoders of diffusers: loaded from a local folder, trained on, bundled, and run as torch runs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision
from export.bundle import phantom, write_bundle
from export.families import load_model
from export.models.diffusers_folder import WEIGHTS
from export.models.diffusers_vae import NO_VARIANCE, load_diffusers_vae
from export.train import TrainOptions, fit, load_weights
from export.train_unet import UNetTask, load_vae
from tests.export.test_bundle import SEED, in_torch
from tests.export.tiny import CARD, UNET_CONFIG

KL, TINY = "AutoencoderKL", "AutoencoderTiny"
FACTORS = {KL: 8, TINY: 4}
CONFIGS: dict[str, dict[str, Any]] = {
    KL: {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8, 8, 8, 16),
        "layers_per_block": 1,
        "latent_channels": 5,
        "norm_num_groups": 4,
    },
    TINY: {
        "encoder_block_out_channels": (8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8),
        "num_encoder_blocks": (1, 1, 1),
        "num_decoder_blocks": (1, 1, 1),
        "latent_channels": 3,
    },
}
each_kind = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, with seeded random weights."""
    made = {}
    for kind, config in CONFIGS.items():
        torch.manual_seed(0)
        made[kind] = tmp_path_factory.mktemp("diffusers") / kind
        getattr(diffusers, kind)(**config).save_pretrained(made[kind])
    return made


@pytest.fixture(scope="module")
def trained(
    folders: dict[str, Path], dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A denoiser trained for a few iterations on the latents of each."""
    runs = {}
    for kind, folder in folders.items():
        out = runs[kind] = tmp_path_factory.mktemp("runs") / kind
        task = UNetTask(
            UNET_CONFIG,
            vae=folder,
            train=dataset / "train",
            val=dataset / "val",
            store=out / "latents",
            lpips=None,
            pairs=16,
            batch=2,
        )
        fit(task, TrainOptions(out=out, iterations=3, validate_every=3, warmup=1))
    return runs


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


@torch.no_grad()
@each_kind
def test_it_encodes_and_decodes_as_diffusers_does_with_gray_repeated_and_averaged_back(
    folders: dict[str, Path], kind: str
) -> None:
    theirs = getattr(diffusers, kind).from_pretrained(folders[kind], low_cpu_mem_usage=False).eval()
    ours = load_vae(folders[kind])
    hr, lr = noise(2, 1, 64, 64), noise(2, 1, 16, 16)
    mean, features, condition = ours.lr_encoder(lr)
    mu, log_variance = ours.encode(hr, mean, features)
    encoded = theirs.encode(hr.repeat(1, 3, 1, 1))
    code = encoded.latent_dist.mean if kind == KL else encoded.latents
    torch.testing.assert_close(mu, code)
    wanted = encoded.latent_dist.logvar if kind == KL else torch.full_like(code, NO_VARIANCE)
    torch.testing.assert_close(log_variance, wanted)
    torch.testing.assert_close(ours.decoder(mu), theirs.decode(code).sample.mean(dim=1, keepdim=True))
    side = 64 // FACTORS[kind]
    assert mu.shape == condition.shape == (2, CONFIGS[kind]["latent_channels"], side, side)


@torch.no_grad()
@each_kind
def test_the_condition_is_the_latent_of_the_bicubic_enlargement(folders: dict[str, Path], kind: str) -> None:
    vae = load_diffusers_vae(folders[kind])
    lr = noise(1, 1, 16, 16)
    mean, features, condition = vae.lr_encoder(lr)
    enlarged = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bicubic")
    torch.testing.assert_close(mean, enlarged)
    code, _ = vae.encode(enlarged, mean, features)
    scaling = 0.18215 if kind == KL else 1.0  # what diffusers' configuration says by default
    torch.testing.assert_close(condition, code * scaling)


def test_a_network_for_gray_images_is_given_them_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    diffusers.AutoencoderTiny(in_channels=1, out_channels=1, **CONFIGS[TINY]).save_pretrained(tmp_path)
    vae = load_diffusers_vae(tmp_path)
    mean, features, _ = vae.lr_encoder(noise(1, 1, 16, 16))
    mu, _ = vae.encode(mean, mean, features)
    assert vae.decoder(mu).shape == (1, 1, 64, 64)


def test_weights_in_a_bin_file_load_alike(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shutil.copytree(folders[KL], tmp_path / "bin")
    torch.save(load_file(tmp_path / "bin" / WEIGHTS[0]), tmp_path / "bin" / WEIGHTS[1])
    (tmp_path / "bin" / WEIGHTS[0]).unlink()
    one, other = (load_diffusers_vae(folder).state_dict() for folder in (folders[KL], tmp_path / "bin"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@each_kind
def test_a_denoiser_trained_on_it_takes_its_channels(trained: dict[str, Path], kind: str) -> None:
    config, weights = load_weights(trained[kind])
    channels = CONFIGS[kind]["latent_channels"]
    assert config["latent_channels"] == config["condition_channels"] == channels
    assert len(config["latent_mean"]) == channels
    assert all(torch.isfinite(value).all() for value in weights.values())
    latents = np.load(trained[kind] / "latents" / "mu.npy", mmap_mode="r")
    assert latents.shape == (16, channels, 256 // FACTORS[kind], 256 // FACTORS[kind])


@each_kind
def test_its_bundle_runs_as_torch_does(
    folders: dict[str, Path], trained: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    model = load_model(folders[kind], trained[kind])
    card = CARD | {"tile": 32}
    bundle = write_bundle(model, card, tmp_path / "bundle", image=phantom(32, 1), commands=())
    assert Bundle.open(tmp_path / "bundle").latent.factor == FACTORS[kind]
    outputs = [spec.name for spec in bundle.graph(Component.ENCODER, Precision.FP32).outputs]
    inputs = [spec.name for spec in bundle.graph(Component.DECODER, Precision.FP32).inputs]
    assert (outputs, inputs) == (["condition"], ["latent"])
    with Upscaler(bundle, open_backend("onnxruntime"), precision=Precision.FP32) as upscaler:
        assert run_selftest(upscaler).passed
        image = phantom(32, 1)
        result = upscaler.upscale(image, preset=bundle.diffusion.presets["quiet"], seed=SEED)
    wanted = in_torch(model, bundle, image, "quiet")
    # FP32 sums in another order; relative to the spread, since an untrained decoder's may be any
    assert np.abs(result.mean - wanted).max() / wanted.std() < 1e-3


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS[0]).unlink()


def of_another_class(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"_class_name": "UNet2DModel"}))


def with_damaged_weights(folder: Path) -> None:
    (folder / WEIGHTS[0]).write_bytes(b"damaged")


def with_fewer_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS[0])
    del weights["encoder.conv_in.weight"]
    save_file(weights, folder / WEIGHTS[0], metadata={"format": "pt"})


def of_another_width(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"latent_channels": 7}))


def without_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def with_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (without_weights, "no weights in"),
        (of_another_class, "is of class UNet2DModel, wanted AutoencoderKL or AutoencoderTiny"),
        (with_damaged_weights, "cannot be loaded as AutoencoderKL"),
        (with_fewer_weights, "do not fit its config.json: 1 missing_keys"),
        (of_another_width, "cannot be loaded as AutoencoderKL|do not fit its config.json"),
        (without_json, "cannot be read"),
        (with_a_list, "holds no JSON object"),
    ],
)
def test_a_folder_that_is_amiss_is_refused(
    folders: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    folder = shutil.copytree(folders[KL], tmp_path / "vae")
    spoil(folder)
    with pytest.raises(ConfigError, match=problem):
        load_vae(folder)


def test_a_bin_file_that_holds_more_than_tensors_is_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders[KL], tmp_path / "vae")
    (folder / WEIGHTS[0]).unlink()
    torch.save({"weight": Path("/")}, folder / WEIGHTS[1])
    with pytest.raises(ConfigError, match="cannot be loaded as AutoencoderKL"):
        load_vae(folder)
