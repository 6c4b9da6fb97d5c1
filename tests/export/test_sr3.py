"""SR3, diffusion in pixel space: from the network through every precision to TensorRT and the judge."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks.quality import Request, run_quality
from calibration.lint import lint_paths
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.image import resize_bicubic
from edge_sr.manifest import Conditioning, Latent
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision
from export.__main__ import run
from export.bundle import phantom, read_card, write_bundle
from export.families import PixelModel, load_sr3_model, untrained_sr3_model
from export.graphs import StepGraph
from export.models.sr3 import LITE, PAPER, PAPER_X8, SR3, BicubicEncoder, SR3Config, split_skips
from export.train import TrainOptions, fit, load_weights
from export.train_sr3 import NOISES, PREDICTIONS, SR3Task, load_sr3, spread_timesteps
from tests.export.precisions import errors_to_fp32, quantised_from
from tests.export.tiny import CARD, original, shaken

TINY = SR3Config(
    side=64,
    width=8,
    multipliers=(1, 2, 2),
    blocks=2,
    attention=(16, 32),
    groups=4,
    dropout=0.1,
    embedding=16,
)
TRAINED = replace(TINY, side=256, width=4, multipliers=(1, 1, 2, 2, 2), blocks=1, attention=(16,))
CARDS = Path(__file__).parents[2] / "export" / "cards"
PRESETS = {
    "quiet": {"sampler": "ddim", "steps": 3, "spacing": "leading"},
    "noisy": {"sampler": "ddim", "steps": 3, "spacing": "leading", "eta": 1.0},
}
TOLD: dict[str, Any] = CARD | {"presets": PRESETS, "default": "quiet"}
DIFFUSION = {"prediction": "epsilon", "noise_schedule": "cosine", "timesteps": 100, "clip": 1.0}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny_sr3(config: SR3Config = TINY) -> SR3:
    """A small network that does something."""
    torch.manual_seed(2)
    network = shaken(SR3(config), seed=2)
    assert isinstance(network, SR3)
    return network


@pytest.fixture(scope="module")
def sr3_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny network."""
    out = tmp_path_factory.mktemp("runs") / "sr3"
    task = SR3Task(TRAINED, train=dataset / "train", val=dataset / "val", lpips=None, batch=2, crop=32)
    fit(task, TrainOptions(out=out, iterations=4, validate_every=4, warmup=1))
    return out


