"""Pixel coordinates and sizes of the derived object describe the same places as those of the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sr.dicom.geometry import enlarge_geometry
from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import (
    COLUMNS,
    ROWS,
    ct,
    decoded,
    derived,
    dx,
    encoded,
    gradient,
    item,
    repeated,
)

OBLIQUE = ["0.8", "0.6", "0", "-0.36", "0.48", "0.8"]


def test_every_spacing_that_is_there_is_divided() -> None:
    back = derived(dx(PixelSpacing=["0.2", "0.1"], NominalScannedPixelSpacing=["1", "2"]))
    assert (back.Rows, back.Columns) == (4 * ROWS, 4 * COLUMNS)
    assert back.PixelSpacing == [0.05, 0.025]
    assert back.ImagerPixelSpacing == [0.03575, 0.03475]
    assert back.NominalScannedPixelSpacing == [0.25, 0.5]
    assert "PixelSpacing" not in derived(dx())


def test_a_spacing_of_zero_and_an_empty_one_stay_so() -> None:
    back = derived(dx(PixelSpacing=["0.000", "0.000"], NominalScannedPixelSpacing=""))
    assert back.PixelSpacing == [0, 0]
    assert back["NominalScannedPixelSpacing"].is_empty


@given(st.lists(st.floats(1e-5, 1e5), min_size=2, max_size=2), st.integers(2, 16))
def test_a_divided_spacing_fits_a_decimal_string(spacing: list[float], scale: int) -> None:
    header = item(Rows=8, Columns=8, PixelSpacing=[f"{value:.10g}"[:16] for value in spacing])
    before = [float(value) for value in header.PixelSpacing]
    enlarge_geometry(header, scale)
    for old, new in zip(before, header.PixelSpacing, strict=True):
        assert len(str(new.original_string)) <= 16
        assert float(new) == pytest.approx(old / scale, rel=1e-9)


def places(dataset: Any) -> Any:
    """(rows, columns, 3): where the centre of every pixel lies in the patient (PS3.3, C.7.6.2.1-1)."""
    along_row, along_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in dataset.PixelSpacing)
    row, column = np.mgrid[: dataset.Rows, : dataset.Columns][..., None]
    steps = column * between_columns * along_row + row * between_rows * along_column
    return np.array(dataset.ImagePositionPatient, float) + steps


@pytest.mark.parametrize("orientation", [["1", "0", "0", "0", "1", "0"], OBLIQUE])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_pixels_made_of_one_pixel_lie_around_its_place(scale: int, orientation: list[str]) -> None:
    source = ct(ImageOrientationPatient=orientation)
    blocks = places(derived(source, scale=scale)).reshape(ROWS, scale, COLUMNS, scale, 3)
    # Decimal strings keep at least ten digits of positions around 100 mm.
    assert np.allclose(blocks.mean(axis=(1, 3)), places(source), rtol=0, atol=1e-8)


def test_the_first_pixel_moves_towards_the_corner() -> None:
    """By (1/4 - 1)/2 = -0.375 pixels of 0.25 mm along the row and of 0.5 mm down the column."""
    back = derived(ct())
    assert back.ImagePositionPatient == [-100.5 - 0.375 * 0.25, -120 - 0.375 * 0.5, 33.25]
    assert back.PixelSpacing == [0.125, 0.0625]


def shown(dataset: Any, *, rows: int, columns: int) -> Any:
    """Which pixels a rectangular shutter leaves visible."""
    row, column = np.mgrid[1 : rows + 1, 1 : columns + 1]
    across = (column >= dataset.ShutterLeftVerticalEdge) & (column <= dataset.ShutterRightVerticalEdge)
    return across & (row >= dataset.ShutterUpperHorizontalEdge) & (row <= dataset.ShutterLowerHorizontalEdge)


def test_a_shutter_shows_the_same_part_of_the_picture() -> None:
    source = dx(
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=3,
        ShutterRightVerticalEdge=20,
        ShutterUpperHorizontalEdge=1,
        ShutterLowerHorizontalEdge=17,
    )
    before = shown(source, rows=ROWS, columns=COLUMNS)
    after = shown(derived(source), rows=4 * ROWS, columns=4 * COLUMNS)
    assert np.array_equal(after, repeated(before))


def test_round_and_polygonal_areas_keep_their_place() -> None:
    points = [2, 3, 2, 20, 18, 11]
    source = dx(
        CenterOfCircularShutter=[10, 12],
        RadiusOfCircularShutter=7,
        VerticesOfThePolygonalShutter=points,
        VerticesOfThePolygonalCollimator=points,
        CollimatorLeftVerticalEdge=-184,
    )
    back = derived(source)
    assert back.RadiusOfCircularShutter == 28
    assert back.CollimatorLeftVerticalEdge == (-184 - 1) * 4 + 1
    for keyword, before in (
        ("CenterOfCircularShutter", [10, 12]),
        ("VerticesOfThePolygonalShutter", points),
        ("VerticesOfThePolygonalCollimator", points),
    ):
        # The centre of pixel p is p - 1/2 pixels from the edge; half a new pixel is lost to whole numbers.
        errors = [(new - 0.5) / 4 - (old - 0.5) for new, old in zip(back[keyword].value, before, strict=True)]
        assert max(map(abs, errors)) <= 0.5 / 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ImageOrientationPatient": None}, "no orientation or spacing"),
        ({"PixelSpacing": None}, "no orientation or spacing"),
        ({"ImagePositionPatient": ["1", "2"]}, "no orientation or spacing"),
        ({"GraphicAnnotationSequence": [item(GraphicLayer="A")]}, "graphics"),
    ],
)
def test_geometry_that_cannot_be_enlarged_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decoded(ct(**changes))


@pytest.mark.parametrize("value", [b"inf", b"nan", b"1e999", b"wide"])
def test_a_spacing_that_is_no_number_is_refused(value: bytes) -> None:
    marker = b"7.654321"
    data = encoded(dx(PixelSpacing=[marker.decode()] * 2))
    with pytest.raises(ImageError, match=r"^scan\.dcm: (PixelSpacing is not a finite|its header cannot be)"):
        decoded(data.replace(marker, value.ljust(len(marker))))


def test_curves_are_refused() -> None:
    source = dx()
    source.add_new(0x50000005, "US", 2)
    with pytest.raises(ImageError, match="curves"):
        decoded(source)


def test_a_position_in_old_coordinates_is_left_out() -> None:
    source = ct()
    source.add_new(0x00200030, "DS", ["1", "2", "3"])
    assert (0x0020, 0x0030) not in derived(source)


@pytest.mark.parametrize("columns", [9, 16])
@pytest.mark.parametrize("rows", [8, 13])
def test_an_image_of_any_size_has_its_size_multiplied(rows: int, columns: int) -> None:
    back = derived(dx(gradient(12, rows=rows, columns=columns)))
    assert (back.Rows, back.Columns) == (4 * rows, 4 * columns)
    assert back.pixel_array.shape == (4 * rows, 4 * columns)
