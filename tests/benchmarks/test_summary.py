from __future__ import annotations

import numpy as np
import pytest

from benchmarks.summary import bootstrap, bootstrap_ratio, correlation, diversity, seed_noise, spread


def test_the_bootstrap_gives_the_same_interval_for_the_same_seed_and_another_for_another() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(loc=2.0, scale=1.0, size=100)
    interval = bootstrap(values)
    assert interval.mean == pytest.approx(values.mean())
    # 1.96 standard errors on both sides, to a tenth: quantiles of 10,000 resamples of 100 values.
    wanted = 2 * 1.96 * values.std() / 10
    assert interval.high - interval.low == pytest.approx(wanted, rel=0.1)


def test_the_ratio_of_pairs_is_certain_where_all_pairs_have_it() -> None:
    below = np.random.default_rng(0).uniform(1, 5, 30)
    interval = bootstrap_ratio(2 * below, below)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((2, 2, 2))


def test_the_ratio_is_that_of_the_means() -> None:
    assert bootstrap_ratio([2.0, 4.0, 90.0], [1.0, 2.0, 3.0]).mean == pytest.approx(16)


def test_the_median_is_not_moved_by_one_wild_value() -> None:
    interval = bootstrap([2.0, 2.1, 1.9, 2.0, 900.0], centre=np.median)
    assert (interval.mean, interval.low) == (2.0, 1.9)


def test_equal_values_leave_no_doubt() -> None:
    interval = bootstrap([0.5, 0.5, 0.5])
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_a_single_value_has_no_spread() -> None:
    assert spread([1.0]) is None
    assert spread([1.0, 3.0]) == pytest.approx(np.sqrt(2))


def test_seed_noise_is_the_spread_of_the_means_over_images() -> None:
    # Images differ by much, the means of the two seeds by 2.
    assert seed_noise([[0.0, 100.0], [2.0, 102.0]]) == pytest.approx(np.sqrt(2))
    assert seed_noise([[0.0, 100.0]]) is None


def test_correlation_is_one_for_a_scaled_copy_and_zero_for_a_constant() -> None:
    values = np.random.default_rng(0).normal(size=(8, 8))
    assert correlation(values, 3 * values + 1) == pytest.approx(1.0)
    assert correlation(values, -values) == pytest.approx(-1.0)
    assert correlation(values, np.ones((8, 8))) == 0.0


def test_diversity_is_high_where_seeds_differ_at_the_error_and_low_where_they_differ_elsewhere() -> None:
    rng = np.random.default_rng(0)
    truth = np.full((2, 64, 64), 128, np.uint8)
    at_left, at_right = np.zeros((2, 64, 64)), np.zeros((2, 64, 64))
    at_left[0, :, :32] = at_left[1, :32] = 1
    at_right[0, :, 32:] = at_right[1, 32:] = 1
    mean_image = (128 + 20 * at_left).astype(np.uint8)

    def samples(where: np.ndarray) -> np.ndarray:
        noise = rng.normal(0, 10, (4, 2, 64, 64)) * where
        return np.clip(mean_image + noise, 0, 255).astype(np.uint8)

    there, elsewhere = (diversity(samples(where), mean_image, truth) for where in (at_left, at_right))
    assert min(there.block) > 0.8 > 0 > max(elsewhere.block)
    assert min(there.regression) > 0.8 > 0 > max(elsewhere.regression)
    assert max(there.other) < 0.5  # the error of the other image lies across