@pytest.fixture(scope="module")
def pixel(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of a network whose weights are all at work."""
    out = tmp_path_factory.mktemp("bundles") / "pixel"
    model = PixelModel(tiny_sr3(), DIFFUSION)
    return write_bundle(model, TOLD, out, image=phantom(16, 1), commands=("made up",))


# ---- the network


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_reads_the_noisy_image_beside_the_enlarged_one(channels: int) -> None:
    network = tiny_sr3(replace(TINY, image_channels=channels))
    x, condition = noise(2, channels, 64, 64), noise(2, channels, 64, 64, seed=1)
    timesteps = torch.tensor([3, 70])
    assert network.conv_in.in_channels == 2 * channels
    out = network(x, timesteps, condition)
    assert out.shape == x.shape
    assert not torch.allclose(out, network(x, timesteps, condition + 0.1), atol=1e-3)
    assert not torch.allclose(out, network(x, timesteps + 20, condition), atol=1e-4)


def test_the_papers_attention_is_at_64_32_16_and_from_512_pixels_ends_at_32() -> None:
    for config, wanted in ((PAPER, [64, 32, 16]), (PAPER_X8, [64, 32])):
        levels = range(len(config.multipliers))
        assert [config.side >> i for i in levels if config.has_attention(i)] == wanted


def test_the_papers_size_is_five_levels_of_doubling_width_and_the_lite_one_a_fiftieth_of_it() -> None:
    with torch.device("meta"):
        paper, lite = (SR3(config) for config in (PAPER, LITE))
    assert [PAPER.channels(level) for level in range(5)] == [64, 128, 256, 512, 1024]
    assert {m.num_groups for m in paper.modules() if isinstance(m, torch.nn.GroupNorm)} == {16}
    sizes = [sum(p.numel() for p in network.parameters()) for network in (paper, lite)]
    assert sizes[0] / 50 > sizes[1] > 3e6


def test_what_is_exported_computes_what_was_trained() -> None:
    network = tiny_sr3()
    x, row, condition = noise(2, 1, 64, 64), noise(2, 16, seed=1), noise(2, 1, 64, 64, seed=2)
    difference = split_skips(network).denoise(x, row, condition) - network.denoise(x, row, condition)
    assert difference.abs().max() < 1e-4  # the same sums in another order, in FP32


def test_dropout_is_at_work_in_training_alone() -> None:
    network = tiny_sr3()
    x = noise(1, 1, 64, 64)
    inputs = (x, torch.tensor([5]), x)
    assert torch.equal(network(*inputs), network(*inputs))
    network.train()
    assert not torch.equal(network(*inputs), network(*inputs))


@pytest.mark.parametrize("scale", [4, 8])
def test_the_condition_is_the_runtimes_bicubic(scale: int) -> None:
    image = np.random.default_rng(0).integers(60, 200, (16, 16)).astype(np.uint8)
    lr = torch.from_numpy(image.astype(np.float32) / 127.5 - 1)[None, None]
    got = BicubicEncoder(scale)(lr)[0, 0].numpy()
    wanted = resize_bicubic(image, scale) / np.float32(127.5) - 1
    assert np.abs(np.clip(got, -1, 1) - wanted).max() < 2.5 / 127.5  # the runtime's is of 8 bits


# ---- training


def test_a_run_says_how_it_was_trained_and_is_read_back(sr3_run: Path) -> None:
    network, diffusion = load_sr3(sr3_run)
    assert network.config == TRAINED
    assert diffusion == {"prediction": "epsilon", "noise_schedule": "cosine", "timesteps": 2000, "clip": 1.0}


def test_the_loss_falls(dataset: Path, tmp_path: Path) -> None:
    task = SR3Task(
        replace(TRAINED, width=8, dropout=0.0),
        train=dataset / "train",
        val=dataset / "val",
        lpips=None,
        batch=8,
        crop=16,
    )
    batch = next(task.batches(0))

    def loss() -> float:
        torch.manual_seed(5)
        with torch.no_grad():
            return float(task.loss(task.model, batch, progress=0.0)["loss"])

    before = loss()
    fit(task, TrainOptions(out=tmp_path, iterations=40, validate_every=40, warmup=1, learning_rate=2e-3))
    assert before == pytest.approx(1.0, abs=0.1)  # it begins by predicting nothing, of unit variance
    assert loss() < 0.7 * before


def test_timesteps_of_a_batch_are_spread_over_the_chain_and_uniform_over_batches() -> None:
    torch.manual_seed(0)
    drawn = torch.stack([spread_timesteps(8, 2000) for _ in range(400)])
    assert drawn.min() >= 0 and drawn.max() < 2000
    assert all(len({int(t) // 250 for t in row}) >= 7 for row in drawn)  # 8, where no one sits on an edge
    assert drawn.float().mean() == pytest.approx(1000, abs=5)
    assert drawn[:, 0].float().std() == pytest.approx(2000 / 12**0.5, rel=0.05)


def test_the_linear_schedule_ends_as_noise_and_is_told_with_its_betas(dataset: Path) -> None:
    task = SR3Task(TRAINED, train=dataset / "train", val=dataset / "val", lpips=None, noise="linear")
    diffusion = task.config()["diffusion"]
    assert (diffusion["beta_start"], diffusion["beta_end"]) == (1e-6, 1e-2)
    assert all(NOISES[name].alphas_bar()[-1] < 1e-4 for name in NOISES)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_gives_the_image_by_the_loops_own_algebra_has_no_loss(
    prediction: str, dataset: Path
) -> None:
    train, val = dataset / "train", dataset / "val"
    task = SR3Task(TRAINED, train=train, val=val, lpips=None, noise="linear", prediction=prediction)
    lr, hr = next(task.batches(0))
    alphas_bar = torch.from_numpy(NOISES["linear"].alphas_bar())

    class Knowing(torch.nn.Module):
        def forward(self, x: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            alpha_bar = alphas_bar[timesteps][:, None, None, None]
            signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
            # x0 = (x - sigma * epsilon) / signal, and x0 = signal * x - sigma * v
            told = x - signal * hr if prediction == "epsilon" else signal * x - hr
            return told / sigma

    assert float(task.loss(Knowing(), (lr, hr), progress=0)["loss"]) < 1e-6
    assert task.config()["diffusion"]["prediction"] == prediction


def test_a_crop_that_cannot_be_halved_often_enough_is_refused(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="a crop of 24 pixels does not halve 4 times"):
        SR3Task(LITE, train=dataset / "train", val=dataset / "val", lpips=None, crop=24)


def test_a_network_for_images_of_another_size_is_refused(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="wants pairs of 64 and 512 pixels, the data are of 64 and 256"):
        SR3Task(PAPER_X8, train=dataset / "train", val=dataset / "val", lpips=None)


def test_the_command_trains_and_exports_without_attention_and_by_the_linear_schedule(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    places = ["--train", str(dataset / "train"), "--val", str(dataset / "val"), "--out", str(out)]
    choices = ["--no-attention", "--noise", "linear", "--prediction", "v_prediction"]
    assert run(["train-sr3", *places, *choices, "--batch", "1", "--crop", "16", "--iterations", "1"]) == 0
    config, weights = load_weights(out)
    assert config["attention"] == ()
    assert (config["diffusion"]["noise_schedule"], config["diffusion"]["prediction"]) == (
        "linear",
        "v_prediction",
    )
    assert not any("attention" in name for name in weights)


def test_the_command_takes_sr3_alone_and_refuses_another_run(
    sr3_run: Path, unet_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "made")]
    assert run(["bundle", "--sr3", str(sr3_run), "--unet", str(unet_run), *out]) == 2
    assert "or --sr3 alone" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is no run of train-sr3"):
        load_sr3_model(unet_run)


def test_the_card_fits_the_family() -> None:
    card = read_card(CARDS / "cxr-x4-sr3.json")
    assert card["name"] == "cxr-x4-sr3"
    assert all(preset["spacing"] == "leading" for preset in card["presets"].values())


# ---- the paper's size: nothing that two cores could train, and all that they can show of it


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx-cu13")
@pytest.mark.parametrize("size", ["paper", "paper-x8"])
def test_the_papers_size_is_exported_quantised_and_compiled_with_random_weights(
    size: str, tmp_path: Path
) -> None:
    """By the commands, each in a process of its own: 200 million weights leave memory when they are done."""

    def python(*arguments: object) -> str:
        line = [sys.executable, "-m", *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    bundle, images, seen = tmp_path / "paper", tmp_path / "images", tmp_path / "seen.npz"
    images.mkdir()
    for seed in range(8):  # the fewest that are taken
        cv2.imwrite(str(images / f"{seed}.png"), original(seed, height=64, width=64))
    python("export", "untrained-sr3", "--size", size, "--steps", 1, "--out", bundle)
    python("calibration", "record", "--bundle", bundle, "--images", images, "--out", seen)
    python("calibration", "quantize", "--bundle", bundle, "--recording", seen, "--method", "minmax")
    for precision, graph in Bundle.open(bundle).manifest.graphs[Component.STEP].items():
        assert (bundle / graph.file).stat().st_size < 2**31, precision  # one protobuf message each
    python("calibration", "verdict", bundle)


# ---- the bundle


def test_a_network_without_training_has_no_layer_at_zero_and_says_that_it_is_not_trained() -> None:
    model, card = untrained_sr3_model("lite", channels=3, steps=2, seed=0)
    assert all(module.weight.any() for module in model.network.modules() if hasattr(module, "weight"))
    assert model.network.config.image_channels == card["channels"] == 3
    assert "random" in card["description"] and "random" in card["limits"][0]


def test_the_bundle_has_an_encoder_and_a_step_and_its_latent_is_the_image(pixel: Bundle) -> None:
    pixel.verify()
    manifest = pixel.manifest
    assert manifest.components == (Component.ENCODER, Component.STEP)
    assert manifest.latent == Latent(channels=1, factor=1)
    assert manifest.conditioning == Conditioning(kind="encoder")
    assert all(manifest.graphs[c][Precision.FP32].cost is not None for c in manifest.components)


def test_the_pipeline_makes_what_torch_makes_and_passes_the_self_test(pixel: Bundle, tmp_path: Path) -> None:
    with Upscaler(pixel, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        assert run_selftest(upscaler, root=tmp_path).passed
        tile = upscaler.upscale(phantom(16, 1), preset=pixel.manifest.default_preset, seed=0).mean
        large = upscaler.upscale(phantom(24, 1), preset=pixel.manifest.default_preset, seed=0)
    golden = pixel.golden()
    np.testing.assert_array_equal(golden["latent"], golden["output"])
    assert tile.shape == (1, 64, 64) and np.abs(tile).max() <= 1.0
    assert large.mean.shape == (1, 96, 96) and large.tiles == 4


def test_colour_goes_through_as_colour(tmp_path: Path) -> None:
    model = PixelModel(tiny_sr3(replace(TINY, image_channels=3)), DIFFUSION)
    image = phantom(16, 3)
    made = write_bundle(model, TOLD | {"channels": 3}, tmp_path / "b", image=image, commands=())
    assert made.latent.channels == 3
    with Upscaler(made, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        out = upscaler.upscale(image, preset=made.manifest.default_preset, seed=0).mean
    assert out.shape == (3, 64, 64)


@pytest.fixture(scope="module")
def quantised(pixel: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle in every precision."""
    return quantised_from(pixel, tmp_path_factory.mktemp("made") / "pixel", preset="quiet")


def test_it_is_recorded_and_quantised_and_its_graphs_are_lint_free(quantised: Bundle, tmp_path: Path) -> None:
    assert set(quantised.precisions()) == set(Precision)
    assert not [report for report in lint_paths([quantised.folder]) if report.errors]
    errors = errors_to_fp32(
        quantised, phantom(24, 1), preset=quantised.manifest.default_preset, root=tmp_path
    )
    # INT8 keeps 8 bits of what is about 1 in magnitude, layer after layer; FP16 eleven.
    for precision, bound in ((Precision.FP16, 0.01), (Precision.INT8, 0.15)):
        assert 0 < errors[precision] < bound


def test_the_step_graph_takes_any_denoiser(pixel: Bundle) -> None:
    step = StepGraph(tiny_sr3())
    x, row = noise(1, 1, 32, 32), noise(1, 16)
    coefficients = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]])  # x0 is x, clipped
    x_next, x0 = step(x, x, x, coefficients, row, x)
    assert torch.equal(x_next, x0) and torch.equal(x0, x.clamp(-1, 1))


def test_the_judge_gives_it_the_rows_that_pixel_space_has(dataset: Path, tmp_path: Path) -> None:
    network = tiny_sr3(replace(TINY, side=256, blocks=1, attention=()))
    told = TOLD | {"tile": 64, "overlap": 16}
    made = write_bundle(
        PixelModel(network, DIFFUSION), told, tmp_path / "b", image=phantom(64, 1), commands=()
    )
    request = Request(made.folder, dataset / "val", seeds=2, threads=1, presets=("noisy",))
    outcome = run_quality(request, arguments=(), track=lambda items, _: items)
    keys = [row.key for row in outcome.record.rows]
    assert keys == ["hr", "bicubic", "model", "preset-noisy", "one-step"]
    assert not any("autoencoder" in notice or "latent" in notice for notice in outcome.record.notices)
