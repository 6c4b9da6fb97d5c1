from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.pairs import REDUCTIONS, read_pairs, reduce_all, to_gray
from edge_sr.errors import ConfigError
from edge_sr.image import downsample, encode_png, split_luminance, to_unit, write_atomic
from tests.fakes import write_tiny_bundle

RED = (200, 30, 40)


@pytest.fixture
def hr() -> npt.NDArray[np.float32]:
    """(2, 1, 32, 32)."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)
    return to_unit(pixels)


@pytest.mark.parametrize("how", REDUCTIONS)
def test_lr_images_are_made_of_hr_images(hr: npt.NDArray[np.float32], how: str) -> None:
    made = reduce_all(hr, how, scale=4)
    assert made.shape == (2, 1, 8, 8)
    assert made.dtype == np.float32
    assert made.std() > 0


def test_area_is_the_mean_of_each_block_rounded(hr: npt.NDArray[np.float32]) -> None:
    blocks = to_gray(hr)[0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
    made = to_gray(reduce_all(hr, "area", scale=4))
    assert np.array_equal(made[0], np.rint(blocks).astype(np.uint8))


def test_noise_and_jpeg_are_the_same_every_time_and_of_the_size_that_is_said() -> None:
    flat = np.zeros((1, 1, 256, 256), np.float32)
    first, second = (to_gray(reduce_all(flat, "area-noise-jpeg80", scale=4)) for _ in range(2))
    clean = downsample(to_gray(flat)[0].astype(np.float32), 4, "area")
    assert np.array_equal(first, second)
    assert 1 < (first[0] - clean).std() < 5, "3 gray levels, of which JPEG takes some"


def colour(side: int) -> npt.NDArray[np.uint8]:
    """Red, with a little of everything."""
    noise = np.random.default_rng(0).integers(-20, 20, (side, side, 3))
    return (np.array(RED) + noise).astype(np.uint8)


def write_pair(folder: Path, name: str, *, is_gray: bool) -> None:
    for kind, side in (("hr_256", 256), ("lr_64", 64)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        pixels = colour(side)[..., 0] if is_gray else colour(side)
        write_atomic(folder / kind / name, encode_png(pixels, text={}))


def test_a_model_of_colour_is_given_colour_and_gray_as_equal_channels_and_judged_on_luminance(
    tmp_path: Path,
) -> None:
    write_pair(tmp_path / "pairs", "a.png", is_gray=False)
    write_pair(tmp_path / "pairs", "b.png", is_gray=True)
    rgb = write_tiny_bundle(tmp_path / "rgb", family="regression", tile=64, colours=3)
    pairs = read_pairs(tmp_path / "pairs", rgb)
    assert (pairs.lr.shape, pairs.hr.shape) == ((2, 3, 64, 64), (2, 3, 256, 256))
    np.testing.assert_allclose(pairs.lr[0], to_unit(colour(64)).transpose(2, 0, 1), atol=1e-6)
    assert np.array_equal(pairs.hr[1, 0], pairs.hr[1, 1]) and np.array_equal(pairs.hr[1, 0], pairs.hr[1, 2])
    assert np.array_equal(pairs.hr_pixels[0], split_luminance(colour(256))[0])
    assert np.array_equal(pairs.hr_pixels[1], colour(256)[..., 0])


def test_a_gray_model_is_given_the_luminance_of_colour(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs", "a.png", is_gray=False)
    gray = write_tiny_bundle(tmp_path / "gray", tile=64)
    assert np.array_equal(read_pairs(tmp_path / "pairs", gray).lr_pixels[0], split_luminance(colour(64))[0])


@pytest.mark.parametrize("how", REDUCTIONS)
def test_colour_stays_what_it_is_in_lr_images_that_are_made_anew(how: str) -> None:
    hr = to_unit(colour(64)).transpose(2, 0, 1)[None]
    made = reduce_all(hr, how, scale=4)
    means = (made[0].mean(axis=(1, 2)) + 1) * 127.5
    np.testing.assert_allclose(means, RED, atol=4)


def test_a_model_of_another_scale_is_judged_on_its_own_pairs_or_on_hr_images_alone(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs", "a.png", is_gray=True)
    write_pair(tmp_path / "pairs", "b.png", is_gray=True)
    twice = write_tiny_bundle(tmp_path / "twice", family="regression", tile=128, scale=2)
    with pytest.raises(ConfigError, match="no pairs") as refused:
        read_pairs(tmp_path / "pairs", twice)
    assert refused.value.hint == "it needs lr_128/ with files of the same names"
    made = read_pairs(tmp_path / "pairs", twice, reduction="area", limit=1)
    assert (made.name, made.lr.shape, made.hr.shape) == ("pairs-area", (1, 1, 128, 128), (1, 1, 256, 256))
    blocks = made.hr_pixels[0].reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.abs(made.lr_pixels[0] - blocks).max() <= 0.5
    (tmp_path / "pairs/lr_128").mkdir()
    for name in "ab":
        write_atomic(tmp_path / f"pairs/lr_128/{name}.png", encode_png(made.lr_pixels[0], text={}))
    assert np.array_equal(read_pairs(tmp_path / "pairs", twice).lr_pixels[0], made.lr_pixels[0])
