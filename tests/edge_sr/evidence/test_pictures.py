"""The images beside an output: exact values in 16 bits, colours that say which way, legends with units."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.evidence import CHANGE, STD, UNCERTAINTY, evidence_files, evidence_suffixes
from edge_sr.evidence.colours import diverging, sequential
from edge_sr.evidence.pictures import change_picture, nice_top
from edge_sr.image import decode_image, read_png_text

TEXT = {"Disclaimer": "Not for diagnosis."}
SHADES = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709


def made_up(top: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    gray = rng.integers(0, top + 1, (40, 48)).astype(np.uint8 if top == 255 else np.uint16)
    std = rng.uniform(0, top / 20, (40, 48)).astype(np.float32)
    change = rng.normal(0, top / 30, (40, 48)).astype(np.float32)
    return {"gray": gray, "std": std, "change": change}


def pixels(data: bytes) -> npt.NDArray[Any]:
    return decode_image(data, name="picture").pixels


@pytest.mark.parametrize("top", [255, 65535])
def test_the_standard_deviation_is_kept_in_sixteen_bits_of_the_full_range(top: int) -> None:
    scene = made_up(top)
    files = evidence_files(**scene, samples=3, text=TEXT)
    stored = pixels(files[STD])
    assert stored.dtype == np.uint16
    # Half a unit: what rounding to 16 bits may cost.
    np.testing.assert_allclose(stored * (top / 65535), scene["std"], rtol=0, atol=0.51 * top / 65535)


def test_each_file_says_what_it_shows_and_what_made_it() -> None:
    files = evidence_files(**made_up(255), samples=3, text=TEXT)
    assert tuple(files) == evidence_suffixes(3) == (STD, UNCERTAINTY, CHANGE)
    words = {suffix: read_png_text(data) for suffix, data in files.items()}
    assert all(text["Disclaimer"] == TEXT["Disclaimer"] for text in words.values())
    assert "1/65535 of the full range" in words[STD]["Description"]
    assert "less bicubic" in words[CHANGE]["Description"]


def test_one_sample_has_a_change_map_alone() -> None:
    scene = made_up(255) | {"std": None}
    assert tuple(evidence_files(**scene, samples=1, text={})) == evidence_suffixes(1) == (CHANGE,)


def test_the_same_evidence_is_the_same_bytes() -> None:
    first, second = (evidence_files(**made_up(255), samples=3, text=TEXT) for _ in range(2))
    assert first == second


def test_zero_is_the_middle_of_the_diverging_colours_and_looks_the_same_from_both_sides() -> None:
    less, none, more = diverging(np.array([-1.0, 0.0, 1.0])).astype(int)
    assert none.min() > 240
    assert less[2] > less[0]  # purple: more blue than red
    assert more[0] > more[2]  # orange: more red than blue
    shades = diverging(np.linspace(-1, 1, 255)) @ SHADES
    assert (np.diff(shades[:128]) >= -0.5).all()  # half a level of rounding
    assert (np.diff(shades[127:]) <= 0.5).all()


def test_the_sequential_colours_grow_lighter_all_the_way() -> None:
    shades = sequential(np.linspace(0, 1, 255)) @ SHADES
    assert (np.diff(shades) >= -0.5).all()
    assert shades[-1] - shades[0] > 150
    assert np.array_equal(sequential(np.array([-1.0, 2.0])), sequential(np.array([0.0, 1.0])))


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="matplotlib is not installed")
def test_the_tables_are_those_that_they_are_named_after() -> None:
    from matplotlib import colormaps

    at = np.linspace(0, 1, 255)
    cividis = colormaps["cividis"](at, bytes=True)[:, :3].astype(int)
    purple_orange = colormaps["PuOr_r"](at, bytes=True)[:, :3].astype(int)
    assert np.abs(sequential(at) - cividis).max() <= 9  # eleven anchors of 256
    assert np.abs(diverging(2 * at - 1) - purple_orange).max() <= 2


def test_a_change_of_nothing_is_a_white_panel() -> None:
    picture = change_picture(np.zeros((64, 64), np.float32), top=255)
    assert (picture[100:700, 100:700] == picture[400, 400]).all()
    assert picture[400, 400].min() > 240


@pytest.mark.parametrize(("largest", "end"), [(0.0, 1), (0.3, 1), (1.7, 2), (4.0, 5), (7, 10), (730.0, 1000)])
def test_a_scale_ends_at_a_round_number(largest: float, end: float) -> None:
    assert nice_top(np.full(9, largest)) == end
