"""Image metrics against scikit-image, OpenCV and answers known in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sr import metrics
from edge_sr.errors import ImageError

Image = NDArray[np.float64]


@pytest.fixture()
def clean() -> Image:
    """A smooth 8-bit-range picture with an edge, (176, 192)."""
    y, x = np.mgrid[0:176, 0:192]
    return np.asarray(120 + 60 * np.sin(x / 9) * np.cos(y / 13) + 40 * (x > y), np.float64)


@pytest.fixture()
def noisy(clean: Image) -> Image:
    return np.clip(clean + np.random.default_rng(1).normal(0, 12, clean.shape), 0, 255)


def test_psnr_of_a_known_error_is_the_closed_form() -> None:
    a = np.zeros((8, 8))
    assert metrics.psnr(a, a + 5) == pytest.approx(20 * math.log10(255 / 5))
    assert metrics.psnr(a, a + 0.5, data_range=2.0) == pytest.approx(20 * math.log10(4))


def test_psnr_of_equal_images_is_infinite(clean: Image) -> None:
    assert metrics.psnr(clean, clean) == math.inf


def test_unsigned_images_do_not_wrap_around() -> None:
    low, high = np.full((4, 4), 3, np.uint8), np.full((4, 4), 250, np.uint8)
    assert metrics.nrmse(low, high) == pytest.approx(247 / 255)


def test_nrmse_is_the_fraction_of_the_range() -> None:
    a = np.zeros((4, 4))
    assert metrics.nrmse(a, a + 51) == pytest.approx(0.2)
    assert metrics.nrmse(a, a + 51, data_range=510) == pytest.approx(0.1)


@pytest.mark.parametrize("data_range", [255.0, 1.0])
def test_ssim_and_psnr_agree_with_scikit_image(clean: Image, noisy: Image, data_range: float) -> None:
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    a, b = clean * data_range / 255, noisy * data_range / 255
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = skimage.structural_similarity(a, b, data_range=data_range, **options)
    # Both in float64; only the order of summation differs.
    assert metrics.ssim(a, b, data_range=data_range) == pytest.approx(expected, abs=1e-9)
    expected = skimage.peak_signal_noise_ratio(a, b, data_range=data_range)
    assert metrics.psnr(a, b, data_range=data_range) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_two_constants_is_the_luminance_term() -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert metrics.ssim(np.full((16, 16), 100), np.full((16, 16), 150)) == pytest.approx(expected)


def test_similarity_of_equal_images_is_one_and_falls_with_noise(clean: Image, noisy: Image) -> None:
    for measure in (metrics.ssim, metrics.ms_ssim):
        assert measure(clean, clean) == pytest.approx(1)
        assert measure(clean, noisy) < 0.95
        assert measure(clean, noisy) == pytest.approx(measure(noisy, clean))


def test_ms_ssim_of_two_constants_is_the_last_luminance_term() -> None:
    c1 = (0.01 * 255) ** 2
    expected = ((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)) ** 0.1333
    assert metrics.ms_ssim(np.full((161, 170), 100), np.full((161, 170), 150)) == pytest.approx(expected)


def test_ms_ssim_agrees_with_a_direct_computation(clean: Image, noisy: Image) -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

    def blur(p: Image) -> Image:
        return np.asarray(ndimage.gaussian_filter(p, 1.5, truncate=3.5)[5:-5, 5:-5])

    a, b, expected = clean, noisy, 1.0
    for level, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_a, mean_b = blur(a), blur(b)
        spread = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
        term = (2 * (blur(a * b) - mean_a * mean_b) + 58.5225) / (spread + 58.5225)
        if level == 4:
            term = term * (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
        expected *= float(term.mean()) ** weight
        h, w = a.shape[0] // 2, a.shape[1] // 2
        a, b = (p.reshape(h, 2, w, 2).mean((1, 3)) for p in (a, b)) if level < 4 else (a, b)
    assert metrics.ms_ssim(clean, noisy) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_of_a_negative_is_zero_and_not_complex(clean: Image) -> None:
    assert metrics.ms_ssim(clean, 255 - clean) == 0.0


def test_ms_ssim_refuses_an_image_too_small_for_five_scales() -> None:
    small = np.zeros((160, 400))
    with pytest.raises(ImageError, match="161 pixels a side, got 160x400"):
        metrics.ms_ssim(small, small)


def test_laplacian_variance_agrees_with_opencv(noisy: Image) -> None:
    cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed")
    expected = cv2.Laplacian(noisy, cv2.CV_64F).var()
    assert metrics.laplacian_variance(noisy) == pytest.approx(expected, rel=1e-9)


def test_laplacian_variance_of_a_plane_away_from_its_border_is_zero() -> None:
    assert metrics.laplacian_variance(np.full((9, 7), 31)) == 0


def test_white_noise_has_a_flat_spectrum_at_its_own_level() -> None:
    noise = np.random.default_rng(3).normal(100, 10, (256, 256))
    bands = metrics.radial_power_spectrum(noise, bands=8)
    # 20 log10(10) = 20 dB. The lowest band has only some 800 frequencies, a sixth of them independent
    # under the window, so it spreads by half a decibel.
    np.testing.assert_allclose(bands, 20, atol=1.5)
    np.testing.assert_allclose(bands[2:], 20, atol=0.4)
    # E[10 log10 X] of a unit exponential is -10 gamma / ln 10 = -2.51 dB.
    assert metrics.fft_sharpness(noise) == pytest.approx(20 - 2.51, abs=0.2)


def test_a_wave_shows_in_the_band_of_its_frequency_alone() -> None:
    wave = 100 + 50 * np.sin(2 * np.pi * 0.265 * np.arange(128))[None, :] * np.ones((128, 1))
    bands = metrics.radial_power_spectrum(wave, bands=16)
    assert int(np.argmax(bands)) == int(0.265 * 2 * 16)
    assert sorted(bands)[-1] - sorted(bands)[-3] > 30  # the Hann window spreads it over two bands


def test_fft_sharpness_falls_as_an_image_is_smoothed(noisy: Image) -> None:
    def smooth(p: Image) -> Image:
        return np.asarray((p + np.roll(p, 1, 0) + np.roll(p, 1, 1)) / 3)

    levels = [metrics.fft_sharpness(p) for p in (noisy, smooth(noisy), smooth(smooth(noisy)))]
    assert levels[0] > levels[1] + 3 > levels[2] + 6


def test_a_constant_image_has_no_detail_at_any_frequency() -> None:
    assert metrics.fft_sharpness(np.full((32, 32), 7)) == pytest.approx(-120, abs=1)
    np.testing.assert_allclose(metrics.radial_power_spectrum(np.full((64, 64), 7)), -120, atol=1)


def test_spectra_refuse_a_cutoff_or_a_count_of_bands_that_leaves_nothing() -> None:
    image = np.zeros((32, 32))
    for cutoff in (-0.1, 0.5, math.nan):
        with pytest.raises(ImageError, match="cutoff"):
            metrics.fft_sharpness(image, cutoff=cutoff)
    for bands in (0, 9):
        with pytest.raises(ImageError, match="bands"):
            metrics.radial_power_spectrum(image, bands=bands)


@pytest.mark.parametrize("side", [8, 9, 15, 33])
def test_no_band_is_ever_empty(side: int) -> None:
    image = np.random.default_rng(0).normal(0, 1, (side, side + 3))
    assert np.isfinite(metrics.radial_power_spectrum(image, bands=side // 4)).all()


def test_consistency_is_psnr_against_the_input(clean: Image, noisy: Image) -> None:
    assert metrics.lr_consistency(noisy, clean) == metrics.psnr(noisy, clean)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim, metrics.nrmse, metrics.ms_ssim])
def test_pairs_that_cannot_be_compared_are_refused(measure: Any, clean: Image) -> None:
    broken = clean.copy()
    broken[3, 3] = np.nan
    for other, words in ((clean[:, 1:], "cannot be compared"), (clean[None], "2-D"), (broken, "finite")):
        with pytest.raises(ImageError, match=words):
            measure(clean, other)
    for data_range in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ImageError, match="data_range"):
            measure(clean, clean, data_range=data_range)
