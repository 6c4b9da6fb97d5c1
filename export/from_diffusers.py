"""Anybody's diffusion super-resolution model: a pipeline's folder in diffusers' layout becomes a bundle.

What is read is a UNet that sees the LR image concatenated to the latent, at the latent's size, an
autoencoder that decodes the latent, and a scheduler; so LDMSuperResolutionPipeline (Rombach et al. 2022), and
StableDiffusionUpscalePipeline with one fixed text and one noise level. `docs/own-model.md` has it all.

The noise that the second adds to the LR image is drawn once an image and seen in every step. It is kept in
channels of its own behind the latent's, which the loop starts from noise and leaves as they are: so it
belongs to a place in the image and to the seed, like all noise here, and is the same in tiles that overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sr.bundle import Bundle, array_file
from edge_sr.errors import ConfigError
from edge_sr.pipeline import make_schedule
from edge_sr.spec import IMAGE, LATENT, OUTPUT, Component
from export.bundle import SOURCES, check_card
from export.diffusers_scheduler import Wish, read_diffusion, read_scheduler
from export.errors import ExportError
from export.graphs import Geometry, GraphModule, PlainDecoderGraph, StepGraph
from export.models import diffusers_decoder, diffusers_unet
from export.models.diffusers_decoder import Decoder
from export.models.diffusers_folder import read_config, read_network
from export.models.diffusers_unet import ConditionNoise, DiffusersUNet
from export.sampling import run_steps
from export.to_onnx import round_weights

INDEX = "model_index.json"
AUTOENCODERS = ("vae", "vqvae")  # what pipelines call it
UNSCALED = ("LDMSuperResolutionPipeline",)  # decode the latent as it is, whatever the scaling_factor
NOISE_LEVEL = 20  # of StableDiffusionUpscalePipeline, where none is asked for
TILE = 64
PROBE = 8  # side of a latent whose decode tells the enlargement
LARGEST = 2**31  # bytes of an ONNX file, while its weights are in FP32: what protobuf can serialise
UNKNOWN = "not stated in the folder"


@dataclass(frozen=True)
class Constants:
    """What a pipeline of diffusers is given with every call, and a bundle once.

    Attributes:
        text: (1, P, D) float32, the embedding of one prompt; None where there is no cross attention.
        label: The class label; None where there are no classes, or where it is the noise level.
        noise_level: A timestep of `low_res_scheduler`; None for `NOISE_LEVEL` where there is one.
    """

    text: torch.Tensor | None = None
    label: int | None = None
    noise_level: int | None = None


@dataclass(frozen=True)
class DiffusersModel:
    """A model of diffusers, with its weights rounded to FP16.

    Attributes:
        denoiser, decoder: The networks.
        diffusion: The manifest's field.
    """

    denoiser: DiffusersUNet
    decoder: Decoder
    diffusion: dict[str, Any]

    def modules(self) -> dict[Component, GraphModule]:
        """A step that reads the LR image as it is, and a decoder."""
        step = StepGraph(self.denoiser, condition=IMAGE, carried=self.denoiser.carried)
        modules: dict[Component, GraphModule] = {
            Component.STEP: step,
            Component.DECODER: PlainDecoderGraph(self.decoder),
        }
        for module in modules.values():
            module.eval()
        return modules

    @torch.no_grad()
    def golden(self, bundle: Bundle, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loop's ends, and the output."""
        preset = bundle.diffusion.presets[bundle.diffusion.default]
        schedule, modules = make_schedule(bundle, preset), self.modules()
        step = modules[Component.STEP]
        assert isinstance(step, StepGraph)
        table = torch.from_numpy(bundle.time_embedding())
        latent, noise = run_steps(
            step,
            image,
            schedule,
            rows=table[[record.timestep for record in schedule.steps]],
            seed=0,
            noise_scale=preset.noise_scale,
            is_quiet=True,
        )
        output = modules[Component.DECODER](latent)
        return {IMAGE: image, "noise": noise, LATENT: latent, OUTPUT: output}

    @torch.no_grad()
    def loop(self, card: Mapping[str, Any], folder: Path, geometry: Geometry) -> dict[str, Any]:
        """With the time embedding's table, in FP32: what is rounded there is not to be told from an error."""
        table = self.denoiser.time(torch.arange(self.diffusion["timesteps"])).numpy().astype(np.float32)
        presets = {name: card[name] for name in ("presets", "default")}
        return {
            "latent": {"channels": self.denoiser.config.latent_channels, "factor": geometry.factor},
            "conditioning": {"kind": "image"},
            "diffusion": {**self.diffusion, **presets},
            "time_embedding": array_file(folder, "time_embedding.npy", table),
        }


def load_diffusers(folder: Path, *, wish: Wish, constants: Constants) -> DiffusersModel:
    """The model of a pipeline's folder, rounded.

    Raises:
        ConfigError: A component is missing or damaged, or is of another class.
        ExportError: The model does something that is not expressed here; the hint says what it would need.
        ScheduleError: The wish is for a combination that is not offered.
    """
    index = read_config(folder / INDEX)
    diffusion = read_diffusion(read_scheduler(folder / "scheduler"), wish)
    autoencoder = read_network(_autoencoder(folder), diffusers_decoder.CLASSES, hint="none other is read")
    unet = read_network(folder / "unet", diffusers_unet.CLASSES, hint="transformers and others are not read")
    for network in (autoencoder, unet):
        _check_size(network)
        round_weights(network)
    noise, label = _condition_noise(folder, constants)
    denoiser = DiffusersUNet(unet, text=constants.text, label=label, noise=noise)
    is_scaled = index.get("_class_name") not in UNSCALED
    decoder = Decoder(autoencoder, scale=_scale(autoencoder) if is_scaled else 1.0, shift=_shift(autoencoder))
    _check_channels(denoiser, decoder, autoencoder)
    return DiffusersModel(denoiser, decoder, diffusion)


