"""Pipelines in diffusers' layout with seeded random weights: the published configurations, whole or narrow.

The shapes are those of CompVis/ldm-super-resolution-4x-openimages and of
stabilityai/stable-diffusion-x4-upscaler, by their authors' training configurations (latent-diffusion,
models/ldm/bsr_sr/config.yaml; stablediffusion, configs/stable-diffusion/x4-upscaling.yaml).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

LDM_UNET: dict[str, Any] = {
    "in_channels": 6,
    "out_channels": 3,
    "sample_size": 64,
    "block_out_channels": (160, 320, 320, 640),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": 32,
    "norm_eps": 1e-6,
}
LDM_VQ: dict[str, Any] = {
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "latent_channels": 3,
    "num_vq_embeddings": 8192,
    "sample_size": 256,
}
LDM_SCHEDULER: dict[str, Any] = {
    "beta_start": 0.0015,
    "beta_end": 0.0155,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
SD_UNET: dict[str, Any] = {
    "in_channels": 7,
    "out_channels": 4,
    "sample_size": 128,
    "block_out_channels": (256, 512, 512, 1024),
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
    "only_cross_attention": (True, True, True, False),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 1024,
    "num_class_embeds": 1000,
    "use_linear_projection": True,
}
SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
    "scaling_factor": 0.08333,
}
SD_SCHEDULER: dict[str, Any] = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
}
SD_LOW_RES: dict[str, Any] = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
TOKENS = 77  # of CLIP's text encoders

# The same with fewer channels, layers and levels: torch takes seconds to export each.
NARROW_LDM: dict[str, Any] = {
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}
NARROW_VQ = {
    "layers_per_block": 0,
    "block_out_channels": (16, 16, 16),
    "norm_num_groups": 8,
    "num_vq_embeddings": 64,
}
NARROW_SD: dict[str, Any] = {
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "only_cross_attention": (True, False),
    "norm_num_groups": 8,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
}
NARROW_VAE = {"layers_per_block": 0, "block_out_channels": (16, 16, 16), "norm_num_groups": 8}


def half(network: Any) -> Any:
    """The network with weights that FP16 holds, as the published ones are also given."""
    return network.half().float()


def write_pipeline(folder: Path, kind: str, **parts: Any) -> Path:
    """A pipeline's folder: its parts by name, and model_index.json."""
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, **index}))
    return folder


def ldm_parts(*, is_narrow: bool = True) -> dict[str, Any]:
    """What LDMSuperResolutionPipeline is made of."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**LDM_UNET | (NARROW_LDM if is_narrow else {}))
    vqvae = diffusers.VQModel(**LDM_VQ | (NARROW_VQ if is_narrow else {}))
    with torch.no_grad():
        vqvae.quantize.embedding.weight.normal_()
    scheduler = diffusers.DDIMScheduler(**LDM_SCHEDULER)
    return {"unet": half(unet).eval(), "vqvae": half(vqvae).eval(), "scheduler": scheduler}


def sd_parts(*, is_narrow: bool = True, is_half: bool = True) -> dict[str, Any]:
    """What StableDiffusionUpscalePipeline is made of, less its text encoder."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**SD_UNET | (NARROW_SD if is_narrow else {}))
    vae = diffusers.AutoencoderKL(**SD_VAE | (NARROW_VAE if is_narrow else {}))
    return {
        "unet": (half(unet) if is_half else unet).eval(),
        "vae": (half(vae) if is_half else vae).eval(),
        "scheduler": diffusers.DDIMScheduler(**SD_SCHEDULER),
        "low_res_scheduler": diffusers.DDPMScheduler(**SD_LOW_RES),
    }


def write_text(path: Path, width: int) -> Path:
    """A made-up text embedding."""
    np.save(path, np.random.default_rng(0).standard_normal((TOKENS, width)).astype(np.float32))
    return path
