from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.scores import CEILING_DB, FEATURES_NAME, LPIPS_NAME, METRICS, SPECTRUM, Judge
from edge_sr.image import downsample, to_unit
from export.perceptual import LPIPS

Gray = npt.NDArray[np.uint8]


@pytest.fixture
def hr() -> Gray:
    """A scene that a shift by a few gray levels does not clip."""
    return np.random.default_rng(0).integers(50, 200, (256, 256)).astype(np.uint8)


@pytest.fixture
def lr(hr: Gray) -> Gray:
    """The scene as the operator "nearest" reduces it."""
    return downsample(hr.astype(np.float32), 4, "nearest").astype(np.uint8)


@pytest.fixture
def judge() -> Judge:
    return Judge(scale=4, degradation="nearest", lpips=None)


def test_a_shift_by_five_gray_levels_has_the_values_of_the_formulas(judge: Judge, hr: Gray, lr: Gray) -> None:
    (values,) = judge.compare([hr + np.uint8(5)], hr, lr)
    wanted_db = 20 * np.log10(255 / 5)
    assert values["psnr_db"] == pytest.approx(wanted_db)
    assert values["lr_consistency_db"] == pytest.approx(wanted_db)
    assert values["nrmse"] == pytest.approx(5 / 255)
    assert 0.9 < values["ssim"] < 1
    assert 0.9 < values["ms_ssim"] < 1


def test_the_hr_image_itself_is_perfect_and_its_psnr_a_number_that_json_has(
    judge: Judge, hr: Gray, lr: Gray
) -> None:
    (values,) = judge.compare([hr], hr, lr)
    assert values["psnr_db"] == values["lr_consistency_db"] == CEILING_DB
    assert values["nrmse"] == 0
    assert values["ssim"] == values["ms_ssim"] == pytest.approx(1)


def test_sharpness_needs_no_hr_image(judge: Judge, hr: Gray, lr: Gray) -> None:
    blurred = np.repeat(np.repeat(lr, 4, axis=0), 4, axis=1)
    sharp, flat = judge.inspect(hr, lr), judge.inspect(blurred, lr)
    assert sharp["laplacian_variance"] > flat["laplacian_variance"]
    assert sharp["fft_sharpness_db"] > flat["fft_sharpness_db"]


def test_without_lpips_weights_every_other_metric_is_there(judge: Judge, hr: Gray, lr: Gray) -> None:
    (values,) = judge.compare([hr], hr, lr, reconstruction=hr)
    assert set(values) == set(METRICS) - {LPIPS_NAME, FEATURES_NAME}


def test_a_blurred_image_lacks_power_where_the_frequencies_are_high(hr: Gray, lr: Gray) -> None:
    judge = Judge(scale=4, degradation="nearest", lpips=None, has_spectrum=True)
    blurred = cv2.GaussianBlur(hr, (0, 0), 2.0)
    sharp, flat = judge.inspect(hr, lr), judge.inspect(blurred, lr)
    gaps = [flat[name] - sharp[name] for name in SPECTRUM]
    # A Gaussian of 2 pixels takes exp(-(2 pi f 2)^2 / 2), squared, of the power at f cycles a pixel.
    assert gaps[0] == pytest.approx(-20 * np.log10(np.e) * (2 * np.pi * 0.025 * 2) ** 2 / 2, abs=0.6)
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert not set(SPECTRUM) & set(Judge(scale=4, degradation="nearest", lpips=None).inspect(hr, lr))


def test_pixels_are_hallucinated_and_lost_beyond_the_autoencoders_error(
    judge: Judge, hr: Gray, lr: Gray
) -> None:
    reconstruction, image = hr.copy(), hr.copy()
    reconstruction[::2] += np.uint8(10)  # |AE - HR|: mean 5, standard deviation 5, so the threshold is 15
    image[:64] += np.uint8(16)
    image[64:96] -= np.uint8(16)
    image[96:] += np.uint8(15)
    (values,) = judge.compare([image], hr, lr, reconstruction=reconstruction)
    assert (values["hallucinated_percent"], values["lost_percent"]) == (25.0, 12.5)
    assert "lost_percent" not in judge.compare([image], hr, lr)[0]


def test_lpips_of_images_scored_together_is_that_of_each_alone(
    lpips_weights: Path, hr: Gray, lr: Gray
) -> None:
    lpips = LPIPS(lpips_weights)
    images = [hr, 255 - hr, hr // 2]
    values = Judge(scale=4, degradation="nearest", lpips=lpips).compare(images, hr, lr)
    tensors = [torch.from_numpy(to_unit(image)[None, None]) for image in images]
    alone = [float(lpips(tensor, tensors[0])) for tensor in tensors]
    # Sums in another order, where the batch has another size.
    assert [v[LPIPS_NAME] for v in values] == pytest.approx(alone, rel=1e-4, abs=1e-7)
    assert alone[0] == 0 < min(alone[1:])
