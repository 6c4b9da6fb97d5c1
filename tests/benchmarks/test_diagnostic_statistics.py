"""The statistics of the diagnostic check, against published figures, scipy, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.diagnostic.counts import Counts, confusion, rate, wilson
from benchmarks.diagnostic.paired import POWER, detectable_difference, holm, images_needed, mcnemar
from benchmarks.diagnostic.ranking import auc, interval, patient_draws, weighted_auc, weighted_mean

Z = 1.959964


# ---- rates


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_newcombes_table(
    successes: int, total: int, low: float, high: float
) -> None:
    found = wilson(successes, total)  # Newcombe 1998, table I, method 3
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.mean == successes / total


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys(drawn: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    wanted = stats.binomtest(*drawn).proportion_ci(method="wilson")
    found = wilson(*drawn)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_the_confusion_matrix_counts_the_ill_as_positive() -> None:
    found = confusion([True, True, False, False, True], [True, False, False, True, True])
    assert found == Counts(true_positive=2, false_positive=1, true_negative=1, false_negative=1)


def test_rates_are_shares_of_their_own_totals() -> None:
    counts = Counts(true_positive=90, false_positive=20, true_negative=30, false_negative=10)
    names = ("accuracy", "precision", "recall", "specificity", "false_negative_rate")
    found = [rate(counts, name) for name in names]
    assert [f.mean for f in found if f] == pytest.approx([120 / 150, 90 / 110, 0.9, 0.6, 0.1])
    assert found[3] == wilson(30, 50)


def test_a_rate_of_nothing_is_none() -> None:
    assert rate(Counts(0, 0, 5, 3), "precision") is None


# ---- pairs of decisions


def test_mcnemars_exact_p_is_that_of_fagerlands_example() -> None:
    assert mcnemar(1, 7) == pytest.approx(0.0703125)  # Fagerland et al. 2013, table 1: 0.070
    assert mcnemar(7, 1) == mcnemar(1, 7)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemars_exact_p_is_scipys_of_a_fair_coin(one: int, other: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    wanted = stats.binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(wanted, rel=1e-9)


def test_holms_adjustment_keeps_the_order_given_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R's p.adjust
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("discordance", "difference"), [(0.1, 0.04), (0.3, 0.1), (0.2, 0.05)])
def test_so_many_images_give_the_power_that_is_promised(discordance: float, difference: float) -> None:
    images = images_needed(discordance, difference)
    shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    counts = np.random.default_rng(0).multinomial(images, shares, size=20_000)
    one, other = counts[:, 0], counts[:, 1]
    seen = np.abs(one - other) > Z * np.sqrt(np.maximum(one + other, 1))  # McNemar's test, not exact
    assert seen.mean() == pytest.approx(POWER, abs=0.025)  # the formula's own approximation


def test_one_point_takes_783_images_that_differ_one_way_alone_and_thousands_that_do_not() -> None:
    # (1.95996 * 0.1 + 0.84162 * sqrt(0.01 - 0.0001))^2 / 0.0001 = 782.5
    assert images_needed(0.01, 0.01) == 783
    assert images_needed(0.0, 0.01) == images_needed(0.01, 0.01)  # no less than the difference itself
    assert images_needed(0.05, 0.01) == 3923  # the same with 0.05: 3922.1


def test_the_detectable_difference_is_the_least_that_so_many_images_show() -> None:
    found = detectable_difference(0.06, 158)
    assert images_needed(0.06, found) <= 158 < images_needed(0.06, found - 1e-4)
    assert detectable_difference(0.06, 10_000) < found


# ---- ranking


def test_the_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auc([1.0, 1.0], [False, True]) == 0.5  # a tie is half


def test_the_auc_is_mann_whitneys_statistic() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    ill, scores = rng.random(60) < 0.6, np.round(rng.normal(size=60), 1)  # some of them equal
    wanted = stats.mannwhitneyu(scores[ill], scores[~ill]).statistic / (ill.sum() * (~ill).sum())
    assert auc(scores, ill) == pytest.approx(wanted)


def test_an_image_that_is_drawn_twice_counts_as_two() -> None:
    rng = np.random.default_rng(0)
    ill, scores = np.arange(12) % 2 == 0, rng.normal(size=12)
    drawn = rng.integers(12, size=12)
    weights = np.bincount(drawn, minlength=12)
    assert weighted_auc(scores, ill, weights[None])[0] == pytest.approx(auc(scores[drawn], ill[drawn]))


def test_a_resample_without_one_of_the_classes_is_left_out() -> None:
    found = weighted_auc([0.0, 1.0], [False, True], [[1, 1], [2, 0]])
    assert found[0] == 1
    assert np.isnan(found[1])
    assert interval(1.0, found).low == 1


def test_all_images_of_a_patient_are_drawn_together() -> None:
    drawn = patient_draws(["a", "b", "a", "c"], seed=0, resamples=50)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert drawn[:, 0].std() > 0


def test_images_of_few_patients_tell_less_than_as_many_of_many() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=20), 5)
    few = weighted_mean(values, patient_draws([str(n // 5) for n in range(100)], seed=0))
    many = weighted_mean(values, patient_draws([str(n) for n in range(100)], seed=0))
    assert few.mean == many.mean == pytest.approx(values.mean())
    assert few.high - few.low > 1.8 * (many.high - many.low)  # sqrt(5), less what chance takes
