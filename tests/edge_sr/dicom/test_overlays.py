"""Overlay planes are enlarged with their image, or the image is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import decoded, derived, dx, repeated

Elements = dict[str, tuple[str, Any]]


def with_overlay(rows: int, columns: int, changes: Elements | None = None, *, group: int = 0x6000) -> Any:
    """A radiograph with a random plane; a change to None takes the element out."""
    plane = np.random.default_rng(rows).integers(0, 2, (rows, columns), np.uint8)
    data = np.packbits(plane, bitorder="little").tobytes()
    elements: Elements = {
        "0010": ("US", rows),
        "0011": ("US", columns),
        "0040": ("CS", "G"),
        "0050": ("SS", [1, 1]),
        "0100": ("US", 1),
        "0102": ("US", 0),
        "3000": ("OW", data + b"\0" * (len(data) % 2)),
    }
    source = dx()
    for element, (vr, value) in (elements | (changes or {})).items():
        if value is not None:
            source.add_new((group, int(element, 16)), vr, value)
    return source


@pytest.mark.parametrize("group", [0x6000, 0x601E])
@pytest.mark.parametrize(("rows", "columns"), [(36, 40), (7, 9), (1, 1)])
def test_every_pixel_of_a_plane_is_repeated(rows: int, columns: int, group: int) -> None:
    source = with_overlay(rows, columns, group=group)
    back = derived(source)
    assert np.array_equal(back.overlay_array(group), repeated(source.overlay_array(group)))
    assert len(back[group, 0x3000].value) % 2 == 0


def test_its_place_is_moved_with_the_pixel_it_began_at() -> None:
    back = derived(with_overlay(7, 9, {"0050": ("SS", [3, -2])}))
    assert back[0x6000, 0x0050].value == [4 * 2 + 1, 4 * -3 + 1]
    assert (0x6000, 0x0050) not in derived(with_overlay(7, 9, {"0050": ("SS", None)}))


def test_what_was_measured_under_it_is_left_out() -> None:
    measured: Elements = {"1301": ("IS", 63), "1302": ("DS", "5"), "1303": ("DS", "1")}
    back = derived(with_overlay(7, 9, measured))
    assert not [element for element in measured if (0x6000, int(element, 16)) in back]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"3000": ("OW", None), "0102": ("US", 12)}, "without a plane of its own"),
        ({"0100": ("US", 16)}, "without a plane of its own"),
        ({"0015": ("IS", 2)}, "without a plane of its own"),
        ({"0010": ("US", 37)}, "does not fit"),
        ({"0011": ("US", 41)}, "does not fit"),
        ({"0010": ("US", 0)}, "does not fit"),
        ({"0010": ("US", None)}, "does not fit"),
        ({"3000": ("OW", b"\0\0")}, "does not fit"),
        ({"0050": ("SS", [9000, 1])}, "too far out"),
    ],
)
def test_a_plane_that_cannot_be_enlarged_is_refused(changes: Elements, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decoded(with_overlay(36, 40, changes))
