"""Pictures of a report: `python -m benchmarks.report_page.screenshots REPORT.html docs`.

Wants Chromium. Every picture is small enough to be looked at over a slow line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge_sr.errors import ConfigError
from edge_sr.image import write_atomic

__all__ = ["SHOTS", "Shot", "main", "take"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MAX_BYTES = 300_000
SMALLER = 0.9  # a side, each time that a picture is too large
TIMEOUT_S = 120


@dataclass(frozen=True)
class Shot:
    """A part of the page.

    Attributes:
        name: Of the file.
        section: The only one that is shown; empty for all, from the top.
        size: Of the window, in pixels.
        is_dark: Which theme.
    """

    name: str
    section: str
    size: tuple[int, int]
    is_dark: bool


SHOTS = (
    Shot("report-answers", "", (1200, 1300), is_dark=False),
    Shot("report-front", "front", (1000, 940), is_dark=False),
    Shot("report-images", "images", (1000, 605), is_dark=True),
    Shot("report-narrow", "", (400, 1500), is_dark=True),
)


def take(report: Path, folder: Path) -> list[Path]:
    """Takes all of them.

    Args:
        report: The HTML file.
        folder: For the PNG files.

    Raises:
        ConfigError: There is no browser, or it takes no picture.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ConfigError(f"no {BROWSERS[0]} here", hint="on Debian or Ubuntu: sudo apt install chromium")
    return [_shoot(browser, report, shot, folder) for shot in SHOTS]


def _shoot(browser: str, report: Path, shot: Shot, folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as work:
        picture = Path(work) / "picture.png"
        options = [
            *("--headless", "--hide-scrollbars", "--disable-gpu", "--disable-lcd-text"),
            f"--user-data-dir={work}/profile",
            f"--blink-settings=preferredColorScheme={int(not shot.is_dark)}",
            f"--window-size={shot.size[0]},{shot.size[1]}",
            f"--screenshot={picture}",
            *["--no-sandbox"] * (os.geteuid() == 0),  # Chromium refuses to be root with one
        ]
        page = Path(work) / "page.html"
        page.write_text(_only(report.read_text(encoding="utf-8"), shot.section), encoding="utf-8")
        command = [browser, *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        if not picture.is_file():
            raise ConfigError(f"{browser} took no picture, exit code {done.returncode}")
        data = _small_enough(cv2.imread(str(picture)))
    target = folder / f"{shot.name}.png"
    write_atomic(target, data)
    return target


def _only(page: str, section: str) -> str:
    """The page with one of its sections: without a script, Chromium takes pictures from the top alone."""
    if not section:
        return page
    hidden = f"body > :not(main), main > section:not(#{section}) {{ display: none; }}"
    return page.replace("</head>", f"<style>{hidden}</style></head>", 1)


def _small_enough(pixels: cv2.typing.MatLike) -> bytes:
    """A PNG file, of as many pixels as its size allows."""
    while True:
        data = bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
        if len(data) <= MAX_BYTES:
            return data
        pixels = cv2.resize(pixels, None, fx=SMALLER, fy=SMALLER, interpolation=cv2.INTER_AREA)


def main(report: str, folder: str) -> None:
    """Takes the pictures of a report into a folder."""
    take(Path(report), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
