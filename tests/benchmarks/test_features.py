"""The second judge: a distance in the features of an encoder that nothing is trained with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks.features import DOWN, LAYERS, TAPS, FeatureDistance
from edge_sr.errors import ConfigError

CHANNELS = 4
Tensors = dict[str, torch.Tensor]


def encoder() -> Tensors:
    """Random weights, named as a TAESD encoder's are, with a layer more than is used."""
    generator = torch.Generator().manual_seed(0)
    weights = {"0.weight": (CHANNELS, 3, 3, 3), "0.bias": (CHANNELS,), f"{LAYERS}.weight": (CHANNELS,)}
    for layer in range(1, LAYERS):
        square = (CHANNELS, CHANNELS, 3, 3)
        if layer in DOWN:
            weights[f"{layer}.weight"] = square
            continue
        for place in (0, 2, 4):
            weights |= {f"{layer}.conv.{place}.weight": square, f"{layer}.conv.{place}.bias": (CHANNELS,)}
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in weights.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({name: value.half() for name, value in encoder().items()}, tmp_path / "encoder.pth")
    return tmp_path / "encoder.pth"


def image(seed: int) -> torch.Tensor:
    return torch.rand((1, 1, 16, 24), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_hand(picture: torch.Tensor, weights: Tensors) -> list[torch.Tensor]:
    """The features of one image, from the definition."""

    def conv(x: torch.Tensor, name: str, *, stride: int = 1) -> torch.Tensor:
        bias = weights.get(f"{name}.bias")
        return functional.conv2d(x, weights[f"{name}.weight"], bias, stride=stride, padding=1)

    x, found = conv(((picture + 1) / 2).repeat(1, 3, 1, 1), "0"), []
    for layer in range(1, LAYERS):
        if layer in DOWN:
            x = conv(x, f"{layer}", stride=2)
        else:
            h = functional.relu(conv(x, f"{layer}.conv.0"))
            h = functional.relu(conv(h, f"{layer}.conv.2"))
            x = functional.relu(conv(h, f"{layer}.conv.4") + x)
        if layer in TAPS:
            found.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-6))
    return found


def test_the_distance_is_that_of_the_definition(path: Path) -> None:
    weights = {name: value.half().float() for name, value in encoder().items()}
    pairs = zip(by_hand(image(1), weights), by_hand(image(2), weights), strict=True)
    wanted = sum(float((a - b).square().sum(dim=1).mean()) for a, b in pairs)
    assert float(FeatureDistance(path)(image(1), image(2))) == pytest.approx(wanted, rel=1e-5)


def test_an_image_is_at_no_distance_from_itself_and_at_some_from_others(path: Path) -> None:
    stack = torch.cat([image(1), image(2)])
    same, other = FeatureDistance(path)(stack, image(1)).tolist()
    assert same < 1e-9 < other  # the sums of a batch of two, in another order


def test_the_weights_are_named_by_their_digest(path: Path) -> None:
    first = FeatureDistance(path).digest
    torch.save(encoder(), path)
    assert len(first) == 64
    assert FeatureDistance(path).digest != first


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_a_file_that_is_no_encoder_is_an_error_with_its_name(path: Path, content: bytes | None) -> None:
    if content is None:
        torch.save({"0.weight": torch.zeros(4, 3, 3, 3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"encoder\.pth holds no encoder"):
        FeatureDistance(path)


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.pth: No such file"):
        FeatureDistance(tmp_path / "no.pth")
