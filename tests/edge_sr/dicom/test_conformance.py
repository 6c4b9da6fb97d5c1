"""The conformance statement names what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sr.dicom.header import SOP_CLASSES
from edge_sr.dicom.identity import IMPLEMENTATION_UID
from edge_sr.dicom.parsing import MAX_DEPTH, MAX_ELEMENTS
from edge_sr.dicom.part10 import SYNTAXES
from edge_sr.dicom.values import PERCENTILES
from tests.edge_sr.dicom.objects import pydicom

PAGE = (Path(__file__).parents[3] / "docs" / "dicom-conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("uid", "name"), SOP_CLASSES.items())
def test_it_lists_every_sop_class_under_its_right_name(uid: str, name: str) -> None:
    assert f"| {name} | {uid} |" in PAGE
    assert pydicom.uid.UID(uid).name == name


@pytest.mark.parametrize(("uid", "syntax"), SYNTAXES.items())
def test_it_lists_every_transfer_syntax_with_its_encoding(uid: str, syntax: object) -> None:
    assert f"| {uid} |" in PAGE
    theirs, ours = pydicom.uid.UID(uid), SYNTAXES[uid]
    assert theirs.is_implicit_VR == ours.is_implicit
    assert theirs.is_little_endian == (ours.order == "<")
    assert theirs.is_deflated == (ours.coding == "deflated")
    assert theirs.is_encapsulated == (ours.coding in ("rle", "j2k"))


def test_its_numbers_are_those_of_the_code() -> None:
    for fact in (
        IMPLEMENTATION_UID,
        f"deeper than {MAX_DEPTH};",
        f"more than {MAX_ELEMENTS:,} elements",
        "the {:g}st and the {:g}th".format(*PERCENTILES),
    ):
        assert fact in PAGE
