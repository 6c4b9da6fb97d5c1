from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from benchmarks.report_page.screenshots import BROWSERS, MAX_BYTES, SHOTS, take
from edge_sr.errors import ConfigError

PAGE = """<!DOCTYPE html><html lang="en"><head><title>t</title><style>body { margin: 0 }</style></head><body>
<header style="background: #00f; height: 900px"></header>
<main><section id="front" style="background: #f00; height: 900px"></section>
<section id="images" style="background: #0f0; height: 900px"></section></main></body></html>"""


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium here")
def test_a_picture_shows_the_part_that_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(PAGE)
    written = take(tmp_path / "report.html", tmp_path)
    assert [path.stem for path in written] == [shot.name for shot in SHOTS]
    assert all(path.stat().st_size <= MAX_BYTES for path in written)
    colours = {path.stem: tuple(cv2.imread(str(path))[20, 20]) for path in written}
    assert colours["report-answers"] == (255, 0, 0), "blue, as OpenCV has it"
    assert colours["report-front"] == (0, 0, 255)
    assert colours["report-images"] == (0, 255, 0)


def test_without_a_browser_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no chromium here") as refused:
        take(tmp_path / "report.html", tmp_path)
    assert "apt install chromium" in refused.value.hint
