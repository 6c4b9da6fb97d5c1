"""A trained model becomes a bundle that the runtime opens and runs as torch does, or nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.pipeline import Upscaler, make_schedule
from edge_sr.schedule import coefficients
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision
from edge_sr.tiling import position_noise
from export.bundle import phantom, read_card, write_bundle
from export.errors import ExportError
from export.families import Model, load_model
from export.graphs import graph_modules
from export.models.unet_lite import UNetConfig
from export.sampling import sample_latents
from tests.export.tiny import CARD, tiny_model, tiny_unet

SEED = 5


@pytest.fixture(scope="module")
def model(vae_run: Path, unet_run: Path) -> Model:
    return load_model(vae_run, unet_run)


@pytest.fixture(scope="module")
def upscaler(bundle: Bundle) -> Iterator[Upscaler]:
    with Upscaler(bundle, open_backend("onnxruntime"), precision=Precision.FP32) as upscaler:
        yield upscaler


@torch.no_grad()
def in_torch(model: Model, bundle: Bundle, image: Any, preset: str) -> Any:
    """One tile through the networks, with the noise that the runtime draws."""
    chosen = bundle.diffusion.presets[preset]
    schedule = make_schedule(bundle, chosen)
    modules = graph_modules(model.vae, model.unet, model.scale)
    encoder, decoder = modules[Component.ENCODER], modules[Component.DECODER]
    encoded = dict(zip(encoder.outputs, encoder(torch.from_numpy(image[None])), strict=True))
    channels, (height, width) = model.unet.config.latent_channels, encoded["condition"].shape[2:]

    def noise(step: int) -> torch.Tensor:
        drawn = position_noise(SEED, step=step, channels=channels, y0=0, x0=0, height=height, width=width)
        return torch.from_numpy(drawn[None])

    x = noise(0) * chosen.noise_scale * schedule.initial_sigma
    x0, table = torch.zeros_like(x), torch.from_numpy(bundle.time_embedding())
    for index, (step, row) in enumerate(zip(schedule.steps, coefficients(schedule), strict=True)):
        embedding = table[step.timestep][None]
        row = torch.from_numpy(row[None])
        x, x0 = modules[Component.STEP](x, x0, noise(index + 1), row, embedding, encoded["condition"])
    read = {**encoded, "latent": x}
    return decoder(*(read[name] for name in decoder.inputs))[0].numpy()


def test_a_written_bundle_opens_and_every_file_has_its_hash(bundle: Bundle) -> None:
    bundle.verify()
    assert bundle.latent.factor == 8
    assert bundle.latent.channels == 4
    assert bundle.manifest.provenance.commands == ("made up",)


def test_the_self_test_passes_though_the_default_preset_adds_noise_in_its_steps(upscaler: Upscaler) -> None:
    diffusion = upscaler.bundle.diffusion
    assert diffusion.presets[diffusion.default].eta > 0
    result = run_selftest(upscaler)
    assert result.passed, result.checks


@pytest.mark.parametrize("preset", CARD["presets"])
def test_the_pipeline_makes_what_torch_makes(
    model: Model, bundle: Bundle, upscaler: Upscaler, preset: str
) -> None:
    image = phantom(16, 1)
    result = upscaler.upscale(image, preset=bundle.diffusion.presets[preset], seed=SEED)
    wanted = in_torch(model, bundle, image, preset)
    # FP32 sums in another order, over three steps and two networks around them
    np.testing.assert_allclose(result.mean, wanted, atol=1e-4)


def test_the_golden_archive_holds_what_each_graph_reads_and_writes(bundle: Bundle) -> None:
    golden = bundle.golden()
    wanted = {"image", "noise", "latent", "output", "encoder.condition", "encoder.features", "encoder.mean"}
    assert set(golden) == wanted
    assert all(value.dtype == np.float32 for value in golden.values())


def test_a_failing_verification_leaves_the_old_bundle_untouched(bundle: Bundle) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.vae.lr_encoder.conv_in.bias[0] = float("nan")
    before = sorted(bundle.folder.parent.iterdir())
    with pytest.raises(ExportError, match="differs from torch by nan"):
        write_bundle(model, CARD, bundle.folder, image=phantom(16, 1), commands=())
    assert sorted(bundle.folder.parent.iterdir()) == before
    Bundle.open(bundle.folder).verify()


def test_weights_that_fp16_cannot_hold_are_refused(vae_run: Path, unet_run: Path, tmp_path: Path) -> None:
    saved = torch.load(vae_run / "weights.pt", weights_only=True)
    saved["weights"]["lr_encoder.blocks.0.conv1.weight"][0, 0, 0, 0] = 1e6
    torch.save(saved, tmp_path / "weights.pt")
    with pytest.raises(ExportError, match=r"conv1.weight has values that FP16 cannot hold"):
        load_model(tmp_path, unet_run)


def test_runs_that_do_not_belong_together_are_refused(vae_run: Path, unet_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of train-unet"):
        load_model(vae_run, vae_run)
    with pytest.raises(ConfigError, match="no run of train-vae"):
        load_model(unet_run, unet_run)
    with pytest.raises(ConfigError, match="no trained weights"):
        load_model(tmp_path, unet_run)


def test_an_autoencoder_of_another_size_than_the_denoiser_knows_is_refused(
    vae_run: Path, unet_run: Path, tmp_path: Path
) -> None:
    other = tiny_unet(
        UNetConfig(latent_channels=5, condition_channels=4, channels=(16, 32, 32), embedding=16, heads=2)
    )
    saved = torch.load(unet_run / "weights.pt", weights_only=True)
    saved["config"]["latent_channels"] = 5
    torch.save({"config": saved["config"], "weights": other.state_dict()}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="trained for 5 latent channels"):
        load_model(vae_run, tmp_path)


def test_a_card_is_refused_with_everything_that_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps({k: v for k, v in CARD.items() if k != "name"} | {"colour": 1, "tile": "64"}))
    with pytest.raises(ConfigError, match="no name, colour, which is not known, tile '64'"):
        read_card(path)
    path.write_text("[1")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_card(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_card(tmp_path / "none.json")


def test_a_card_that_promises_another_scale_than_the_decoder_makes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="says scale 2, the decoder makes 4"):
        write_bundle(tiny_model(), CARD | {"scale": 2}, tmp_path / "b", image=phantom(16, 1), commands=())
    assert not list(tmp_path.iterdir())


def test_the_card_of_the_default_model_is_complete() -> None:
    card = read_card(Path(__file__).parents[2] / "export" / "cards" / "cxr-x4.json")
    assert card["name"] == "cxr-x4"


def test_the_same_seed_samples_the_same_latents_and_another_seed_others(bundle: Bundle) -> None:
    schedule = make_schedule(bundle, bundle.diffusion.presets["noisy"])
    condition = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    first, again, other = (sample_latents(tiny_unet(), condition, schedule, seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1


def test_the_tile_for_golden_values_is_an_image() -> None:
    tile = phantom(64, 1)
    assert tile.shape == (1, 64, 64)
    assert tile.dtype == np.float32
    assert np.abs(tile).max() <= 1
    assert tile.std() > 0.05
