"""A model of colour runs in colour, through tiles, the command line and the evidence; gray does too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ImageError
from edge_sr.image import LoadedImage, encode_png, read_image, split_luminance, to_planes, write_atomic
from edge_sr.pipeline import Upscaler
from edge_sr.result import Result, Settings, upscale_image
from edge_sr.spec import Precision
from tests.edge_sr.commands import Commands
from tests.fakes import tiny_image, write_tiny_bundle

TOLERANCE = 2e-5  # float32, images of magnitude 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "rgb", family="regression", colours=3)


def open_upscaler(bundle: Bundle) -> Upscaler:
    return Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32)


def picture(height: int = 21, width: int = 44, dtype: Any = np.uint8) -> Any:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, (height, width, 3), endpoint=True).astype(dtype)


def enlarged(bundle: Bundle, pixels: Any) -> Result:
    with open_upscaler(bundle) as upscaler:
        return upscale_image(upscaler, LoadedImage(pixels, "made up", "PNG"), Settings(preset=None))


def test_tiles_of_colour_keep_their_channels_apart(bundle: Bundle) -> None:
    """The network mixes channels, so that one put in another's place gives another image."""
    image = tiny_image(21, 44, colours=3)
    with open_upscaler(bundle) as upscaler:
        tiled = upscaler.upscale(image, preset=None, seed=0)
        corner = upscaler.upscale(image[:, :16, :16], preset=None, seed=0).mean
        swapped = upscaler.upscale(image[::-1], preset=None, seed=0).mean
    assert tiled.mean.shape == (3, 84, 176) and tiled.tiles == 8
    np.testing.assert_allclose(tiled.mean[:, :16, :16], corner[:, :16, :16], atol=TOLERANCE)
    assert np.abs(swapped[::-1] - tiled.mean).max() > 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_through_a_model_of_colour_is_as_it_is(bundle: Bundle, dtype: Any) -> None:
    result = enlarged(bundle, picture(dtype=dtype))
    assert (result.pixels.shape, result.pixels.dtype) == ((84, 176, 3), np.dtype(dtype))
    assert result.notices == () and result.luminance.shape == (84, 176)
    assert 0 < result.consistency_db < 100


def test_gray_through_a_model_of_colour_comes_out_gray_with_a_notice(bundle: Bundle) -> None:
    gray = picture()[..., 0]
    result = enlarged(bundle, gray)
    colour = enlarged(bundle, np.repeat(gray[..., None], 3, axis=2))
    np.testing.assert_array_equal(result.pixels, split_luminance(colour.pixels)[0])
    assert any("gray through a model of colour" in notice for notice in result.notices)


def test_the_command_line_writes_colour_with_its_evidence(
    edge_sr: Commands, bundle: Bundle, tmp_path: Path
) -> None:
    write_atomic(tmp_path / "in.png", encode_png(picture(), text={}))
    out = tmp_path / "out.png"
    told, _ = edge_sr.upscale(tmp_path / "in.png", out, "--bundle", bundle.folder, "--evidence")
    assert told["notices"] == []
    assert read_image(out).pixels.shape == (84, 176, 3)
    assert len(list(tmp_path.glob("out.*png"))) > 1


def test_colour_does_not_fit_into_a_gray_model() -> None:
    with pytest.raises(ImageError, match="3 channels for a model of 1"):
        to_planes(picture(), 1)
