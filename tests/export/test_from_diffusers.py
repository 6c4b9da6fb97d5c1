"""Pipelines in diffusers' layout, as bundles: they make the images that diffusers makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from edge_sr.spec import Component
from edge_sr.tiling import position_noise
from export.bundle import phantom
from export.diffusers_scheduler import Wish
from export.from_diffusers import read_text
from tests.export.diffusers_cases import (
    LDM,
    LEVEL,
    SEED,
    STEPS,
    TILE,
    UPSCALER,
    Case,
    drawn,
    load,
    make,
    ours,
    their_ldm,
    their_upscaler,
    through_torch,
)
from tests.export.diffusers_folders import (
    LDM_SCHEDULER,
    NARROW_SD,
    SD_SCHEDULER,
    SD_UNET,
    ldm_parts,
    sd_parts,
    write_text,
)

# Both are float32 over the same weights; images are of magnitude 1, and differences add up over the steps.
TOLERANCE = 5e-5


def narrow_text(folder: Path) -> torch.Tensor:
    return read_text(write_text(folder / "text.npy", NARROW_SD["cross_attention_dim"]))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_ldm_pipeline_of_diffusers_makes_the_same_image(
    ldm: Case, monkeypatch: pytest.MonkeyPatch, eta: float
) -> None:
    image = phantom(TILE, 3)
    wanted = their_ldm(ldm.parts, image, monkeypatch, eta=eta)
    assert wanted.shape == (3, 4 * TILE, 4 * TILE) and wanted.std() > 0.1
    np.testing.assert_allclose(ours(ldm.bundle, image, eta=eta), wanted, atol=TOLERANCE)


def test_steps_that_are_asked_for_later_are_those_of_diffusers_too(
    ldm: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = phantom(TILE, 3)
    wanted = their_ldm(ldm.parts, image, monkeypatch, eta=0.0, steps=7)
    np.testing.assert_allclose(ours(ldm.bundle, image, steps=7), wanted, atol=TOLERANCE)


def test_the_upscaler_of_stable_diffusion_makes_the_same_image(upscaler: Case, tmp_path: Path) -> None:
    image = phantom(TILE, 3)
    wanted = their_upscaler(upscaler.parts, image, narrow_text(tmp_path))
    assert wanted.shape == (3, 4 * TILE, 4 * TILE) and wanted.std() > 0.1
    np.testing.assert_allclose(ours(upscaler.bundle, image), wanted, atol=TOLERANCE)


def test_the_loop_that_stands_for_diffusers_upscaler_is_that_of_its_class(
    upscaler: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="diffusers cannot import the class without transformers")
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_upscale as module

    first, image, text = next(drawn(7, TILE)), phantom(TILE, 3), narrow_text(tmp_path)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: first[:, 4:])
    # It sets every other scaling factor than the published one to that.
    assert upscaler.parts["vae"].config.scaling_factor == 0.08333
    pipeline = module.StableDiffusionUpscalePipeline(text_encoder=None, tokenizer=None, **upscaler.parts)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        image=torch.from_numpy(image[None] + 1) / 2,
        prompt_embeds=text,
        latents=first[:, :4],
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        noise_level=LEVEL,
        output_type="pt",
    ).images[0]
    theirs = their_upscaler(upscaler.parts, image, text)
    # To and from [0, 1] it rounds the image twice.
    np.testing.assert_allclose(made.numpy() * 2 - 1, theirs, atol=1e-5)


def test_what_a_bundle_says_of_itself_is_what_the_folder_says(ldm: Case, upscaler: Case) -> None:
    manifest = ldm.bundle.manifest
    assert manifest.components == (Component.STEP, Component.DECODER)
    assert (manifest.scale, manifest.channels) == (4, 3)
    assert manifest.provenance.data == "not stated in the folder"
    assert ldm.bundle.diffusion.beta_end == LDM_SCHEDULER["beta_end"]
    # and 3 for the noise of the LR image
    assert (ldm.bundle.latent.channels, upscaler.bundle.latent.channels) == (3, 4 + 3)
    diffusion = upscaler.bundle.diffusion
    preset = diffusion.presets["default"]
    assert (preset.spacing, preset.offset, diffusion.end) == ("leading", 1, "first")
    assert diffusion.prediction == SD_SCHEDULER["prediction_type"]


def test_the_noise_of_the_lr_image_belongs_to_the_seed_and_to_the_place(upscaler: Case) -> None:
    """An image of two tiles, of which the right one has the noise of its place on the whole canvas."""
    width, overlap = 2 * TILE - TILE // 4, TILE // 4
    image = phantom(width, 3)[:, :TILE]
    whole = ours(upscaler.bundle, image)
    canvas = position_noise(SEED, step=0, channels=7, y0=0, x0=0, height=TILE, width=width)
    right = through_torch(upscaler.model, image[..., -TILE:], torch.from_numpy(canvas[None, ..., -TILE:]))
    np.testing.assert_allclose(whole[..., 4 * TILE :], right[..., 4 * overlap :], atol=TOLERANCE)
    assert np.abs(ours(upscaler.bundle, image, seed=SEED + 1) - whole).max() > 0.01


def test_weights_that_fp16_does_not_hold_are_rounded_and_nothing_else_changes(tmp_path: Path) -> None:
    """Rounding moves a weight by up to 2**-11 of itself. (A VQ model may take other entries by it.)"""
    parts, image, text = sd_parts(is_half=False), phantom(16, 3), narrow_text(tmp_path)
    model = load(tmp_path / "pipeline", parts, UPSCALER, text=text, noise_level=LEVEL)
    found = through_torch(model, image, next(drawn(7, 16)))
    error = np.sqrt(np.mean((found - their_upscaler(parts, image, text)) ** 2))
    assert 1e-5 < error < 2e-3


@pytest.mark.parametrize("kind", ["AutoencoderTiny", "AutoencoderKL"])
def test_any_autoencoder_is_read_and_its_scaling_undone(ldm: Case, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    vae = getattr(diffusers, kind)(**_autoencoder(kind), latent_channels=3, scaling_factor=0.5)
    parts = {"vae": vae.half().float(), **{name: ldm.parts[name] for name in ("unet", "scheduler")}}
    model = load(tmp_path, parts, "MyPipeline")
    latent = torch.randn((1, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = vae.eval().decode(latent / 0.5).sample
        torch.testing.assert_close(model.decoder(latent), wanted, rtol=0, atol=1e-5)


def _autoencoder(kind: str) -> dict[str, Any]:
    if kind == "AutoencoderKL":
        downs, ups = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
        blocks = {"down_block_types": downs, "up_block_types": ups}
        return {"block_out_channels": (8, 8), "norm_num_groups": 4, **blocks}
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return {**widths, "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}


# The published sizes, seeded random weights. Each alone, by `-m slow -k published` and one of their names.


@pytest.fixture
def _many_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_many_threads")
def test_the_published_ldm_makes_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """113 million weights in the UNet, 8192 entries in the codebook."""
    parts, image = ldm_parts(is_narrow=False), phantom(16, 3)
    wanted = their_ldm(parts, image, monkeypatch, eta=0.0, steps=2)
    case = make(tmp_path, LDM, parts, tile=16, wish=Wish(steps=2))
    _told("published LDM", ours(case.bundle, image), wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("_many_threads")
def test_the_published_upscaler_makes_the_same_image(tmp_path: Path) -> None:
    """473 million weights in the UNet."""
    parts, image = sd_parts(is_narrow=False), phantom(16, 3)
    text = read_text(write_text(tmp_path / "text.npy", SD_UNET["cross_attention_dim"]))
    wanted = their_upscaler(parts, image, text, steps=2)
    case = make(tmp_path, UPSCALER, parts, tile=16, wish=Wish(steps=2), text=text, noise_level=LEVEL)
    _told("published upscaler", ours(case.bundle, image), wanted)


def _told(what: str, found: Any, wanted: Any) -> None:
    error = np.abs(found - wanted)
    print(f"{what}: at most {error.max():.2e}, RMS {np.sqrt(np.mean(error**2)):.2e}")  # noqa: T201
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
