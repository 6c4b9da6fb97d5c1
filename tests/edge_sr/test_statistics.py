"""Figures whose answers are known beforehand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_sr.statistics import (
    drift,
    is_settled,
    median,
    median_ratio,
    percentile,
    poisson_arrivals,
    samples_needed,
    spread,
)


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.01, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.9, 9), (0.95, 10), (0.99, 10), (1, 10)]
)
def test_a_percentile_is_the_first_sample_that_enough_others_do_not_exceed(share: float, wanted: int) -> None:
    samples = [7, 3, 10, 1, 5, 2, 9, 4, 8, 6]
    assert percentile(samples, share) == wanted


def test_the_percentile_of_one_sample_is_that_sample() -> None:
    assert [percentile([4.0], share) for share in (0.01, 0.5, 0.99)] == [4.0] * 3


def test_a_percentile_is_numpys_inverted_cdf() -> None:
    samples = np.random.default_rng(0).lognormal(size=137).tolist()
    for share in (0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert percentile(samples, share) == np.quantile(samples, share, method="inverted_cdf")


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_wants_wilks_number_of_samples(share: float, wanted: int) -> None:
    assert samples_needed(share) == wanted
    assert 1 - share**wanted >= 0.95 > 1 - share ** (wanted - 1)


def test_the_median_is_the_middle_or_between_the_two_in_the_middle() -> None:
    assert (median([3, 1, 2]), median([4, 1, 2, 3])) == (2.0, 2.5)


def test_the_spread_is_the_quartiles_distance_over_the_median() -> None:
    assert spread([5, 3, 1, 2, 4]) == pytest.approx((4 - 2) / 3)
    assert spread([2, 2, 2]) == 0
    assert spread([0, 0, 0]) == 0


def test_drift_is_the_last_third_against_the_first() -> None:
    assert drift([1, 1, 1, 9, 9, 9, 2, 2, 2]) == pytest.approx(1.0)
    assert drift([2, 2, 2, 9, 9, 9, 1, 1, 1]) == pytest.approx(-0.5)
    assert drift([1, 5]) == drift([1, 2, 9, 9, 9]) == 0  # too few to say


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [
        ([1.0] * 5, False),  # one window is none to compare with
        ([9, 1, 1, 1, 1, 1], True),
        ([3, 3, 3, 2, 2, 2], False),
        ([2.0, 2.0, 2.0, 2.1, 2.1, 2.1], True),
        ([1, 1, 99, 1, 1, 1], True),  # one outlier is not the median
    ],
)
def test_a_run_has_settled_when_two_windows_agree(samples: list[float], wanted: bool) -> None:
    assert is_settled(samples, window=3, tolerance=0.05) is wanted


def test_the_ratio_of_constant_series_is_exact() -> None:
    found = median_ratio([3.0] * 20, [2.0] * 30, are_pairs=False)
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def test_a_series_against_itself_is_one_without_doubt_only_where_samples_are_pairs() -> None:
    series = np.random.default_rng(0).lognormal(size=40).tolist()
    paired, apart = (median_ratio(series, series, are_pairs=pairs) for pairs in (True, False))
    assert (paired.value, paired.low, paired.high) == (1, 1, 1)
    assert apart.value == 1 and apart.low < 1 < apart.high


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(10, 1, 50).tolist(), rng.normal(11, 1, 60).tolist()
    assert median_ratio(a, b, are_pairs=False, seed=3) == median_ratio(a, b, are_pairs=False, seed=3)
    assert median_ratio(a, b, are_pairs=False, seed=3) != median_ratio(a, b, are_pairs=False, seed=4)


def test_a_difference_of_ten_percent_is_seen_through_noise_of_five() -> None:
    rng = np.random.default_rng(2)
    found = median_ratio(
        rng.normal(1.1, 0.05, 100).tolist(), rng.normal(1.0, 0.05, 100).tolist(), are_pairs=False
    )
    assert 1 < found.low < 1.1 < found.high


def test_the_interval_holds_what_it_promises() -> None:
    """Of 200 pairs of the same distribution some 5 % may say otherwise; with 40 samples a few more do."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        a, b = rng.lognormal(0, 0.1, (2, 40)).tolist()
        found = median_ratio(a, b, are_pairs=False, resamples=300)
        hits += found.low <= 1 <= found.high
    assert 180 <= hits <= 200


def test_neighbours_that_resemble_each_other_widen_the_interval() -> None:
    rng = np.random.default_rng(4)
    slow = np.repeat(rng.normal(10, 1, 20), 10)  # ten in a row are one measurement
    widths = []
    for series in (slow, rng.permutation(slow)):
        found = median_ratio(series.tolist(), [10.0] * 200, are_pairs=False)
        widths.append(found.high - found.low)
    assert widths[0] > 1.2 * widths[1]


def test_arrivals_rise_at_the_rate_and_know_nothing_of_each_other() -> None:
    arrivals = poisson_arrivals(4.0, 20_000, seed=0)
    gaps = np.diff((0.0, *arrivals))
    assert all(a < b for a, b in itertools.pairwise(arrivals))
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)  # its standard error is 0.7 %
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as an exponential distribution has it
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0, abs=0.03)
    assert poisson_arrivals(4.0, 5, seed=0) == arrivals[:5] != poisson_arrivals(4.0, 5, seed=1)
