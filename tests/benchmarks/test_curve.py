from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.curve import FAMILIES, CurveRequest, grid, margins, run_curve
from benchmarks.quality import Outcome
from benchmarks.rows import BICUBIC, MODEL, Track
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset

DEFAULT = Preset(sampler="ddim", steps=20, noise_scale=0.8)


@pytest.fixture(scope="module")
def outcome(bundle: Bundle, pairs_folder: Path, lpips_weights: Path) -> Outcome:
    request = CurveRequest(bundle.folder, pairs_folder, lpips_weights, limit=1, batch=1, threads=1)
    return run_curve(request, arguments=["curve"], track=lambda items, what: items)


def test_every_row_of_a_family_differs_from_the_default_in_what_it_is_named_for() -> None:
    presets = {row.key: row.preset for row in grid(DEFAULT)}
    assert presets["steps-0"] == DEFAULT.model_copy(update={"steps": 1})
    assert presets["noise-4"] == DEFAULT, "the default is a point of its own curve"
    assert presets["mean-3"] == DEFAULT.model_copy(update={"samples": 8, "noise_scale": 1.0})


def test_the_record_has_every_setting_beside_bicubic_and_the_default(outcome: Outcome) -> None:
    keys = [row.key for row in outcome.record.rows]
    assert keys[:4] == ["hr", "bicubic", "mean", "model"]
    assert len(keys) == 4 + sum(len(changes) for _, changes in FAMILIES.values())


def test_bicubic_has_no_margin_over_itself(outcome: Outcome) -> None:
    rows = {row.key: row for row in outcome.record.rows}
    assert margins(rows[BICUBIC], rows[BICUBIC]) == (0.0, 1.0)
    assert margins(rows[MODEL], rows[BICUBIC])[0] == pytest.approx(
        rows[MODEL].versus[BICUBIC]["psnr_db"].mean
    )


def test_the_picture_is_drawn(outcome: Outcome) -> None:
    picture = cv2.imdecode(np.frombuffer(outcome.png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (650, 1300, 3)
    assert picture.std() > 10


def test_the_command_wants_lpips(
    pairs_folder: Path, capsys: pytest.CaptureFixture[str], quietly: Track
) -> None:
    assert run(["curve", "--pairs", str(pairs_folder)]) == 2
    assert "--lpips" in capsys.readouterr().err
