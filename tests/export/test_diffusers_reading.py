"""What is read of a folder in diffusers' layout, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from edge_sr.errors import ConfigError
from edge_sr.manifest import Diffusion
from export.__main__ import run
from export.diffusers_scheduler import Wish, read_diffusion
from export.errors import ExportError
from export.from_diffusers import Constants, load_diffusers
from tests.export.diffusers_cases import LDM, STEPS, UPSCALER, load
from tests.export.diffusers_folders import (
    LDM_UNET,
    NARROW_LDM,
    half,
    ldm_parts,
    sd_parts,
    write_pipeline,
)

SCHEDULER, UNET = "scheduler/scheduler_config.json", "unet/config.json"
Parts = dict[str, Any]


@pytest.fixture(scope="module")
def parts() -> Parts:
    """What LDMSuperResolutionPipeline is made of, narrow."""
    return ldm_parts()


@pytest.fixture(scope="module")
def ldm(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    return write_pipeline(tmp_path_factory.mktemp("ldm") / "pipeline", LDM, **parts)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of StableDiffusionUpscalePipeline, narrow."""
    return write_pipeline(tmp_path_factory.mktemp("sd") / "pipeline", UPSCALER, **sd_parts())


def test_the_pipeline_decides_whether_a_latent_is_scaled(ldm: Path, parts: Parts, tmp_path: Path) -> None:
    """LDMSuperResolutionPipeline decodes it as it is, whatever its VQModel's scaling_factor says."""
    whole = load_diffusers(ldm, wish=Wish(), constants=Constants())
    assert whole.decoder.scale == 1.0
    other = load(tmp_path, parts, "MyPipeline")
    assert other.decoder.scale == pytest.approx(0.18215)


