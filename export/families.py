"""Model families: what each exports, computes in torch for the golden values, and says of its loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from edge_sr.bundle import Bundle, array_file
from edge_sr.errors import ConfigError
from edge_sr.manifest import Preset
from edge_sr.pipeline import make_schedule
from edge_sr.spec import IMAGE, LATENT, OUTPUT, Component
from export.graphs import Geometry, GraphModule, LatentScale, RegressionGraph, graph_modules, pixel_modules
from export.models.autoencoder import Autoencoder
from export.models.class_unet import ClassUNet, Told
from export.models.denoiser import Denoiser
from export.models.sr3 import SIZES, SR3, untrained
from export.models.unet_lite import UNetLite
from export.models.vae import LREncoder, VAEConfig
from export.sampling import sample_latents
from export.to_onnx import round_weights
from export.train import load_weights
from export.train_class import load_class_unet
from export.train_decoder import use_decoder
from export.train_regression import load_regression
from export.train_sr3 import NOISES, diffusion_fields, load_sr3
from export.train_unet import distilled_steps, load_unet, load_vae

Float = npt.NDArray[np.float32]


class Family(Protocol):
    """What `export.bundle.write_bundle` asks of a trained model."""

    def modules(self) -> dict[Component, GraphModule]:
        """The graphs that it has, in evaluation mode."""

    def golden(self, bundle: Bundle, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """What every graph reads and writes on the way of one tile, (1, C, t, t), by the default preset."""

    def loop(self, card: Mapping[str, Any], folder: Path, geometry: Geometry) -> dict[str, Any]:
        """The manifest's fields of the loop, their files written to `folder`; none where there is no loop."""


