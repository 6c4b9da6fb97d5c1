"""Denoisers of diffusers, UNet2DModel and UNet2DConditionModel, as the step graph wants one.

Such a network reads the noisy latent and the LR image at the latent's size, concatenated. What does not
depend on the image is computed once, at export: the time embedding with the embedding of a fixed class label
added, a row a timestep; and the keys and values that a fixed text has in cross attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from export.errors import ExportError
from export.models.denoiser import Denoiser

CLASSES = ("UNet2DModel", "UNet2DConditionModel")
TOLERANCE = 1e-4
"""Largest difference from the network's own forward, relative to the larger of 1 and the value."""
PLAIN: dict[str, tuple[tuple[Any, ...], str]] = {
    "center_input_sample": ((False,), "the same shift of the input in the step graph"),
    "time_embedding_type": ((None, "positional", "learned"), "its division of the output by the timestep"),
    "class_embed_type": ((None, "timestep"), "class embeddings from vectors, given beside the label"),
    "class_embeddings_concat": ((False,), "a time embedding with the class beside it, not added to it"),
    "addition_embed_type": ((None,), "the extra embeddings, given as constants"),
    "encoder_hid_dim_type": ((None,), "the projected prompt, given as a constant"),
    "time_cond_proj_dim": ((None,), "the guidance embedding of a distilled model, as a constant"),
    "dual_cross_attention": ((False,), "a second constant prompt"),
    "attention_type": (("default",), "the gated attention's objects, as constants"),
}
"""A field of the configuration -> the values that are expressed here, and what any other would need."""

UNREAD = ("added_kv_proj_dim", "norm_cross", "norm_k", "residual_connection")
"""What a cross attention of diffusers may have beside queries, keys and values."""


