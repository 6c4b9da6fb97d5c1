from __future__ import annotations

from benchmarks.sheet import Pick, picks


def test_the_best_the_median_and_the_worst_image_are_picked() -> None:
    values = [0.3, 0.1, 0.5, 0.2, 0.4]
    assert picks(values, better=-1) == [Pick("best", 1), Pick("median", 0), Pick("worst", 2)]
    assert picks(values, better=1) == [Pick("best", 2), Pick("median", 0), Pick("worst", 1)]


def test_with_fewer_than_three_images_none_is_shown_twice() -> None:
    assert picks([0.1], better=1) == [Pick("best", 0)]
    assert picks([0.1, 0.2], better=1) == [Pick("best", 1), Pick("worst", 0)]
