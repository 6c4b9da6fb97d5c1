"""LPIPS as a distance, with weights made up here; the real ones where there is a folder of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_sr.errors import ConfigError
from export.perceptual import LINEAR, LPIPS, TRUNK, squeezenet_features

CHANNELS = (64, 128, 256, 384, 384, 512, 512)  # of the seven slices


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files as torchvision and lpips have them, of random weights."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    trunk = {f"features.{name}": value.half() for name, value in squeezenet_features().state_dict().items()}
    torch.save(trunk | {"classifier.1.bias": torch.zeros(1000)}, folder / TRUNK)
    torch.save(
        {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(CHANNELS)}, folder / LINEAR
    )
    return folder


@pytest.fixture(scope="module")
def lpips(weights: Path) -> LPIPS:
    return LPIPS(weights)


def images(count: int, *, seed: int) -> torch.Tensor:
    return torch.rand((count, 1, 64, 64), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_images_have_no_distance(lpips: LPIPS) -> None:
    assert not lpips(images(2, seed=0), images(2, seed=0)).any()


def test_the_distance_is_one_number_an_image_and_the_same_both_ways(lpips: LPIPS) -> None:
    a, b = images(3, seed=0), images(3, seed=1)
    assert lpips(a, b).shape == (3,)
    assert (lpips(a, b) > 0).all()
    assert torch.equal(lpips(a, b), lpips(b, a))
    torch.testing.assert_close(lpips(a[1:2], b[1:2]), lpips(a, b)[1:2])


def test_gray_images_count_as_colour_images_of_equal_channels(lpips: LPIPS) -> None:
    a, b = images(1, seed=0), images(1, seed=1)
    torch.testing.assert_close(lpips(a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1)), lpips(a, b))


def test_a_little_noise_is_nearer_than_much(lpips: LPIPS) -> None:
    a, noise = images(1, seed=0), images(1, seed=2)
    distances = [lpips(a, a + scale * noise).item() for scale in (0.01, 0.1, 1.0)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_the_gradient_is_finite_at_constant_images(lpips: LPIPS, level: float) -> None:
    for other in (torch.full((1, 1, 64, 64), level), images(1, seed=0)):
        constant = torch.full((1, 1, 64, 64), level, requires_grad=True)
        lpips(constant, other).sum().backward()
        assert constant.grad is not None
        assert torch.isfinite(constant.grad).all()


def test_training_does_not_change_the_metric(lpips: LPIPS) -> None:
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_missing_damaged_and_foreign_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no LPIPS weights"):
        LPIPS(tmp_path)
    (tmp_path / TRUNK).write_bytes(b"damaged")
    (tmp_path / LINEAR).write_bytes((weights / LINEAR).read_bytes())
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        LPIPS(tmp_path)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / TRUNK)
    with pytest.raises(ConfigError, match="does not hold the weights of LPIPS-squeeze"):
        LPIPS(tmp_path)


@pytest.mark.data
def test_the_real_weights_tell_a_blurred_radiograph_from_a_sharp_one(data_dir: Path) -> None:
    from export.data import load_pairs

    lr, hr, _ = load_pairs(data_dir / "cxr" / "test")
    sharp = torch.from_numpy(hr[:8])
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(lr[:8]), scale_factor=4, mode="bicubic")
    distance = LPIPS(data_dir / "metrics")(enlarged, sharp).mean().item()
    assert 0.1 < distance < 0.4  # 0.22 to 0.23 over the whole folder
