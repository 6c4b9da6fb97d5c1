"""Commands run in this process over one folder of engines, for the tests of several of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.cli import run
from edge_sr.image import encode_png, write_atomic


class Commands:
    """Runs `edge-sr` commands.

    Attributes:
        engines: The folder that is given to each with --engine-dir.
    """

    def __init__(self, engines: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.engines, self._capfd = engines, capfd

    def __call__(self, command: str, *arguments: object) -> tuple[int, str, str]:
        """The exit code, stdout, stderr."""
        code = run([command, *map(str, arguments), "--engine-dir", str(self.engines)])
        out, err = self._capfd.readouterr()
        return code, out, err

    def upscale(self, image: Path, out: Path, *arguments: object) -> tuple[dict[str, Any], str]:
        """The JSON object of one image, and what was printed on stderr."""
        code, text, err = self("upscale", image, "-o", out, "--json", *arguments)
        assert code == 0, err
        return json.loads(text), err


def write_image(path: Path) -> Path:
    """A made-up image of several tiles."""
    pixels = np.random.default_rng(0).integers(0, 256, (21, 30)).astype(np.uint8)
    write_atomic(path, encode_png(pixels, text={}))
    return path


def edit_sidecars(engines: Path, **key: str) -> None:
    """Other parts of the key in every sidecar."""
    for path in engines.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        record["key"] |= key
        path.write_text(json.dumps(record), encoding="utf-8")
