"""David Clunie's dciodvfy finds nothing in a derived object that it does not find in its source."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edge_sr.dicom import read_dicom
from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import (
    EXPLICIT,
    ct,
    decoded,
    derived_file,
    dx,
    encoded,
    item,
    pydicom,
    table,
    wheel_files,
)

DCIODVFY = shutil.which("dciodvfy")
pytestmark = pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is not installed (Debian: dicom3tools)")


def findings(data: bytes, folder: Path) -> set[str]:
    """All that dciodvfy says of a file."""
    path = folder / "object.dcm"
    path.write_bytes(data)
    run = subprocess.run([str(DCIODVFY), "-new", str(path)], capture_output=True, check=False)
    assert run.stdout or run.stderr, "it names the kind of object at least"
    return set((run.stdout + run.stderr).decode("latin-1").splitlines())


def inflated(data: bytes) -> bytes:
    """The same object where dciodvfy can read it, which a deflated one it cannot."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    if dataset.file_meta.TransferSyntaxUID != pydicom.uid.DeflatedExplicitVRLittleEndian:
        return data
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def with_overlay() -> Any:
    """A radiograph with a plane of 4x4 pixels."""
    source = dx()
    elements = (
        (0x0010, "US", 4),
        (0x0011, "US", 4),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x3000, "OW", b"\x5a\xa5"),
    )
    for element, vr, value in elements:
        source.add_new((0x6000, element), vr, value)
    return source


RADIOGRAPHS = {
    "12 bits": dx(),
    "10 bits": dx(bits=10),
    "16 bits": dx(bits=16),
    "inverted": dx(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
    "window table": dx(
        WindowCenter=None,
        WindowWidth=None,
        VOILUTSequence=[table(*range(4096), bits=12, LUTExplanation="soft")],
    ),
    "calibrated": dx(
        PixelSpacing=["0.1234567891", "0.1234567891"],
        PixelSpacingCalibrationType="GEOMETRY",
        PixelSpacingCalibrationDescription="a ruler",
    ),
    "shutter": dx(
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=2,
        ShutterRightVerticalEdge=30,
        ShutterUpperHorizontalEdge=2,
        ShutterLowerHorizontalEdge=30,
    ),
    "overlay": with_overlay(),
    "lossy": dx(
        LossyImageCompression="01",
        LossyImageCompressionRatio="10",
        LossyImageCompressionMethod="ISO_15444_1",
    ),
    "derived before": dx(ImageType=["DERIVED", "PRIMARY", ""], DerivationDescription="filtered"),
}
"""Synthetic ones; it finds nothing in any of them."""


@pytest.mark.parametrize("name", list(RADIOGRAPHS))
def test_a_synthetic_radiograph_stays_without_any_finding(name: str, tmp_path: Path) -> None:
    source = decoded(RADIOGRAPHS[name])
    assert findings(derived_file(source), tmp_path) == {"DXImageForPresentation"}


def test_it_would_notice_a_defect(tmp_path: Path) -> None:
    broken = pydicom.dcmread(io.BytesIO(derived_file(decoded(dx()))))
    broken.SourceImageSequence[0].PurposeOfReferenceCodeSequence = [item(CodeValue="1")]
    del broken.ImagerPixelSpacing
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, broken)
    assert len(findings(buffer.getvalue(), tmp_path)) >= 3


def test_a_slice_gets_no_new_finding(tmp_path: Path) -> None:
    data = encoded(ct())
    assert findings(derived_file(decoded(data)), tmp_path) <= findings(data, tmp_path)


@pytest.mark.parametrize("largest", [300_000, pytest.param(2**30, marks=pytest.mark.slow)])
def test_no_real_file_gets_a_new_finding(largest: int, tmp_path: Path) -> None:
    checked = 0
    for path in (path for path in wheel_files() if path.stat().st_size < largest):
        try:
            source = read_dicom(path, scale=2)
        except ImageError:
            continue
        checked += 1
        before = findings(inflated(path.read_bytes()), tmp_path)
        assert findings(derived_file(source), tmp_path) <= before, path
    assert checked >= 48
