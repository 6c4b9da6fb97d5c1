"""LPIPS with SqueezeNet features, without torchvision and without a download.

The metric is Zhang et al. 2018 (arXiv 1801.03924), version 0.1, net "squeeze". Two files are needed in one
folder: `squeezenet1_1.pth`, torchvision's state dict, and `squeeze.pth`, the linear weights that the PyPI
package lpips carries in `lpips/weights/v0.1`. Where only the first is there, an installed lpips package is
looked at for the second. The files are read with `weights_only=True`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from edge_sr.errors import ConfigError

TRUNK, LINEAR = "squeezenet1_1.pth", "squeeze.pth"
SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and spread for images in [-1, 1], as lpips 0.1 has them
SCALE = (0.458, 0.448, 0.450)
TAPS = (1, 4, 7, 9, 10, 11, 12)  # the last layer of each of the seven slices


class Fire(nn.Module):
    """SqueezeNet's squeeze and expand (Iandola et al. 2016)."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, h, w) -> (N, 2 * expand, h, w)."""
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def squeezenet_features() -> nn.Sequential:
    """The feature layers of SqueezeNet 1.1, numbered as in torchvision's state dict."""
    pool = [nn.MaxPool2d(3, stride=2, ceil_mode=True) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool[0], Fire(64, 16, 64), Fire(128, 16, 64), pool[1],
        Fire(128, 32, 128), Fire(256, 32, 128), pool[2], Fire(256, 48, 192), Fire(384, 48, 192),
        Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip


class LPIPS(nn.Module):
    """The distance of two images in SqueezeNet's features. Frozen; gradients flow to the images."""

    def __init__(self, folder: Path) -> None:
        """Reads the weights.

        Raises:
            ConfigError: A file is missing, damaged, or holds something else.
        """
        super().__init__()
        self.features = squeezenet_features()
        trunk, linear = _load(folder / TRUNK), _load(_linear_path(folder))
        try:
            self.features.load_state_dict(
                {
                    k.removeprefix("features."): v.float()
                    for k, v in trunk.items()
                    if k.startswith("features.")
                }
            )
            for i in range(len(TAPS)):
                self.register_buffer(f"linear{i}", linear[f"lin{i}.model.1.weight"].float())
        except (RuntimeError, KeyError) as error:
            problem = str(error).splitlines()[0]
            raise ConfigError(f"{folder} does not hold the weights of LPIPS-squeeze: {problem}") from error
        self.register_buffer("shift", torch.tensor(SHIFT)[None, :, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[None, :, None, None])
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """a, b: (N, 1 or 3, H, W) in [-1, 1] -> distance: (N,)."""
        total = torch.zeros(a.shape[0], device=a.device)
        for i, (fa, fb) in enumerate(zip(self._taps(a), self._taps(b), strict=True)):
            difference = (_unit(fa) - _unit(fb)).square()
            total = total + functional.conv2d(difference, getattr(self, f"linear{i}")).mean(dim=(1, 2, 3))
        return total

    def _taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The features after each slice."""
        x = (x.expand(-1, 3, -1, -1) - self.shift) / self.scale
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPS:
                taps.append(x)
        return taps


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Features scaled to unit length at each pixel."""
    # A small number inside the root as well: its gradient at a pixel without features is infinite.
    return x / (torch.sqrt(x.square().sum(dim=1, keepdim=True) + 1e-20) + 1e-10)


def _linear_path(folder: Path) -> Path:
    """Where the linear weights lie: in the folder, or in an installed lpips, which is not imported."""
    spec = None if (folder / LINEAR).is_file() else importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        return folder / LINEAR
    return Path(spec.origin).parent / "weights" / "v0.1" / LINEAR


def _load(path: Path) -> dict[str, torch.Tensor]:
    """A state dict, refused clearly where it is missing."""
    if not path.is_file():
        raise ConfigError(
            f"no LPIPS weights at {path}",
            hint=f"the folder needs torchvision's {TRUNK} and lpips' v0.1 {LINEAR}",
        )
    try:
        weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle have a dozen for damaged files
        problem = str(error).strip().splitlines()[0]
        raise ConfigError(f"{path} cannot be read as weights: {problem}") from error
    return weights
