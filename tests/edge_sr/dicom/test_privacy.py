"""What identifies a patient gets into the derived object, and nowhere else."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from edge_sr.dicom import Source, derive
from edge_sr.errors import EdgeSRError
from tests.edge_sr.dicom.objects import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    RECORD,
    RLE,
    decoded,
    derived_file,
    dx,
    encoded,
    item,
    repeated,
)

MARK = "ZZMARKED"
IDENTIFYING: dict[str, Any] = {
    "PatientName": f"{MARK}^Jane",
    "PatientID": f"{MARK}1",
    "OtherPatientIDs": f"{MARK}2",
    "PatientAddress": f"{MARK} Street 3",
    "AccessionNumber": f"{MARK}4",
    "StudyID": f"{MARK}5",
    "StudyDescription": f"{MARK} study",
    "SeriesDescription": f"{MARK} series",
    "InstitutionName": f"{MARK} hospital",
    "ReferringPhysicianName": f"{MARK}^Doctor",
    "ImageComments": f"{MARK} comment",
    "DerivationDescription": f"{MARK} derivation",
    "BodyPartExamined": f"{MARK} chest",
    "OperatorsName": [f"{MARK}^One", f"{MARK}^Two"],
    "RequestAttributesSequence": [item(RequestedProcedureID=f"{MARK}6")],
    "PatientTelephoneNumbers": f"{MARK}7",
}
# A name where something else belongs, so that whoever looks at it stumbles over it.
MISPLACED: dict[str, dict[str, Any]] = {
    keyword: {keyword: f"{MARK}^Jane"}
    for keyword in (
        "PhotometricInterpretation",
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "SpecificCharacterSet",
        "ImageType",
        "LossyImageCompression",
    )
}
NUMBERS = ("SeriesNumber", "NumberOfFrames", "PixelSpacing", "RescaleSlope", "ShutterLeftVerticalEdge")


def marked(**changes: Any) -> Any:
    return dx(**(IDENTIFYING | changes))


def misnumbered(keyword: str) -> bytes:
    """A file with a name where a number belongs, which pydicom would not write."""
    data = encoded(marked(**{keyword: "12345678"}))
    assert data.count(b"12345678") == 1
    return data.replace(b"12345678", MARK.encode())


def files() -> Iterator[tuple[str, bytes]]:
    """Good and bad files that are full of marks."""
    for syntax in (EXPLICIT, IMPLICIT, DEFLATED, RLE):
        yield syntax.name, encoded(marked(), syntax)
    for name, changes in MISPLACED.items():
        yield f"misplaced in {name}", encoded(marked(**changes))
    for keyword in NUMBERS:
        yield f"no number in {keyword}", misnumbered(keyword)
    good = encoded(marked(), IMPLICIT)
    for cut in range(150, len(good), 97):
        yield f"cut at {cut}", good[:cut]
    for at in range(150, 1200, 31):
        yield f"changed at {at}", good[:at] + b"\xff\xff" + good[at + 2 :]
    yield "a name as a syntax", good.replace(b"1.2.840.10008.1.2\0", f"{MARK}^Jane".encode().ljust(18, b"\0"))
    yield (
        "undecodable text",
        encoded(marked(SpecificCharacterSet="ISO 2022 IR 87")).replace(b"^Jane", b"\x1b$B\xff\xfe"),
    )


def outcome(work: Callable[[], object]) -> str:
    """All that is told about a call: the error with its hint and its traceback, or what it returned."""
    try:
        return repr(work())
    except EdgeSRError as error:
        chain = "".join(traceback.format_exception(error))
        hidden = f"{error.__cause__!r} {error.__context__!r}"
        return f"{error} {error!r} {error.hint} {chain} {hidden}"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was printed, logged or warned of so far."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pydicom").setLevel(logging.DEBUG)

    def read() -> str:
        printed = capfd.readouterr()
        return printed.out + printed.err + caplog.text

    return read


def test_no_mark_gets_into_errors_logs_warnings_or_output(told: Callable[[], str]) -> None:
    for name, data in files():
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            texts = [outcome(partial(decoded, data)), outcome(partial(process, data))]
        texts += [str(warning.message) for warning in warned] + [told()]
        assert not [text for text in texts if MARK in text], name


def process(data: bytes) -> tuple[Source, int]:
    source = decoded(data)
    return source, len(derived_file(source))


def test_what_a_failed_write_tells_has_no_mark(told: Callable[[], str]) -> None:
    source = decoded(marked())
    source.header.add_new("AcquisitionMatrix", "US", [MARK])  # which cannot be written as numbers
    said = outcome(lambda: derive(source, repeated(source.image.pixels), RECORD))
    assert "cannot be written" in said
    assert MARK not in said + told()


def test_the_marks_do_get_into_the_derived_object() -> None:
    data = derived_file(decoded(marked()))
    assert data.count(MARK.encode()) == encoded(marked()).count(MARK.encode())


def test_the_check_would_see_a_mark(told: Callable[[], str]) -> None:
    logging.getLogger("edge_sr.dicom").warning(MARK)
    sys.stderr.write(MARK)
    assert told().count(MARK) == 2
