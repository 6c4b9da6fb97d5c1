"""Histograms that grow with what they see."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.errors import CalibrationError
from calibration.histogram import Histogram
from tests.calibration.conftest import seeded


def test_every_value_is_counted_once() -> None:
    histogram = Histogram()
    for scale in (0.1, 3.0, 50.0):
        histogram.add(seeded().standard_normal(1000).astype(np.float32) * np.float32(scale))
    assert histogram.counts.sum() == 3000


def test_the_order_of_batches_makes_no_difference() -> None:
    batches = [
        seeded(i + 2).standard_normal(500).astype(np.float32) * np.float32(10.0**i) for i in range(-2, 3)
    ]
    forward, backward = Histogram(bins=64), Histogram(bins=64)
    for batch in batches:
        forward.add(batch)
    for batch in reversed(batches):
        backward.add(batch)
    assert forward.upper == backward.upper
    assert np.array_equal(forward.counts, backward.counts)


def test_bins_hold_the_magnitudes_they_say() -> None:
    histogram = Histogram(bins=4)
    histogram.add(np.array([-4.0, 0.5, 1.0, -1.5, 2.0, 3.9], np.float32))
    assert histogram.upper == 4.0
    assert histogram.counts.tolist() == [[1, 2, 1, 2]]  # 4.0 itself stands in the last bin


def test_zeros_alone_have_no_range() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32))
    with pytest.raises(CalibrationError, match="nothing but zeros"):
        histogram.pooled()


def test_zeros_before_the_first_value_stay_zeros() -> None:
    histogram = Histogram(bins=4)
    histogram.add(np.zeros(10, np.float32))
    histogram.add(np.array([1.0], np.float32))
    assert histogram.counts.tolist() == [[10, 0, 0, 1]]


def test_least_and_largest_are_kept_for_each_step() -> None:
    histogram = Histogram(2)
    histogram.add(np.array([-3.0, 1.0], np.float32), step=0)
    histogram.add(np.array([0.0, 5.0], np.float32), step=1)
    assert histogram.low.tolist() == [-3.0, 0.0]
    assert histogram.high.tolist() == [1.0, 5.0]
    assert histogram.pooled().amax == 5.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(CalibrationError, match="finite"):
        Histogram().add(np.array([0.0, value], np.float32))
