"""From a DICOM file through the engine to a derived object: what jobs do, in a few lines."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.dicom import Record, Source, derive
from edge_sr.image import resize_area
from edge_sr.pipeline import Upscaler
from edge_sr.result import Settings, upscale_image
from tests.edge_sr.dicom.objects import decoded, dx, pydicom, wheel_file

SHIPPED = Path(__file__).parents[3] / "edge_sr" / "bundles" / "cxr-x4"


@pytest.fixture
def upscaler(bundle: Path) -> Upscaler:
    opened = Bundle.open(bundle)
    return Upscaler(opened, open_backend("fake"), precision=opened.manifest.default_precision)


def enlarged(upscaler: Upscaler, source: Source, *, seed: int = 3) -> bytes:
    settings = Settings(upscaler.bundle.manifest.default_preset, seed)
    result = upscale_image(upscaler, source.image, settings)
    return derive(source, result.pixels, Record.of(json.loads(result.provenance["edge-sr"])))


def test_a_radiograph_goes_through_the_engine_into_a_derived_object(upscaler: Upscaler) -> None:
    with upscaler:
        source = decoded(dx())
        back = pydicom.dcmread(io.BytesIO(enlarged(upscaler, source)))
        assert (back.Rows, back.Columns) == tuple(4 * side for side in source.stored.shape)
        assert back.pixel_array.max() < 4096
        assert upscaler.bundle.digest in back.DerivationDescription
        assert "seed 3" in back.DerivationDescription
        assert enlarged(upscaler, source) == enlarged(upscaler, source)
        assert enlarged(upscaler, source, seed=4) != enlarged(upscaler, source)


def test_a_bundle_without_a_loop_says_how_it_was_made_and_gives_one_object_for_every_seed(
    tmp_path: Path,
) -> None:
    fakes = pytest.importorskip("tests.fakes", reason="onnx is not installed")
    plain = fakes.write_tiny_bundle(tmp_path / "plain", family="regression")
    with Upscaler(plain, open_backend("fake"), precision=plain.manifest.default_precision) as upscaler:
        one, other = (enlarged(upscaler, decoded(dx()), seed=seed) for seed in (3, 4))
    said = pydicom.dcmread(io.BytesIO(one)).DerivationDescription
    assert "by regression" in said and "one pass" in said and "seed" not in said
    assert one == other


def test_a_real_radiograph_keeps_what_its_values_mean() -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra: cpu)")
    small = reduced(wheel_file("RG1_UNCR.dcm"))
    shipped = Bundle.open(SHIPPED)
    with Upscaler(
        shipped, open_backend("onnxruntime"), precision=shipped.manifest.default_precision
    ) as upscaler:
        back = pydicom.dcmread(io.BytesIO(enlarged(upscaler, decoded(small))))
    assert back.PhotometricInterpretation == "MONOCHROME1"
    assert (back.Rows, back.Columns) == (256, 240)
    again = resize_area(back.pixel_array.astype(np.float32), (64, 60))
    before = small.pixel_array.astype(np.float32)
    # A mirrored, inverted or shifted result would be far off; the model itself agrees to about a hundredth.
    assert np.abs(again - before).mean() < 0.03 * np.ptp(before)


def reduced(path: Path) -> Any:
    """The radiograph at about a thirtieth of its size."""
    dataset = pydicom.dcmread(path)
    pixels = resize_area(dataset.pixel_array.astype(np.float32), (64, 60))
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.rint(pixels).astype("<u2").tobytes()
    return dataset
