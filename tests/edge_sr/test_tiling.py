"""Tiles cover the image, weights add up to one, and noise belongs to a place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sr.errors import UsageError
from edge_sr.tiling import (
    NOISE_BLOCK,
    TileGrid,
    axis_weights,
    blend,
    blend_window,
    extract,
    pad,
    plan_tiles,
    position_noise,
    position_noise_into,
)

GOLDEN = [
    -0.5826493,
    -0.7023075,
    1.6542135,
    0.4747286,
    -2.0434363,
    -0.0872903,
    1.3238472,
    0.2356597,
    -1.1509384,
    -1.8431952,
    0.0643571,
    0.1370294,
]  # position_noise(1234, step=7, ..., sample=2) across four blocks

bounded = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    align = draw(st.sampled_from([1, 2, 3]))
    tile = align * draw(st.integers(1, 12))
    overlap = draw(st.integers(0, tile - align))
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    grid = plan_tiles(height, width, tile=tile, overlap=overlap, align=align)
    assert all(origin % align == 0 for origin in (*grid.rows, *grid.columns))
    assert grid.padded_height - max(height, tile) < align
    return grid


def enlarge(tile: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    return tile.repeat(scale, axis=-2).repeat(scale, axis=-1)


@bounded
@given(grids())
def test_tiles_cover_every_pixel_and_share_at_least_the_overlap(grid: TileGrid) -> None:
    axes = ((grid.rows, grid.padded_height, grid.height), (grid.columns, grid.padded_width, grid.width))
    for origins, padded, length in axes:
        assert origins[0] == 0
        assert origins[-1] + grid.tile == padded >= length
        gaps = np.diff(origins)
        assert ((gaps > 0) & (gaps <= grid.tile - grid.overlap)).all()


@bounded
@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_no_placement_needs_fewer_tiles(length: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    grid = plan_tiles(length, 1, tile=tile, overlap=overlap)
    fewer = len(grid.rows) - 1
    assert fewer == 0 or tile + (fewer - 1) * (tile - overlap) < length


def test_tiles_are_spread_evenly_on_aligned_origins() -> None:
    assert plan_tiles(100, 64, tile=64, overlap=16, align=2).rows == (0, 36)
    assert plan_tiles(130, 64, tile=64, overlap=16, align=2).rows == (0, 32, 66)
    assert plan_tiles(101, 64, tile=64, overlap=16, align=2).padded_height == 102


@bounded
@given(grids(), st.sampled_from([1, 2, 4]))
def test_weights_are_positive_and_add_up_to_one(grid: TileGrid, scale: int) -> None:
    for origins, padded in ((grid.rows, grid.padded_height), (grid.columns, grid.padded_width)):
        total = np.zeros(padded * scale)
        for origin, weights in zip(
            origins, axis_weights(origins, grid.tile, grid.overlap, scale), strict=True
        ):
            assert (weights > 0).all()
            total[origin * scale : (origin + grid.tile) * scale] += weights
        np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)


@bounded
@given(grids(), st.sampled_from([1, 2, 4]), st.integers(0, 9))
def test_tiles_put_back_together_are_the_image(grid: TileGrid, scale: int, seed: int) -> None:
    image = np.random.default_rng(seed).uniform(-1, 1, (2, grid.height, grid.width)).astype(np.float32)
    padded = pad(image, grid)
    tiles = (enlarge(extract(padded, grid, i), scale) for i in range(len(grid)))
    # Two float32 products of weights and a handful of sums.
    np.testing.assert_allclose(blend(tiles, grid, scale=scale), enlarge(image, scale), rtol=0, atol=1e-6)


@bounded
@given(grids())
def test_borders_are_where_the_set_of_tiles_that_see_a_pixel_changes(grid: TileGrid) -> None:
    rows, _ = grid.borders
    seen = [{o for o in grid.rows if o <= y < o + grid.tile} for y in range(grid.height)]
    assert rows == tuple(y for y in range(1, grid.height) if seen[y] != seen[y - 1])


def test_a_single_tile_comes_back_bit_for_bit() -> None:
    image = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    grid = plan_tiles(64, 64, tile=64, overlap=16, align=2)
    assert len(grid) == 1
    assert np.array_equal(blend([image], grid, scale=1), image)


def test_an_image_smaller_than_a_tile_is_mirrored_without_its_edge() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    padded = pad(image, plan_tiles(3, 4, tile=5, overlap=0))
    assert padded.shape == (5, 5)
    assert padded[:, 0].tolist() == [0, 4, 8, 4, 0]
    assert padded[0].tolist() == [0, 1, 2, 3, 2]


def test_an_image_too_small_to_mirror_repeats_its_edge() -> None:
    padded = pad(np.array([[1.0], [2.0]]), plan_tiles(2, 1, tile=6, overlap=0))
    assert padded[:, 0].tolist() == [1, 2, 2, 2, 2, 2]
    assert (padded == padded[:, :1]).all()


def test_an_image_that_fits_is_not_copied() -> None:
    image = np.zeros((8, 8))
    grid = plan_tiles(8, 8, tile=4, overlap=0)
    assert pad(image, grid) is image
    assert np.shares_memory(extract(image, grid, 3), image)


@pytest.mark.parametrize("overlap", [0, 1, 5, 16])
def test_the_window_is_symmetric_positive_and_at_most_one(overlap: int) -> None:
    window = blend_window(16, overlap)
    np.testing.assert_allclose(window, window[::-1], rtol=1e-12)
    assert window.min() > 0
    assert window.max() <= 1


@pytest.mark.parametrize(
    ("height", "tile", "overlap", "align"),
    [(0, 8, 0, 1), (8, 0, 0, 1), (8, 8, 8, 1), (8, 8, -1, 1), (8, 9, 0, 2), (8, 8, 7, 2), (8, 8, 0, 0)],
)
def test_a_plan_that_contradicts_itself_is_refused(height: int, tile: int, overlap: int, align: int) -> None:
    with pytest.raises(UsageError):
        plan_tiles(height, 8, tile=tile, overlap=overlap, align=align)


def test_pad_refuses_an_image_of_another_size() -> None:
    with pytest.raises(UsageError, match=r"\(4, 4\).*\(5, 4\)"):
        pad(np.zeros((5, 4)), plan_tiles(4, 4, tile=4, overlap=0))


@pytest.mark.parametrize("count", [0, 3, 5])
def test_blend_refuses_missing_and_surplus_tiles(count: int) -> None:
    grid = plan_tiles(8, 8, tile=4, overlap=0)
    with pytest.raises(UsageError):
        blend([np.zeros((4, 4), np.float32)] * count, grid, scale=1)


def test_blend_refuses_a_tile_of_the_wrong_size() -> None:
    with pytest.raises(UsageError, match="8x8"):
        blend([np.zeros((4, 4), np.float32)], plan_tiles(4, 4, tile=4, overlap=0), scale=2)


@bounded
@given(
    y0=st.integers(-80, 80),
    x0=st.integers(-80, 80),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    channels=st.integers(1, 5),
)
def test_noise_does_not_depend_on_how_it_is_cut(
    y0: int, x0: int, height: int, width: int, channels: int
) -> None:
    whole = position_noise(11, step=4, channels=5, y0=-80, x0=-80, height=210, width=210)
    window = position_noise(11, step=4, channels=channels, y0=y0, x0=x0, height=height, width=width)
    rows, columns = slice(y0 + 80, y0 + 80 + height), slice(x0 + 80, x0 + 80 + width)
    assert np.array_equal(window, whole[:channels, rows, columns])


def test_noise_differs_by_seed_step_sample_and_block() -> None:
    def draw(seed: int = 1, step: int = 0, sample: int = 0, y0: int = 0, x0: int = 0) -> bytes:
        shape = {"channels": 1, "height": 8, "width": 8}
        return position_noise(seed, step=step, sample=sample, y0=y0, x0=x0, **shape).tobytes()

    block = NOISE_BLOCK
    draws = [draw(), draw(seed=2), draw(step=1), draw(sample=1), draw(y0=block), draw(x0=block)]
    draws += [draw(y0=-block), draw(x0=-block), draw(seed=2**64 - 1), draw(seed=0, sample=1)]
    assert len(set(draws)) == len(draws)


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    noise = position_noise(5, step=2, channels=4, y0=-300, x0=0, height=512, width=512).astype(np.float64)
    n = noise[0].size
    for plane in noise:  # four standard errors each
        assert abs(plane.mean()) < 4 / n**0.5
        assert abs(plane.var() - 1) < 4 * (2 / n) ** 0.5
        assert abs((plane**3).mean()) < 4 * (15 / n) ** 0.5
        assert abs((plane**4).mean() - 3) < 4 * (96 / n) ** 0.5
        assert abs((plane[1:] * plane[:-1]).mean()) < 4.1 / n**0.5
        assert abs((plane[:, 1:] * plane[:, :-1]).mean()) < 4.1 / n**0.5
        assert 4 < np.abs(plane).max() < 6.8
    correlation = np.corrcoef(noise.reshape(4, -1)) - np.eye(4)
    assert np.abs(correlation).max() < 4 / n**0.5


def test_noise_of_a_seed_never_changes() -> None:
    # Values of the first release: another Philox, block size or transform would break every recorded seed.
    noise = position_noise(1234, step=7, channels=3, y0=-1, x0=31, height=2, width=2, sample=2)
    np.testing.assert_allclose(noise.ravel(), GOLDEN, rtol=0, atol=1e-6)


def test_noise_agrees_with_box_and_muller_in_library_functions() -> None:
    counter = np.array([0, 3, 1, 9], np.uint64)
    words = np.random.Philox(key=np.array([77, 0], np.uint64), counter=counter).random_raw(NOISE_BLOCK**2)
    radius = np.sqrt(-2 * np.log(((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32))
    lower = words & np.uint64(0xFFFFFFFF)
    angle = np.pi * (((lower >> np.uint64(1)).astype(np.float64) + 0.5) / 2**31 - 0.5)
    sign = np.where(lower & np.uint64(1), -1.0, 1.0)
    side = NOISE_BLOCK
    noise = position_noise(77, step=9, channels=2, y0=3 * side, x0=side, height=side, width=side)
    # The cosine comes from a square root, which near zero turns the sine's 5e-14 into 3e-7 (radius < 7).
    np.testing.assert_allclose(noise[0].ravel(), radius * np.cos(angle) * sign, rtol=0, atol=3e-6)
    np.testing.assert_allclose(noise[1].ravel(), radius * np.sin(angle), rtol=0, atol=1e-6)


def test_noise_fills_a_view_in_place() -> None:
    batch = np.full((2, 3, 10, 10), np.nan, np.float32)
    position_noise_into(batch[1], 3, step=0, y0=5, x0=-5)
    assert np.isnan(batch[0]).all()
    expected = position_noise(3, step=0, channels=3, y0=5, x0=-5, height=10, width=10)
    assert np.array_equal(batch[1], expected)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_not_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="64-bit unsigned"):
        position_noise(seed, step=0, channels=1, y0=0, x0=0, height=1, width=1)
    with pytest.raises(UsageError, match="64-bit unsigned"):
        position_noise(0, step=seed, channels=1, y0=0, x0=0, height=1, width=1)
