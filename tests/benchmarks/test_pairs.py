from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pairs import REDUCTIONS, Pairs, reduce_again
from edge_sr.image import downsample, to_unit


@pytest.fixture
def pairs() -> Pairs:
    hr = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    return Pairs("some", np.zeros((2, 1, 8, 8), np.float32), to_unit(hr)[:, None], ("a.png", "b.png"))


@pytest.mark.parametrize("how", REDUCTIONS)
def test_lr_images_are_made_anew_and_the_hr_images_stay(pairs: Pairs, how: str) -> None:
    made = reduce_again(pairs, how, scale=4)
    assert made.name == f"some-{how}"
    assert made.lr.shape == (2, 1, 8, 8)
    assert made.lr.dtype == np.float32
    assert np.array_equal(made.hr, pairs.hr)
    assert made.lr.std() > 0


def test_area_is_the_mean_of_each_block_rounded(pairs: Pairs) -> None:
    blocks = pairs.hr_pixels[0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.array_equal(reduce_again(pairs, "area", scale=4).lr_pixels[0], np.rint(blocks).astype(np.uint8))


def test_noise_and_jpeg_are_the_same_every_time_and_of_the_size_that_is_said() -> None:
    flat = Pairs("flat", np.zeros((1, 1, 64, 64), np.float32), np.zeros((1, 1, 256, 256), np.float32), ("a",))
    first, second = (reduce_again(flat, "area-noise-jpeg80", scale=4).lr_pixels for _ in range(2))
    clean = downsample(flat.hr_pixels[0].astype(np.float32), 4, "area")
    assert np.array_equal(first, second)
    assert 1 < (first[0] - clean).std() < 5, "3 gray levels, of which JPEG takes some"