def changed(config: str, **fields: Any) -> Any:
    """A change to one configuration file of a folder."""

    def change(folder: Path) -> None:
        path = folder / config
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    ("change", "says", "hints"),
    [
        (changed(SCHEDULER, prediction_type="flow"), "predicts 'flow'", "clean latent"),
        (changed(SCHEDULER, _class_name="PNDMScheduler"), "cannot express PNDMScheduler", "--sampler ddim"),
        (changed(SCHEDULER, _class_name="EulerDiscreteScheduler"), "EulerDiscrete", "--sampler ddim"),
        (
            changed(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"),
            "no table of noise",
            "flow matching",
        ),
        (changed(SCHEDULER, _class_name="os"), "no scheduler os", ""),
        (changed(SCHEDULER, timestep_spacing="linspace"), "linspace", "--sampler ddim"),
        (changed(SCHEDULER, clip_sample=True), "is not that of ddim", "clip_sample to false"),
        (changed(SCHEDULER, thresholding=True), "is not that of ddim", "--sampler ddim"),
        (changed(SCHEDULER, trained_betas=[0.1] * 1000), "a table of its own", "curve"),
        (changed(UNET, center_input_sample=True), "center_input_sample is True", "shift"),
        (changed("vqvae/config.json", lookup_from_codebook=True), "decodes indices", "tokens"),
        (changed("unet/config.json", _class_name="DiTTransformer2DModel"), "of class DiT", "transformers"),
    ],
)
def test_what_cannot_be_expressed_is_named_with_what_it_would_need(
    ldm: Path, tmp_path: Path, change: Any, says: str, hints: str
) -> None:
    source = shutil.copytree(ldm, tmp_path / "pipeline")
    change(source)
    with pytest.raises((ExportError, ConfigError)) as caught:
        load_diffusers(source, wish=Wish(steps=STEPS), constants=Constants())
    assert says in caught.value.message
    assert hints in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "text encoders are not exported"),
        ({"text": torch.zeros(1, 3, 8)}, "8 wide, the UNet wants 24"),
        ({"text": torch.zeros(1, 3, 24), "noise_level": 1000}, "noise level 1000"),
        ({"text": torch.zeros(1, 3, 24), "label": 3}, "label is its noise level"),
    ],
)
def test_constants_that_an_upscaler_wants_are_asked_for_and_checked(
    upscaler: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ExportError, match=says):
        load_diffusers(upscaler, wish=Wish(), constants=Constants(**given))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"text": torch.zeros(1, 3, 24)}, "has no cross attention"),
        ({"noise_level": 5}, "has no low_res_scheduler"),
        ({"label": 2}, "has no classes"),
    ],
)
def test_constants_that_nothing_reads_are_refused(ldm: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        load_diffusers(ldm, wish=Wish(), constants=Constants(**given))


def test_one_class_of_a_unet_with_classes_becomes_part_of_the_time_embedding(
    parts: Parts, tmp_path: Path
) -> None:
    parts = dict(parts)
    torch.manual_seed(0)
    parts["unet"] = half(diffusers.UNet2DModel(**LDM_UNET | NARROW_LDM, num_class_embeds=5)).eval()
    with pytest.raises(ExportError, match="wants a class label"):
        load(tmp_path / "a", parts)
    with pytest.raises(ExportError, match="not one of the UNet's 0 to 4"):
        load(tmp_path / "b", parts, label=5)
    x, image = torch.randn((2, 1, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = parts["unet"](torch.cat([x, image], dim=1), 9, class_labels=torch.tensor([2])).sample
        denoiser = load(tmp_path / "c", parts, label=2).denoiser
        found = denoiser.denoise(x, denoiser.time(torch.tensor([9])), image)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_an_autoencoder_whose_norms_read_the_latent_is_refused(parts: Parts, tmp_path: Path) -> None:
    sizes = {"block_out_channels": (32,), "layers_per_block": 0}
    spatial = diffusers.VQModel(**sizes, norm_type="spatial")
    with pytest.raises(ExportError, match="norm_type is spatial"):
        load(tmp_path, parts | {"vqvae": spatial})


def test_a_unet_that_reads_no_lr_image_is_refused(parts: Parts, tmp_path: Path) -> None:
    parts = dict(parts)
    parts["unet"] = diffusers.UNet2DModel.from_config(dict(parts["unet"].config) | {"in_channels": 3})
    with pytest.raises(ExportError, match="reads 0 channels beside the latent"):
        load(tmp_path, parts)


# numpy's own, when diffusers makes an array of a tensor
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [
        (diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), "ddpm"),
        (diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing"), "ddim"),
        (diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False), "ddim"),
        (diffusers.DPMSolverMultistepScheduler(timestep_spacing="trailing"), "dpmpp_2m"),
        (diffusers.LCMScheduler(beta_start=0.001, beta_schedule="scaled_linear"), "lcm"),
    ],
    ids=["ddpm-cosine", "ddim-trailing", "ddim-cosine", "dpmpp", "lcm"],
)
def test_a_scheduler_that_the_loop_expresses_is_read_and_agrees_step_by_step(
    scheduler: Any, sampler: str, prediction: str
) -> None:
    peer = type(scheduler).from_config(scheduler.config, prediction_type=prediction)
    read = Diffusion.model_validate(read_diffusion(peer, Wish()))
    assert (read.prediction, read.presets["default"].sampler) == (prediction, sampler)
    assert read.noise_schedule == {"squaredcos_cap_v2": "cosine"}.get(
        peer.config.beta_schedule, peer.config.beta_schedule
    )


def test_another_sampler_is_taken_where_it_is_asked_for(parts: Parts, tmp_path: Path) -> None:
    parts = parts | {"scheduler": diffusers.PNDMScheduler(beta_schedule="scaled_linear")}
    diffusion = load(tmp_path, parts, wish=Wish("dpmpp_2m", 12)).diffusion
    assert diffusion["presets"]["default"] == {"sampler": "dpmpp_2m", "steps": 12}


def test_a_tile_that_the_unet_cannot_halve_is_refused_with_one_that_it_can(
    ldm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["from-diffusers", str(ldm), "--out", str(tmp_path / "out"), "--tile", "21"]) == 1
    said = capsys.readouterr().err
    assert "tile 21 is no multiple of 2" in said and "--tile 22" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_pipeline_is_one_line_and_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["from-diffusers", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "model_index.json cannot be read" in capsys.readouterr().err