@dataclass(frozen=True)
class Model:
    """A trained latent diffusion model, with its weights rounded to FP16.

    Attributes:
        vae, unet: The networks.
        scale: What the latent is standardised with.
        diffusion: Prediction type and training noise schedule, as the manifest has them.
        distilled_to: The one number of steps that a student of `distill` is for.
    """

    vae: Autoencoder
    unet: UNetLite
    scale: LatentScale
    diffusion: dict[str, Any]
    distilled_to: int | None = None

    def modules(self) -> dict[Component, GraphModule]:
        """Encoder, step and decoder."""
        return graph_modules(self.vae, self.unet, self.scale)

    @torch.no_grad()
    def golden(self, bundle: Bundle, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loop's ends, and all that the encoder writes."""
        preset = bundle.diffusion.presets[bundle.diffusion.default]
        modules = self.modules()
        encoder, decoder = modules[Component.ENCODER], modules[Component.DECODER]
        encoded = dict(zip(encoder.outputs, encoder(image), strict=True))
        latent, noise = sample_latents(
            self.unet,
            encoded["condition"],
            make_schedule(bundle, preset),
            seed=0,
            noise_scale=preset.noise_scale,
            embeddings=torch.from_numpy(bundle.time_embedding()),
            is_quiet=True,
        )
        read = {**encoded, LATENT: latent}
        output = decoder(*(read[name] for name in decoder.inputs))
        written = {f"encoder.{name}": value for name, value in encoded.items()}
        return {IMAGE: image, "noise": noise, LATENT: latent, OUTPUT: output, **written}

    def loop(self, card: Mapping[str, Any], folder: Path, geometry: Geometry) -> dict[str, Any]:
        """With the time embedding's table.

        Raises:
            ConfigError: A preset is not what the model was distilled for.
        """
        if self.distilled_to is not None:
            _check_presets(card["presets"], self.distilled_to)
        return _loop_fields(self.unet, self.diffusion, card, folder, geometry)


@dataclass(frozen=True)
class PixelModel:
    """A trained diffusion model in pixel space, with its weights rounded to FP16: no autoencoder.

    Attributes:
        network: The denoiser.
        diffusion: Prediction type, training noise schedule and clip, as the manifest has them.
    """

    network: SR3 | ClassUNet
    diffusion: dict[str, Any]

    def modules(self) -> dict[Component, GraphModule]:
        """Encoder, which enlarges the LR image, and step."""
        return pixel_modules(self.network)

    @torch.no_grad()
    def golden(self, bundle: Bundle, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loop's ends, the last of which is the output, and the condition."""
        preset = bundle.diffusion.presets[bundle.diffusion.default]
        (condition,) = self.modules()[Component.ENCODER](image)
        latent, noise = sample_latents(
            self._told(bundle, preset),
            condition,
            make_schedule(bundle, preset),
            seed=0,
            noise_scale=preset.noise_scale,
            embeddings=torch.from_numpy(bundle.time_embedding()),
            is_quiet=True,
        )
        loop = {"noise": noise, LATENT: latent, OUTPUT: latent}
        return {IMAGE: image, **loop, "encoder.condition": condition}

    def _told(self, bundle: Bundle, preset: Preset) -> Denoiser:
        """The network as a preset has it told of classes, of the bundle's own embedding."""
        classes = bundle.manifest.classes
        if classes is None or not isinstance(self.network, ClassUNet):
            return self.network
        table = dict(zip(classes.names, torch.from_numpy(bundle.class_embedding()), strict=True))
        name, guidance = classes.asked(preset.class_name, preset.guidance)
        return Told(self.network, table[name], null=table[classes.null], guidance=guidance)

    def loop(self, card: Mapping[str, Any], folder: Path, geometry: Geometry) -> dict[str, Any]:
        """With the tables of timesteps, and of classes where there are some."""
        fields = _loop_fields(self.network, self.diffusion, card, folder, geometry)
        if isinstance(self.network, ClassUNet):
            fields["classes"] = _class_fields(self.network, card, folder)
        return fields


@torch.no_grad()
def _loop_fields(
    denoiser: Denoiser, diffusion: dict[str, Any], card: Mapping[str, Any], folder: Path, geometry: Geometry
) -> dict[str, Any]:
    """The manifest's fields of a loop whose condition an encoder makes; writes the time embedding's table."""
    table = denoiser.time(torch.arange(diffusion["timesteps"])).numpy().astype(np.float16)
    return {
        "latent": {"channels": denoiser.config.latent_channels, "factor": geometry.factor},
        "conditioning": {"kind": "encoder"},
        "diffusion": {**diffusion, "presets": card["presets"], "default": card["default"]},
        "time_embedding": array_file(folder, "time_embedding.npy", table),
    }


@torch.no_grad()
def _class_fields(network: ClassUNet, card: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest's fields of the classes; writes their embedding's table.

    Raises:
        ConfigError: The card says nothing of guidance.
    """
    if missing := [name for name in ("guidance", "most_guidance") if name not in card]:
        raise ConfigError(f"the card has no {', '.join(missing)}, the model was told classes")
    names = network.config.names
    table = array_file(folder, "class_embedding.npy", network.classes.weight.numpy().astype(np.float16))
    told = {key: card[key] for key in ("guidance", "most_guidance")}
    return {"names": names, "null": names[-1], "embedding": table, **told}


@dataclass(frozen=True)
class RegressionModel:
    """A trained regression, with its weights rounded to FP16: one pass, no loop."""

    lr_encoder: LREncoder

    def modules(self) -> dict[Component, GraphModule]:
        """A decoder alone."""
        module = RegressionGraph(self.lr_encoder)
        module.eval()
        return {Component.DECODER: module}

    @torch.no_grad()
    def golden(self, bundle: Bundle, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Its output."""
        return {IMAGE: image, OUTPUT: self.modules()[Component.DECODER](image)}

    def loop(self, card: Mapping[str, Any], folder: Path, geometry: Geometry) -> dict[str, Any]:
        """Nothing."""
        return {}


def load_model(vae_run: Path, unet_run: Path, *, decoder_run: Path | None = None) -> Model:
    """The averaged weights of the runs, rounded.

    Args:
        vae_run: A run of train-vae, or a folder in diffusers' layout.
        unet_run: A run of train-unet, or a student of distill.
        decoder_run: A run of train-decoder, whose decoder is taken; the autoencoder's own where None.

    Raises:
        ConfigError: One of them holds no weights, or those of something else.
        ExportError: A weight that FP16 cannot hold.
    """
    unet, scale, diffusion = load_unet(unet_run)
    vae = load_vae(vae_run)
    if decoder_run is not None:
        use_decoder(vae, decoder_run)
    for what in ("latent_channels", "condition_channels"):
        theirs, ours = getattr(vae.config, what), getattr(unet.config, what)
        if theirs != ours:
            raise ConfigError(
                f"{unet_run} was trained for {ours} {what.replace('_', ' ')}, {vae_run} has {theirs}",
                hint="give the autoencoder that train-unet was given",
            )
    for network in (vae, unet):
        round_weights(network)
    return Model(vae, unet, scale, diffusion, distilled_to=distilled_steps(unet_run))


def _check_presets(presets: Mapping[str, Mapping[str, Any]], steps: int) -> None:
    """What a student learnt is one schedule: so many steps of DDIM with eta 0, over the whole chain.

    Raises:
        ConfigError: A preset asks for another.
    """
    learnt = {"sampler": "ddim", "steps": steps, "spacing": "trailing", "eta": 0.0, "start": 1.0}
    for name, preset in presets.items():
        wrong = [f"{key} {preset[key]}" for key in learnt if preset.get(key, learnt[key]) != learnt[key]]
        if wrong:
            raise ConfigError(
                f"preset {name} has {', '.join(wrong)}; the model was distilled to {steps}-step DDIM",
                hint=f"give a --card with presets of {steps} steps, as export/cards/cxr-x4-1-step.json has 1",
            )


def load_sr3_model(run: Path) -> PixelModel:
    """The averaged weights of a run of train-sr3, rounded.

    Raises:
        ConfigError: It holds no weights, or those of something else.
        ExportError: A weight that FP16 cannot hold.
    """
    network, diffusion = load_sr3(run)
    round_weights(network)
    return PixelModel(network, diffusion)


def untrained_sr3_model(
    size: str, *, channels: int, steps: int, seed: int
) -> tuple[PixelModel, dict[str, Any]]:
    """SR3 with random weights, and a card that says so.

    Args:
        size: One of `export.models.sr3.SIZES`.
        channels: 1 for gray, 3 for colour.
        steps: Of its one preset.
        seed: Of the weights.
    """
    config = replace(SIZES[size], image_channels=channels)
    network = untrained(config, seed=seed)
    round_weights(network)
    card = {
        "name": f"sr3-{size}-untrained",
        "version": "0",
        "description": "SR3 with random weights: what its graphs cost, and nothing else.",
        "scale": config.scale,
        "channels": channels,
        "tile": config.side // config.scale,
        "overlap": config.side // config.scale // 4,
        "degradation": "cubic",
        "data": "none",
        "data_licence": "none",
        "weights_licence": "Apache-2.0",
        "intended_use": "To measure what the graphs cost on a device.",
        "limits": ["Its weights are random: it makes noise, and no image."],
        "presets": {"default": {"sampler": "ddim", "steps": steps, "spacing": "leading"}},
        "default": "default",
    }
    return PixelModel(network, diffusion_fields(NOISES["cosine"], "epsilon")), card


def load_class_model(run: Path) -> PixelModel:
    """The averaged weights of a run of train-class, rounded.

    Raises:
        ConfigError: It holds no weights, or those of something else.
        ExportError: A weight that FP16 cannot hold.
    """
    network, diffusion = load_class_unet(run)
    round_weights(network)
    return PixelModel(network, diffusion)


def load_regression_model(run: Path) -> RegressionModel:
    """The averaged weights of a run of train-regression, rounded.

    Raises:
        ConfigError: It holds no weights, or those of something else.
        ExportError: A weight that FP16 cannot hold.
    """
    config, _ = load_weights(run)
    try:
        lr_encoder = LREncoder(VAEConfig(**config))
    except TypeError as error:
        raise ConfigError(f"{run} is no run of train-regression: {error}") from error
    load_regression(run, lr_encoder)
    round_weights(lr_encoder)
    return RegressionModel(lr_encoder.eval().requires_grad_(requires_grad=False))