@dataclass(frozen=True)
class ConditionNoise:
    """The noise that a model was trained to find in its LR image: signal * image + sigma * noise."""

    signal: float
    sigma: float


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of a denoiser.

    Attributes:
        latent_channels: Of what the loop runs on: the latent, then the noise of the LR image if it has some.
        embedding: Width of the time embedding.
    """

    latent_channels: int
    embedding: int


class FixedAttention(nn.Module):
    """Cross attention of diffusers to a text that never changes: its keys and values are constants."""

    def __init__(self, attention: Any, text: torch.Tensor) -> None:
        super().__init__()
        if any(getattr(attention, name) for name in UNREAD):
            raise ExportError(
                "a cross attention with more than queries, keys and values", hint="plain blocks are read"
            )
        self.heads, self.to_q, self.to_out = attention.heads, attention.to_q, attention.to_out[0]
        self.register_buffer("keys", self._split(attention.to_k(text)).transpose(-1, -2).contiguous())
        self.register_buffer("values", self._split(attention.to_v(text)).contiguous())

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(N, P, C) -> (N, heads, P, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, hidden_states: torch.Tensor, **ignored: Any) -> torch.Tensor:
        """hidden_states: (N, P, C) -> (N, P, C)."""
        queries = self._split(self.to_q(hidden_states))
        weights = torch.softmax((queries @ self.keys) * queries.shape[-1] ** -0.5, dim=-1)
        out: torch.Tensor = self.to_out((weights @ self.values).transpose(1, 2).flatten(2))
        return out


class DiffusersUNet(Denoiser):
    """Predicts from the noisy latent, the time embedding and the LR image."""

    def __init__(
        self, network: Any, *, text: torch.Tensor | None, label: int | None, noise: ConditionNoise | None
    ) -> None:
        """Takes a network over: its cross attention is replaced.

        Args:
            network: One of `CLASSES`, frozen.
            text: (1, P, D), what cross attention reads; None for a network without it.
            label: The class label; None for a network without classes.
            noise: What the LR image is mixed with; None for nothing.

        Raises:
            ExportError: The network has something that is not expressed here, or wants a text or a label and
                was given none, or the reverse.
        """
        super().__init__()
        _check_plain(network.config)
        _check_label(network, label)
        _check_text(network, text)
        wanted = _own_forward(network, text, label)
        self.network, self.label, self.noise = network, label, noise
        self.channels = network.config.out_channels
        self.image_channels = network.config.in_channels - self.channels
        carried = self.image_channels if noise else 0
        self.config = DenoiserConfig(self.channels + carried, network.time_embedding.linear_2.out_features)
        if text is not None:
            _fix_text(network, text)
        sample, timesteps = _probe(network)
        with torch.no_grad():
            _check_same(wanted, self._predict(sample, self.time(timesteps)))

    @property
    def carried(self) -> int:
        """Channels of x, the last ones, that are no latent: the loop leaves them as they are."""
        return self.config.latent_channels - self.channels

    @property
    def side_factor(self) -> int:
        """What the latent's side must be a multiple of."""
        return int(2 ** sum(bool(getattr(block, "downsamplers", None)) for block in self.network.down_blocks))

    def time(self, timesteps: torch.Tensor) -> torch.Tensor:
        """timesteps: (N,) int64 -> (N, D), the class label's embedding included."""
        network = self.network
        rows = network.time_embedding(network.time_proj(timesteps).float())
        if self.label is not None:
            label = torch.tensor([self.label])
            is_timestep = network.config.class_embed_type == "timestep"
            rows = rows + network.class_embedding(network.time_proj(label).float() if is_timestep else label)
        act = getattr(network, "time_embed_act", None)
        rows = rows if act is None else act(rows)
        assert isinstance(rows, torch.Tensor)
        return rows

    def denoise(self, x: torch.Tensor, embedding: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x: (N, L, h, w), embedding: (N, D), condition: (N, C, h, w), the LR image -> (N, L, h, w)."""
        if self.noise:
            x, noise = x[:, : self.channels], x[:, self.channels :]
            condition = self.noise.signal * condition + self.noise.sigma * noise
        return self._predict(torch.cat([x, condition], dim=1), embedding)

    def _predict(self, sample: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """The network's forward from the embedding on."""
        network = self.network
        h = network.conv_in(sample)
        skips: tuple[torch.Tensor, ...] = (h,)
        for block in network.down_blocks:
            h, more = block(hidden_states=h, temb=embedding)
            skips += more
        if network.mid_block is not None:
            h = network.mid_block(h, embedding)
        for block in network.up_blocks:
            kept = len(skips) - len(block.resnets)
            skips, taken = skips[:kept], skips[kept:]
            h = block(hidden_states=h, temb=embedding, res_hidden_states_tuple=taken)
        if network.conv_norm_out is not None:
            h = network.conv_act(network.conv_norm_out(h))
        out: torch.Tensor = network.conv_out(h)
        return out


def _check_plain(config: Any) -> None:
    """Raises ExportError for a configuration that asks for what is not expressed here."""
    for field, (known, needed) in PLAIN.items():
        value = config.get(field, known[0])
        if value not in known:
            raise ExportError(
                f"the UNet's {field} is {value!r}, and only {' or '.join(map(repr, known))} is read",
                hint=f"this would need {needed}",
            )
    if skipping := [name for name in (*config.down_block_types, *config.up_block_types) if "Skip" in name]:
        raise ExportError(
            f"the UNet has blocks {', '.join(skipping)}, which pass an image of their own along",
            hint="this would need their second path in the step graph",
        )


def _check_label(network: Any, label: int | None) -> None:
    has_classes = network.class_embedding is not None
    if has_classes and label is None:
        raise ExportError(
            "the UNet wants a class label and was given none",
            hint="--class-label N, which becomes part of the bundle; labels that change are not offered",
        )
    if label is not None and not has_classes:
        raise ExportError(f"class label {label} was given, and the UNet has no classes")
    count = network.config.num_class_embeds
    if label is not None and isinstance(network.class_embedding, nn.Embedding) and not 0 <= label < count:
        raise ExportError(f"class label {label} is not one of the UNet's 0 to {count - 1}")


def _cross_attentions(network: Any) -> dict[str, Any]:
    """Every attention to a text, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if getattr(module, "is_cross_attention", False)
    }


def _check_text(network: Any, text: torch.Tensor | None) -> None:
    width = network.config.get("cross_attention_dim")
    if not _cross_attentions(network):
        if text is not None:
            raise ExportError("a text embedding was given, and the UNet has no cross attention")
        return
    if text is None:
        raise ExportError(
            f"the UNet has cross attention to a text of width {width}, and text encoders are not exported",
            hint="--text-embedding FILE.npy: (tokens, width) floats, what the text encoder makes of one "
            "prompt, such as the empty one; it becomes part of the bundle",
        )
    if text.shape[-1] != width:
        raise ExportError(f"the text embedding is {text.shape[-1]} wide, the UNet wants {width}")


def _fix_text(network: Any, text: torch.Tensor) -> None:
    for name, attention in _cross_attentions(network).items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, FixedAttention(attention, text))


def _probe(network: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Seeded inputs for two samples: (2, C, s, s) and timesteps."""
    side = 2 * 2 ** len(network.down_blocks)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn((2, network.config.in_channels, side, side), generator=generator)
    return sample, torch.tensor([7, 7])


@torch.no_grad()
def _own_forward(network: Any, text: torch.Tensor | None, label: int | None) -> torch.Tensor:
    """What diffusers computes."""
    given: dict[str, Any] = {}
    if network.config.get("cross_attention_dim") is not None:
        given["encoder_hidden_states"] = None if text is None else text.expand(2, -1, -1)
    if label is not None:
        given["class_labels"] = torch.tensor([label, label])
    out: torch.Tensor = network(*_probe(network), **given, return_dict=False)[0]
    return out


def _check_same(wanted: torch.Tensor, found: torch.Tensor) -> None:
    """Raises ExportError where diffusers' forward does something that `DiffusersUNet` does not."""
    error = float((found - wanted).abs().div(wanted.abs().clamp_min(1)).max())
    if not error <= TOLERANCE:
        raise ExportError(
            f"the UNet as it would be exported differs from diffusers' own by {error:.1e}",
            hint="it has something that is not read: compare its config.json with a plain one",
        )
