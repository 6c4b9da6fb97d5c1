"""Any whole factor: how it is reached, that sizes are exact, and that nonsense is refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sr.backends import open_backend
from edge_sr.cascade import ScalePlan, enlarge, plan_scale
from edge_sr.errors import UsageError
from edge_sr.image import downsample, resize_area
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from tests.fakes import PRESETS, tiny_image, write_tiny_bundle

ONE = Preset.model_validate(PRESETS["even"])
THREE = ONE.model_copy(update={"samples": 3})


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upscaler]:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as opened:
        yield opened


@given(st.integers(1, 16), st.integers(2, 256))
@settings(derandomize=True)
def test_every_factor_up_to_the_square_is_reached_and_no_other(model: int, scale: int) -> None:
    if scale > model**2 and scale != model:
        with pytest.raises(UsageError):
            plan_scale(scale, model)
        return
    plan = plan_scale(scale, model)
    assert plan.model**plan.passes >= plan.scale
    assert plan.passes == 1 or plan.model < plan.scale, "no pass more than needed"


def test_the_default_is_what_the_model_does() -> None:
    assert plan_scale(None, 4) == ScalePlan(4, 4, 1)
    assert plan_scale(None, 1).is_plain


@pytest.mark.parametrize("scale", [-4, 0, 1, 17, 10**9])
def test_a_nonsense_scale_is_refused_with_those_there_are(scale: int) -> None:
    with pytest.raises(UsageError, match=f"a scale of {scale}") as caught:
        plan_scale(scale, 4)
    assert caught.value.hint == "a whole number from 2 to 16"


@pytest.mark.parametrize("scale", [2, 3, 4, 5, 6, 7, 16])
def test_the_output_has_exactly_the_size_that_was_asked_for(upscaler: Upscaler, scale: int) -> None:
    image = tiny_image(11, 18)
    output = enlarge(upscaler, image, plan=plan_scale(scale, 4), preset=ONE, seed=1)
    assert output.mean.shape == (1, 11 * scale, 18 * scale)
    assert np.isfinite(output.mean).all()


def test_a_plain_plan_is_the_upscaler_to_the_bit(upscaler: Upscaler) -> None:
    image = tiny_image(20, 20)
    ours = enlarge(upscaler, image, plan=plan_scale(None, 4), preset=THREE, seed=5)
    theirs = upscaler.upscale(image, preset=THREE, seed=5)
    assert np.array_equal(ours.mean, theirs.mean)
    assert ours.std is not None
    assert theirs.std is not None
    assert np.array_equal(ours.std, theirs.std)


def test_a_smaller_factor_is_the_reduced_one(upscaler: Upscaler) -> None:
    image = tiny_image(16, 16)
    whole = upscaler.upscale(image, preset=ONE, seed=5).mean[0]
    half = enlarge(upscaler, image, plan=plan_scale(2, 4), preset=ONE, seed=5).mean[0]
    np.testing.assert_allclose(half, whole.reshape(32, 2, 32, 2).mean((1, 3)), atol=1e-6)


def test_sixteen_times_is_the_model_on_its_own_output_with_other_noise(upscaler: Upscaler) -> None:
    image = tiny_image(8, 8)
    twice = enlarge(upscaler, image, plan=plan_scale(16, 4), preset=ONE, seed=5).mean
    once = np.clip(upscaler.upscale(image, preset=ONE, seed=5).mean, -1, 1)
    assert not np.array_equal(twice, upscaler.upscale(once, preset=ONE, seed=5).mean)
    assert twice.shape == (1, 128, 128)
    again = enlarge(upscaler, image, plan=plan_scale(16, 4), preset=ONE, seed=5).mean
    assert np.array_equal(twice, again)


def test_the_spread_is_that_of_the_samples_that_come_out(upscaler: Upscaler) -> None:
    """Not the reduced spread of those before the reduction, which is larger: their noise averages out."""
    image = tiny_image(16, 16)
    samples = [upscaler.upscale(image, preset=ONE, seed=5, first_sample=index).mean[0] for index in range(3)]
    reduced = np.stack([resize_area(sample, (32, 32)) for sample in samples])
    output = enlarge(upscaler, image, plan=plan_scale(2, 4), preset=THREE, seed=5)
    assert output.std is not None
    np.testing.assert_allclose(output.mean[0], reduced.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(output.std[0], reduced.std(axis=0, ddof=1), atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 6])
def test_a_back_projection_is_onto_the_input_at_any_factor(upscaler: Upscaler, scale: int) -> None:
    image = tiny_image(16, 16) * np.float32(0.5)  # away from the range's ends, which would clip
    plan = plan_scale(scale, 4)
    output = enlarge(upscaler, image, plan=plan, preset=THREE, seed=5, operator="area")
    # Where no sample was clipped, the mean of samples that agree agrees: to the projection's tolerance.
    np.testing.assert_allclose(downsample(output.mean[0], scale, "area"), image[0], atol=2e-5)
    assert output.std is not None
    assert downsample(output.std[0], scale, "area").max() > 0
