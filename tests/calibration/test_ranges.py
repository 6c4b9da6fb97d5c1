"""Ranges against answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.errors import CalibrationError
from calibration.histogram import Distribution, Histogram
from calibration.ranges import (
    LEVELS,
    METHODS,
    choose_range,
    entropy,
    minmax,
    mse,
    percentile,
    scale_for,
)
from tests.calibration.conftest import seeded


def distribution(*parts: np.ndarray) -> Distribution:
    """The magnitudes of all values together."""
    histogram = Histogram()
    histogram.add(np.concatenate(parts).astype(np.float32))
    return histogram.pooled()


UNIFORM = np.linspace(-1, 1, 200_001)
OUTLIER = np.array([100.0])


def test_minmax_takes_an_outlier_in() -> None:
    assert minmax(distribution(UNIFORM, OUTLIER)) == 100.0


def test_percentile_of_a_uniform_distribution_is_that_part_of_its_range() -> None:
    # Half a bin, 1/4096 of the range, is as close as a histogram can be.
    assert percentile(distribution(UNIFORM), 75.0) == pytest.approx(0.75, abs=1 / 2048)


def test_percentile_100_is_the_largest_magnitude() -> None:
    assert percentile(distribution(UNIFORM * 0.7), 100.0) == pytest.approx(0.7, rel=1e-6)


def test_percentile_leaves_an_outlier_out() -> None:
    assert percentile(distribution(UNIFORM, OUTLIER)) < 1.1


def test_mse_keeps_the_whole_of_a_uniform_distribution() -> None:
    assert mse(distribution(UNIFORM)) == pytest.approx(1.0, rel=0.02)  # candidates are 1/128 apart


def test_mse_clips_normal_values_where_theory_does() -> None:
    # 8 bits: Banner et al. 2019 (ACIQ), table 1, has 3.92 standard deviations for a normal distribution.
    normal = seeded().standard_normal(2_000_000)
    assert mse(distribution(normal)) == pytest.approx(3.92, abs=0.15)


def test_mse_is_the_best_of_all_candidates_by_brute_force() -> None:
    values = seeded(1).laplace(0, 1, 50_000)
    found = mse(distribution(values))

    def error(amax: float) -> float:
        step = amax / LEVELS
        return float(np.mean((values - np.clip(np.round(values / step), -LEVELS, LEVELS) * step) ** 2))

    best = min(error(amax) for amax in np.linspace(0.2, 1, 60) * np.abs(values).max())
    assert error(found) <= best * 1.02  # the histogram knows values to 1/2048 of its range


def test_entropy_leaves_far_outliers_out() -> None:
    normal = seeded(2).standard_normal(500_000)
    assert entropy(distribution(normal, OUTLIER)) < 10.0


def test_entropy_of_a_distribution_that_fits_128_levels_is_its_range() -> None:
    levels = np.repeat(np.arange(1, 129) / 128, 100)
    assert entropy(distribution(levels)) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_within_what_was_seen(method: str) -> None:
    values = seeded(3).standard_normal(10_000)
    assert 0 < choose_range(distribution(values), method) <= np.abs(values).max().astype(np.float32)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(CalibrationError, match="magic"):
        choose_range(distribution(UNIFORM), "magic")


def test_scales_are_numbers_that_fp16_holds_and_never_too_small() -> None:
    amax = np.abs(seeded(4).standard_normal(1000)) * 10.0 ** seeded(5).integers(-4, 4, 1000)
    scales = scale_for(amax)
    assert np.array_equal(scales, scales.astype(np.float16).astype(np.float32))
    assert np.all(scales.astype(np.float64) * LEVELS >= amax)
    assert np.all(scales.astype(np.float64) * LEVELS <= amax * 1.01 + 2.0**-13)


def test_a_range_of_zero_has_a_scale_above_zero() -> None:
    assert scale_for(0.0) > 0
