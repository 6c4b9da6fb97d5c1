"""The same model in eager torch, rebuilt from a bundle's FP32 graphs: the peer the engine is timed against.

The networks are those of `export.models`, in the form in which they were trained (skips concatenated), which
has fewer calls. What the graphs do not say by name, such as the number of heads, is read from their shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.weights import GraphWeights, latent_scale, read_weights
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError
from edge_sr.schedule import Schedule, coefficients
from edge_sr.spec import Component
from export.models.unet_lite import UNetConfig, UNetLite, split_skips
from export.models.vae import Decoder, LREncoder, VAEConfig

__all__ = ["TorchModel", "rebuild"]

Float = npt.NDArray[np.float32]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TorchModel:
    """The networks of a bundle, frozen.

    Attributes:
        lr_encoder, unet, decoder: As they were trained, weights rounded as in the bundle.
        mean, std: What the latent is standardised with, (1, L, 1, 1).
        embedding: The time embedding of every training timestep, (T, D).
    """

    lr_encoder: LREncoder
    unet: UNetLite
    decoder: Decoder
    mean: torch.Tensor
    std: torch.Tensor
    embedding: torch.Tensor

    def to_memory_format(self, memory_format: torch.memory_format) -> TorchModel:
        """The same model, its weights laid out anew, in place."""
        for network in (self.lr_encoder, self.unet, self.decoder):
            network.to(memory_format=memory_format)
        return self

    @torch.inference_mode()
    def upscale(self, image: Float, noise: Float, step_noise: Float, schedule: Schedule) -> Float:
        """A batch of tiles: encode, the whole loop, decode.

        Args:
            image: (N, C, t, t) in [-1, 1].
            noise: (N, L, h, w), scaled: what the loop starts from.
            step_noise: (S, N, L, h, w), for the S steps that add noise.
            schedule: The steps.

        Returns:
            (N, C, T, T).
        """
        layout = self.layout
        mean, features, condition = self.lr_encoder(torch.from_numpy(image).contiguous(memory_format=layout))
        x = torch.from_numpy(noise).contiguous(memory_format=layout)
        x0, drawn = torch.zeros_like(x), iter(step_noise)
        for step, row in zip(schedule.steps, coefficients(schedule).tolist(), strict=True):
            p, q, a, b, c, d, clip = row
            out = self.unet.denoise(x, self.embedding[step.timestep].expand(len(x), -1), condition)
            before, x0 = x0, torch.clamp(p * x + q * out, -clip, clip)
            x = a * x + b * x0
            if c:
                x = x + c * torch.from_numpy(next(drawn))
            if d:
                x = x + d * before
        output: Float = self.decoder(x * self.std + self.mean, features, mean).contiguous().numpy()
        return output

    @property
    def layout(self) -> torch.memory_format:
        """How the weights lie."""
        weight = self.decoder.conv_in.weight
        is_plain = weight.is_contiguous()
        return torch.contiguous_format if is_plain else torch.channels_last


def rebuild(bundle: Bundle) -> TorchModel:
    """A bundle's model in torch.

    Raises:
        BundleError: Its FP32 graphs are not those of a UNet-Lite with this project's autoencoder.
    """
    weights = {component: read_weights(bundle, component) for component in Component}
    scale = latent_scale(bundle)
    if scale is None:
        raise BundleError("the decoder graph names no latent_mean and latent_std")
    try:
        vae = _vae_config(weights)
        unet = _unet(weights[Component.STEP], vae, grid=_grid(bundle))
        lr_encoder, decoder = LREncoder(vae), Decoder(vae)
        lr_encoder.load_state_dict(_layers(weights[Component.ENCODER], "lr_encoder."))
        decoder.load_state_dict(_layers(weights[Component.DECODER], "decoder."))
    except (KeyError, RuntimeError, StopIteration) as error:
        raise BundleError(f"the graphs do not fit the modules of export.models: {error}") from error
    for network in (lr_encoder, unet, decoder):
        network.eval().requires_grad_(requires_grad=False)
    mean, std = (torch.from_numpy(np.array(values))[None] for values in scale)
    return TorchModel(lr_encoder, unet, decoder, mean, std, torch.from_numpy(bundle.time_embedding()))


def _grid(bundle: Bundle) -> int:
    return bundle.manifest.tile * bundle.manifest.scale // bundle.latent.factor


def _layers(weights: GraphWeights, prefix: str) -> Tensors:
    """The parameters of the convolutions and linear layers whose names begin with a prefix, without it."""
    found: Tensors = {}
    for name, bias in weights.layers.items():
        if name.startswith(prefix):
            weight = _tensor(weights.named[name])
            found[name.removeprefix(prefix)] = weight
            key = name.removeprefix(prefix).removesuffix("weight") + "bias"
            found[key] = torch.zeros(len(weight)) if bias is None else _tensor(bias)  # it drops zeros
    return found


def _vae_config(weights: Mapping[Component, GraphWeights]) -> VAEConfig:
    encoder, decoder = weights[Component.ENCODER], weights[Component.DECODER]
    lr_width, image_channels, *_ = encoder.named["lr_encoder.conv_in.weight"].shape
    deep_width, latent_channels, *_ = decoder.named["decoder.conv_in.weight"].shape
    return VAEConfig(
        image_channels=image_channels,
        lr_width=lr_width,
        lr_blocks=_count(encoder, r"lr_encoder\.blocks\.(\d+)\.conv1\.weight"),
        lr_deep_width=_width(encoder, "lr_encoder.down.weight"),
        lr_deep_blocks=_count(encoder, r"lr_encoder\.deep\.(\d+)\.conv1\.weight"),
        width=decoder.named["decoder.conv_out.weight"].shape[1],
        deep_width=deep_width,
        decoder_blocks=_count(decoder, r"decoder\.blocks\.(\d+)\.conv1\.weight"),
        deep_blocks=_count(decoder, r"decoder\.deep\.(\d+)\.conv1\.weight"),
        condition_width=_width(encoder, "lr_encoder.condition_in.weight"),
        condition_blocks=_count(encoder, r"lr_encoder\.condition_blocks\.(\d+)\.conv1\.weight"),
        condition_channels=encoder.named["lr_encoder.to_condition.weight"].shape[0],
        latent_channels=latent_channels,
    )


def _count(weights: GraphWeights, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in weights.layers)


def _width(weights: GraphWeights, name: str) -> int:
    """Output channels of a convolution; 1, which nothing is made of, where the network has none."""
    return int(weights.named[name].shape[0]) if name in weights.named else 1


def _unet(weights: GraphWeights, vae: VAEConfig, *, grid: int) -> UNetLite:
    """UNet-Lite with its weights; the layers of its time embedding are in no graph, and are not used."""
    named = weights.named
    c1, c0 = named["unet.down0.weight"].shape[:2]
    c2 = named["unet.down1.weight"].shape[0]
    config = UNetConfig(
        latent_channels=named["unet.conv_out.weight"].shape[0],
        condition_channels=vae.condition_channels,
        channels=(c0, c1, c2),
        embedding=named["unet.mid1.modulation.weight"].shape[1],
        heads=_heads(weights, c2),
    )
    unet = UNetLite(config)
    parameters = _layers(weights, "unet.")
    names = _norm_names(split_skips(unet), grid)
    for name, (weight, bias) in zip(names, weights.norms, strict=True):
        parameters |= {f"{name}.weight": _tensor(weight), f"{name}.bias": _tensor(bias)}
    time = {f"time.{name}": value for name, value in unet.time.state_dict().items()}
    unet.load_state_dict(_joined(parameters) | time)
    return unet


def _heads(weights: GraphWeights, channels: int) -> int:
    """From the shape that queries, keys and values are given: (N, 3, heads, channels / heads, pixels)."""
    shapes = [value.tolist() for value in weights.named.values() if value.dtype == np.int64]
    return next(s[2] for s in shapes if len(s) == 5 and s[1] == 3 and s[2] * s[3] == channels)


def _norm_names(unet: UNetLite, grid: int) -> list[str]:
    """The names of the normalisations in the order in which they run, which is the graph's."""
    names: list[str] = []
    config = unet.config
    hooks = [
        module.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, module in unet.named_modules()
        if isinstance(module, nn.GroupNorm)
    ]
    channels = (config.latent_channels, config.condition_channels)
    x, condition = (torch.zeros(1, c, grid, grid) for c in channels)
    with torch.inference_mode():
        unet.denoise(x, torch.zeros(1, config.embedding), condition)
    for hook in hooks:
        hook.remove()
    return names


def _joined(parameters: Tensors) -> Tensors:
    """Undoes `split_skips`: the two halves of a layer become one."""
    joined = {name: value for name, value in parameters.items() if not re.search(r"_(x|skip)\.", name)}
    for name, value in parameters.items():
        layer, _, kind = name.rpartition(".")
        if not layer.endswith("_x"):
            continue
        other = parameters[f"{layer.removesuffix('_x')}_skip.{kind}"]
        is_convolution = parameters[f"{layer}.weight"].dim() > 1
        if is_convolution:  # over input channels; the outputs are summed, and so are the biases
            whole = torch.cat([value, other], dim=1) if kind == "weight" else value + other
        else:
            whole = torch.cat([value, other])
        joined[f"{layer.removesuffix('_x')}.{kind}"] = whole
    return joined


def _tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))
