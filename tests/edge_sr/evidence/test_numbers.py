"""The figures beside a result: residual, alarm, regions, change, hallucination and loss."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_sr.card import Consistency
from edge_sr.errors import ImageError
from edge_sr.evidence import (
    EXACT_DB,
    InventionRates,
    Moments,
    Region,
    alarm_notice,
    change_facts,
    change_map,
    invention_rates,
    residual_db,
    spread_facts,
    uncertain_regions,
)
from edge_sr.image import downsample, resize_bicubic

KNOWN = Consistency(
    operator="cubic",
    alarm_db=27.0,
    quantile=0.05,
    median_db=36.0,
    images=75,
    data="made up",
    sha256="0" * 64,
    source="made up",
)


def test_the_residual_is_the_psnr_of_the_reduced_output() -> None:
    rng = np.random.default_rng(0)
    output = rng.integers(0, 256, (32, 24), np.uint8)
    source = np.clip(downsample(output.astype(np.float32), 4, "area") + 3, 0, 255)
    found = residual_db(output, np.rint(source).astype(np.uint8), scale=4, operator="area")
    assert found == pytest.approx(20 * np.log10(255 / 3), abs=0.2)  # the input was rounded


def test_a_perfect_residual_is_a_number_that_json_can_hold() -> None:
    flat = np.full((8, 8), 7, np.uint8)
    assert residual_db(flat.repeat(4, 0).repeat(4, 1), flat, scale=4, operator="nearest") == EXACT_DB
    json.dumps(EXACT_DB, allow_nan=False)


def test_the_residual_of_colour_is_the_mean_over_channels() -> None:
    rng = np.random.default_rng(0)
    output, source = rng.integers(0, 256, (16, 16, 3), np.uint8), rng.integers(0, 256, (4, 4, 3), np.uint8)
    single = [residual_db(output[..., c], source[..., c], scale=4, operator="area") for c in range(3)]
    assert residual_db(output, source, scale=4, operator="area") == pytest.approx(np.mean(single))


def test_an_alarm_is_raised_only_below_what_true_images_reach() -> None:
    assert alarm_notice(26.9, KNOWN) == (
        "consistency 26.9 dB is under 27.0 dB, which 95% of true images reach: made small again, the result "
        "is not its input"
    )
    assert alarm_notice(27.0, KNOWN) == ""
    assert alarm_notice(1.0, None) == ""


def test_moments_are_those_of_numpy() -> None:
    samples = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    moments = Moments()
    assert moments.std is None
    for sample in samples:
        moments.add(sample)
    np.testing.assert_allclose(moments.mean, samples.mean(axis=0), atol=1e-6)  # float32 sums of five
    assert moments.std is not None
    np.testing.assert_allclose(moments.std, samples.std(axis=0, ddof=1), atol=1e-6)


def test_the_most_uncertain_regions_are_found_in_order_and_do_not_overlap() -> None:
    std = np.ones((128, 160))
    std[20:36, 30:46] = 9.0
    std[90:106, 100:116] = 5.0
    first, second, *rest = uncertain_regions(std)
    assert first == Region(30, 20, 16, 16, 9.0)
    assert (second.x, second.y, second.mean_std) == (100, 90, 5.0)
    assert all(region.mean_std < 5 for region in rest)
    boxes = np.zeros(std.shape, int)
    for region in uncertain_regions(std):
        boxes[region.y : region.y + region.height, region.x : region.x + region.width] += 1
    assert boxes.max() == 1


@pytest.mark.parametrize("shape", [(64, 64), (9, 300), (1, 1)])
def test_an_even_spread_has_no_region(shape: tuple[int, int]) -> None:
    assert uncertain_regions(np.full(shape, 0.1, np.float32)) == ()


def test_the_facts_of_a_spread_are_json_in_gray_levels() -> None:
    std = np.zeros((64, 64), np.float32)
    std[:16, :16] = 4
    facts = json.loads(json.dumps(spread_facts(std, samples=4)))
    assert (facts["samples"], facts["max_std"], facts["mean_std"]) == (4, 4.0, 0.25)
    assert facts["regions"][0] == {"x": 0, "y": 0, "width": 16, "height": 16, "mean_std": 4.0}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_change_map_is_the_output_less_bicubic(dtype: type[np.integer]) -> None:
    source = np.random.default_rng(0).integers(40, 200, (8, 6)).astype(dtype)
    output = resize_bicubic(source, 4)
    assert not change_map(output, source, 4).any()
    output[3, 5] += 10
    output[7, 7] -= 4
    change = change_map(output, source, 4)
    assert np.argwhere(change).tolist() == [[3, 5], [7, 7]]
    assert change[change != 0].tolist() == [10, -4]
    facts = change_facts(change)
    assert (facts["most_added"], facts["most_removed"]) == (10.0, 4.0)
    assert facts["mean_abs"] == round(14 / change.size, 3)
    with pytest.raises(ImageError, match="is not"):
        change_map(output, source, 3)


def test_hallucination_and_loss_are_counted_beyond_the_autoencoders_error() -> None:
    truth = np.full((10, 10), 100.0)
    reconstruction = truth.copy()
    reconstruction[0] += 10.0  # |AE - HR|: mean 1, standard deviation 3, so the threshold is 7
    output = truth.copy()
    output[1, :3] += 8.0
    output[2, :5] -= 20.0
    output[3] += 7.0  # not beyond
    found = invention_rates(output, truth, reconstruction)
    assert found == InventionRates(0.03, 0.05, 8.0, 20.0, 7.0)


def test_a_perfect_autoencoder_and_output_have_no_rates() -> None:
    truth = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert invention_rates(truth, truth, truth) == InventionRates(0.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ImageError, match="do not match"):
        invention_rates(truth, truth, truth[:2])
