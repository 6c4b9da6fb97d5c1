"""What is exported: each network wrapped so that its tensors have fixed names, shapes and order.

    encoder   image                                       -> condition, and what the decoder reads of it
    step      x, x0_previous, noise, coefficients,
              time_embedding, condition                   -> x_next, x0
    decoder   latent, and what it reads of the encoder    -> output

Of a network that was told classes the step also reads guidance and partner, by which it mixes the predictions
of two rows.

A denoiser that reads the LR image as it is has no encoder, and `image` in place of `condition`. A regression
is a decoder alone, image -> output. Diffusion in pixel space has no decoder, and its encoder enlarges the LR
image: the loop ends at the output.

Our own decoder reads the encoder's features and mean; one that knows nothing of the LR image reads the latent
alone. Skips are not concatenated in what is exported: see `split_skips`. The latent is standardised here: the
step graph sees zero mean and unit variance a channel, and the decoder undoes it first. The update of the
sampler is part of the step graph and stays in FP32 at every precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from edge_sr.spec import COEFFICIENTS, IMAGE, LATENT, OUTPUT, Component
from export.models.autoencoder import Autoencoder
from export.models.class_unet import ClassUNet, split_class_skips
from export.models.denoiser import Denoiser
from export.models.diffusers_decoder import Decoder
from export.models.sr3 import SR3, BicubicEncoder
from export.models.sr3 import split_skips as split_sr3
from export.models.unet_lite import UNetLite, split_skips
from export.models.vae import LREncoder


@dataclass(frozen=True)
class LatentScale:
    """Mean and standard deviation of the latent over the training data, a channel each: (L,) float32."""

    mean: torch.Tensor
    std: torch.Tensor


class EncoderGraph(nn.Module):
    """image -> condition, and what the decoder reads beside the latent."""

    def __init__(self, vae: Autoencoder) -> None:
        super().__init__()
        self.inputs = (IMAGE,)
        self.outputs = ("condition", *vae.decoder_inputs)
        self.lr_encoder = vae.lr_encoder

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """image: (N, C, h, w) -> condition (N, K, h', w'), and of features and mean what `outputs` names."""
        mean, features, condition = self.lr_encoder(image)
        named = {"condition": condition, "features": features, "mean": mean}
        return tuple(named[name] for name in self.outputs)


class StepGraph(nn.Module):
    """One whole step of the sampler: the denoiser and the update around it.

    Attributes:
        channels: Of x, those that are denoised. Behind them a denoiser may carry noise that it wants to see
            again in every step: the update leaves it as it is.
    """

    def __init__(self, unet: Denoiser, *, condition: str = "condition", carried: int = 0) -> None:
        super().__init__()
        self.inputs = ("x", "x0_previous", "noise", "coefficients", "time_embedding", condition)
        self.outputs = ("x_next", "x0")
        self.unet, self.carried = unet, carried
        self.channels = unet.config.latent_channels - carried

    def forward(
        self,
        x: torch.Tensor,
        x0_previous: torch.Tensor,
        noise: torch.Tensor,
        coefficients: torch.Tensor,
        time_embedding: torch.Tensor,
        condition: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x, x0_previous, noise: (N, L, h, w); coefficients: (N, 7); time_embedding: (N, D) -> x_next, x0."""
        out = self.unet.denoise(x, time_embedding, condition)
        kept = x[:, self.channels :]
        if self.carried:
            x, x0_previous, noise = (value[:, : self.channels] for value in (x, x0_previous, noise))
        x_next, x0 = _update(x, x0_previous, noise, coefficients, out)
        if self.carried:
            x_next, x0 = (torch.cat([value, kept], dim=1) for value in (x_next, x0))
        return x_next, x0


