"""`edge-sr upscale` on DICOM files: derived objects out, and nothing of the patient in what is printed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.cli import run
from edge_sr.image import encode_png, read_image
from tests.fakes import write_tiny_bundle

pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
objects = pytest.importorskip("tests.edge_sr.dicom.objects")

Upscale = Callable[..., tuple[int, list[dict[str, Any]], str]]
PATIENT = "Grzegorzewska^Elzbieta"
SECRETS = ("Grzegorzewska", "PID-77123")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").folder


@pytest.fixture
def upscale(bundle: Path, capfd: pytest.CaptureFixture[str]) -> Upscale:
    """Runs `edge-sr upscale --json` on the tiny bundle: exit code, objects, stderr."""

    def call(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        code = run(["upscale", "--json", "--bundle", str(bundle), *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A chest radiograph of somebody, without a suffix."""
    path = tmp_path / "IM0001"
    path.write_bytes(objects.encoded(objects.dx(PatientName=PATIENT, PatientID=SECRETS[1])))
    return path


def read(path: Path) -> Any:
    return pydicom.dcmread(io.BytesIO(path.read_bytes()))


def test_a_dicom_file_becomes_a_derived_object_in_the_same_study(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    before = source.read_bytes()
    code, (record,), _ = upscale(source, "-o", tmp_path / "out")
    assert code == 0
    original, made = read(source), read(tmp_path / "out" / "IM0001.dcm")
    assert record["output"] == str(tmp_path / "out" / "IM0001.dcm")
    assert (made.Rows, made.Columns) == (4 * original.Rows, 4 * original.Columns)
    assert made.StudyInstanceUID == original.StudyInstanceUID
    assert made.SOPInstanceUID != original.SOPInstanceUID
    assert list(made.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert source.read_bytes() == before


def test_the_same_file_gives_the_same_object_whatever_it_is_called(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.dcm"
    other.write_bytes(source.read_bytes())
    assert upscale(source, other, "-o", tmp_path / "out")[0] == 0
    made = [read(tmp_path / "out" / name) for name in ("IM0001.dcm", "other.dcm")]
    assert made[0].SOPInstanceUID == made[1].SOPInstanceUID
    assert made[0].PixelData == made[1].PixelData


def test_the_scale_that_is_asked_for_is_that_of_the_geometry(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    assert upscale(source, "-o", tmp_path / "twice.dcm", "--scale", 2)[0] == 0
    original, made = read(source), read(tmp_path / "twice.dcm")
    assert made.Rows == 2 * original.Rows
    wanted = [float(value) / 2 for value in original.ImagerPixelSpacing]
    assert [float(value) for value in made.ImagerPixelSpacing] == pytest.approx(wanted)


def test_a_dicom_file_can_go_to_png(upscale: Upscale, source: Path, tmp_path: Path) -> None:
    assert upscale(source, "-o", tmp_path / "seen.png")[0] == 0
    assert read_image(tmp_path / "seen.png").pixels.dtype == np.uint16


def test_what_is_not_dicom_cannot_become_dicom(upscale: Upscale, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(np.zeros((16, 16), np.uint8), text={}))
    code, _, err = upscale(path, "-o", tmp_path / "a.dcm")
    assert code == 1
    assert "is not DICOM" in err
    assert not (tmp_path / "a.dcm").exists()


def test_a_damaged_file_is_named_and_the_others_are_done(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(source.read_bytes()[:-100])
    code, records, err = upscale(damaged, source, "-o", tmp_path / "out")
    assert code == 1
    assert "damaged.dcm" in err
    assert "error" in records[0]
    assert (tmp_path / "out" / "IM0001.dcm").exists()
    assert not (tmp_path / "out" / "damaged.dcm").exists()


def test_nothing_of_the_patient_is_printed_or_in_a_png(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(source.read_bytes()[:-100])
    _, records, err = upscale(damaged, source, "-o", tmp_path / "out")
    upscale(source, "-o", tmp_path / "seen.png")
    told = json.dumps(records) + err + (tmp_path / "seen.png").read_bytes().decode("latin-1")
    assert not [secret for secret in SECRETS if secret in told]
