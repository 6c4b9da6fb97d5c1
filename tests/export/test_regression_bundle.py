"""A trained regression becomes a bundle of one graph, which the runtime and the calibration take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibration.images import CalibrationSet
from calibration.plan import make_plan
from calibration.quantize import quantize_bundle
from calibration.record import record
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision
from export.__main__ import run
from export.bundle import phantom, read_card, write_bundle
from export.families import load_regression_model
from export.train import TrainOptions, fit, load_weights
from export.train_regression import RegressionTask
from tests.export.tiny import CARD, VAE_CONFIG

PLAIN: dict[str, Any] = {key: value for key, value in CARD.items() if key not in ("presets", "default")}
CARDS = Path(__file__).parents[2] / "export" / "cards"


@pytest.fixture(scope="module")
def regression_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny regression."""
    out = tmp_path_factory.mktemp("runs") / "regression"
    task = RegressionTask(VAE_CONFIG, train=dataset / "train", val=dataset / "val", batch=2, crop=32)
    fit(task, TrainOptions(out=out, iterations=4, validate_every=4, warmup=1))
    return out


@pytest.fixture(scope="module")
def plain(regression_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle."""
    out = tmp_path_factory.mktemp("bundles") / "plain"
    model = load_regression_model(regression_run)
    return write_bundle(model, PLAIN, out, image=phantom(16, 1), commands=("made up",))


def test_a_regression_s_bundle_is_one_graph_without_a_loop(plain: Bundle) -> None:
    plain.verify()
    assert plain.manifest.components == (Component.DECODER,)
    assert plain.manifest.diffusion is None and plain.manifest.time_embedding is None
    assert plain.manifest.graphs[Component.DECODER][Precision.FP32].cost is not None
    assert set(plain.golden()) == {"image", "output"}


def test_the_pipeline_makes_what_torch_makes_and_passes_the_self_test(
    plain: Bundle, regression_run: Path, tmp_path: Path
) -> None:
    image = phantom(16, 1)
    with Upscaler(plain, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        got = upscaler.upscale(image, preset=None, seed=0).mean
        assert run_selftest(upscaler, root=tmp_path).passed
    with torch.no_grad():
        wanted, _ = load_regression_model(regression_run).lr_encoder.regress(torch.from_numpy(image[None]))
    np.testing.assert_allclose(got, wanted[0].numpy(), atol=1e-4)  # FP32 sums in another order


def test_it_is_recorded_and_quantised_in_all_precisions(plain: Bundle, tmp_path: Path) -> None:
    images = tuple(phantom(16, 1) * scale for scale in np.linspace(0.3, 1, 8, dtype=np.float32))
    calibration = CalibrationSet(tuple(map(str, range(8))), images, "0" * 64)
    plan = make_plan(plain, record(plain, calibration, preset=None, seed=0), method="mse")
    made = quantize_bundle(plain, plan, tmp_path / "made")
    assert set(made.precisions()) == set(Precision)
    with Upscaler(made, open_backend("onnxruntime", threads=1), precision=Precision.INT8) as upscaler:
        assert run_selftest(upscaler, root=tmp_path).passed


def test_the_command_takes_a_regression_alone_or_the_runs_of_a_loop(
    regression_run: Path, vae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "made")]
    assert run(["bundle", "--regression", str(regression_run), *out]) == 0
    assert "cxr-x4-cnn" in capsys.readouterr().out
    assert Bundle.open(tmp_path / "made").manifest.scale == 4
    for wrong in (["--regression", str(regression_run), "--vae", str(vae_run)], ["--vae", str(vae_run)], []):
        assert run(["bundle", *wrong, *out]) == 2
        assert "give --vae and --unet, or --regression alone" in capsys.readouterr().err


def test_a_run_of_something_else_is_refused(vae_run: Path, unet_run: Path) -> None:
    for other in (vae_run, unet_run):
        with pytest.raises(ConfigError, match="is no run of train-regression"):
            load_regression_model(other)


def test_a_card_of_a_model_with_a_loop_is_refused_and_the_other_way_round(
    regression_run: Path, tmp_path: Path
) -> None:
    model = load_regression_model(regression_run)
    with pytest.raises(ConfigError, match="the card has presets, the model has no loop"):
        write_bundle(model, CARD, tmp_path / "b", image=phantom(16, 1), commands=())
    with pytest.raises(ConfigError, match="the card has no default"):
        read_card_of(PLAIN | {"presets": CARD["presets"]}, tmp_path)


def read_card_of(card: dict[str, Any], folder: Path) -> dict[str, Any]:
    import json

    (folder / "card.json").write_text(json.dumps(card))
    return read_card(folder / "card.json")


def test_the_card_of_the_fallback_is_complete_and_says_that_it_gives_a_mean() -> None:
    card = read_card(CARDS / "cxr-x4-cnn.json")
    assert card["name"] == "cxr-x4-cnn"
    assert any("mean" in limit for limit in card["limits"])


def test_training_takes_the_size_of_the_network(dataset: Path, tmp_path: Path) -> None:
    places = [
        "--train",
        str(dataset / "train"),
        "--val",
        str(dataset / "val"),
        "--out",
        str(tmp_path / "run"),
    ]
    size = ["--width", "8", "--blocks", "1", "--deep-width", "4", "--deep-blocks", "2"]
    assert run(["train-regression", *places, *size, "--iterations", "1", "--crop", "32", "--batch", "1"]) == 0
    config, weights = load_weights(tmp_path / "run")
    sizes = (config["lr_width"], config["lr_blocks"], config["lr_deep_width"], config["lr_deep_blocks"])
    assert sizes == (8, 1, 4, 2)
    assert weights["lr_encoder.down.weight"].shape == (4, 8, 3, 3)
