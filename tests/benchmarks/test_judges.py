"""Our metrics against those of others, on made-up and on real images.

The tolerances: 1e-9 where both compute in float64 by one formula; 1e-6 where the other one's Gaussian window
or sums are made in another order; 1e-5 relative for LPIPS, which is FP32 through thirteen layers.

The package lpips takes its trunk from torchvision, of which there is no build for a torch without CUDA. Two
checks stand in: lpips' own code (scaling, slices, unit length, linear weights, mean) over our trunk; and
values that lpips 0.1.4 gave over the trunk of torchvision 0.29.2 itself, recorded below.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge_sr.metrics import psnr, ssim
from export.perceptual import LPIPS, TRUNK, squeezenet_features

Plane = npt.NDArray[np.float64]
SIDE = 256
RECORDED = {0: 0.3178790211677551, 1: 0.6187080144882202, 2: 0.7306409478187561}  # by seed


def made_up(seed: int) -> tuple[Plane, Plane]:
    """A smooth scene and a worse version of it, in [0, 255]."""
    rng = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(rng.uniform(0, 255, (SIDE, SIDE)), (0, 0), 3)
    scene = (scene - scene.min()) / (scene.max() - scene.min()) * 255
    return scene, np.clip(scene + rng.normal(0, 4 * (seed + 1), scene.shape), 0, 255)


def real(index: int) -> tuple[Plane, Plane]:
    """A radiograph and what bicubic makes of its reduction."""
    folder = Path(os.environ.get("EDGE_SR_DATA", "")) / "cxr" / "test"
    if not os.environ.get("EDGE_SR_DATA") or not folder.is_dir():
        pytest.skip("no cxr/test in EDGE_SR_DATA")
    name = sorted(path.name for path in (folder / "hr_256").iterdir())[index]
    hr, lr = (cv2.imread(str(folder / kind / name), cv2.IMREAD_GRAYSCALE) for kind in ("hr_256", "lr_64"))
    large = cv2.resize(lr, hr.shape, interpolation=cv2.INTER_CUBIC)
    return hr.astype(np.float64), large.astype(np.float64)


@pytest.fixture(
    params=[
        *[pytest.param((made_up, seed), id=f"made-up-{seed}") for seed in range(3)],
        *[pytest.param((real, i), id=f"real-{i}", marks=pytest.mark.data) for i in (0, 57, 115)],
    ]
)
def pair(request: pytest.FixtureRequest) -> tuple[Plane, Plane]:
    """Two images to compare, made-up or real."""
    make, which = request.param
    first, second = make(which)
    return first, second


def batch(plane: Plane) -> torch.Tensor:
    """(1, 1, H, W) float64."""
    return torch.from_numpy(plane)[None, None]


def test_psnr_and_ssim_are_scikit_images(pair: tuple[Plane, Plane]) -> None:
    judge = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    assert psnr(*pair) == pytest.approx(judge.peak_signal_noise_ratio(*pair, data_range=255), abs=1e-9)
    theirs = judge.structural_similarity(
        *pair, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair) == pytest.approx(theirs, abs=1e-9)


@pytest.fixture
def torchvision_stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A torchvision that has what lpips takes of it: `squeezenet1_1().features`, which are ours."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "lpips"]:
        monkeypatch.delitem(sys.modules, name)
    stub, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    torch.manual_seed(0)
    models.features = squeezenet_features()  # type: ignore[attr-defined]
    models.squeezenet1_1 = lambda pretrained: types.SimpleNamespace(features=models.features)  # type: ignore[attr-defined]
    stub.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", stub)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    yield models
    for name in [name for name in sys.modules if name.partition(".")[0] == "lpips"]:
        del sys.modules[name]


def theirs_over(models: types.ModuleType, trunk: dict[str, torch.Tensor]) -> Any:
    """The package's LPIPS, with its linear weights, over a trunk of these weights."""
    models.features.load_state_dict(
        {k.removeprefix("features."): v.float() for k, v in trunk.items() if k.startswith("features.")}
    )
    lpips = pytest.importorskip("lpips", reason="lpips is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lpips.LPIPS(net="squeeze", pretrained=True, verbose=False).eval()


def signed(plane: Plane) -> torch.Tensor:
    """(1, 3, H, W) float32 in [-1, 1], as lpips wants a gray image."""
    return (batch(plane).float() / 127.5 - 1).expand(-1, 3, -1, -1)


def test_lpips_is_the_packages_over_the_same_trunk(
    pair: tuple[Plane, Plane], torchvision_stub: types.ModuleType, tmp_path: Path
) -> None:
    trunk = {f"features.{name}": v for name, v in torchvision_stub.features.state_dict().items()}
    torch.save(trunk, tmp_path / TRUNK)  # the linear weights are found in the package
    theirs = theirs_over(torchvision_stub, trunk)
    ours = LPIPS(tmp_path)
    with torch.no_grad():
        want = float(theirs(*map(signed, pair)))
        have = float(ours(*(batch(plane).float() / 127.5 - 1 for plane in pair)))
    assert want > 0
    assert have == pytest.approx(want, rel=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("seed", range(3))
def test_lpips_is_what_the_package_gave_over_torchvisions_own_trunk(seed: int) -> None:
    folder = Path(os.environ.get("EDGE_SR_DATA", "")) / "metrics"
    if not os.environ.get("EDGE_SR_DATA") or not (folder / TRUNK).is_file():
        pytest.skip(f"no metrics/{TRUNK} in EDGE_SR_DATA")
    with torch.no_grad():
        have = float(LPIPS(folder)(*(batch(plane).float() / 127.5 - 1 for plane in made_up(seed))))
    assert have == pytest.approx(RECORDED[seed], rel=1e-4)
