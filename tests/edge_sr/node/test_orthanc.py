"""The node before a real PACS, Orthanc, which takes what it sends, and sends it on to be read."""

from __future__ import annotations

import io
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tests.edge_sr.node.rig")

from tests.conftest import find_orthanc
from tests.edge_sr.node.rig import NODE, PACS, objects, pydicom, running, scan, send
from tests.edge_sr.node.test_dcmtk import free_port
from tests.edge_sr.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.orthanc


class Orthanc:
    """A PACS, asked over HTTP."""

    def __init__(self, http: int, dicom: int) -> None:
        self.port, self._url = dicom, f"http://127.0.0.1:{http}"

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(self._url + path, data=body, timeout=PATIENCE_S) as answer:
            data: bytes = answer.read()
            return data

    def instances(self) -> list[str]:
        found: list[str] = json.loads(self.ask("/instances"))
        return found

    def is_up(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    program = find_orthanc()
    assert program is not None, "the mark has looked"
    http, dicom = free_port(), free_port()
    settings: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(tmp_path / "pacs"),
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": PACS,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomModalities": {"node": [NODE, "127.0.0.1", 1]},
        "RemoteAccessAllowed": False,
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (tmp_path / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        found = Orthanc(http, dicom)
        eventually(lambda: process.poll() is not None or found.is_up())
        assert process.poll() is None, (tmp_path / "orthanc.log").read_text(encoding="utf-8")
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_the_derived_object_is_in_the_pacs_beside_its_source_and_once(
    bundle: Path, tmp_path: Path, orthanc: Orthanc
) -> None:
    source = scan()
    orthanc.ask("/instances", source)
    with running(bundle, tmp_path / "spool", orthanc.port) as node:
        for _ in range(2):
            assert send(node.port, source).Status == 0x0000
        eventually(lambda: node.is_settled() and bool(node.files()))
    assert len(orthanc.instances()) == 2
    assert len(json.loads(orthanc.ask("/studies"))) == 1 and len(json.loads(orthanc.ask("/series"))) == 2
    files = [pydicom.dcmread(io.BytesIO(orthanc.ask(f"/instances/{i}/file"))) for i in orthanc.instances()]
    (made,) = (file for file in files if file.ImageType[0] == "DERIVED")
    assert made.Rows == 4 * objects.ROWS and "not for diagnosis" in made.SeriesDescription
