from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.rows import Runner
from benchmarks.seams.joining import joined_every_step, made_alone
from benchmarks.seams.measures import overlaps, rms_difference, step_ratio
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from edge_sr.tiling import axis_weights, blend, pad, plan_tiles
from tests.fakes import tiny_image, write_tiny_bundle

SIZE = (200, 200)


def test_an_image_without_seams_has_a_step_ratio_of_one() -> None:
    noise = np.random.default_rng(0).normal(size=SIZE)
    assert step_ratio(noise, (64, 128), (100,)) == pytest.approx(1, abs=0.05)  # 600 steps on each line
    assert step_ratio(np.zeros(SIZE), (64,), ()) == 1
    assert step_ratio(noise, (), ()) == 1


def test_a_seam_is_found_where_it_is_and_nowhere_else() -> None:
    image = np.random.default_rng(0).normal(size=SIZE)
    image[64:] += 3
    assert step_ratio(image, (64,), ()) > 2
    assert step_ratio(image, (), (64,)) == pytest.approx(1, abs=0.1)
    assert step_ratio(image.T, (), (64,)) > 2


def test_tiles_that_agree_have_no_difference_and_keep_their_detail() -> None:
    grid = plan_tiles(25, 40, tile=16, overlap=4)
    image = np.random.default_rng(0).normal(size=(50, 80)).astype(np.float32)
    padded = pad(image, plan_tiles(50, 80, tile=32, overlap=8))
    tiles = np.stack([padded[2 * y : 2 * y + 32, 2 * x : 2 * x + 32] for y, x in grid.origins])
    difference, kept = overlaps(tiles, grid, 2)
    assert difference < 1e-6  # sums of float32
    assert kept == pytest.approx(1, abs=0.05)  # a tile mirrors its own border


def test_tiles_that_disagree_are_found_and_their_blend_is_smoother() -> None:
    grid = plan_tiles(16, 28, tile=16, overlap=4)
    tiles = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    difference, kept = overlaps(tiles, grid, 2)
    share = axis_weights(grid.columns, 16, 4, 2)[0][-8:]  # of the left tile, column by column
    apart = np.square(tiles[0][:, -8:] - tiles[1][:, :8])
    assert difference == pytest.approx(np.sqrt(np.mean(share * (1 - share) * apart)), rel=1e-4)
    assert kept < 0.9
    assert overlaps(tiles[:1], plan_tiles(16, 16, tile=16, overlap=4), 2) == (0.0, 1.0)
    assert rms_difference(tiles[0], tiles[0] + 2) == pytest.approx(2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.mark.parametrize("name", ["even", "noisy", "multistep"])
def test_one_tile_is_the_same_however_tiles_are_blended(tiny: Bundle, name: str) -> None:
    preset, image = tiny.diffusion.presets[name], tiny_image()
    with Upscaler(tiny, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        ours = upscaler.upscale(image, preset=preset, seed=3).mean
        other = joined_every_step(Runner(upscaler), image, preset, seed=3)[0]
    np.testing.assert_allclose(other, ours, rtol=0, atol=2e-5)  # float32, steps in another order


@pytest.mark.parametrize("name", ["even", "noisy"])
def test_tiles_made_alone_and_blended_are_the_engines_image(tiny: Bundle, name: str) -> None:
    preset, image = tiny.diffusion.presets[name], tiny_image(21, 28)
    with Upscaler(tiny, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        ours = upscaler.upscale(image, preset=preset, seed=3).mean
        tiles = made_alone(Runner(upscaler), image, preset, seed=3)
        joined = blend(iter(tiles), upscaler.grid(21, 28), scale=4)
    assert np.array_equal(joined, ours)


def test_several_tiles_agree_on_what_they_share_when_every_step_is_blended(tiny: Bundle) -> None:
    preset, image = tiny.diffusion.presets["even"], tiny_image(16, 28)
    with Upscaler(tiny, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        ours = upscaler.upscale(image, preset=preset, seed=3).mean
        tiles = joined_every_step(Runner(upscaler), image, preset, seed=3)
        other = blend(iter(tiles), upscaler.grid(16, 28), scale=4)
    assert other.shape == ours.shape == (1, 64, 112)
    difference = np.abs(other - ours)[0]
    assert difference[:, :20].mean() < difference[:, 48:64].mean(), "they differ most where tiles overlap"
    assert difference[:, 48:64].max() > 1e-3


def test_the_command_measures_every_way_and_refuses_what_has_no_seams(
    tiny: Bundle, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(tiny.folder), "--images", str(pairs_folder / "hr_256"), "--threads", "1"]
    out = ["--out", str(tmp_path / "name")]
    assert run(["seams", *arguments, *out, "--side", "40", "--limit", "2"]) == 0
    told = capsys.readouterr().out
    assert "| blended at the end | 4 |" in told
    assert "| blended after every step, and at the end | 4 |" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.json", "name.md"]
    assert run(["seams", *arguments, *out, "--side", "16"]) == 1
    assert "a side above the tile's 16" in capsys.readouterr().err
