"""The commands that the hints name make files that are read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_sr.dicom import read_dicom
from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import wheel_file

COMMANDS = [
    ("JPEG-LL.dcm", None, "dcmdjpeg in.dcm out.dcm", "dcmtk"),
    ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", "dcmdjpls in.dcm out.dcm", "dcmtk"),
    ("MR_small_jp2klossless.dcm", "MR_small.dcm", "gdcmconv --raw in.dcm out.dcm", "libgdcm-tools"),
]


@pytest.mark.parametrize(("name", "twin", "command", "package"), COMMANDS)
def test_a_file_that_was_decompressed_as_the_hint_says_is_read(
    name: str, twin: str | None, command: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed (Debian: {package})")
    monkeypatch.setitem(sys.modules, "openjpeg", None)
    with pytest.raises(ImageError) as refusal:
        read_dicom(wheel_file(name), scale=2)
    assert command in refusal.value.hint
    shutil.copy(wheel_file(name), tmp_path / "in.dcm")
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    stored = read_dicom(tmp_path / "out.dcm", scale=2).stored
    assert stored.any()
    if twin is not None:
        assert np.array_equal(stored, read_dicom(wheel_file(twin), scale=2).stored)