class GuidedStepGraph(nn.Module):
    """The same of a class-guided denoiser: every row goes on with its own prediction and its partner's."""

    def __init__(self, unet: Denoiser) -> None:
        super().__init__()
        loop = ("x", "x0_previous", "noise", "coefficients", "time_embedding")
        self.inputs = (*loop, "guidance", "partner", "condition")
        self.outputs = ("x_next", "x0")
        self.unet = unet

    def forward(
        self,
        x: torch.Tensor,
        x0_previous: torch.Tensor,
        noise: torch.Tensor,
        coefficients: torch.Tensor,
        time_embedding: torch.Tensor,
        guidance: torch.Tensor,
        partner: torch.Tensor,
        condition: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `StepGraph`; guidance: (N, 2), of own and partner's prediction; partner: (N,) int32, its row."""
        prediction = self.unet.denoise(x, time_embedding, condition)
        own, other = guidance[:, :, None, None, None].unbind(1)  # (N, 1, 1, 1) each
        out = own * prediction + other * prediction.index_select(0, partner)
        return _update(x, x0_previous, noise, coefficients, out)


def _update(
    x: torch.Tensor,
    x0_previous: torch.Tensor,
    noise: torch.Tensor,
    coefficients: torch.Tensor,
    prediction: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sampler's update, see `edge_sr.schedule` -> x_next, x0."""
    p, q, a, b, c, d, clip = coefficients[:, :, None, None, None].unbind(1)  # (N, 1, 1, 1) each
    x0 = torch.maximum(torch.minimum(p * x + q * prediction, clip), -clip)
    return a * x + b * x0 + c * noise + d * x0_previous, x0


class DecoderGraph(nn.Module):
    """latent, and what the decoder reads of the LR image -> output."""

    def __init__(self, vae: Autoencoder, scale: LatentScale) -> None:
        super().__init__()
        self.inputs = (LATENT, *vae.decoder_inputs)
        self.outputs = (OUTPUT,)
        self.decoder = vae.decoder
        self.register_buffer("latent_mean", scale.mean[None, :, None, None])
        self.register_buffer("latent_std", scale.std[None, :, None, None])

    def forward(self, latent: torch.Tensor, *encoded: torch.Tensor) -> torch.Tensor:
        """latent: (N, L, h', w'), encoded: in the order of `inputs` -> (N, C, H, W)."""
        named = dict(zip(self.inputs[1:], encoded, strict=True))
        output: torch.Tensor = self.decoder(latent * self.latent_std + self.latent_mean, **named)
        return output


class PlainDecoderGraph(nn.Module):
    """latent -> output, by a decoder that takes the latent as the loop leaves it."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.inputs = (LATENT,)
        self.outputs = (OUTPUT,)
        self.decoder = decoder

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """latent: (N, L, h', w') -> (N, C, H, W)."""
        output: torch.Tensor = self.decoder(latent)
        return output


class RegressionGraph(nn.Module):
    """image -> output: the mean image of an LR encoder, as a model of its own."""

    def __init__(self, lr_encoder: LREncoder) -> None:
        super().__init__()
        self.inputs = (IMAGE,)
        self.outputs = (OUTPUT,)
        self.lr_encoder = lr_encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image: (N, C, h, w) -> (N, C, H, W)."""
        mean, _ = self.lr_encoder.regress(image)
        return mean


class ConditionGraph(nn.Module):
    """image -> condition: the LR image, enlarged."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.inputs = (IMAGE,)
        self.outputs = ("condition",)
        self.enlarge = BicubicEncoder(scale)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """image: (N, C, h, w) -> condition (N, C, H, W)."""
        return (self.enlarge(image),)


GraphModule = (
    EncoderGraph
    | StepGraph
    | GuidedStepGraph
    | DecoderGraph
    | PlainDecoderGraph
    | RegressionGraph
    | ConditionGraph
)


def graph_modules(vae: Autoencoder, unet: UNetLite, scale: LatentScale) -> dict[Component, GraphModule]:
    """The three graphs of an LDM, in evaluation mode."""
    modules: dict[Component, GraphModule] = {
        Component.ENCODER: EncoderGraph(vae),
        Component.STEP: StepGraph(split_skips(unet)),
        Component.DECODER: DecoderGraph(vae, scale),
    }
    for module in modules.values():
        module.eval()
    return modules


def pixel_modules(network: SR3 | ClassUNet) -> dict[Component, GraphModule]:
    """The two graphs of diffusion in pixel space, in evaluation mode."""
    step: StepGraph | GuidedStepGraph
    if isinstance(network, ClassUNet):
        step = GuidedStepGraph(split_class_skips(network))
    else:
        step = StepGraph(split_sr3(network))
    return {
        Component.ENCODER: ConditionGraph(network.config.scale).eval(),
        Component.STEP: step.eval(),
    }


@torch.no_grad()
def example_inputs(
    modules: dict[Component, GraphModule], *, channels: int, tile: int, batch: int, seed: int
) -> dict[str, torch.Tensor]:
    """Seeded inputs for every graph, by name: noise as the image, and what an encoder makes of it."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((batch, channels, tile, tile), generator=generator).mul(0.5).clamp(-1, 1)
    if Component.STEP not in modules:
        return {IMAGE: image}
    known = {IMAGE: image}
    if encoder := modules.get(Component.ENCODER):
        made = zip(encoder.outputs, encoder(image), strict=True)
        known |= {name: value.contiguous() for name, value in made}
    step = modules[Component.STEP]
    config = step.unet.config
    latent = (batch, config.latent_channels, *known[step.inputs[-1]].shape[2:])
    shapes = dict.fromkeys(("x", "x0_previous", "noise", LATENT), latent)
    shapes |= {"coefficients": (batch, len(COEFFICIENTS)), "time_embedding": (batch, config.embedding)}
    values = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    values["coefficients"][:, -1] = 3.0  # the clip, a positive bound
    if isinstance(step, GuidedStepGraph):
        values["guidance"] = torch.randn((batch, 2), generator=generator)
        values["partner"] = torch.zeros(batch, dtype=torch.int32)  # in every batch, however small
    return known | values


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model, as they come out of its graphs.

    Attributes:
        channels: Of the image that comes out.
        scale: Its enlargement.
        factor: Its pixels a latent pixel, along each axis; 1 where there is no latent.
    """

    channels: int
    scale: int
    factor: int


@torch.no_grad()
def measure(modules: dict[Component, GraphModule], inputs: dict[str, torch.Tensor]) -> Geometry:
    """The sizes, from one run of the decoder; without one, the loop runs on the image itself."""
    if Component.DECODER not in modules:
        x = inputs["x"]
        return Geometry(x.shape[1], x.shape[-1] // inputs[IMAGE].shape[-1], factor=1)
    decoder = modules[Component.DECODER]
    output = decoder(*(inputs[name] for name in decoder.inputs))
    side = output.shape[-1]
    latent = inputs.get(LATENT, output)
    return Geometry(output.shape[1], side // inputs[IMAGE].shape[-1], side // latent.shape[-1])