def _check_size(network: Any) -> None:
    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    if size >= LARGEST:
        raise ExportError(
            f"{type(network).__name__} has {size / 4e6:.0f} million weights, and a graph is one file of less "
            "than 2 GiB",
            hint="this would need graphs with their weights in files of their own",
        )


def _autoencoder(folder: Path) -> Path:
    for name in AUTOENCODERS:
        if (folder / name).is_dir():
            return folder / name
    raise ConfigError(
        f"{folder} has neither {' nor '.join(AUTOENCODERS)}",
        hint="a model in pixel space is not read yet: it would need an encoder that enlarges the LR image",
    )


def _scale(autoencoder: Any) -> float:
    return float(autoencoder.config.get("scaling_factor") or 1.0)


def _shift(autoencoder: Any) -> float:
    return float(autoencoder.config.get("shift_factor") or 0.0)


def _condition_noise(folder: Path, constants: Constants) -> tuple[ConditionNoise | None, int | None]:
    """The noise of the LR image, and the class label, which is its level where there is some."""
    level = constants.noise_level
    if not (folder / "low_res_scheduler").is_dir():
        if level is not None:
            raise ExportError(f"noise level {level} was given, and {folder} has no low_res_scheduler")
        return None, constants.label
    if constants.label is not None:
        raise ExportError("a class label was given, and this model's label is its noise level")
    table = read_scheduler(folder / "low_res_scheduler").alphas_cumprod.double()
    level = NOISE_LEVEL if level is None else level
    if not 0 <= level < len(table):
        raise ExportError(f"noise level {level} is not one of 0 to {len(table) - 1}")
    kept = float(table[level])
    return ConditionNoise(kept**0.5, (1 - kept) ** 0.5), level


def _check_channels(denoiser: DiffusersUNet, decoder: Decoder, autoencoder: Any) -> None:
    """Raises ExportError where the parts do not fit, or the image is neither gray nor RGB."""
    if denoiser.channels != decoder.channels:
        raise ExportError(
            f"the UNet predicts {denoiser.channels} channels, the latent has {decoder.channels}",
            hint="a learned variance, in twice the channels, would need a sampler that uses it",
        )
    if denoiser.image_channels != autoencoder.config.out_channels or denoiser.image_channels not in (1, 3):
        raise ExportError(
            f"the UNet reads {denoiser.image_channels} channels beside the latent, the image has "
            f"{autoencoder.config.out_channels}",
            hint="wanted the LR image itself, gray or RGB, at the latent's size; a condition that is encoded "
            "first would need an encoder graph",
        )


def complete_card(
    told: Mapping[str, Any], model: DiffusersModel, folder: Path, *, tile: int | None, overlap: int | None
) -> dict[str, Any]:
    """A whole card: what is told, what the model says of itself, and for the rest that nobody knows.

    Args:
        told: Any fields of a card; they win.
        model: Of which the card is.
        folder: What it came from; its name becomes the bundle's.
        tile: In LR pixels; None for the card's, or `TILE`.
        overlap: The same; None for the card's, or a quarter of the tile.

    Raises:
        ConfigError: A field is not known, or is no number where one is wanted.
        ExportError: The UNet cannot run on such a tile.
    """
    asked = {"tile": tile, "overlap": overlap}
    given = {name: value for name, value in asked.items() if value is not None}
    card = {**_known(model, folder), **told, **given}
    check_card({"overlap": 0, **card})
    factor = model.denoiser.side_factor
    if card["tile"] % factor:
        raise ExportError(
            f"tile {card['tile']} is no multiple of {factor}, which this UNet halves it to",
            hint=f"--tile {-(-card['tile'] // factor) * factor}",
        )
    return {"overlap": card["tile"] // 4, **card}


def _known(model: DiffusersModel, folder: Path) -> dict[str, Any]:
    """A card of what the model says of itself."""
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.resolve().name).strip("._-")
    return {
        "name": name[:64] or "diffusers",
        "version": "0.1",
        "description": f"{type(model.denoiser.network).__name__} from a folder in the layout of diffusers.",
        "degradation": "antialiased-bicubic",
        "intended_use": UNKNOWN,
        "limits": ["Nothing is known here of what it was trained on, or of how good it is."],
        "scale": _scale_of(model.decoder),
        "channels": model.denoiser.image_channels,
        "presets": model.diffusion["presets"],
        "default": model.diffusion["default"],
        "tile": TILE,
        **dict.fromkeys(SOURCES, UNKNOWN),
    }


@torch.no_grad()
def _scale_of(decoder: Decoder) -> int:
    """The enlargement: the decoder's, since the LR image has the latent's size."""
    latent = torch.zeros((1, decoder.channels, PROBE, PROBE))
    return int(decoder(latent).shape[-1]) // PROBE


def read_text(path: Path) -> torch.Tensor:
    """A text embedding from its file: (P, D) or (1, P, D) float -> (1, P, D) float32.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or len(array) != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ConfigError(f"{path} holds {array.dtype} of shape {array.shape}, wanted (tokens, width) floats")
    return torch.from_numpy(array.astype(np.float32))
