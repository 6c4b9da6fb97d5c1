"""The alarm threshold of a bundle, from true images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.__main__ import run
from calibration.consistency import measure_consistency
from calibration.errors import CalibrationError
from edge_sr.bundle import Bundle
from edge_sr.image import downsample, encode_png, read_image
from edge_sr.manifest import SCHEMA_VERSION
from edge_sr.metrics import psnr
from tests.calibration.conftest import snapshot

COUNT = 20


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs by the tiny bundle's operator, with more noise in each than in the last."""
    rng = np.random.default_rng(0)
    for kind in ("hr_64", "lr_16"):
        (tmp_path / "true" / kind).mkdir(parents=True)
    for index in range(COUNT):
        large = rng.integers(0, 256, (64, 64), np.uint8)
        small = downsample(large.astype(np.float32), 4, "cubic") + rng.normal(0, 1 + index, (16, 16))
        for kind, pixels in (("hr_64", large), ("lr_16", small)):
            stored = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
            (tmp_path / "true" / kind / f"{index:02}.png").write_bytes(encode_png(stored, text={}))
    return tmp_path / "true"


def test_the_threshold_is_the_quantile_of_the_true_images(bundle: Bundle, pairs: Path) -> None:
    values = []
    for path in sorted((pairs / "lr_16").iterdir()):
        large = read_image(pairs / "hr_64" / path.name).pixels.astype(np.float32)
        values.append(psnr(downsample(large, 4, "cubic"), read_image(path).pixels))
    found = measure_consistency(bundle.manifest, pairs, quantile=0.1, data="made up")
    assert found.alarm_db == pytest.approx(np.quantile(values, 0.1), abs=0.006)  # two decimals
    assert found.median_db == pytest.approx(np.median(values), abs=0.006)
    assert (found.images, found.operator, found.data) == (COUNT, "cubic", "made up")


def test_the_command_stores_it_in_the_bundle_and_changes_nothing_else(
    bundle: Bundle, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(bundle.folder)
    command = ["consistency", "--bundle", str(bundle.folder), "--pairs", str(pairs), "--data", "made up"]
    assert run(command) == 0
    assert "median of 20 true images" in capsys.readouterr().out
    after, made = snapshot(bundle.folder), Bundle.open(bundle.folder)
    assert {name for name in before if before[name] != after[name]} == {"bundle.json"}
    assert before.keys() == after.keys()
    known = made.manifest.consistency
    assert known is not None
    assert made.manifest.schema_version == SCHEMA_VERSION
    assert str(pairs.parent) not in known.source
    assert made.manifest.model_copy(update={"schema_version": 1, "consistency": None}) == bundle.manifest


def test_too_few_images_for_the_quantile_are_refused(bundle: Bundle, pairs: Path) -> None:
    with pytest.raises(CalibrationError, match="20 images are too few"):
        measure_consistency(bundle.manifest, pairs, quantile=0.01, data="made up")


def test_images_that_are_no_pairs_are_refused_by_name(bundle: Bundle, pairs: Path) -> None:
    (pairs / "hr_64" / "07.png").write_bytes(encode_png(np.zeros((32, 32), np.uint8), text={}))
    with pytest.raises(CalibrationError, match=r"07\.png: uint8 of \(32, 32\) is not x4"):
        measure_consistency(bundle.manifest, pairs, quantile=0.1, data="made up")
    (pairs / "hr_64").rename(pairs / "other")
    with pytest.raises(CalibrationError, match=r"no folder hr_\*"):
        measure_consistency(bundle.manifest, pairs, quantile=0.1, data="made up")
